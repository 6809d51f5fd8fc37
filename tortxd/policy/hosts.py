"""Hosts: one canonical form for each, and which of them never go through Tor.

A host is judged in the very form that SOCKS, TLS and ``Host`` are given afterwards, so what was
judged is what is reached.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from tortxd.errors import BadUrl, TargetForbidden
from tortxd.policy.idn import has_alabel, to_ascii

_LONGEST_NAME = 253
"""RFC 1035, section 2.3.4, as text without the final dot."""

_LONGEST_INPUT = 1024
"""Bytes of an international name that are looked at at all."""

_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A label that makes its host an IPv4 address (WHATWG URL, "ends in a number checker")."""
_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]*)\.){3}(?:0|[1-9][0-9]*)")

# IANA's special-purpose registries (RFC 6890 and later), multicast, and what is reserved. The
# standard library's ``is_global`` follows them differently from one Python to the next.
_SPECIAL_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by carriers (RFC 6598)
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local, cloud metadata
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays, withdrawn
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)

_GLOBAL_IPV6 = IPv6Network("2000::/3")
"""All that IANA has given out as global unicast. Loopback, link-local, unique local, site-local,
multicast, IPv4-mapped and NAT64 addresses lie outside it."""

_SPECIAL_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo (embeds IPv4), benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4 (embeds IPv4)
            "3fff::/20",  # documentation
        ),
    )
)

_LOCAL_TOP = frozenset(
    {
        "exit",  # Tor's own
        "localhost",  # RFC 6761
        "localdomain",  # what a machine without a domain is under
        "local",  # RFC 6762
        # What networks use inside (RFC 6762, appendix G); ICANN has reserved the first, and
        # delegates neither corp, home nor mail.
        "internal",
        "intranet",
        "private",
        "corp",
        "home",
        "lan",
        "mail",
    }
)
_LOCAL_ARPA = (".home.arpa", ".resolver.arpa", ".service.arpa")  # RFC 8375, RFC 9462, RFC 9665
_NEVER_ON_THE_INTERNET = frozenset({"test", "invalid", "alt"})
"""RFC 6761, RFC 9476. Not ``example``, which tests have for names of a public kind."""

MAP_IT = " Map one with --alias."
_LOCAL = f"Local names are not sent to Tor.{MAP_IT}"
_RESERVED = f"Names under .test, .invalid and .alt are not sent to Tor.{MAP_IT}"
_MALFORMED = "The host of the target URL is malformed."


def canonical_host(raw: bytes) -> str:
    """The one form of a host: ASCII, lower case, without a final dot; IPv6 without brackets.

    International names are read as browsers do (:mod:`tortxd.policy.idn`), full-width letters,
    digits and dots among them; one that is encoded already must be so rightly.

    Raises BadUrl where it is no host, and TargetForbidden for an IPv4 address that is not written
    as four decimal numbers (readers disagree on what it stands for) and for an IPv6 zone.
    """
    if raw.startswith(b"["):
        return _canonical_ipv6(raw)
    text = _ascii(raw)
    if text.endswith("."):
        text = text[:-1]
    if len(text) > _LONGEST_NAME or not _NAME.fullmatch(text):
        raise BadUrl(_MALFORMED)
    if _NUMBER.fullmatch(text.rpartition(".")[2]):
        return _canonical_ipv4(text)
    return text


def public_host(host: str) -> str:
    """The canonical form of a host that may be asked for; IPv6 may have brackets or not.

    Raises BadUrl and TargetForbidden, as :func:`canonical_host` and :func:`judge_host` do.
    """
    bare = ":" in host and not host.startswith("[")
    name = canonical_host((f"[{host}]" if bare else host).encode("utf-8", "replace"))
    judge_host(name)
    return name


def is_address(host: str) -> bool:
    """Whether a canonical host is an IPv4 or IPv6 address."""
    return ":" in host or bool(_NUMBER.fullmatch(host.rpartition(".")[2]))


def is_onion_service(host: str) -> bool:
    """Whether a canonical host is a version 3 onion service, or a name under its address."""
    labels = host.split(".")
    return labels[-1] == "onion" and len(labels) > 1 and _is_onion_v3(labels[-2])


@lru_cache(1024)
def judge_host(host: str) -> None:
    """Refuse a canonical host that never goes through Tor.

    Raises TargetForbidden for addresses that are not public and for names that mean something
    local; BadUrl for an ``.onion`` name that is not a version 3 address.
    """
    if ":" in host:
        address = IPv6Address(host)
        if address not in _GLOBAL_IPV6 or any(address in net for net in _SPECIAL_IPV6):
            raise TargetForbidden("Tor is asked for public addresses only.")
        return
    top = host.rpartition(".")[2]
    if _NUMBER.fullmatch(top):
        if any(IPv4Address(host) in net for net in _SPECIAL_IPV4):
            raise TargetForbidden("Tor is asked for public addresses only.")
    elif top == host:
        raise TargetForbidden(_LOCAL)
    elif top == "onion":
        if not is_onion_service(host):
            raise BadUrl("This is not a version 3 onion address; check that it was copied whole.")
    elif top in _LOCAL_TOP or (top == "arpa" and f".{host}".endswith(_LOCAL_ARPA)):
        raise TargetForbidden(_LOCAL)
    elif top in _NEVER_ON_THE_INTERNET:
        raise TargetForbidden(_RESERVED)


def _ascii(raw: bytes) -> str:
    if raw.isascii() and not has_alabel(text := raw.decode("ascii").lower()):
        return text
    if len(raw) <= _LONGEST_INPUT:
        try:
            return to_ascii(raw.decode("utf-8"))
        except ValueError:  # quotes the name
            pass
    raise BadUrl(_MALFORMED)


def _canonical_ipv4(text: str) -> str:
    labels = text.split(".")
    if _QUAD.fullmatch(text):
        if all(len(label) <= 3 and int(label) <= 255 for label in labels):
            return text
    elif len(labels) <= 4 and all(map(_NUMBER.fullmatch, labels)):
        raise TargetForbidden("Write an IPv4 address as four decimal numbers.")
    raise BadUrl(_MALFORMED)


def _canonical_ipv6(raw: bytes) -> str:
    inner = raw[1:-1]
    if b"%" in inner:
        raise TargetForbidden("An address with a zone is local: Tor is not asked for it.")
    if raw.endswith(b"]") and inner.isascii():
        try:
            return str(IPv6Address(inner.decode("ascii")))
        except ValueError:  # quotes the address
            pass
    raise BadUrl(_MALFORMED)


def _is_onion_v3(label: str) -> bool:
    """Whether a label is a whole version 3 address (rend-spec-v3, "Encoding onion addresses")."""
    if len(label) != 56:
        return False
    try:
        decoded = base64.b32decode(label.upper())
    except ValueError:
        return False
    key, checksum, version = decoded[:32], decoded[32:34], decoded[34:]
    expected = hashlib.sha3_256(b".onion checksum" + key + version).digest()[:2]
    return version == b"\x03" and checksum == expected

"""Targets: what a client asks for, parsed once and strictly, then judged.

The same :class:`Target` goes to SOCKS, to TLS and into ``Host``. Where URL parsers disagree on
where a URL leads (backslashes before the path, tabs, missing slashes, percent-encoded hosts), it is
refused rather than mended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from attrs import field, frozen

from tortxd.errors import BadUrl, SetupError, TargetForbidden, TortxdError, in_quotes
from tortxd.grammar import bracketed
from tortxd.policy.hosts import MAP_IT, canonical_host, is_address, judge_host
from tortxd.policy.paths import as_browsers_do, as_they_came

HTTP_SCHEMES = frozenset({"http", "https"})
WEBSOCKET_SCHEMES = HTTP_SCHEMES | {"ws", "wss"}
"""What a request with ``Upgrade: websocket`` may ask for."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNDERLYING = {"http": "http", "https": "https", "ws": "http", "wss": "https"}

_CACHE_SIZE = 1024
_LONGEST_CACHED = 2048
"""Bytes of a URL. Longer ones seldom come twice; this bounds what the cache holds to a few MB."""

_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")
_PARTS = re.compile(rb"([^/?#]*)([^?#]*)(\?[^#]*)?")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PORT = re.compile(rb"[0-9]+(?:[/?#].*)?", re.DOTALL)
_NO_SCHEME = "The target URL must begin with http:// or https://, for example https://example.com/."


@frozen
class Target:
    """An http or https resource that may be asked for through Tor."""

    scheme: str
    """``http`` or ``https``, for WebSockets too."""
    host: str = field(repr=False)
    """ASCII, lower case, canonical; IPv6 without brackets."""
    port: int
    path: bytes = field(repr=False)
    """The request target in origin-form (RFC 9112, section 3.2.1), with its query."""
    websocket: bool = False
    """Whether the URL said ws or wss."""
    authority: bytes = field(init=False, repr=False, eq=False)
    """What ``Host`` says: the default port left out, IPv6 in brackets."""

    @authority.default
    def _authority(self) -> bytes:
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{bracketed(self.host)}{port}".encode("ascii")

    @property
    def origin(self) -> str:
        """The web origin (RFC 6454) as text."""
        return f"{self.scheme}://{self.authority.decode('ascii')}"

    @property
    def url(self) -> str:
        """The canonical URL; parsing it gives this target again."""
        scheme = self.scheme.replace("http", "ws") if self.websocket else self.scheme
        return f"{scheme}://{self.authority.decode('ascii')}{self.path.decode('ascii')}"

    @property
    def is_onion(self) -> bool:
        """Whether this is an onion service."""
        return self.host.endswith(".onion")

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address."""
        return is_address(self.host)

    @property
    def host_is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return ":" in self.host


@frozen
class HostPort:
    """Where a CONNECT leads."""

    host: str = field(repr=False)
    """As in :class:`Target`."""
    port: int


@frozen
class Alias:
    """A target that stands for another one."""

    host: str
    port: int | None
    """None: every port."""
    to_host: str
    to_port: int | None
    """None: the port that was asked for."""


def parse_alias(text: str) -> Alias:
    """Read ``HOST[:PORT]=HOST[:PORT]``.

    The left side may be local, the right side is judged like any target. Raises SetupError.
    """
    left, _, right = text.partition("=")
    try:
        host, port = _host_and_port(left.strip().encode("utf-8"))
        to_host, to_port = _host_and_port(right.strip().encode("utf-8"))
    except (TortxdError, UnicodeError) as error:
        raise SetupError(
            "`aliases` takes HOST[:PORT]=HOST[:PORT], for example localhost:8080=name.onion:80, "
            f"not {in_quotes(text)}."
        ) from error
    try:
        judge_host(to_host)
    except TortxdError as error:
        reason = str(error).removesuffix(MAP_IT)
        raise SetupError(f"`aliases`: the right side of {in_quotes(text)}: {reason}") from error
    return Alias(host, port, to_host, to_port)


def _without_brackets(hosts: Iterable[str]) -> frozenset[str]:
    return frozenset(host.strip("[]") for host in hosts)


@frozen
class TargetPolicy:
    """Which targets may be asked for.

    Give it what the gateway itself is called, so that it is never asked to ask itself.
    """

    aliases: tuple[Alias, ...] = ()
    own_hosts: frozenset[str] = field(default=frozenset(), converter=_without_brackets)
    """What the gateway itself is called, beyond local names (refused anyway); canonical hosts, IPv6
    with or without brackets."""
    own_ports: frozenset[int] = frozenset()
    _aliases: dict[tuple[str, int | None], Alias] = field(init=False, repr=False, eq=False)
    _cached: Callable[[bytes, frozenset[str], bool], Target] = field(
        init=False, repr=False, eq=False
    )

    @_aliases.default
    def _index(self) -> dict[tuple[str, int | None], Alias]:
        return {(alias.host, alias.port): alias for alias in self.aliases}

    @_cached.default
    def _cache(self) -> Callable[[bytes, frozenset[str], bool], Target]:
        return lru_cache(_CACHE_SIZE)(self._parse)

    def parse(self, url: bytes | str, schemes: frozenset[str] = HTTP_SCHEMES) -> Target:
        """The target of a URL, whose path and query are read as a browser reads them (WHATWG URL):
        dot segments go, backslashes in the path are slashes, and what may not stand there is
        percent-encoded (as UTF-8). Escapes stay as they are; the fragment goes.

        Raises BadUrl for what is malformed and TargetForbidden for what is not allowed.
        """
        if isinstance(url, str):
            url = _encode(url)
        return self._remembered(url, schemes, False)

    def parse_absolute_form(self, url: bytes, schemes: frozenset[str] = HTTP_SCHEMES) -> Target:
        """The target of a request in absolute-form, whose path and query pass as they came (RFC
        9110, section 7.7), bytes that are not ASCII percent-encoded.

        Raises as :meth:`parse` does.
        """
        return self._remembered(url, schemes, True)

    def _remembered(self, url: bytes, schemes: frozenset[str], verbatim: bool) -> Target:
        if len(url) > _LONGEST_CACHED:
            return self._parse(url, schemes, verbatim)
        return self._cached(url, schemes, verbatim)

    def tunnel(self, authority: bytes) -> HostPort:
        """The destination of a CONNECT (RFC 9110, section 9.3.6: ``host:port``).

        Raises as :meth:`parse` does.
        """
        host, port = _host_and_port(authority)
        if port is None:
            raise BadUrl("CONNECT needs a host and a port.")
        return HostPort(*self._judge(host, port))

    def _parse(self, url: bytes, schemes: frozenset[str], verbatim: bool) -> Target:
        url = url.strip(b" ")
        if _CONTROL.search(url):
            raise BadUrl("The target URL holds a control character.")
        if not verbatim and not url.isascii():
            _check_utf8(url)
        asked, rest = _scheme(url, schemes)
        parts = _PARTS.match(rest, 2)
        if not rest.startswith(b"//") or parts is None:
            raise BadUrl(_NO_SCHEME)
        authority, path, query = parts.groups(b"")
        if b"\\" in authority:
            raise BadUrl("The target URL holds a backslash where its host ends.")
        host, port = _host_and_port(authority)
        scheme = _UNDERLYING[asked]
        host, port = self._judge(host, _DEFAULT_PORTS[scheme] if port is None else port)
        write = as_they_came if verbatim else as_browsers_do
        return Target(scheme, host, port, write(path, query), websocket=asked != scheme)

    def _judge(self, host: str, port: int) -> tuple[str, int]:
        """Where a canonical host and port lead, if they may be asked for."""
        alias = self._aliases.get((host, port)) or self._aliases.get((host, None))
        if alias is not None:
            host, port = alias.to_host, alias.to_port or port
        judge_host(host)
        if port in self.own_ports and host in self.own_hosts:
            raise TargetForbidden("The gateway does not ask itself.")
        return host, port


def _scheme(url: bytes, schemes: frozenset[str]) -> tuple[str, bytes]:
    """The scheme of a URL, in lower case, and what follows its colon."""
    name, colon, rest = url.partition(b":")
    if not colon or not _SCHEME.fullmatch(name):
        raise BadUrl(_NO_SCHEME)
    asked = name.decode("ascii").lower()
    if asked not in schemes:
        if b"." in name or _PORT.fullmatch(rest):  # it is a host
            raise BadUrl(_NO_SCHEME)
        raise TargetForbidden("Only http and https targets are asked for.")
    return asked, rest


def _host_and_port(authority: bytes) -> tuple[str, int | None]:
    """Split and canonicalise ``host[:port]``; a port that is left out, or left empty, is None."""
    if b"@" in authority:
        raise TargetForbidden("Targets with a user name or password are refused.")
    host, colon, digits = authority.rpartition(b":")
    if not colon or authority.endswith(b"]"):
        return canonical_host(authority), None
    name = canonical_host(host)
    if not digits:
        return name, None
    if not digits.isdigit():
        raise BadUrl("The port of the target URL is malformed.")
    number = digits.lstrip(b"0")
    if not number or len(number) > 5 or int(number) > 65535:
        raise TargetForbidden("The port of a target lies between 1 and 65535.")
    return name, int(number)


def _encode(url: str) -> bytes:
    try:
        return url.encode("utf-8")
    except UnicodeEncodeError:  # its message quotes the URL
        pass
    raise BadUrl("The target URL is not UTF-8.")


def _check_utf8(url: bytes) -> None:
    try:
        url.decode("utf-8")
        return
    except UnicodeDecodeError:  # its message quotes the URL
        pass
    raise BadUrl("The target URL is not UTF-8.")

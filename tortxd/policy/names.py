"""What follows from a header's name alone: whether it passes.

Every header of every message is looked up, and names are usually of a few, so what follows from one
is remembered. What passes has None; what does not, or not as it is, its name in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


class ByName(dict[bytes, _T]):
    """What ``judge`` makes of a name in lower case, by the name as it was written.

    Whoever invents names makes it forget, and no more: its size is bounded.
    """

    MOST = 1024
    LONGEST = 64

    def __init__(self, judge: Callable[[bytes], _T]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, name: bytes) -> _T:
        verdict = self._judge(name.lower())
        if len(name) <= self.LONGEST:
            if len(self) >= self.MOST:
                self.clear()
            self[name] = verdict
        return verdict


# --- framing --------------------------------------------------------------------------------------

FRAMING = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""What frames a message or is about its connection."""

FRAMES = ByName(lambda name: name if name in FRAMING else None)

# --- to the destination ---------------------------------------------------------------------------

DESCRIBING = frozenset((b"user-agent", b"accept-language"))
"""What ``--user-agent`` is about."""

_FOR_PROXIES = r"host|forwarded|x-forwarded.*|via|proxy-.*|tor-.*|x-tor-.*|tortxd-.*"
"""What never leaves, in either mode; the gateway mode has more."""

_OF_BROWSERS = r"""
    # What no page can set (Fetch, "forbidden request-header") and says who or where the user is.
    origin | referer | cookie2? | set-cookie2? | sec-.* | access-control-.*
    # What browsers add by themselves: pings of links, and what they hold of earlier answers.
    | ping-.* | available-dictionary | dictionary-id | x-client-data
    # Client hints of before Sec-CH-.
    | device-memory | dpr | width | viewport-(?:width|height) | downlink | ect | rtt | save-data
"""
_OF_THE_WAY = r"""
    # What a proxy, a CDN or a network between the user and here says of whom it serves: whatever
    # ends in an IP address, and the client, the peer, the remote or the viewer that somebody saw.
    (?:.*-)?(?:client|socket)?ip(?:v[46])?
    | (?:.*-)?(?:client|remote|peer|viewer|external)-(?:addr(?:ess)?|host(?:name)?|port)
    | (?:x-)?remote-user | (?:.*-)?client-?(?:cert|dn|verify|s-dn).*
    | from | forwarded-.* | x-forward.* | x-real-.* | x-originating-.* | x-proxyuser-.* | cdn-loop
    | x-original-(?:for|forwarded.*|host|proto|remote.*|ur[il])
    | cf-(?:connecting|ew|ip|pseudo|ray|visitor|worker).* | cloudfront-viewer-.*
    | fastly-(?:client|ff|ssl).* | x-appengine-.* | x-azure-(?:client|socket).*
    | x-cluster-client-.* | x-vercel-ip-.*
    # Subscribers of telephone networks, and their devices.
    | (?:.*-)?(?:msisdn|imsi|imei|uidh|subno|calling-line-id) | x-(?:acr|att-deviceid|wap-.*)
"""


def _matcher(pattern: str) -> Callable[[bytes], bool]:
    found = re.compile(pattern.encode("ascii"), re.VERBOSE).fullmatch
    return lambda name: found(name) is not None


_is_for_proxies = _matcher(_FOR_PROXIES)
_identifies = _matcher(f"{_FOR_PROXIES} | {_OF_BROWSERS} | {_OF_THE_WAY}")


def _kept_in(name: bytes) -> bytes | None:
    """The name, if it is that of a header which does not pass ``/proxy`` as it is; else None.

    A hyphen and an underscore are one and the same to destinations that make variables of names
    (CGI), so they are here.
    """
    if name in DESCRIBING:
        return name
    plain = name.replace(b"_", b"-")
    return name if plain in FRAMING or _identifies(plain) else None


def _kept_in_proxy_mode(name: bytes) -> bytes | None:
    plain = name.replace(b"_", b"-")
    return name if plain in FRAMING or _is_for_proxies(plain) else None


TO_DESTINATION = ByName(_kept_in)
TO_DESTINATION_IN_PROXY_MODE = ByName(_kept_in_proxy_mode)


# --- from the destination -------------------------------------------------------------------------

_ACTED_ON = r"""
    # What changes the gateway's own origin in the browser, or says of it what is the destination's:
    # what sets something, and every policy (a report of one among them).
    set-.* | (?!x-|ratelimit-).*-(?:policy|allowlist)(?:-report-only)? | .*-report-only
    | access-control-.* | cross-origin-.* | private-network-access-.*
    | origin-(?:agent-cluster|isolation|trial)
    | accept-ch.* | activate-storage-access | allow-(?:cross-origin.*|csp-from) | alt-svc
    | avail-language | clear-site-data | cookie-indices | critical-ch | expect-ct | no-vary-search
    | p3p | public-key-pins | service-worker-.* | strict-transport-security
    | supports-loading-mode | timing-allow-origin | use-as-dictionary | www-authenticate
    | x-content-security-policy | x-webkit-csp | x-xss-protection
    # What the gateway says itself.
    | cache-control | x-content-type-options | x-dns-prefetch-control
    # What concerns advertising, and devices that are bound to a session.
    | ad-auction-.* | attribution-reporting-.* | observe-browsing-topics | shared-storage-.*
    | x-allow-fledge | secure-session-.* | sec-(?!websocket-).*
    # What makes a browser connect by itself.
    | link | nel | on-prefetch-.* | refresh | report-to | reporting-.* | (?:x-)?sourcemap
    | speculation-rules
    # The gateway's own, and what is for proxies.
    | proxy-.* | tor-.* | tortxd-.* | x-tor-.*
"""
"""What browsers act upon: response headers that Chromium or Firefox know, by MDN's table of them
(browser-compat-data, http/headers) and Chromium's ``parsed_headers.mojom``, and the shapes of their
names, which those to come will have as well."""

_is_acted_on = _matcher(_ACTED_ON)
_is_ours = _matcher(r"proxy-.* | tortxd-.*")
REWRITTEN = frozenset({b"location", b"content-location", b"content-type"})


def _kept_out(name: bytes) -> bytes | None:
    """The name, if it is that of a header which does not pass ``/proxy`` as it is; else None."""
    if name in FRAMING or name in REWRITTEN or _is_acted_on(name):
        return name
    return None


TO_CLIENT = ByName(_kept_out)
TO_CLIENT_IN_PROXY_MODE = ByName(lambda name: name if name in FRAMING or _is_ours(name) else None)

"""What follows from a header's name alone: whether it passes.

Each direction has a table, which is asked for every header of every message. Its answer is None for
a header that passes unchanged. For one that is withheld, or that may have to be changed, it is the
name in lower case, by which the caller tells which one it is. Messages mostly have the same few
names, so answers are remembered.
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
_OF_USERS = r"""
    # Who the user is, by proxies that log users in: oauth2-proxy, Authelia, authentik, Pomerium,
    # Vouch, Grafana's, Cloudflare Access, Tailscale, Google's, Azure's, Amazon's, Shibboleth. What
    # a program itself logs in with there passes (CF-Access-Client-Secret, CF-Access-Token,
    # X-Vouch-Token, X-Pomerium-Authorization).
    (?:.*-)?authenticated-.* | remote-.* | x-remote-(?:user|email|name|group|extra).*
    | x-(?:auth-request|authentik|webauth)-.* | x-pomerium-(?:claim|jwt)-.*
    | x-vouch-(?:user|idp|success).* | cf-access-(?:authenticated|jwt|user)-.*
    | tailscale-(?!webhook-).* | x-goog-iap-.* | x-ms-client-principal.* | x-ms-token-.*
    | x-amzn-oidc-.* | (?:x-)?shib-.*
    | (?:.*-)?client-?(?:cert|dn|verify|s-dn).*
    # Subscribers of telephone networks, and their devices.
    | (?:.*-)?(?:msisdn|imsi|imei|uidh|subno|calling-line-id) | x-(?:acr|att-deviceid|wap-.*)
    | (?:.*-)?(?:device|original|phone)-(?:user-agent|ua)
"""
_OF_THE_WAY = r"""
    # What a proxy, a CDN or a network between the user and here says of where its client is: an IP
    # address, and the client, the peer, the remote or the viewer that somebody saw.
    (?:.*-)?(?:(?:client|external|peer|real|remote|socket|source|user|viewer)-?)?ip(?:v[46])?
    | (?:.*-)?(?:client|external|peer|real|remote|source|viewer)
      -?(?:addr(?:ess)?|host(?:name)?|port)
    | (?:.*-)?(?:ip|user)-?addr
    | .*forwarded.* | x-forward.* | x-imforwards | x-real-.* | x-originating-.* | x-proxyuser-.*
    | x-original-(?:for|host|proto|remote.*|ur[il]) | x-(?:bluecoat-)?via
    | cf-(?:connecting|ew|ip|pseudo|ray|visitor|worker).* | cdn-.* | cloudfront-viewer-.*
    | fastly-(?:client|ff|ssl).* | x-akamai-.* | x-appengine-.* | x-azure-(?:client|socket).*
    | x-cluster-client-.* | x-vercel-ip-.* | from
    # The place that such an address stands for. X-Country, X-Country-Code, X-City and the like
    # pass: with them a program says which market it wants, and would get another one without.
    | (?:x-)?(?:(?:client|nf|user|viewer)-)?geo(?:-?ip|-?location)?(?:-.*)? | edgescape
"""


def _matcher(pattern: str) -> Callable[[bytes], bool]:
    match = re.compile(pattern.encode("ascii"), re.VERBOSE).fullmatch
    return lambda name: match(name) is not None


_is_for_proxies = _matcher(_FOR_PROXIES)
_identifies = _matcher(f"{_FOR_PROXIES} | {_OF_BROWSERS} | {_OF_USERS} | {_OF_THE_WAY}")


def _withheld_from_destination(name: bytes) -> bytes | None:
    """The name, if it is that of a header which does not pass ``/proxy``, or may be changed by it;
    else None.

    A hyphen and an underscore are one and the same to destinations that make variables of names
    (CGI), so they are here.
    """
    if name in DESCRIBING:
        return name
    plain = name.replace(b"_", b"-")
    return name if plain in FRAMING or _identifies(plain) else None


def _withheld_in_proxy_mode(name: bytes) -> bytes | None:
    plain = name.replace(b"_", b"-")
    return name if plain in FRAMING or _is_for_proxies(plain) else None


TO_DESTINATION = ByName(_withheld_from_destination)
TO_DESTINATION_IN_PROXY_MODE = ByName(_withheld_in_proxy_mode)


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


def _withheld_from_client(name: bytes) -> bytes | None:
    """The name, if it is that of a header which does not pass ``/proxy``, or may be changed by it;
    else None."""
    if name in FRAMING or name in REWRITTEN or _is_acted_on(name):
        return name
    return None


TO_CLIENT = ByName(_withheld_from_client)
TO_CLIENT_IN_PROXY_MODE = ByName(lambda name: name if name in FRAMING or _is_ours(name) else None)

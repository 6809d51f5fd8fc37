"""Which headers leave for a destination, and which of its own come back.

Framing is made anew on both sides, never copied: no function here returns Content-Length,
Transfer-Encoding, Connection, or another hop-by-hop header (RFC 9110, section 7.6.1), nor one that
Connection lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from tortxd.errors import BadResponse
from tortxd.policy.redirects import gateway_link
from tortxd.policy.request import Headers
from tortxd.policy.target import Target, TargetPolicy

_FRAMING = frozenset(
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

_ORDINARY = _FRAMING | {b"close", b""}
"""What Connection usually lists."""

# --- to the destination ---------------------------------------------------------------------------

_KEPT_IN = _FRAMING | {b"host", b"forwarded", b"via"}
_KEPT_IN_PREFIXES = (b"proxy-", b"x-forwarded-", b"tor-", b"x-tor-", b"tortxd-")
"""What never leaves, in either mode; the gateway mode has more."""

_IDENTIFYING = _KEPT_IN | {b"origin", b"referer", b"cookie", b"x-real-ip"}
_IDENTIFYING_PREFIXES = (*_KEPT_IN_PREFIXES, b"sec-")

TOR_BROWSER_USER_AGENT = (
    b"Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0"  # Tor Browser 15
)
TOR_BROWSER_LANGUAGE = b"en-US,en;q=0.5"


@frozen
class UserAgent:
    """What ``--user-agent`` says. What a request does not have is not added."""

    value: bytes | None
    """What stands in place of the client's own, Accept-Language going with it; None keeps both."""
    browsers_only: bool = False
    """Whether that is for requests alone that a browser made."""

    @classmethod
    def of(cls, setting: str) -> UserAgent:
        """Read ``auto``, ``tor-browser``, ``keep``, or a value to send."""
        if setting == "keep":
            return cls(None)
        if setting in ("auto", "tor-browser"):
            return cls(TOR_BROWSER_USER_AGENT, browsers_only=setting == "auto")
        return cls(setting.encode("ascii"))


def outgoing(
    headers: Headers, *, user_agent: UserAgent, websocket: bool = False
) -> list[tuple[bytes, bytes]]:
    """What a request to ``/proxy`` sends on, in its order: nothing that says who asks or from
    where.

    ``websocket``: the request is an upgrade, whose ``Sec-WebSocket-*`` pass. Host and framing are
    the caller's to add.
    """
    kept: list[tuple[bytes, bytes]] = []
    described: list[tuple[int, bytes]] = []
    listed: list[bytes] = []
    browser = False
    for name, value in headers:
        key = name.lower()
        if key in _IDENTIFYING or key.startswith(_IDENTIFYING_PREFIXES):
            if key == b"connection":
                listed.append(value)
            elif key == b"origin" or key.startswith(b"sec-fetch-"):
                browser = True
            if not (websocket and key.startswith(b"sec-websocket-")):
                continue
        elif key == b"user-agent" or key == b"accept-language":
            described.append((len(kept), key))
        kept.append((name, value))
    if user_agent.value is not None and (browser or not user_agent.browsers_only):
        for place, key in described:
            value = user_agent.value if key == b"user-agent" else TOR_BROWSER_LANGUAGE
            kept[place] = (kept[place][0], value)
    return _without_listed(kept, listed) if listed else kept


def outgoing_proxy_mode(headers: Headers) -> list[tuple[bytes, bytes]]:
    """What an absolute-form request sends on: all but what is for proxies or for this hop."""
    return _without(headers, _KEPT_IN, _KEPT_IN_PREFIXES)


def framed_anew(headers: Headers) -> list[tuple[bytes, bytes]]:
    """All but what frames a message or is about its connection, for the library, whose caller says
    what else is sent."""
    return _without(headers, _FRAMING, ())


# --- from the destination -------------------------------------------------------------------------

_ADDED = (
    (b"Content-Security-Policy", b"sandbox; default-src 'none'"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-DNS-Prefetch-Control", b"off"),
    (b"Cache-Control", b"no-store"),
)

_DROPPED = (
    _FRAMING
    | {name.lower() for name, _ in _ADDED}
    | {
        b"content-security-policy-report-only",
        # What would change the gateway's own origin in the browser.
        b"accept-ch",
        b"alt-svc",
        b"clear-site-data",
        b"critical-ch",
        b"origin-agent-cluster",
        b"permissions-policy",
        b"service-worker-allowed",
        b"set-cookie",
        b"set-cookie2",
        b"strict-transport-security",
        b"www-authenticate",
        # What makes a browser connect by itself.
        b"link",
        b"nel",
        b"refresh",
        b"report-to",
        b"reporting-endpoints",
        b"sourcemap",
        b"speculation-rules",
        b"x-sourcemap",
    }
)
_DROPPED_PREFIXES = (
    b"access-control-",
    b"attribution-reporting-",
    b"proxy-",
    b"sec-session-",
    b"secure-session-",
    b"tor-",
    b"tortxd-",
    b"x-tor-",
)

_LOCATIONS = frozenset({b"location", b"content-location"})

_DOCUMENTS = frozenset({b"document", b"iframe", b"frame", b"fencedframe", b"embed", b"object"})
"""Values of Sec-Fetch-Dest with which a browser shows what it gets."""

_MARKUP = frozenset(
    {b"text/html", b"text/xml", b"text/xsl", b"application/xml", b"multipart/x-mixed-replace"}
)
_MEDIA_TYPE = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")
_CHARSET = re.compile(rb';[ \t]*charset="?([0-9a-z_:.+-]{1,40})', re.IGNORECASE)

_OPAQUE = b"application/octet-stream"


def incoming(
    headers: Headers,
    *,
    status: int,
    sec_fetch_dest: bytes | None,
    target: Target,
    policy: TargetPolicy,
    redirected: bool = False,
    isolation: bytes | None = None,
    route: bytes = b"/proxy",
    browser: bool = True,
) -> list[tuple[bytes, bytes]]:
    """What a response to ``/proxy`` carries back, in its order, then what the gateway adds.

    ``target``, ``policy``, ``redirected`` and ``isolation`` (of the request's query) decide what
    Location and Content-Location become; ``route`` is where this gateway's ``/proxy`` is mounted.
    Link makes browsers connect, and passes where none asks. CORS headers and framing are the
    caller's to add.
    """
    kept: list[tuple[bytes, bytes]] = []
    types: list[int] = []
    listed: list[bytes] = []
    for name, value in headers:
        key = name.lower()
        if key in _DROPPED or key.startswith(_DROPPED_PREFIXES):
            if key == b"connection":
                listed.append(value)
            elif key == b"link" and not browser:
                kept.append((name, value))
            continue
        if key in _LOCATIONS:
            if key == b"location":
                others = [known for shown, known in kept if shown == b"Tortxd-Location"]
                if value in others:
                    continue
                if others:
                    raise BadResponse("The destination redirects to two places at once.")
                kept.append((b"Tortxd-Location", value))
            value = gateway_link(
                value, target, policy, redirected=redirected, isolation=isolation, route=route
            )
        elif key == b"content-type":
            types.append(len(kept))
        kept.append((name, value))
    if sec_fetch_dest in _DOCUMENTS:
        for place in types:
            kept[place] = (kept[place][0], _shown_as(kept[place][1]))
    if listed:
        kept = _without_listed(kept, listed)
        types = [place for place, (name, _) in enumerate(kept) if name.lower() == b"content-type"]
    if not types and status >= 200 and status not in (204, 304):
        kept.append((b"Content-Type", _OPAQUE))
    kept += _ADDED
    return kept


def incoming_proxy_mode(headers: Headers) -> list[tuple[bytes, bytes]]:
    """What an absolute-form request gets back: there the browser keeps origins apart."""
    return _without(headers, _FRAMING, (b"proxy-", b"tortxd-"))


def _shown_as(content_type: bytes) -> bytes:
    """The type with which a browser may show this as a document: markup as plain text.

    A list counts as its most dangerous member, because browsers take the last one (Fetch, "extract
    a MIME type"); what is no type at all would be sniffed.
    """
    essences = [part.partition(b";")[0].strip().lower() for part in content_type.split(b",")]
    if any(e in _MARKUP or e.endswith((b"+xml", b"/xml")) for e in essences):
        charset = _CHARSET.search(content_type)
        return b"text/plain; charset=" + charset[1] if charset else b"text/plain"
    known = all(_MEDIA_TYPE.fullmatch(e) and b"*" not in e for e in essences)
    return content_type if known else _OPAQUE


def _without(
    headers: Headers, names: frozenset[bytes], prefixes: tuple[bytes, ...]
) -> list[tuple[bytes, bytes]]:
    kept: list[tuple[bytes, bytes]] = []
    listed: list[bytes] = []
    for name, value in headers:
        key = name.lower()
        if key not in names and not key.startswith(prefixes):
            kept.append((name, value))
        elif key == b"connection":
            listed.append(value)
    return _without_listed(kept, listed) if listed else kept


def _without_listed(
    headers: list[tuple[bytes, bytes]], connection: Iterable[bytes]
) -> list[tuple[bytes, bytes]]:
    """Drop what the values of Connection list."""
    listed = {name.strip(b" \t").lower() for value in connection for name in value.split(b",")}
    if listed <= _ORDINARY:
        return headers
    return [(name, value) for name, value in headers if name.lower() not in listed]

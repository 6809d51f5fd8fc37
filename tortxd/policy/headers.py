"""Which headers leave for a destination, and which of its own come back.

Framing is made anew on both sides, never copied: no function here returns Content-Length,
Transfer-Encoding, Connection, or another hop-by-hop header (RFC 9110, section 7.6.1), nor one that
Connection lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from tortxd.errors import BadResponse
from tortxd.policy.documents import DESTINATIONS, OPAQUE, shown_as
from tortxd.policy.names import (
    DESCRIBING,
    FRAMES,
    FRAMING,
    REWRITTEN,
    TO_CLIENT,
    TO_CLIENT_IN_PROXY_MODE,
    TO_DESTINATION,
    TO_DESTINATION_IN_PROXY_MODE,
)
from tortxd.policy.redirects import gateway_link
from tortxd.policy.request import Headers
from tortxd.policy.target import Target, TargetPolicy

_ORDINARY = FRAMING | {b"close", b""}
"""What Connection usually lists."""

# --- to the destination ---------------------------------------------------------------------------

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
        key = TO_DESTINATION[name]
        if key is None:
            kept.append((name, value))
        elif key in DESCRIBING:
            described.append((len(kept), key))
            kept.append((name, value))
        elif key == b"connection":
            listed.append(value)
        elif key == b"origin" or key.startswith(b"sec-fetch-"):
            browser = True
        elif websocket and key.startswith(b"sec-websocket-"):
            kept.append((name, value))
    if user_agent.value is not None and (browser or not user_agent.browsers_only):
        for place, key in described:
            value = user_agent.value if key == b"user-agent" else TOR_BROWSER_LANGUAGE
            kept[place] = (kept[place][0], value)
    return _without_listed(kept, listed) if listed else kept


def outgoing_proxy_mode(headers: Headers) -> list[tuple[bytes, bytes]]:
    """What an absolute-form request sends on: all but what is for proxies or for this hop."""
    return _without(headers, TO_DESTINATION_IN_PROXY_MODE)


def framed_anew(headers: Headers) -> list[tuple[bytes, bytes]]:
    """All but what frames a message or is about its connection, for the library, whose caller says
    what else is sent."""
    return _without(headers, FRAMES)


# --- from the destination -------------------------------------------------------------------------

_ADDED = (
    (b"Content-Security-Policy", b"sandbox; default-src 'none'"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-DNS-Prefetch-Control", b"off"),
    (b"Cache-Control", b"no-store"),
)


def incoming(
    headers: Headers,
    *,
    status: int,
    sec_fetch_dest: bytes | None,
    target: Target,
    policy: TargetPolicy,
    redirected: bool = False,
    kept_parameters: Sequence[tuple[bytes, bytes]] = (),
    mount: bytes = b"/proxy",
    browser: bool = True,
) -> list[tuple[bytes, bytes]]:
    """What a response to ``/proxy`` carries back, in its order, then what the gateway adds.

    ``target``, ``policy``, ``redirected`` and ``kept_parameters`` (of the request's query) decide
    what Location and Content-Location become; ``mount`` is where this gateway's ``/proxy`` is
    mounted. Link makes browsers connect, and passes where none asks. CORS headers and framing are
    the caller's to add.
    """
    kept: list[tuple[bytes, bytes]] = []
    types: list[int] = []
    listed: list[bytes] = []
    for name, value in headers:
        key = TO_CLIENT[name]
        if key is None:
            pass
        elif key == b"content-type":
            types.append(len(kept))
        elif key == b"connection":
            listed.append(value)
            continue
        elif key in REWRITTEN:
            if key == b"location":
                others = [known for shown, known in kept if shown == b"Tortxd-Location"]
                if value in others:
                    continue
                if others:
                    raise BadResponse("The destination redirects to two places at once.")
                kept.append((b"Tortxd-Location", value))
            value = gateway_link(
                value, target, policy, redirected=redirected, kept=kept_parameters, mount=mount
            )
        elif browser or key != b"link":
            continue
        kept.append((name, value))
    if sec_fetch_dest in DESTINATIONS:
        for place in types:
            kept[place] = (kept[place][0], shown_as(kept[place][1]))
    if listed:
        kept = _without_listed(kept, listed)
        types = [place for place, (name, _) in enumerate(kept) if name.lower() == b"content-type"]
    if not types and status >= 200 and status not in (204, 304):
        kept.append((b"Content-Type", OPAQUE))
    kept += _ADDED
    return kept


def incoming_proxy_mode(headers: Headers) -> list[tuple[bytes, bytes]]:
    """What an absolute-form request gets back: there the browser keeps origins apart."""
    return _without(headers, TO_CLIENT_IN_PROXY_MODE)


def _without(headers: Headers, dropped: Mapping[bytes, bytes | None]) -> list[tuple[bytes, bytes]]:
    kept: list[tuple[bytes, bytes]] = []
    listed: list[bytes] = []
    for name, value in headers:
        key = dropped[name]
        if key is None:
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

"""The gateway as an ordinary HTTP proxy: CONNECT and absolute-form (RFC 9112, section 3.2).

What a browser or a program asks of its proxy is relayed as it is: unlike on ``/proxy``, the browser
knows the destinations' own origins and keeps them apart. CONNECT follows Tor's specification of
HTTP CONNECT (proposal 365) where that says more than HTTP does.
"""

from __future__ import annotations

from tortxd._version import __version__
from tortxd.errors import BadRequest, TortxdError
from tortxd.gateway.answers import OWN_HEADERS, Answer, error_answer
from tortxd.gateway.hops import METHODS, counted_down, hops_left, last_answer
from tortxd.gateway.plane import DataPlane
from tortxd.policy.headers import incoming_proxy_mode, outgoing_proxy_mode
from tortxd.policy.request import directives, gateway_fields
from tortxd.policy.target import HTTP_SCHEMES, WEBSOCKET_SCHEMES
from tortxd.relay.exchange import UpstreamRequest
from tortxd.relay.tunnel import TunnelRequest
from tortxd.relay.upstream import PoolKey
from tortxd.wire.http1 import Headers, RequestHead, ResponseHead, field_lines

_OF_TOR: Headers = [
    # Tor lists none itself so far (measured on 0.4.9.11).
    (b"Tor-Capabilities", b""),
    (b"Via", b"tor/1.0 tor-network (tortxd %b)" % __version__.encode()),
]

_END_REASONS = frozenset(
    (
        "MISC",
        "RESOLVEFAILED",
        "CONNECTREFUSED",
        "EXITPOLICY",
        "DESTROY",
        "DONE",
        "TIMEOUT",
        "NOROUTE",
        "HIBERNATING",
        "INTERNAL",
        "RESOURCELIMIT",
        "CONNRESET",
        "TORPROTOCOL",
        "NOTDIRECTORY",
    )
)
"""Reasons that relays give (tor-spec, "Closing streams"); others are the local Tor's own."""


def is_proxy_mode(head: RequestHead) -> bool:
    """Whether a request is for a proxy, and not for the gateway itself."""
    return head.method == b"CONNECT" or not head.target.startswith(b"/")


def decide(
    plane: DataPlane, head: RequestHead, peer: bytes
) -> UpstreamRequest | TunnelRequest | Answer:
    """What to do about a request in proxy mode.

    :raises TortxdError: if it is refused.
    """
    if len(head.hosts) > 1:
        raise BadRequest("The request has more than one Host header.")
    if not head.hosts and head.minor == 1:
        raise BadRequest("The request has no Host header.")  # RFC 9112, section 3.2
    if head.method == b"CONNECT":
        return _tunnel(plane, head, peer)
    if b"://" in head.target:
        return _forward(plane, head, peer)
    if head.target == b"*" and head.method == b"OPTIONS":
        return _options(plane, head)
    raise BadRequest("The request target is neither a path nor a URL.")


def refusal(error: TortxdError, head: RequestHead) -> Answer:
    """The answer that ``error`` makes, with Tor's own reason where that is known."""
    answer = error_answer(error)
    if head.method == b"CONNECT":
        answer.headers.extend(_OF_TOR)
        if error.tor_reason is not None:
            whose = "end" if error.tor_reason in _END_REASONS else "c-tor"
            reason = f"{whose}/{error.tor_reason}".encode()
            answer.headers.append((b"Tor-Request-Failed", reason))
    return answer


def _tunnel(plane: DataPlane, head: RequestHead, peer: bytes) -> TunnelRequest:
    fields = gateway_fields(head.headers)
    admission = plane.policy.access.admit_proxy_mode(fields)
    if head.has_body:
        raise BadRequest("A CONNECT has no body.")
    asked = directives(fields, proxy_mode=True)
    to = plane.policy.targets.tunnel(head.target)
    credentials = plane.credentials(admission, asked, peer, to.host)
    return TunnelRequest(
        PoolKey(credentials, "tcp", to.host, to.port), plane.timeout_for(asked), _OF_TOR
    )


def _forward(plane: DataPlane, head: RequestHead, peer: bytes) -> UpstreamRequest | Answer:
    fields = gateway_fields(head.headers)
    admission = plane.policy.access.admit_proxy_mode(fields)
    asked = directives(fields, proxy_mode=True)
    upgrade = plane.asks_for_websocket(head)
    schemes = WEBSOCKET_SCHEMES if upgrade else HTTP_SCHEMES
    target = plane.policy.targets.parse_absolute_form(head.target, schemes)
    fields_sent = outgoing_proxy_mode(head.headers)
    hops = hops_left(head)
    if hops == 0:
        return last_answer(head, fields_sent).with_headers(_OF_TOR)
    if hops is not None:
        fields_sent = counted_down(fields_sent, hops)
    path = target.path
    if head.method == b"OPTIONS" and not set(head.target.partition(b"://")[2]) & set(b"/?"):
        path = b"*"  # RFC 9112, section 3.2.4
    return plane.order(
        head,
        target,
        field_lines(fields_sent),
        path=path,
        credentials=plane.credentials(admission, asked, peer, target.host),
        timeout=plane.timeout_for(asked),
        upgrade=upgrade,
        filter=_fit,
    )


def _fit(response: ResponseHead) -> Headers:
    headers = incoming_proxy_mode(response.headers)
    headers.append((b"Proxy-Status", b"tortxd; received-status=%d" % response.status))
    return headers


def _options(plane: DataPlane, head: RequestHead) -> Answer:
    """What the gateway can do as a proxy; nothing is connected to."""
    plane.policy.access.admit_options(gateway_fields(head.headers), head.minor)
    server = b"tortxd/" + __version__.encode()
    abilities = [(b"Allow", b"CONNECT, " + METHODS), (b"Server", server), *_OF_TOR]
    return Answer(200, [*abilities, *OWN_HEADERS])

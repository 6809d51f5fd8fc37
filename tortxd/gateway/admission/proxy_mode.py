"""Proxy mode: requests that are for a proxy, and not for the gateway itself.

These are CONNECT (RFC 9110, section 9.3.6; Tor's HTTP CONNECT specification, proposal 365),
requests in absolute-form (RFC 9112, section 3.2.2), and ``OPTIONS *``, which asks what a proxy can
do.
"""

from __future__ import annotations

from tortxd._version import __version__
from tortxd.errors import BadRequest, TortxdError
from tortxd.gateway.admission.hops import METHODS
from tortxd.gateway.answers import OWN_HEADERS, Answer, error_answer
from tortxd.tor.reasons import reason
from tortxd.wire.http1 import Headers, RequestHead

OF_TOR: Headers = [
    # Tor lists none itself so far (measured on 0.4.9.11).
    (b"Tor-Capabilities", b""),
    (b"Via", b"tor/1.0 tor-network (tortxd %b)" % __version__.encode()),
]
"""What Tor's specification has on responses to CONNECT."""


def is_proxy_mode(head: RequestHead) -> bool:
    """Whether a request is for a proxy."""
    return head.method == b"CONNECT" or not head.target.startswith(b"/")


def check_host(head: RequestHead) -> None:
    """See that the request has the Host that it must have (RFC 9112, section 3.2). What it names is
    of no consequence: the target does.

    :raises BadRequest: it has not.
    """
    if len(head.hosts) > 1:
        raise BadRequest("The request has more than one Host header.")
    if not head.hosts and head.minor == 1:
        raise BadRequest("The request has no Host header.")


def abilities() -> Answer:
    """What the gateway can do as a proxy."""
    server = b"tortxd/" + __version__.encode()
    headers = [(b"Allow", b"CONNECT, " + METHODS), (b"Server", server), *OF_TOR]
    return Answer(200, [*headers, *OWN_HEADERS])


def refusal(error: TortxdError, head: RequestHead) -> Answer:
    """The answer that ``error`` makes, with Tor's own reason where that is known."""
    answer = error_answer(error)
    if head.method == b"CONNECT":
        answer.headers.extend(OF_TOR)
        if error.tor_reason is not None:
            whose = "end" if reason(error.tor_reason).is_relays else "c-tor"
            value = f"{whose}/{error.tor_reason}".encode()
            answer.headers.append((b"Tor-Request-Failed", value))
    return answer

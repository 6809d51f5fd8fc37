"""What of a destination's response a client gets, by each way in; its framing is made anew."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from tortxd.errors import BadResponse
from tortxd.policy.access import Caller
from tortxd.policy.headers import incoming, incoming_proxy_mode
from tortxd.policy.query import ProxyQuery
from tortxd.policy.request import Fields, from_browser
from tortxd.policy.target import Target, TargetPolicy
from tortxd.wire.http1 import Headers, ResponseHead

UPGRADE: Headers = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]

Filter = Callable[[ResponseHead], Headers]
"""Makes a response's headers fit for the client."""


@frozen
class Reader:
    """Who reads a response to ``/proxy``."""

    caller: Caller
    destination: bytes | None = None
    """What a browser makes of it (Sec-Fetch-Dest)."""
    browser: bool = False
    """Whether it is one."""

    @classmethod
    def of(cls, caller: Caller, fields: Fields) -> Reader:
        """The one who has sent a request with these fields."""
        destinations = fields.get(b"sec-fetch-dest")
        return cls(caller, destinations[-1] if destinations else None, from_browser(fields))


NOBODY = Reader(Caller())


def through_route(
    target: Target, targets: TargetPolicy, query: ProxyQuery, reader: Reader, mount: bytes
) -> Filter:
    """For a request to ``/proxy``, whose responses must not run in the gateway's own origin.

    :param mount: the path under which the client knows ``/proxy``.
    """

    def fit(response: ResponseHead) -> Headers:
        headers = incoming(
            response.headers,
            status=response.status,
            sec_fetch_dest=reader.destination,
            target=target,
            policy=targets,
            redirected=query.redirected,
            kept_parameters=query.kept,
            mount=mount,
            browser=reader.browser,
        )
        headers.append((b"Proxy-Status", b"tortxd; received-status=%d" % response.status))
        if reader.caller.origin is not None:
            headers += reader.caller.cors(headers)
        return headers

    return fit


def in_proxy_mode(response: ResponseHead) -> Headers:
    """For a request in absolute-form: there the browser keeps origins apart."""
    headers = incoming_proxy_mode(response.headers)
    headers.append((b"Proxy-Status", b"tortxd; received-status=%d" % response.status))
    return headers


def switching(fit: Filter) -> Filter:
    """``fit`` for the response to a WebSocket's handshake."""

    def fit_handshake(response: ResponseHead) -> Headers:
        if response.status != 101:
            return fit(response)
        protocols = {v.lower() for name, v in response.headers if name.lower() == b"upgrade"}
        if protocols != {b"websocket"}:
            raise BadResponse("The destination switched to a protocol that was not asked for.")
        return fit(response) + UPGRADE

    return fit_handshake

"""A tunnel through Tor (CONNECT; RFC 9110, section 9.3.6): bytes both ways, as they are.

Tor cannot close one direction of a stream: a FIN at its SOCKS port ends both. So that a client has
no more to say is not passed on, and what the destination still says reaches the client until the
destination is done, or nothing has come for the idle time.
"""

from __future__ import annotations

from attrs import frozen
from twisted.python.failure import Failure

from tortxd.errors import UNREACHED, TorTimeout
from tortxd.relay.interfaces import Carrier, ResponseSink, Start
from tortxd.relay.outbound import CONNECTING, OVER, RESPONDING, TUNNEL_IDLE_TIME, Outbound
from tortxd.relay.placement import Steered
from tortxd.relay.upstream import PoolKey, Upstream
from tortxd.wire.http1 import Headers


@frozen
class TunnelRequest:
    """A CONNECT that may pass."""

    pool_key: PoolKey
    timeout: float
    """Seconds until the destination is reached."""
    headers: Headers
    """What the response says beside which circuit it is."""
    steered: Steered | None = None
    """Where it is to leave Tor, and how often it may be tried again."""


class Tunnel(Outbound):
    """See the module's description. It begins like an exchange; once the destination is reached,
    the client gets its 200."""

    unclear = (*UNREACHED, TorTimeout)

    def __init__(self, carrier: Carrier, request: TunnelRequest, sink: ResponseSink) -> None:
        super().__init__(
            carrier, sink, request.pool_key, request.timeout, "connect", request.steered
        )
        self._headers = request.headers

    def _is_repeatable(self) -> bool:
        return self._phase is CONNECTING  # nothing of the client's has gone

    def upstream_open(self, upstream: Upstream) -> None:
        """``upstream`` takes bytes now: a tunnel's only once the destination is reached."""
        self._upstream = upstream

    def _established(self) -> None:
        upstream = self._upstream
        assert upstream is not None
        self._responds(200)
        headers = [*self._headers, *self._carrier.annotate(upstream), *self._own_headers()]
        self._sink.respond(Start(200, b"OK", headers, None, True, switches=True), b"")
        if self._phase is OVER:
            return
        self._wait(TUNNEL_IDLE_TIME)
        self._sink.draw_from(upstream.transport)
        self._draw_from_client()

    def upload_done(self) -> None:
        """A CONNECT has no body: nothing follows from its end."""

    def _forward(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.transport.write(data)

    def _ends_with_client(self) -> bool:
        return self._phase is RESPONDING

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the destination."""
        self._received += len(data)
        self._sink.write(data)
        self._touch()

    def upstream_lost(self, reason: Failure) -> None:
        """The connection to the destination is gone."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._closed(upstream, reason)

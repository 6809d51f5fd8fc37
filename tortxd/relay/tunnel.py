"""A tunnel through Tor (CONNECT; RFC 9110, section 9.3.6): bytes both ways, as they are.

Tor cannot close one direction of a stream: a FIN at its SOCKS port ends both. So that a client has
no more to say is not passed on, and what the destination still says reaches the client until the
destination is done, or nothing has come for the idle time.
"""

from __future__ import annotations

import sys

from attrs import frozen
from twisted.python.failure import Failure

from tortxd.errors import UNREACHED, TorTimeout
from tortxd.relay.interfaces import Carrier, ResponseSink, Start
from tortxd.relay.outbound import CONNECTING, OVER, RESPONDING, TUNNEL_IDLE_TIME, Outbound
from tortxd.relay.placement import Steered
from tortxd.relay.upstream import PoolKey, Upstream
from tortxd.splicing import splice
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
        self._asks_again = True
        self._first = b""
        """What the destination has said before the client has its answer."""

    def _is_repeatable(self) -> bool:
        return self._phase is CONNECTING  # nothing of the client's has gone

    def upstream_open(self, upstream: Upstream) -> None:
        """``upstream`` takes bytes now: a tunnel's only once the destination is reached."""
        self._upstream = upstream

    def reached(self) -> None:
        """See :class:`~tortxd.relay.attempt.Trying`. Only the answer can tell the circuit. Tor has
        named it before it said that the stream is open, which may have been read first: then it is
        asked for once more when all is read that there is."""
        upstream = self._upstream
        if upstream is None or not self._asks_again or self._carrier.annotate(upstream):
            super().reached()
            return
        self._asks_again = False
        upstream.transport.pauseProducing()
        self._carrier.timeouts.clock.callLater(0, self._go_on, upstream)

    def _go_on(self, upstream: Upstream) -> None:
        if self._phase is CONNECTING and self._upstream is upstream:
            upstream.transport.resumeProducing()
            super().reached()

    def _established(self) -> None:
        upstream = self._upstream
        assert upstream is not None
        self._responds(200)
        headers = [*self._headers, *self._carrier.annotate(upstream), *self._own_headers()]
        first, self._first = self._first, b""
        self._sink.respond(Start(200, b"OK", headers, None, True, switches=True), first)
        if self._phase is OVER:
            return
        self._wait(TUNNEL_IDLE_TIME)
        self._sink.draw_from(upstream.transport)
        self._draw_from_client()
        wire = self._sink.wire
        if wire is not None:
            client, destination = wire.transport, upstream.transport
            self._splice(
                splice(destination, client, _all, self._passed_down),
                splice(client, destination, _all, self._passed_up),
            )

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
        if self._phase is CONNECTING:
            self._first += data
            return
        self._sink.write(data)
        self._touch()

    def upstream_lost(self, reason: Failure) -> None:
        """The connection to the destination is gone."""
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            return
        if self._phase is CONNECTING and not self._asks_again:
            self._attempt_failed(self._why_lost())  # while the circuit was asked for
        else:
            self._closed(upstream, reason)


def _all() -> int:
    """A tunnel's bytes are of no concern."""
    return sys.maxsize

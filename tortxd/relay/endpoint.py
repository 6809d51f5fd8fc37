"""Streams for programs: they are placed, opened, tried again and counted as requests are.

Once such a stream is open, it is the program's own, and over as far as the relay is concerned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from attrs import field, frozen
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tortxd.errors import UNREACHED, TorTimeout, TortxdError
from tortxd.policy.steering import UNSTEERED, Steering
from tortxd.relay.interfaces import Carrier, Interim, NoUpload, Start, UploadProducer
from tortxd.relay.journal import OK
from tortxd.relay.outbound import CONNECTING, Outbound
from tortxd.relay.placement import Steered
from tortxd.relay.upstream import PoolKey, Upstream
from tortxd.tor.isolation import Isolation, IsolationKeys


@implementer(IStreamClientEndpoint)
@frozen
class StreamEndpoint:
    """A destination, reached through a carrier's Tor."""

    carrier: Carrier
    keys: IsolationKeys
    isolation: Isolation
    host: str = field(repr=False)
    """An ASCII name, or an IP literal without brackets."""
    port: int = field(repr=False)
    tls: bool = False
    """Whether it is secured for ``host``."""
    steering: Steering = UNSTEERED
    """Tries are made until the stream is open: nothing of the program's has gone before."""
    timeout: float = 60.0
    """Seconds until it must be open."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Build a protocol and connect it.

        :return: fires with the protocol when the stream is open (and secure). Cancellable. Fails
            with a :class:`~tortxd.errors.TortxdError`, and with what the factory raises.
        """
        scheme = "https" if self.tls else "tcp"
        credentials = self.keys.credentials(self.isolation)
        stream = _Stream(
            self.carrier,
            PoolKey(credentials, scheme, self.host, self.port),
            self.timeout,
            self.carrier.placements.steered(self.isolation, self.steering),
            protocolFactory,
        )
        stream.start()
        return stream.program.connected


class _Stream(Outbound):
    """One stream, until it is open; what comes then, it hands on."""

    unclear = (*UNREACHED, TorTimeout)

    def __init__(
        self,
        carrier: Carrier,
        pool_key: PoolKey,
        timeout: float,
        steered: Steered | None,
        factory: IProtocolFactory,
    ) -> None:
        self.program = _Program(
            factory,
            HostnameAddress(pool_key.host.encode("ascii"), pool_key.port),
            later=lambda call: carrier.timeouts.clock.callLater(0, call),
            leave=self.client_gone,
        )
        super().__init__(carrier, self.program, pool_key, timeout, "library", steered)

    def _is_repeatable(self) -> bool:
        return self._phase is CONNECTING

    def upstream_open(self, upstream: Upstream) -> None:
        """``upstream`` takes bytes now: the program's only once the destination is reached."""
        self._upstream = upstream

    def _established(self) -> None:
        upstream, self._upstream = self._upstream, None
        assert upstream is not None
        now = self._carrier.timeouts.clock.seconds()
        self._to_head = now - self._begun
        self._carrier.journal.responded(now, self._to_head)
        self._end(OK)
        self.program.take(upstream)

    def upload_done(self) -> None:
        """The program speaks to the stream itself."""

    def _forward(self, data: bytes) -> None:
        """See :meth:`upload_done`."""

    def _ends_with_client(self) -> bool:
        return False

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the destination."""
        self.program.write(data)

    def upstream_lost(self, reason: Failure) -> None:
        """The connection to the destination is gone."""
        self._upstream = None
        self.program.lost(reason)


class _Program:
    """Whose stream it is.

    ``connected`` fires with its protocol.
    """

    wire = None

    def __init__(
        self,
        factory: IProtocolFactory,
        address: HostnameAddress,
        *,
        later: Callable[[Callable[[], object]], object],
        leave: Callable[[], object],
    ) -> None:
        self.upload_producer: UploadProducer = NoUpload()
        self.connected: Deferred[IProtocol] = Deferred(lambda _: self._cancelled())
        self._factory = factory
        self._address = address
        self._later = later
        self._leave = leave
        self._protocol: IProtocol | None = None
        factory.doStart()

    def take(self, upstream: Upstream) -> None:
        """Have the stream, which is open."""
        try:
            protocol = self._factory.buildProtocol(cast(Any, self._address))
            if protocol is None:
                raise NoProtocol
            self._protocol = protocol
            protocol.makeConnection(upstream.transport)
        except Exception:
            reason = Failure()
            self._protocol = None
            upstream.abort()
            self._failed(reason)
            return
        if self.connected.called:  # the protocol has cancelled it
            upstream.transport.abortConnection()
        else:
            self.connected.callback(protocol)

    def lost(self, reason: Failure) -> None:
        """The stream has ended; nothing, where it was not taken."""
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)
            self._factory.doStop()

    def _failed(self, reason: Failure) -> None:
        if not self.connected.called:
            self._factory.doStop()
            self.connected.errback(reason)

    def _cancelled(self) -> None:
        self._leave()
        if self._protocol is None:  # else it has yet to hear that it is lost
            self._factory.doStop()

    # --- what the relay says ----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`: the stream's bytes."""
        if self._protocol is not None:
            self._protocol.dataReceived(data)

    def fail(self, error: TortxdError) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`. Not in the midst of the relay's own
        work, lest who connects again at once keeps a stop from ending."""
        self._later(lambda: self._failed(Failure(error)))

    def proceed(self) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; not of a stream."""

    def interim(self, interim: Interim) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; not of a stream."""

    def respond(self, start: Start, data: bytes) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; not of a stream."""

    def finish(self) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; not of a stream."""

    def truncate(self, error: TortxdError) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; not of a stream."""

    def draw_from(self, producer: IPushProducer | None) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; the program pauses it itself."""

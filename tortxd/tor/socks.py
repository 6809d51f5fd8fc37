"""Streams through Tor's SOCKS port, as connections of Twisted.

What the handshake needs is sent in one go, with what the protocol has to say first right behind it
where that may go early (optimistic data). Once Tor has answered, the connection's TCP transport is
handed to the protocol itself, as Twisted's own ``startTLS`` does: nothing of this module stays in
the way of the bytes. :func:`open_by` does the same with whatever else opens streams and is asked
in one go.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EMFILE, ENFILE
from typing import Any, Generic, TypeVar, cast
from typing import Protocol as TypingProtocol

from attrs import field, frozen
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import NoProtocol, TimeoutError
from twisted.internet.interfaces import (
    IConnector,
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import Attribute, implementer

from tortxd._types import Reactor
from tortxd.addresses import SocksAddress
from tortxd.errors import OriginTimeout, Overloaded, TorDown, TorNotReady, TorTimeout, TortxdError
from tortxd.tor.isolation import Credentials
from tortxd.tor.tls import ClientTls, over_tls
from tortxd.wire import socks5
from tortxd.writing import write_together

P = TypeVar("P", bound=IProtocol)
Source = tuple[str, int]


class TorTransport(ITCPTransport, IConsumer, IPushProducer):
    """The transport of a protocol that was connected through Tor.

    It is Twisted's own TCP (or unix) transport, or TLS over it, with one attribute more.
    """

    protocol: IProtocol = Attribute("Who gets the bytes.")
    source: Source | None = Attribute(
        """Our end of the SOCKS connection, by which Tor's control port names the stream
        (SOURCE_ADDR); None over a unix socket."""
    )


def open_stream(
    reactor: Reactor,
    address: SocksAddress,
    host: str,
    port: int,
    credentials: Credentials,
    protocol: P,
    *,
    early: bool = False,
    tls: ClientTls | None = None,
    timeout: float = 60.0,
    reached: Callable[[Source | None], None] | None = None,
    factory: IProtocolFactory | None = None,
    name: str | None = None,
) -> Deferred[P]:
    """Connect ``protocol`` to ``host`` and ``port`` through the Tor that listens at ``address``.

    :param host: an ASCII name, or an IP literal without brackets.
    :param early: connect ``protocol`` before Tor has answered, so that what it writes at once saves
        a round trip. Tor may send such data twice: it must be safe to repeat. Without effect under
        TLS, whose ClientHello always goes early and where ``protocol`` waits for the handshake.
    :param timeout: seconds for all of it, until the Deferred fires.
    :param reached: called with the stream's :attr:`~TorTransport.source` when Tor's port has taken
        the TCP connection (and ``protocol`` is connected, when that is early).
    :param factory: told of the start and the end of the connection (``doStart``, ``doStop``).
    :param name: what Tor is asked for instead of ``host``: see :mod:`tortxd.tor.mappings`.
    :return: fires with ``protocol`` once the stream is open (and secure), just after it was
        connected; cancelling aborts the connection at once. Fails with what
        :mod:`tortxd.wire.socks5` says of Tor's answer, and with

        * :class:`~tortxd.errors.TorDown`: Tor cannot be reached, or hung up without an answer;
        * :class:`~tortxd.errors.TorTimeout`: no answer from Tor in time;
        * :class:`~tortxd.errors.TlsFailed`, :class:`~tortxd.errors.OriginReset` or
          :class:`~tortxd.errors.OriginTimeout` during the TLS handshake.

        A protocol that was connected early has had the same error in ``connectionLost`` by then.
    :raises BadUrl: when SOCKS cannot carry the host or the port.
    """
    return open_by(
        _SocksHandshake(name or host, port, credentials),
        reactor,
        address,
        host,
        protocol,
        early=early or tls is not None,
        tls=tls,
        timeout=timeout,
        reached=reached,
        factory=factory,
    )


class Answer(TypingProtocol):
    """The word that a stream is open."""

    @property
    def leftover(self) -> bytes:
        """What the destination had sent already."""


class Handshake(TypingProtocol):
    """How one stream is asked for, and what the answer means; without I/O."""

    @property
    def request(self) -> bytes:
        """What is sent at once."""

    @property
    def unreachable(self) -> str:
        """The sentence where nobody listens at the address."""

    def receive(self, data: bytes) -> Answer | None:
        """Take bytes of the answer; None as long as more are needed.

        :raises TortxdError: the stream is not open.
        """

    def lost(self) -> TortxdError:
        """What it means that the connection ended before the answer was whole."""


class _SocksHandshake(socks5.Handshake):
    unreachable = "Tor's SOCKS port cannot be reached."

    def __init__(self, host: str, port: int, credentials: Credentials) -> None:
        super().__init__()
        self.request = socks5.request(host, port, credentials.username, credentials.password)

    def lost(self) -> TortxdError:
        return TorDown("Tor ended the connection without an answer.")


def open_by(
    handshake: Handshake,
    reactor: Reactor,
    address: SocksAddress,
    host: str,
    protocol: P,
    *,
    early: bool = False,
    tls: ClientTls | None = None,
    timeout: float = 60.0,
    reached: Callable[[Source | None], None] | None = None,
    factory: IProtocolFactory | None = None,
) -> Deferred[P]:
    """Connect ``protocol`` to the destination that ``handshake`` asks for at ``address``.

    The rest is as for :func:`open_stream`, but that ``early`` goes for the ClientHello as well.
    """
    opening = _Opening(
        reactor=reactor,
        handshake=handshake,
        protocol=protocol,
        early=early,
        reached=reached,
        factory=factory,
    )
    if tls is not None:
        opening.first = over_tls(
            reactor, tls.connection_to(host), protocol, opening.succeed, opening.fail
        )
        opening.secures = True
    opening.dial(address, timeout)
    return opening.opened


class _Opening(ClientFactory, Generic[P]):
    """A stream while it is being opened; everything that can end that comes together here."""

    noisy = False

    def __init__(
        self,
        *,
        reactor: Reactor,
        handshake: Handshake,
        protocol: P,
        early: bool,
        reached: Callable[[Source | None], None] | None,
        factory: IProtocolFactory | None,
    ) -> None:
        self.opened: Deferred[P] = Deferred(lambda _: self.fail(CancelledError()))
        self.handshake = handshake
        self.first: IProtocol = protocol
        """Who gets the connection to the destination first: TLS, or the application's protocol."""
        self.early = early
        self.secures = False
        """Whether a TLS handshake follows."""
        self.reached = reached
        self._reactor = reactor
        self._application = protocol
        self._factory = factory
        self._leg: _Leg | None = None
        self._connector: IConnector | None = None
        self.over = False

    def dial(self, address: SocksAddress, timeout: float) -> None:
        """Connect to who is asked for the stream."""
        self._timer = self._reactor.callLater(timeout, self._timed_out)
        if address.path is not None:
            self._connector = self._reactor.connectUNIX(address.path, self, timeout)
        else:
            self._connector = self._reactor.connectTCP(address.host, address.port, self, timeout)

    def startFactory(self) -> None:
        if self._factory is not None:
            self._factory.doStart()

    def stopFactory(self) -> None:
        if self._factory is not None:
            self._factory.doStop()

    def buildProtocol(self, addr: object) -> _Leg:
        self._connector = None
        self._leg = leg = _Leg(self)
        return leg

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        # As Twisted does where none came about: what was a connection leads to its protocol, and
        # by its connector to us. See _let_go.
        lost: Any = connector
        del lost.transport.connector

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._connector = None
        if isinstance(reason.value, TimeoutError):
            self.fail(TorTimeout())
        elif getattr(reason.value, "osError", None) in (EMFILE, ENFILE):
            self.fail(Overloaded())
        else:
            self.fail(TorDown(self.handshake.unreachable))

    def succeed(self) -> None:
        """The application's protocol is connected for good."""
        if not self.over:
            self.over = True
            self._timer.cancel()
            self._let_go()
            self.opened.callback(self._application)

    def fail(self, error: Exception) -> None:
        """It will not be: leave nothing behind. Harmless once it is over."""
        if self.over:
            return
        self.over = True
        if self._timer.active():
            self._timer.cancel()
        if self._leg is not None:
            self._leg.abort(error)
        elif self._connector is not None:
            self._connector.stopConnecting()
        self._let_go()
        if not self.opened.called:  # the protocol may have cancelled it
            self.opened.errback(error)

    def _let_go(self) -> None:
        """Lead to nothing that leads back here: such circles would stay in memory until Python's
        collector comes, which takes the longer the more there is."""
        self._leg = self._connector = self.reached = None
        self.first = Protocol()

    def _timed_out(self) -> None:
        answered = self._leg is not None and self._leg.answered
        self.fail(OriginTimeout() if answered else TorTimeout())


class _Leg(Protocol):
    """The connection to who is asked for the stream, until there is an answer."""

    transport: TorTransport

    def __init__(self, opening: _Opening[Any]) -> None:
        self._opening = opening
        self.answered = False

    def connectionMade(self) -> None:
        transport, opening = self.transport, self._opening
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        write_together(transport)
        transport.source = _source(transport)
        transport.write(opening.handshake.request)
        if opening.early:
            opening.first.makeConnection(transport)
        if opening.reached is not None and not opening.over:
            opening.reached(transport.source)

    def dataReceived(self, data: bytes) -> None:
        opening = self._opening
        try:
            answer = opening.handshake.receive(data)
        except TortxdError as error:
            opening.fail(error)
            return
        if answer is None:
            return
        self.answered = True
        first = self.transport.protocol = opening.first
        if not opening.early:
            first.makeConnection(self.transport)
        if not opening.secures:
            opening.succeed()
        if answer.leftover:
            first.dataReceived(answer.leftover)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._opening.fail(self._opening.handshake.lost())

    def abort(self, error: Exception) -> None:
        """Close the connection now, and tell the protocol that had it early."""
        self.transport.abortConnection()
        if self._opening.early and not self.answered:
            self._opening.first.connectionLost(Failure(error))


def _source(transport: ITransport) -> Source | None:
    host = transport.getHost()
    return (host.host, host.port) if isinstance(host, IPv4Address | IPv6Address) else None


Locate = Callable[[], Deferred[SocksAddress]]
"""Says where Tor's SOCKS port is, as soon as it listens: ``TorLink.when_usable``, for example."""


@implementer(IStreamClientEndpoint)
@frozen
class TorEndpoint:
    """A destination, reached through Tor: see :func:`open_stream` for what the fields mean."""

    reactor: Reactor
    address: SocksAddress | Locate
    host: str = field(repr=False)
    port: int = field(repr=False)
    credentials: Credentials = field(repr=False)
    tls: ClientTls | None = None
    early: bool = False
    timeout: float = 60.0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Build a protocol and connect it.

        :return: fires with the protocol when it may write: early, when ``early`` is set (what goes
            wrong then is said in its ``connectionLost``), else when the stream is open. Fails
            as :func:`open_stream` does, and with :class:`~tortxd.errors.TorNotReady` when no
            SOCKS port was there in time.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        expires = self.reactor.seconds() + self.timeout
        address = self.address
        if callable(address):
            try:
                address = await address().addTimeout(self.timeout, self.reactor)
            except DeferredTimeout:
                raise TorNotReady from None
        protocol = factory.buildProtocol(
            cast(Any, HostnameAddress(self.host.encode("ascii", "replace"), self.port))
        )
        if protocol is None:
            raise NoProtocol
        writable: Deferred[IProtocol] = Deferred(lambda _: opened.cancel())

        def reached(_: Source | None) -> None:
            if self.early and self.tls is None:
                writable.callback(protocol)

        def failed(reason: Failure) -> None:
            if not writable.called:
                writable.errback(reason)

        opened = open_stream(
            self.reactor,
            address,
            self.host,
            self.port,
            self.credentials,
            protocol,
            early=self.early,
            tls=self.tls,
            timeout=expires - self.reactor.seconds(),
            reached=reached,
            factory=factory,
        )
        opened.addCallbacks(lambda it: None if writable.called else writable.callback(it), failed)
        return await writable

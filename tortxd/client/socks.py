"""Plain streams through Tor."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionDone, DNSLookupError
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tortxd._types import Reactor
from tortxd.client.installed import installed
from tortxd.config import Config
from tortxd.errors import BadResponse, OriginReset, OriginTimeout
from tortxd.policy.hosts import public_host
from tortxd.tor.isolation import IsolationKeys, isolation_of
from tortxd.tor.socks import TorEndpoint
from tortxd.wire.socks5 import GREETING, METHOD_ACCEPTED

MAX_REPLY = 64 * 1024 * 1024
"""Bytes that :meth:`SocksClient.send_receive` takes, unless told otherwise."""


class SocksClient:
    """Plain streams through Tor, kept apart by the destination's site.

    Everything fails with a :class:`~tortxd.errors.TortxdError`.

    :param reactor: None means the installed one.
    """

    def __init__(self, config: Config | None = None, reactor: Reactor | None = None) -> None:
        self.config = config or Config()
        self._reactor = installed(reactor)
        self._keys = IsolationKeys()

    def connect(self, host: str, port: int, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of ``factory`` to ``host`` and ``port``; fires with the protocol."""
        return Deferred.fromCoroutine(self._connect(host, port, factory))

    def send_receive(
        self, host: str, port: int, data: bytes, *, max_size: int = MAX_REPLY
    ) -> Deferred[bytes]:
        """Send ``data``, and fire with all that comes back until the destination closes.

        Fails with :class:`~tortxd.errors.OriginTimeout` when that is not within ``config.timeout``
        seconds, and with :class:`~tortxd.errors.BadResponse` when it is more than ``max_size``
        bytes.
        """
        return Deferred.fromCoroutine(self._send_receive(host, port, data, max_size))

    def check_connection(self) -> Deferred[bool]:
        """Whether a SOCKS5 server that takes credentials answers at ``config.socks_addr``.

        It is asked for nothing, so this says nothing about the Tor network. Never fails.
        """
        return Deferred.fromCoroutine(self._check())

    async def _connect(self, host: str, port: int, factory: IProtocolFactory) -> IProtocol:
        name = public_host(host)
        credentials = self._keys.credentials(isolation_of(None, name))
        endpoint = TorEndpoint(
            self._reactor,
            self.config.socks,
            name,
            port,
            credentials,
            timeout=self.config.timeout,
        )
        return await endpoint.connect(factory)

    async def _send_receive(self, host: str, port: int, data: bytes, max_size: int) -> bytes:
        expires = self._reactor.seconds() + self.config.timeout
        receiver = _Receiver(max_size)
        factory = Factory.forProtocol(lambda: receiver)
        factory.noisy = False
        await self._connect(host, port, factory)
        receiver.transport.write(data)
        try:
            left = max(0, expires - self._reactor.seconds())
            return await receiver.received.addTimeout(left, self._reactor)
        except DeferredTimeout:
            raise OriginTimeout from None

    async def _check(self) -> bool:
        address, timeout = self.config.socks, self.config.timeout
        probe = _Probe()
        try:
            endpoint: Any
            if address.path is not None:
                endpoint = UNIXClientEndpoint(self._reactor, address.path, timeout)
            else:
                endpoint = TCP4ClientEndpoint(self._reactor, address.host, address.port, timeout)
            await connectProtocol(endpoint, probe)
            return await probe.answer.addTimeout(timeout, self._reactor)
        except (ConnectError, DNSLookupError, DeferredTimeout):
            return False


class _Receiver(Protocol):
    """Keeps what comes, until the other side closes."""

    transport: Any

    def __init__(self, max_size: int) -> None:
        self._data = bytearray()
        self._max_size = max_size
        self.received: Deferred[bytes] = Deferred(lambda _: self.transport.abortConnection())

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > self._max_size and not self.received.called:
            self.received.errback(BadResponse("The destination sent more than was asked for."))
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.received.called:
            return
        if isinstance(reason.value, ConnectionDone):
            self.received.callback(bytes(self._data))
        else:
            self.received.errback(OriginReset())


class _Probe(Protocol):
    """Greets a SOCKS server, and hangs up on its answer."""

    transport: Any

    def __init__(self) -> None:
        self._data = b""
        self.answer: Deferred[bool] = Deferred(lambda _: self.transport.abortConnection())

    def connectionMade(self) -> None:
        self.transport.write(GREETING)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) >= len(METHOD_ACCEPTED):
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.callback(self._data == METHOD_ACCEPTED)

"""A SOCKS5 server that answers as it is told, for the tests of what speaks SOCKS to Tor."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

OPEN = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


@define
class SocksServer(Factory):
    """Answers like Tor: of several messages that came at once, only the last one."""

    noisy = False

    reactor: Any = None
    origin: int | None = None
    """The loopback port that stands for every destination; None: there is nothing behind it."""
    code: int = 0
    """The reply."""
    behind: bytes = b""
    """Bytes of the destination that come in one piece with the reply."""
    held: bool = False
    """Wait for :meth:`Served.answer` to be called."""
    served: list[Served] = field(factory=list)
    waiting: list[tuple[int, Deferred[Served]]] = field(factory=list)

    def buildProtocol(self, addr: object) -> Served:
        return Served(self)

    def asked(self, number: int = 1) -> Deferred[Served]:
        """Fire with the connection whose request was the ``number``-th to arrive."""
        asked: Deferred[Served] = Deferred()
        if len(self.served) >= number:
            asked.callback(self.served[number - 1])
        else:
            self.waiting.append((number, asked))
        return asked


class Served(Protocol):
    """One client of the server."""

    transport: Any

    def __init__(self, server: SocksServer) -> None:
        self.server = server
        self.username = self.password = b""
        self.target: tuple[str, int] | None = None
        self.received = b""
        """What the client has sent behind its request, before the reply and after it."""
        self.early = b""
        """What of that came before the reply."""
        self.sent = 0
        """Bytes of the origin's that were sent on."""
        self.lost: Deferred[None] = Deferred()
        self._origin: Relay | None = None
        self._buffer = b""

    def dataReceived(self, data: bytes) -> None:
        if self in self.server.served:
            self.received += data
            if self._origin is not None:
                self._origin.transport.write(data)
            return
        self._buffer += data
        reply = b""
        while self.target is None and (step := self._message()) is not None:
            reply = step
        if reply:
            self.transport.write(reply)
        if self.target is not None:
            self.received = self._buffer
            self.server.served.append(self)
            for number, asked in list(self.server.waiting):
                if number == len(self.server.served):
                    self.server.waiting.remove((number, asked))
                    asked.callback(self)
            if not self.server.held:
                self.answer()

    def _message(self) -> bytes | None:
        """Read one message; its answer, or None while it is not whole."""
        buffer = self._buffer
        if buffer.startswith(b"\x05\x01\x02"):
            self._buffer = buffer[3:]
            return b"\x05\x02"
        if buffer.startswith(b"\x01"):
            end = 2 + buffer[1]
            self.username = buffer[2:end]
            self.password = buffer[end + 1 : end + 1 + buffer[end]]
            self._buffer = buffer[end + 1 + buffer[end] :]
            return b"\x01\x00"
        if buffer.startswith(b"\x05\x01\x00"):
            size = {1: 4, 3: buffer[4] + 1, 4: 16}[buffer[3]]
            raw, rest = buffer[4 : 4 + size], buffer[4 + size :]
            host = raw[1:].decode() if buffer[3] == 3 else str(ip_address(raw))
            self.target = host, int.from_bytes(rest[:2], "big")
            self._buffer = rest[2:]
            return b"\x01\x00"
        return None

    def answer(self, code: int | None = None) -> None:
        """Reply, once the origin is connected where there is one."""
        code = self.server.code if code is None else code
        self.early = self.received
        if code != 0:
            self.transport.write(OPEN[:1] + bytes((code,)) + OPEN[2:])
            self.transport.loseConnection()
        elif self.server.origin is None:
            self.transport.write(OPEN + self.server.behind)
        else:
            endpoint = TCP4ClientEndpoint(self.server.reactor, "127.0.0.1", self.server.origin)
            connectProtocol(endpoint, Relay(self))

    def end(self) -> None:
        """End the client's connection behind what was written to it, as a circuit's end does."""
        self.transport.unregisterProducer()  # which would have to say that it is done
        self.transport.loseConnection()

    def relayed(self, relay: Relay) -> None:
        self.transport.write(OPEN + self.server.behind)
        relay.transport.write(self.received)
        self._origin = relay
        self.transport.registerProducer(relay.transport, True)
        relay.transport.registerProducer(self.transport, True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)
        if self._origin is not None:
            self._origin.transport.loseConnection()


class Relay(Protocol):
    """The server's connection to the origin."""

    transport: Any

    def __init__(self, served: Served) -> None:
        self._served = served

    def connectionMade(self) -> None:
        self._served.relayed(self)

    def dataReceived(self, data: bytes) -> None:
        self._served.sent += len(data)
        self._served.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._served.transport.loseConnection()

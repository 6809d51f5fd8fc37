"""What there is to reach: bodies that are each request's own, echoes, WebSockets."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, cast

from attrs import define, field
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.python.failure import Failure

from tests.daemon.process import installed
from tests.soak.canaries import Canaries
from tests.websocket_server import WebSocketServer, trusted
from tortxd.testing import Canned, Origin, PrivateNetwork, pattern
from tortxd.testing.origin_http import Framing, Reply
from tortxd.testing.origin_routes import ROUTES, Asked, Routes, json_reply


def body(number: int, size: int) -> bytes:
    """The body of a step, which no other step's is a part of: both sides know it."""
    return b"<%d>" % number + pattern(size)


def digest(data: bytes | bytearray) -> str:
    """A hash of it, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


CHECKS = f"checks.{Canaries.domain}"
"""The name of what the daemon itself asks, which its configuration holds."""


class _Echo(Protocol):
    """Sends back what it gets."""

    transport: Any

    def connectionMade(self) -> None:
        self.factory.open.add(self)
        # What comes is read as fast as it is taken back.
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.open.discard(self)
        self.transport.unregisterProducer()

    factory: Any


class _Echoes(Factory):
    noisy = False

    def __init__(self) -> None:
        self.open: set[_Echo] = set()

    def buildProtocol(self, addr: object) -> _Echo:
        echo = _Echo()
        echo.factory = self
        return echo


@define
class Destinations:
    """All of them, under one name."""

    origin: Origin
    websockets: WebSocketServer
    ca_file: Path
    arrived: Counter[int]
    """How often the upload of each step came, by its number."""
    _echoes: _Echoes = field(factory=_Echoes)
    _listening: Any = None

    @classmethod
    def of(cls, network: PrivateNetwork, folder: Path, host: str) -> Destinations:
        """Those of a run, not yet started."""
        arrived = Counter[int]()
        origin = Origin(
            installed(),
            folder,
            names=(host, CHECKS),
            exit_of=network.exit_of,
            sites={host: _routes(arrived)},
        )
        servers = WebSocketServer(folder, names=(host,))
        return cls(origin, servers, folder / "ca.pem", arrived)

    async def start(self) -> None:
        await self.origin.start()
        self.websockets.__enter__()
        self._listening = installed().listenTCP(0, self._echoes, interface="127.0.0.1")
        trusted(self.ca_file, self.origin.ca_file, self.websockets.ca_file)

    async def stop(self) -> None:
        self.reset()
        await self._listening.stopListening()
        self.websockets.__exit__(None, None, None)
        await self.origin.stop()

    @property
    def echo_port(self) -> int:
        port: int = self._listening.getHost().port
        return port

    def tls(self, host: str) -> Any:
        """TLS settings of a client that trusts the origin."""
        authority = Certificate.loadPEM(self.origin.ca_file.read_bytes())
        return optionsForClientTLS(host, trustRoot=authority)

    @property
    def _wires(self) -> list[Any]:
        return [one.wire for one in self.origin.open_connections] + [
            one.transport for one in self._echoes.open
        ]

    def reset(self) -> None:
        """Reset every connection that is open."""
        for wire in self._wires:
            wire.abortConnection()

    def stall(self) -> list[Any]:
        """Read nothing more on the connections that are open; the result is for :meth:`go_on`."""
        stalled = self._wires
        for wire in stalled:
            wire.pauseProducing()
        return stalled

    def go_on(self, stalled: list[Any]) -> None:
        for wire in stalled:
            if wire.connected and not wire.disconnecting:
                wire.resumeProducing()

    def forget(self) -> None:
        """Let go of the requests that the origin remembers."""
        self.origin.requests.clear()


def _routes(arrived: Counter[int]) -> Routes:
    """``/soak/FRAMING/NUMBER/SIZE``, ``/take/NUMBER``, and what every origin has."""

    def soak(asked: Asked) -> Reply:
        framing, number, size = asked.arguments[:3]
        cut = asked.first("cut")
        return Reply(
            body=body(int(number), 0),
            size=int(size),
            framing=cast(Framing, framing),
            cut=int(cut) if cut else None,
            ending="close" if cut or asked.first("last") else "keep",
        )

    def take(asked: Asked) -> Reply:
        arrived[int(asked.arguments[0])] += 1
        return json_reply({"length": asked.body.length, "sha256": asked.body.sha256})

    def raw(_: Asked) -> Canned:
        return Canned(b"HTTP/1.1 2x0 no\r\nContent-Length: +1\r\n\r\n..", "close")

    return {**ROUTES, "/soak": soak, "/take": take, "/raw": raw}

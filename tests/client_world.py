"""A SOCKS server, an origin behind it, and the library's clients in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from attrs import evolve
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.socks_server import SocksServer
from tortxd.client.http import TorHttpClient
from tortxd.config import Config

Answer = Callable[["Request"], bytes | None]


class Request(Protocol):
    """A web server that answers each request with bytes; None leaves it open."""

    transport: Any

    def __init__(self, answer: Answer, seen: list[Request]) -> None:
        self._answer = answer
        self._seen = seen
        self.method = self.path = self.body = b""
        self.headers: dict[bytes, bytes] = {}
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        head, separator, rest = self._data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(b": ") for line in lines[1:])
        }
        length = int(headers.get(b"content-length", 0))
        if not separator or len(rest) < length:
            return
        self._data = rest[length:]
        asked = Request(self._answer, self._seen)
        asked.transport = self.transport
        asked.method, asked.path = lines[0].split(b" ")[:2]
        asked.headers, asked.body = headers, rest[:length]
        self._seen.append(asked)
        answer = self._answer(asked)
        if answer is not None:
            self.transport.write(answer)


def ok(body: bytes = b"hello", *headers: bytes) -> bytes:
    return b"\r\n".join(
        (b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers, b"", body)
    )


def moved(to: bytes, code: bytes = b"302 Found", *headers: bytes) -> bytes:
    return b"\r\n".join(
        (b"HTTP/1.1 " + code, b"Content-Length: 0", b"Location: " + to, *headers, b"", b"")
    )


class World:
    """A SOCKS server, an origin behind it, and the clients that use them."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.socks = SocksServer(reactor)
        self.seen: list[Request] = []
        self.config = Config()

    def client(self, **changes: Any) -> TorHttpClient:
        return TorHttpClient(evolve(self.config, **changes), self.reactor)

    @property
    def credentials(self) -> list[tuple[bytes, bytes]]:
        return [(served.username, served.password) for served in self.socks.served]

    @property
    def targets(self) -> list[tuple[str, int] | None]:
        return [served.target for served in self.socks.served]


@asynccontextmanager
async def world(answer: Answer, wrap: Callable[[Any], Any] = lambda it: it) -> AsyncIterator[World]:
    from twisted.internet import reactor

    made = World(reactor)
    origin = Factory.forProtocol(lambda: Request(answer, made.seen))
    origin.noisy = False
    ports: list[Any] = [
        await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        for factory in (wrap(origin), made.socks)
    ]
    made.socks.origin = ports[0].getHost().port
    made.config = Config(f"127.0.0.1:{ports[1].getHost().port}", timeout=10)
    try:
        yield made
    finally:
        for served in made.socks.served:
            if served.transport.connected:
                served.transport.abortConnection()
            await served.lost
        for port in ports:
            await port.stopListening()

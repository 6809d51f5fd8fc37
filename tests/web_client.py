"""A raw HTTP client for tests: it sends the bytes that it is given, and says what came back."""

from __future__ import annotations

import json
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tortxd.wire.http1 import BodyReader, ResponseHead, ResponseReader


@define
class Reply:
    """One response."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytearray = field(factory=bytearray)
    whole: bool = False
    """Whether the body came to its proper end."""
    aborted: bool = False
    """Whether the connection was reset."""
    interim: list[ResponseHead] = field(factory=list)
    """What came ahead of it."""

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        wanted = name.lower().encode()
        return [value.decode() for key, value in self.headers if key.lower() == wanted]

    def __getitem__(self, name: str) -> str:
        """The one value of a header."""
        (value,) = self.all(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@define(eq=False)
class Wire(Protocol):
    """A client's connection, on which several requests can follow one another."""

    transport: Any = field(init=False)
    raw: bytearray = field(factory=bytearray)
    """Everything that came."""
    lost: Deferred[None] = field(factory=Deferred)
    _unread: bytes = b""
    closed: Failure | None = None
    _reader: ResponseReader | None = None
    _head: ResponseHead | None = None
    _body: BodyReader | None = None
    _reply: Reply | None = None
    _waiting: Deferred[Reply] | None = None
    _watched: list[tuple[bytes, Deferred[None]]] = field(factory=list)

    connected = 0
    factory = None

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.transport.write(data)

    def reply(self, method: bytes = b"GET") -> Deferred[Reply]:
        """The next response, whole or broken off; fails when none begins."""
        self._waiting = Deferred()
        self._reader = ResponseReader(method)
        self._head = self._body = self._reply = None
        waiting = self._waiting
        unread, self._unread = self._unread, b""
        self._read(unread)
        if self.closed is not None and self._waiting is not None:
            self._ended()
        return waiting

    def when_came(self, data: bytes) -> Deferred[None]:
        """Fire when ``data`` is part of what came."""
        came: Deferred[None] = Deferred()
        self._watched.append((data, came))
        self._look()
        return came

    def dataReceived(self, data: bytes) -> None:
        self.raw += data
        self._look()
        if self._waiting is None:
            self._unread += data
        else:
            self._read(data)

    def _look(self) -> None:
        for watched in list(self._watched):
            if watched[0] in self.raw:
                self._watched.remove(watched)
                watched[1].callback(None)

    def _read(self, data: bytes) -> None:
        if self._head is None:
            assert self._reader is not None
            self._head = self._reader.feed(data) if data else None
            if self._head is None:
                return
            data = self._reader.rest
            self._body = self._reader.body(self._head)
            self._reply = Reply(self._head.status, self._head.reason, self._head.headers)
            self._reply.interim += self._reader.interim
        assert self._body is not None
        assert self._reply is not None
        if data:
            self._reply.body += self._body.feed(data)
        if self._body.done:
            self._unread = self._body.rest or (data if self._head.length == 0 else b"")
            self._reply.whole = True
            self._give()

    def _give(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and self._reply is not None:
            waiting.callback(self._reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = reason
        if self._waiting is not None:
            self._ended()
        self.lost.callback(None)

    def _ended(self) -> None:
        assert self.closed is not None
        if self._reply is None:
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                waiting.errback(AssertionError(f"The connection ended with {self.raw[-300:]!r}"))
            return
        self._reply.aborted = not isinstance(self.closed.value, ConnectionDone)
        assert self._head is not None
        self._reply.whole = self._head.until_close and not self._reply.aborted
        self._give()


async def connect(reactor: Any, port: int, source: str | None = None) -> Wire:
    """Connect to a loopback port, from this address."""
    bind_to = None if source is None else (source, 0)
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port, bindAddress=bind_to)
    return await connectProtocol(endpoint, Wire())  # type: ignore[no-any-return]


async def ask(
    reactor: Any,
    port: int,
    path: str,
    *headers: str,
    method: str = "GET",
    body: bytes | None = None,
    host: str = "localhost:3080",
    source: str | None = None,
) -> Reply:
    """Make one request on a connection of its own."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    wire = await connect(reactor, port, source)
    wire.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))
    try:
        return await wire.reply(method.encode())
    finally:
        wire.transport.abortConnection()


def connect_to(authority: str, *headers: str) -> bytes:
    """A CONNECT."""
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *headers, "", ""]
    return "\r\n".join(lines).encode()

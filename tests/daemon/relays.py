"""A relay on loopback that records every byte which passes it, and what may not be among them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote_from_bytes

from attrs import define, field
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.daemon.process import installed
from tortxd.testing.sockets import Address

_CONNECT = re.compile(
    rb"CONNECT (127(?:\.\d{1,3}){3}):(\d+) HTTP/1\.[01]\r\n(?:.*?\r\n)?\r\n", re.DOTALL
)


@define
class Recording:
    """What passed."""

    up: bytearray = field(factory=bytearray)
    """From those who connect, the CONNECTs of a proxy's clients included."""
    down: bytearray = field(factory=bytearray)
    """To them."""
    asked: list[Address] = field(factory=list)
    """Where they wanted to go."""
    port: int = 0


def forms(canary: bytes) -> Iterator[bytes]:
    """The forms in which ``canary`` could stand among other bytes."""
    yield canary
    yield canary[::-1]
    yield canary.hex().encode()
    yield canary.hex().upper().encode()
    yield quote_from_bytes(canary, safe="").encode()
    for percent in ("%%%02x", "%%%02X"):
        yield "".join(percent % byte for byte in canary).encode()
    for before in range(3):
        # Of its first and last characters, base64 makes what depends on its neighbours too.
        encoded = b64encode(b"\0" * before + canary)
        start, end = -(-before * 8 // 6), (before + len(canary)) * 8 // 6
        yield encoded[start:end]
        yield encoded[start:end].translate(bytes.maketrans(b"+/", b"-_"))


def found(canaries: list[str], recorded: bytes | bytearray) -> list[str]:
    """The canaries that are among these bytes, in whatever form."""
    return [one for one in canaries if any(form in recorded for form in forms(one.encode()))]


@define(eq=False)
class _Far(Protocol):
    """The relay's connection to where its client wants to go."""

    near: _Near
    transport: Any = field(init=False)

    connected = 0
    factory: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.near.recording.down += data
        self.near.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.near.transport.loseConnection()


@define(eq=False)
class _Near(Protocol):
    """A client's connection."""

    recording: Recording
    to: Address | None
    transport: Any = field(init=False)
    _far: _Far | None = None
    _waiting: bytes = b""

    connected = 0
    factory: Any = None

    def connectionMade(self) -> None:
        if self.to is not None:
            self._dial(*self.to)

    def dataReceived(self, data: bytes) -> None:
        self.recording.up += data
        if self._far is not None:
            self._far.transport.write(data)
            return
        self._waiting += data
        if self.to is None:
            asked = _CONNECT.match(self._waiting)
            if asked is not None:
                self._waiting = self._waiting[asked.end() :]
                self._dial(asked[1].decode(), int(asked[2]))

    def _dial(self, host: str, port: int) -> None:
        self.recording.asked.append((host, port))
        endpoint = TCP4ClientEndpoint(installed(), host, port)
        dialling = connectProtocol(endpoint, _Far(self))
        dialling.addCallbacks(self._dialled, self._failed)

    def _dialled(self, far: _Far) -> None:
        if self.to is None:
            self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        self._far = far
        far.transport.write(self._waiting)
        if not self.transport.connected:
            far.transport.abortConnection()

    def _failed(self, failure: Failure) -> None:
        failure.trap(ConnectError)
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._far is not None:
            self._far.transport.abortConnection()


class _Nears(Factory):
    noisy = False

    def __init__(self, recording: Recording, to: Address | None) -> None:
        self.recording = recording
        self.to = to
        self.nears: list[_Near] = []

    def buildProtocol(self, _: object) -> Protocol:
        near = _Near(self.recording, self.to)
        self.nears.append(near)
        return near


@asynccontextmanager
async def recording(to: Address | None = None) -> AsyncIterator[Recording]:
    """A relay to one address or, without one, an HTTP proxy that takes CONNECTs to loopback."""
    record = Recording()
    factory = _Nears(record, to)
    listening = installed().listenTCP(0, factory, interface="127.0.0.1")
    record.port = listening.getHost().port
    try:
        yield record
    finally:
        await listening.stopListening()
        for near in factory.nears:
            near.transport.abortConnection()

"""Destinations that speak no HTTP, on the tests' own reactor."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.daemon.process import installed

HOST = "origin.test.example"
"""This machine, as the private network knows it."""


@define(eq=False)
class FarEnd(Protocol):
    """One connection to such a destination."""

    first: bytes = b""
    """What it says before it has heard anything."""
    received: bytearray = field(factory=bytearray)
    lost: Deferred[None] = field(factory=Deferred)
    """Fires when the connection is gone."""
    transport: Any = field(init=False)
    factory: Any = field(init=False)
    _watched: list[tuple[bytes, Deferred[None]]] = field(factory=list)

    connected = 0

    def connectionMade(self) -> None:
        self.transport.write(self.first)
        self.factory.queue.put(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def when_came(self, data: bytes) -> Deferred[None]:
        """Fire when ``data`` is part of what came."""
        came: Deferred[None] = Deferred()
        self._watched.append((data, came))
        self._look()
        return came

    def _look(self) -> None:
        for watched in list(self._watched):
            if watched[0] in self.received:
                self._watched.remove(watched)
                watched[1].callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


@define
class Destination:
    """Where connections arrive."""

    port: int
    arrived: DeferredQueue[FarEnd]


class _FarEnds(Factory):
    noisy = False

    def __init__(self, first: bytes, queue: DeferredQueue[FarEnd]) -> None:
        self.first = first
        self.queue = queue
        self.ends: list[FarEnd] = []

    def buildProtocol(self, _: object) -> Protocol:
        end = FarEnd(self.first)
        end.factory = self
        self.ends.append(end)
        return end


@asynccontextmanager
async def destination(first: bytes = b"") -> AsyncIterator[Destination]:
    """A server on loopback whose every connection says ``first`` and then does what it is told."""
    queue: DeferredQueue[FarEnd] = DeferredQueue()
    factory = _FarEnds(first, queue)
    listening = installed().listenTCP(0, factory, interface="127.0.0.1")
    try:
        yield Destination(listening.getHost().port, queue)
    finally:
        await listening.stopListening()
        for end in factory.ends:
            end.transport.abortConnection()
            await end.lost


@contextmanager
def unanswering() -> Iterator[int]:
    """A port whose connections are never made: its backlog is full, and nobody empties it."""
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port: int = full.getsockname()[1]
        for filling in (one, two):
            filling.setblocking(False)
            filling.connect_ex(("127.0.0.1", port))
        yield port

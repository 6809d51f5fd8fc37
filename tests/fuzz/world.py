"""The gateway on real sockets: a client that sends what it is told, and nothing left behind."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.gateway.conftest import Gateway
from tortxd import splicing
from tortxd.gateway.disconnects import LOOK_EVERY
from tortxd.gateway.front import ports

BOUND = 4.0
"""Seconds in which something must have happened. Nothing here waits on purpose for so long."""
_TURNS = 12
"""Turns of the reactor in which what was sent on loopback has come."""


class Client(Protocol):
    """A raw connection to the gateway."""

    transport: Any

    def __init__(self) -> None:
        self.raw = b""
        self.closed = False
        self.reset = False
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.raw += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True
        self.reset = reason.check(ConnectionDone) is None
        self.lost.callback(None)

    def read_slowly(self) -> None:
        """Have little room for what comes, and take it in small pieces."""
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        self.transport.bufferSize = 1000


async def client_of(gateway: Gateway, *, slow: bool = False) -> Client:
    """Connect; ``slow``: as one that reads slowly."""
    endpoint = TCP4ClientEndpoint(gateway.reactor, "127.0.0.1", gateway.port)
    client: Client = await connectProtocol(endpoint, Client())
    if slow:
        client.read_slowly()
    return client


async def until(gateway: Gateway, true: Callable[[], bool], what: str) -> None:
    """Let the reactor work until something is so."""
    end = gateway.reactor.seconds() + BOUND
    while not true():
        assert gateway.reactor.seconds() < end, what
        await deferLater(gateway.reactor, 0.0)


async def turns(gateway: Gateway) -> None:
    """Let what was sent arrive."""
    for _ in range(_TURNS):
        await deferLater(gateway.reactor, 0.0)


async def send_pieces(gateway: Gateway, transport: Any, pieces: list[bytes]) -> None:
    """Send bytes piece by piece, each in a turn of the reactor of its own."""
    for piece in pieces:
        transport.write(piece)
        await deferLater(gateway.reactor, 0.0)


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def example(gateway: Gateway) -> AsyncIterator[None]:
    """One example: nothing of it may be left behind, and nothing of one that failed is."""
    splicing._pipe()  # the first that needs it makes it for all
    ports._reserve.take()
    before = descriptors()
    others = set(gateway.reactor.getDelayedCalls())
    try:
        yield
        await _check_nothing_is_left(gateway, before, others)
    finally:
        for front in list(gateway.factory.connections):
            front.transport.abortConnection()
        gateway.core.pool.clear()
        for served in gateway.socks.served:
            served.transport.abortConnection()
        gateway.socks.served.clear()
        gateway.origin.requests.clear()


async def _check_nothing_is_left(gateway: Gateway, before: int, others: set[IDelayedCall]) -> None:
    """The client has gone: so has every connection, descriptor, exchange and timer, but for
    ``others`` that were there before."""
    core, served = gateway.core, gateway.socks.served
    await until(gateway, lambda: not gateway.factory.connections, "a client's connection is left")
    assert not gateway.factory.connections.idle
    assert not core.disconnects._fds
    assert len(core.pool) <= len(served)
    core.pool.clear()
    await until(gateway, lambda: all(one.lost.called for one in served), "a stream is left")
    await until(gateway, lambda: not gateway.origin.open_connections, "the origin has a connection")
    gateway.origin.connections.clear()
    left = {seconds: queue.entries for seconds, queue in core.timeouts._queues.items()}
    left.pop(LOOK_EVERY, None)  # the watch for clients that leave looks once more, and find none
    assert not any(left.values()), f"timers are left: {left}"
    await until(gateway, lambda: descriptors() <= before, "a descriptor is left")
    strays = [str(call) for call in gateway.reactor.getDelayedCalls() if call not in others]
    strays = [call for call in strays if not any(known in call for known in _KEPT)]
    assert not strays, f"calls are left: {strays}"


_KEPT = ("_Queue._due", "HTTPFactory._updateLogDateTime")
"""The one timer of all timeouts of a length (checked above), and twisted.web's clock."""

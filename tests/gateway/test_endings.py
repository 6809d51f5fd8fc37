"""How long the end of a connection waits for a client that takes nothing, or not all of it. What
arrives in the end is in ``test_last_bytes.py``."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from attrs import define, field
from pytest_twisted import ensureDeferred
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock, deferLater
from zope.interface import alsoProvides

from tests.gateway.conftest import Gateway
from tests.slow_client import with_little_room
from tortxd.gateway.front import connections, endings
from tortxd.gateway.front.endings import (
    IDLE_TIME,
    LINGER_TIME,
    MAX_LOOK,
    SENT_LOOK,
    STALL_TIME,
    Broken,
    InOrder,
    LastBytes,
)
from tortxd.gateway.limits import Limits
from tortxd.relay.timeouts import Timeouts

TICK = 0.1
SIZE = 100_000


@define(eq=False, slots=False)
class ToClient:
    """A transport whose client takes bytes only when the test says so."""

    clock: Clock = field(factory=Clock)
    unsent: int = SIZE
    """What the client has not taken yet."""
    looks: list[float] = field(factory=list)
    """When that was asked for."""
    ended: bool = False
    closed: bool = False
    aborts: list[float] = field(factory=list)
    """When it was aborted."""
    reading: bool = False
    producer: Any = None

    def resumeProducing(self) -> None:
        self.reading = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def startWriting(self) -> None:
        self.producer.resumeProducing()  # it is all in the kernel's hands

    def loseWriteConnection(self) -> None:
        self.ended = True

    def loseConnection(self) -> None:
        self.closed = True

    def abortConnection(self) -> None:
        self.aborts.append(self.clock.seconds())

    def look(self) -> int:
        self.looks.append(self.clock.seconds())
        return self.unsent

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.pump([TICK] * round(seconds / TICK))


@pytest.fixture
def to_client(monkeypatch: pytest.MonkeyPatch) -> ToClient:
    client = ToClient()
    alsoProvides(client, ITCPTransport)
    monkeypatch.setattr(endings, "_unsent", lambda transport: transport.look())
    return client


def started(kind: type[InOrder | Broken], to_client: ToClient, **options: Any) -> list[float]:
    """Begin an end of this kind; the result lists when it said that the client takes."""
    takes: list[float] = []
    transport: Any = to_client
    end: LastBytes = kind(
        transport,
        Timeouts(to_client.clock),
        lambda: takes.append(to_client.clock.seconds()),
        **options,
    )
    end.start()
    assert to_client.reading  # what it still sends must not fill the kernel's buffers
    return takes


@pytest.mark.parametrize(("kind", "patience"), [(InOrder, IDLE_TIME), (Broken, STALL_TIME)])
def test_a_client_that_takes_nothing_is_not_waited_for_without_end(
    to_client: ToClient, kind: type[InOrder | Broken], patience: float
) -> None:
    """One that is whole waits as long as an idle connection is kept; one that broke off, 30 s."""
    takes = started(kind, to_client)
    to_client.wait(patience - TICK)
    assert to_client.aborts == []
    to_client.wait(MAX_LOOK + 2 * TICK)
    assert len(to_client.aborts) == 1
    assert takes == []


@pytest.mark.parametrize(("kind", "patience"), [(InOrder, IDLE_TIME), (Broken, STALL_TIME)])
def test_each_byte_that_is_taken_gives_a_client_all_of_its_time_again(
    to_client: ToClient, kind: type[InOrder | Broken], patience: float
) -> None:
    takes = started(kind, to_client)
    for number in range(1, 4):
        to_client.wait(patience - 2 * MAX_LOOK)
        to_client.unsent -= 1
        to_client.wait(MAX_LOOK + TICK)
        assert len(takes) == number
    to_client.wait(patience - 2 * MAX_LOOK)
    assert to_client.aborts == []
    to_client.wait(3 * MAX_LOOK)
    assert len(to_client.aborts) == 1


def test_one_that_never_was_admitted_has_less_patience(to_client: ToClient) -> None:
    """A refusal must soon give its place to the next."""
    started(InOrder, to_client, patience=LINGER_TIME)
    to_client.wait(LINGER_TIME + MAX_LOOK + TICK)
    assert len(to_client.aborts) == 1


def test_a_client_that_took_all_has_a_moment_to_close_its_end(to_client: ToClient) -> None:
    started(InOrder, to_client)
    assert to_client.ended
    to_client.wait(100)
    to_client.unsent = 0
    to_client.wait(LINGER_TIME)
    assert not to_client.closed
    to_client.wait(MAX_LOOK + TICK)
    assert to_client.closed


def test_what_broke_off_is_aborted_as_soon_as_all_is_taken(to_client: ToClient) -> None:
    started(Broken, to_client)
    to_client.wait(20)
    to_client.unsent = 0
    to_client.wait(MAX_LOOK + TICK)
    assert len(to_client.aborts) == 1
    assert not to_client.closed
    assert not to_client.ended


def gaps_of(times: list[float]) -> list[float]:
    return [later - one for one, later in pairwise(times)]


@pytest.mark.parametrize("kind", [InOrder, Broken])
def test_looks_become_rare_while_nothing_is_taken(
    to_client: ToClient, kind: type[InOrder | Broken]
) -> None:
    started(kind, to_client)
    to_client.wait(20)
    gaps = gaps_of(to_client.looks)
    assert MAX_LOOK - TICK < max(gaps) < MAX_LOOK + 2 * TICK
    assert len(to_client.looks) < 20 / MAX_LOOK + 6
    # And frequent again when something is: there may soon be nothing left.
    to_client.unsent -= 1
    to_client.looks.clear()
    to_client.wait(2 * MAX_LOOK)
    assert gaps_of(to_client.looks)[0] < SENT_LOOK + 2 * TICK


def test_who_has_left_is_not_looked_at(to_client: ToClient) -> None:
    end = InOrder(to_client, Timeouts(to_client.clock))  # type: ignore[arg-type]
    end.start()
    end.cancel()
    to_client.wait(IDLE_TIME)
    assert to_client.looks == []
    assert to_client.clock.getDelayedCalls() == []
    assert to_client.aborts == []


# --- in the gateway -------------------------------------------------------------------------------


@pytest.fixture
def stall(gateway: Gateway) -> Iterator[Callable[[], Any]]:
    """Brings a client whose answer is complete, and which takes none of it, and might still be
    sending; no time passes."""
    gateway.socks.origin = None
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n" % SIZE
    gateway.socks.behind = answer + b"." * SIZE
    client = with_little_room()
    gateway.core.timeouts.clock = Clock()
    gateway.core.timeouts.stop()

    async def stalled() -> socket.socket:
        client.connect(("127.0.0.1", gateway.port))
        post = f"POST {gateway.path('/')} HTTP/1.1\r\nHost: localhost\r\n"
        client.sendall(f"{post}Content-Length: 90000000\r\n\r\n".encode())
        while not [front for front in gateway.factory.connections if front._last is not None]:
            await deferLater(gateway.reactor, 0)
        return client

    yield stalled
    client.close()


def all_of(client: socket.socket) -> int:
    """How many bytes still come, until a reset."""
    number = 0
    with pytest.raises(ConnectionResetError):
        while piece := client.recv(4096):
            number += len(piece)
    return number


@ensureDeferred
async def test_an_end_that_stalls_makes_room_for_others(
    gateway: Gateway, stall: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 25."""
    gateway.core.limits = Limits(clients=1)
    client = await stall()
    assert (await gateway.ask("/health")).status == 503  # it has taken something just now
    monkeypatch.setattr(connections, "LONG_IDLE", 0.0)
    assert (await gateway.ask("/health")).status == 200
    assert all_of(client) < SIZE


@ensureDeferred
async def test_an_end_that_stalls_does_not_hold_up_a_stop(
    gateway: Gateway, stall: Callable[[], Any]
) -> None:
    client = await stall()
    clock: Any = gateway.core.timeouts.clock
    drained = gateway.factory.drain(2.0)
    clock.pump([TICK] * 19)
    await deferLater(gateway.reactor, 0)
    assert not drained.called
    clock.pump([TICK] * 5)
    await drained.addTimeout(5.0, gateway.reactor)
    assert all_of(client) < SIZE

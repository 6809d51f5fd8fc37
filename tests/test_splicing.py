"""Bytes that pass from one connection to another within the kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import termios
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tortxd import splicing
from tortxd.splicing import GROWTH, STEP, Splice, splice
from tortxd.testing import pattern
from tortxd.writing import write_together

reactor: Any = installed


class End(Protocol):
    """One end of a connection."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed: Failure | None = None

    def connectionMade(self) -> None:
        write_together(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = reason


class Ends(ClientFactory):
    """Makes one end."""

    noisy = False

    def __init__(self) -> None:
        self.made: Deferred[End] = Deferred()

    def buildProtocol(self, addr: object) -> End:
        end = End()
        reactor.callLater(0, self.made.callback, end)
        return end


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await deferLater(reactor, 0)


@pytest_twisted.async_yield_fixture
async def connect() -> AsyncIterator[Any]:
    """Makes connections; the result are both of its ends."""
    ends: list[End] = []

    async def connect() -> tuple[End, End]:
        near, far = Ends(), Ends()
        port = reactor.listenTCP(0, far, interface="127.0.0.1")
        reactor.connectTCP("127.0.0.1", port.getHost().port, near)
        pair = await near.made, await far.made
        await port.stopListening()
        ends.extend(pair)
        return pair

    yield connect
    for end in ends:
        end.transport.abortConnection()
    await until(lambda: all(end.closed for end in ends))


class Way:
    """``first`` writes, ``source`` passes on to ``sink``, and ``last`` reads."""

    def __init__(self, first: End, source: End, sink: End, last: End) -> None:
        self.first, self.source, self.sink, self.last = first, source, sink, last
        self.may_move = 1 << 40
        self.moved = 0
        made = splice(source.transport, sink.transport, self._may_move, self._count)
        assert made is not None
        self.splice: Splice = made
        sink.transport.registerProducer(source.transport, True)

    def _may_move(self) -> int:
        return self.may_move - self.moved

    def _count(self, size: int) -> None:
        self.moved += size

    async def arrives(self, data: bytes) -> None:
        await until(lambda: len(self.last.received) >= len(data) or self.last.closed)
        assert bytes(self.last.received) == data


@pytest_twisted.async_yield_fixture
async def way(connect: Any) -> AsyncIterator[Way]:
    first, source = await connect()
    sink, last = await connect()
    yield Way(first, source, sink, last)


@ensureDeferred
async def test_what_comes_goes_on_unseen(way: Way) -> None:
    data = pattern(5_000_000)
    way.first.transport.write(data)
    await way.arrives(data)
    assert way.moved == len(data)
    assert not way.source.received


@ensureDeferred
async def test_a_receiver_that_does_not_read_stops_it(way: Way) -> None:
    """Rule 12: what is kept here is less than a step, however much is sent."""
    data = pattern(30_000_000)
    way.last.transport.pauseProducing()
    way.first.transport.write(data)
    await until(lambda: way.sink.transport.producerPaused)
    moved = way.moved
    for _ in range(20):
        await deferLater(reactor, 0.002)
    assert way.moved == moved < len(data)
    sink = way.sink.transport
    assert 0 < len(sink.dataBuffer) + sink._tempDataLen <= STEP
    way.last.transport.resumeProducing()
    await way.arrives(data)


@ensureDeferred
async def test_what_was_written_before_goes_first(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = way.sink.transport
    with monkeypatch.context() as patch:
        patch.setattr(sink, "writeSomeData", lambda _: 0)
        FileDescriptor.write(sink, b"before ")
        await until(lambda: sink.dataBuffer)
        way.first.transport.write(b"behind")
        await until(lambda: way.source.received)
    assert bytes(way.source.received) == b"behind"  # whose protocol would write it
    sink.write(b"behind")
    await way.arrives(b"before behind")


@ensureDeferred
async def test_what_was_written_in_the_same_round_goes_first(way: Way) -> None:
    source = way.source.transport
    source.stopReading()
    way.first.transport.write(b"behind")
    await until(lambda: _waiting(source))
    way.sink.transport.write(b"before ")
    source.doRead()
    await way.arrives(b"before behind")
    assert way.moved == len(b"behind")


@ensureDeferred
async def test_nothing_keeps_a_way_that_has_ended(way: Way) -> None:
    kept = weakref.ref(way.splice)
    way.splice.end()
    del way.splice
    assert kept() is None


@ensureDeferred
async def test_the_protocol_gets_what_may_not_be_moved(way: Way) -> None:
    way.may_move = 100_000
    data = pattern(150_000)
    way.first.transport.write(data)
    await until(lambda: way.moved + len(way.source.received) == len(data))
    assert way.moved == 100_000
    await way.arrives(data[:100_000])
    assert bytes(way.source.received) == data[100_000:]


@ensureDeferred
async def test_it_ends_when_it_is_told_to(way: Way) -> None:
    way.first.transport.write(b"unseen")
    await way.arrives(b"unseen")
    way.splice.end()
    way.splice.end()
    way.first.transport.write(b"seen")
    await until(lambda: way.source.received)
    assert bytes(way.source.received) == b"seen"
    assert way.moved == 6


@ensureDeferred
async def test_an_end_comes_behind_all_that_was_sent(way: Way) -> None:
    data = pattern(1_000_000)
    way.first.transport.write(data)
    way.first.transport.loseConnection()
    await until(lambda: way.source.closed)
    assert way.source.closed is not None
    assert way.source.closed.check(ConnectionDone)
    assert way.sink.closed is None
    await way.arrives(data)


@ensureDeferred
async def test_a_reset_is_one(way: Way) -> None:
    way.first.transport.write(b"last words")
    await way.arrives(b"last words")
    way.first.transport.abortConnection()
    await until(lambda: way.source.closed)
    assert way.source.closed is not None
    assert way.source.closed.check(ConnectionLost)


@ensureDeferred
async def test_a_reset_that_is_found_in_reading_is_one(way: Way) -> None:
    """By then splice(2) has taken the error from the socket, where recv(2) would find an end."""
    source = way.source.transport
    source.stopReading()
    way.first.transport.abortConnection()
    outcome = None
    while outcome is None:
        await deferLater(reactor, 0)
        outcome = source.doRead()
    assert outcome is CONNECTION_LOST
    source.connectionLost(Failure(CONNECTION_LOST))


@ensureDeferred
async def test_a_receiver_that_has_gone_is_noticed(way: Way) -> None:
    way.last.transport.abortConnection()
    await until(lambda: way.last.closed)
    way.first.transport.write(pattern(1_000_000))
    await until(lambda: way.sink.closed)
    assert way.source.closed is None


@pytest.fixture
def broken_splice(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("tortxd.splicing.os.splice", refuse)


@pytest.mark.usefixtures("broken_splice")
@ensureDeferred
async def test_where_it_does_not_work_nothing_is_lost(way: Way) -> None:
    data = pattern(500_000)
    way.first.transport.write(data)
    await until(lambda: len(way.source.received) == len(data))
    assert bytes(way.source.received) == data


@ensureDeferred
async def test_the_pipe_is_empty_between_two_steps(connect: Any) -> None:
    """Two ways at once do not mix, though one is not read."""
    ways = []
    for _ in range(2):
        first, source = await connect()
        sink, last = await connect()
        ways.append(Way(first, source, sink, last))
    slow, fast = ways
    slow.last.transport.pauseProducing()
    data, other = pattern(20_000_000), pattern(3_000_000, 7)
    slow.first.transport.write(data)
    fast.first.transport.write(other)
    await fast.arrives(other)
    slow.last.transport.resumeProducing()
    await slow.arrives(data)


@ensureDeferred
async def test_steps_grow_while_they_are_full(way: Way) -> None:
    source = way.source.transport
    source.stopReading()
    way.first.transport.write(bytes(STEP + 10))
    await until(lambda: _waiting(source) == STEP + 10)
    source.doRead()
    assert way.moved == STEP
    assert way.splice._size == STEP + GROWTH
    source.doRead()
    assert way.moved == STEP + 10
    assert way.splice._size == STEP


@pytest.mark.parametrize(
    ("size", "room", "fitting"),
    [
        (STEP, 0, STEP),
        (STEP + GROWTH, -1, STEP),
        (STEP + GROWTH, STEP + 1, STEP + 1),
        (STEP + GROWTH, 1 << 30, STEP + GROWTH),
    ],
)
@ensureDeferred
async def test_steps_are_as_long_as_there_is_room(
    way: Way, monkeypatch: pytest.MonkeyPatch, size: int, room: int, fitting: int
) -> None:
    monkeypatch.setattr("tortxd.splicing._room", lambda _: room)
    way.splice._size = size
    assert way.splice._fitting() == fitting


def _waiting(transport: Any) -> int:
    """How many bytes it has to read."""
    return int.from_bytes(fcntl.ioctl(transport.fileno(), termios.FIONREAD, bytes(4)), "little")


@ensureDeferred
async def test_a_receiver_that_does_not_read_leaves_no_room(way: Way) -> None:
    socket = way.sink.transport.socket
    empty = splicing._room(socket)
    assert empty > STEP
    way.last.transport.pauseProducing()
    with pytest.raises(BlockingIOError):
        while True:
            socket.send(bytes(STEP))
    assert splicing._room(socket) < empty / 2


def test_where_the_kernel_tells_of_no_room_none_is_taken_for_granted() -> None:
    class Silent:
        def getsockopt(self, *_: object) -> bytes:
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    assert splicing._room(Silent()) == 0  # type: ignore[arg-type]


@ensureDeferred
async def test_what_was_not_passed_on_reaches_nobody_else(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 9: the pipe is everybody's."""

    def fail(*_: object, **__: object) -> bytes:
        raise MemoryError

    first, source = await connect()
    sink, last = await connect()
    broken = Way(first, source, sink, last)
    with monkeypatch.context() as patch:
        patch.setattr("tortxd.splicing.os.read", fail)
        patch.setattr(broken.sink.transport, "fileno", lambda: -1)  # it takes nothing
        source.transport.stopReading()
        broken.first.transport.write(b"one's own")
        with pytest.raises(MemoryError):
            await until(source.transport.doRead)
    first, source = await connect()
    sink, last = await connect()
    way = Way(first, source, sink, last)
    way.first.transport.write(b"another's")
    await way.arrives(b"another's")


@ensureDeferred
async def test_what_is_encrypted_is_left_alone(connect: Any) -> None:
    """Twisted's ``startTLS`` leaves the transport where it is."""
    near, far = await connect()
    for encrypted, plain in ((near, far), (far, near)):
        encrypted.transport.TLS = True
        assert splice(encrypted.transport, plain.transport, lambda: 1, lambda _: None) is None
        assert splice(plain.transport, encrypted.transport, lambda: 1, lambda _: None) is None
        encrypted.transport.TLS = False


def test_what_has_no_socket_of_its_own_is_left_alone() -> None:
    assert splice(object(), object(), lambda: 1, lambda _: None) is None


@ensureDeferred
async def test_without_a_pipe_all_goes_as_ever(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    splicing._pipe.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("tortxd.splicing.os.pipe2", refuse)
        way.first.transport.write(b"seen")
        await until(lambda: way.source.received)
    assert bytes(way.source.received) == b"seen"
    assert way.moved == 0
    assert splicing._pipe()  # later there is one


@ensureDeferred
async def test_all_ways_have_two_descriptors_in_common(connect: Any) -> None:
    ways = []
    for _ in range(5):
        first, source = await connect()
        sink, last = await connect()
        ways.append(Way(first, source, sink, last))
    splicing._pipe()
    before = len(os.listdir("/proc/self/fd"))
    for way in ways:
        way.first.transport.write(b"unseen")
        await way.arrives(b"unseen")
    assert len(os.listdir("/proc/self/fd")) == before

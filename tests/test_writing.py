"""What is written in one round of the reactor is sent together, and nothing else changes."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Iterator
from typing import Any, cast

import pytest
from attrs import Factory, define
from twisted.internet import main
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from tortxd.writing import send_now, write_together


class CountedSocket:
    """A socket that counts what is sent by it."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self.sent: list[int] = []
        """Bytes of each call."""

    def send(self, data: bytes) -> int:
        sent = self._real.send(data)
        self.sent.append(sent)
        return sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@define
class Producer:
    told: list[str] = Factory(list)

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class Ends:
    """Both ends of a connection: ours, of Twisted's, and the peer's."""

    def __init__(self, reactor: MemoryReactorClock | None = None) -> None:
        self.reactor = reactor or MemoryReactorClock()
        ours, self.peer = socket.socketpair()
        for end in (ours, self.peer):
            end.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.socket = CountedSocket(ours)
        self.connection: Any = Connection(cast(Any, self.socket), Protocol(), self.reactor)
        self.connection.connected = True
        write_together(self.connection)

    def waits(self) -> bool:
        """Whether the reactor waits until something can be written."""
        return self.connection in self.reactor.getWriters()

    def end_round(self) -> None:
        self.reactor.advance(0)

    def received(self) -> bytes:
        """What the peer has not read so far."""
        data = b""
        while True:
            try:
                piece = self.peer.recv(65536)
            except BlockingIOError:
                return data
            if not piece:
                return data + b"(end)"
            data += piece

    def carry(self) -> bytes:
        """All that the peer gets while the reactor writes what waits."""
        data = self.received()
        while self.waits():
            end = self.connection.doWrite()
            if end is not None:
                assert end is main.CONNECTION_DONE
                self.connection.stopWriting()
                self.socket.close()
            data += self.received()
        return data


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.peer.close()
    ends.socket.close()


MUCH = bytes(range(256)) * 1000


def test_what_is_written_in_a_round_goes_in_one_piece_at_its_end(ends: Ends) -> None:
    ends.connection.write(b"one ")
    ends.connection.writeSequence([b"two ", b"three"])
    assert ends.received() == b""
    ends.end_round()
    assert ends.received() == b"one two three"
    assert ends.socket.sent == [13]
    assert not ends.waits()


def test_what_must_not_wait_is_sent_now(ends: Ends) -> None:
    send_now(ends.connection)
    ends.connection.write(b"now ")
    send_now(ends.connection)
    assert ends.received() == b"now "
    ends.connection.write(b"then")
    ends.end_round()
    assert ends.received() == b"then"
    send_now(object())
    send_now(StringTransport())


def test_each_round_has_its_own(ends: Ends) -> None:
    for text in (b"one", b"two"):
        ends.connection.write(text)
        ends.end_round()
        assert ends.received() == text
    assert not ends.reactor.getDelayedCalls()


def test_what_the_socket_does_not_take_waits_for_the_reactor(ends: Ends) -> None:
    ends.connection.write(b"first ")
    ends.connection.write(MUCH)
    ends.end_round()
    assert ends.waits()
    ends.connection.write(b" last")
    assert ends.carry() == b"first " + MUCH + b" last"
    ends.connection.write(b"again")
    assert not ends.waits()
    ends.end_round()
    assert ends.received() == b"again"


def test_much_does_not_wait_for_the_rounds_end(ends: Ends) -> None:
    """Else it could grow without anyone being told to pause."""
    producer = Producer()
    ends.connection.registerProducer(producer, True)
    ends.connection.write(MUCH)
    assert ends.waits()
    assert producer.told == ["pause"]
    assert ends.carry() == MUCH
    assert producer.told == ["pause", "resume"]


def test_who_is_taken_from_at_once_is_not_paused(ends: Ends) -> None:
    producer = Producer()
    ends.connection.registerProducer(producer, True)
    ends.connection.write(b"little")
    ends.end_round()
    assert producer.told == []


def test_who_does_not_take_all_is_taken_from_no_more(ends: Ends) -> None:
    """Though that is less than Twisted pauses for."""
    producer = Producer()
    ends.connection.registerProducer(producer, True)
    ends.connection.write(MUCH[:40_000])
    ends.end_round()
    assert producer.told == ["pause"]
    assert ends.carry() == MUCH[:40_000]
    assert producer.told == ["pause", "resume"]


def test_a_pull_producer_is_asked_for_more(ends: Ends) -> None:
    producer = Producer()
    ends.connection.registerProducer(producer, False)
    ends.connection.write(b"some")
    ends.end_round()
    assert ends.carry() == b"some"
    assert producer.told == ["resume", "resume"]


@pytest.mark.parametrize("data", [b"last words", MUCH], ids=["little", "much"])
@pytest.mark.parametrize("half", [False, True], ids=["whole", "half"])
def test_an_end_comes_behind_what_was_written(ends: Ends, data: bytes, *, half: bool) -> None:
    ends.connection.write(data)
    if half:
        ends.connection.loseWriteConnection()
    else:
        ends.connection.loseConnection()
    # From a timer, the reactor comes to that before the round's end.
    assert ends.carry() == data + b"(end)"


def test_what_is_written_after_the_end_was_asked_for_still_goes(ends: Ends) -> None:
    """As far as Twisted's own would."""
    ends.connection.write(b"before, ")
    ends.connection.loseConnection()
    ends.connection.write(b"after")
    assert ends.carry() == b"before, after(end)"


def test_nothing_goes_after_an_abort(ends: Ends) -> None:
    ends.connection.write(b"never")
    ends.connection.connected = False
    ends.end_round()
    ends.connection.write(b"neither")
    ends.end_round()
    assert ends.received() == b""


def test_the_reactor_finds_out_why_nothing_can_be_sent(ends: Ends) -> None:
    ends.peer.close()
    ends.connection.write(b"to nobody")
    ends.end_round()
    assert ends.waits()
    assert ends.connection.doWrite() is main.CONNECTION_LOST


def test_a_producer_that_fails_keeps_nobody_waiting(ends: Ends) -> None:
    class Failing(Producer):
        def pauseProducing(self) -> None:
            raise ZeroDivisionError

    failing = Ends(ends.reactor)
    failing.connection.registerProducer(Failing(), True)
    failing.socket.send = lambda _: 0  # type: ignore[assignment, method-assign]
    failing.connection.write(b"not taken")
    ends.connection.write(b"taken")
    ends.end_round()
    assert ends.received() == b"taken"
    ends.end_round()
    assert failing.connection.disconnected
    failing.peer.close()
    failing.socket.close()


def test_only_bytes_can_be_written(ends: Ends) -> None:
    with pytest.raises(TypeError):
        ends.connection.write("text")


def test_other_transports_are_left_as_they_are() -> None:
    transport = StringTransport()
    write_together(transport)
    transport.write(b"at once")
    assert transport.value() == b"at once"


def test_a_connection_that_is_lost_is_freed_at_once(ends: Ends) -> None:
    lost = weakref.ref(ends.connection)
    gc.collect()
    gc.disable()
    try:
        ends.connection.write(MUCH)
        ends.end_round()
        ends.connection.connectionLost(Failure(main.CONNECTION_DONE))
        ends.connection = None
        assert lost() is None
    finally:
        gc.enable()

"""Sends what is written to a connection in one round of the reactor together, at the round's end.

Where something is written to a connection of Twisted's, the reactor is told to wait until the
socket takes it (``epoll_ctl``), hears in its next round that it does, and stops to wait
(``epoll_ctl``). A socket nearly always takes it. So here it is sent first, and only what the socket
did not take is Twisted's to send. Not at once, in the midst of the round: whoever reads at the
other end would be woken once for each piece.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.tcp import Connection
from twisted.logger import Logger

log = Logger()

_rounds: WeakKeyDictionary[Any, _Round] = WeakKeyDictionary()
"""By reactor."""


def write_together(transport: object) -> None:
    """Have what is written to ``transport`` sent at the end of the reactor's round; nothing else
    about it changes. Without effect on what is no TCP or unix connection of a reactor."""
    if not isinstance(transport, Connection):
        return
    this_round = _rounds.get(transport.reactor)
    if this_round is None:
        this_round = _rounds[transport.reactor] = _Round()
    _Joined(this_round, transport)


def send_now(transport: object) -> None:
    """Do not wait for the round's end with what was written to ``transport``: something is to go
    behind it that does not go through ``write``."""
    joined = getattr(getattr(transport, "write", None), "__self__", None)
    if isinstance(joined, _Joined):
        joined.send()


_REPLACED = ("write", "writeSequence", "startWriting", "stopWriting")


class _Joined:
    """Takes the place of a connection's ``write``."""

    __slots__ = ("_connection", "_pieces", "_round", "_size", "_waits")

    def __init__(self, this_round: _Round, connection: Any) -> None:
        self._round = this_round
        self._connection = connection
        self._pieces: list[bytes] = []
        self._size = 0
        self._waits = False
        """Whether the reactor waits until the socket takes something."""
        connection.write = self.write
        connection.writeSequence = self.write_sequence
        connection.startWriting = self.start_writing
        connection.stopWriting = self.stop_writing

    def write(self, data: bytes) -> None:
        """See ``ITransport``."""
        connection = self._connection
        if self._waits or connection.TLS or not isinstance(data, bytes):
            self.send()
            Connection.write(connection, data)
        elif data and connection.connected:
            pieces = self._pieces
            if not pieces:
                self._round.joined(self, connection.reactor)
            pieces.append(data)
            self._size += len(data)
            if self._size > connection.bufferSize:
                self.send()

    def write_sequence(self, pieces: Iterable[bytes]) -> None:
        """See ``ITransport``."""
        self.write(b"".join(pieces))

    def start_writing(self) -> None:
        """See ``FileDescriptor``: there is more than the socket took, or the end is to follow. The
        reactor may turn to it before the round's end comes, which is after it if a timer runs."""
        self.send()
        self._waits = True
        Connection.startWriting(self._connection)

    def stop_writing(self) -> None:
        """See ``FileDescriptor``: everything is sent, or nothing more is."""
        self._waits = False
        Connection.stopWriting(self._connection)
        if not self._connection.connected:
            self._step_aside()

    def _step_aside(self) -> None:
        """At the end, so that nothing of a connection leads back to it: it is freed at once."""
        for name in _REPLACED:
            vars(self._connection).pop(name, None)

    def send(self) -> None:
        """Send what there is; harmless if that is nothing."""
        pieces = self._pieces
        if not pieces:
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces, self._size = [], 0
        connection = self._connection
        if not connection.connected:
            return
        try:
            sent = connection.socket.send(data)
        except OSError:
            sent = 0  # Twisted finds out why, where the socket is not merely full
        if sent < len(data):
            Connection.write(connection, data[sent:])
            self._pause_producer()
        elif connection.producer is not None and not connection.streamingProducer:
            connection.startWriting()  # there Twisted asks it for more

    def failed(self) -> None:
        """Give the connection up, in the midst of an exception: as the reactor does where one comes
        of its own attempt to write."""
        log.failure("A connection could not be written to.")
        self._connection.abortConnection()

    def _pause_producer(self) -> None:
        """Let no more come for a connection that does not take what there is. Twisted itself does
        so when there are more than 64 KiB of it, and with many clients that do not read these add
        up."""
        connection = self._connection
        producer = connection.producer
        if producer is not None and connection.streamingProducer and not connection.producerPaused:
            connection.producerPaused = True
            producer.pauseProducing()


class _Round:
    """The connections of one reactor to which something was written in this round."""

    def __init__(self) -> None:
        self._due: list[_Joined] = []

    def joined(self, joined: _Joined, reactor: Any) -> None:
        """It has something to send at the round's end."""
        if not self._due:
            reactor.callLater(0, self._send)
        self._due.append(joined)

    def _send(self) -> None:
        due, self._due = self._due, []
        for joined in due:
            try:
                joined.send()
            except Exception:  # of a producer's, which is not to keep the others waiting
                joined.failed()

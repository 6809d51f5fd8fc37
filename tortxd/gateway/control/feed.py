"""What changes, told as events to all who read them.

Thousands of streams may come and go in a second, on the reactor that also relays data. So a change
is only marked when it comes; four times a second what was marked is told as it is then, so much of
it at most, and what came and went meanwhile may not be told at all. While nobody reads, nothing is
listened to.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall

from tortxd.gateway.control.ring import Event, Ring
from tortxd.gateway.control.views import Json, Views
from tortxd.gateway.gateway import Gateway
from tortxd.tor.changes import (
    Bandwidth,
    CircuitChanged,
    CircuitClosed,
    Cleared,
    StreamChanged,
    StreamEnded,
)

TICK = 0.25
"""Seconds in which the changes of one circuit or stream are told as one."""
MOST_AT_ONCE = 100
"""Circuits, and as many streams, that are told of at one tick."""
LINGER = 60.0
"""Seconds without a reader after which nothing is listened to any more."""
MOST_SHOWN = 2000
"""Circuits, and as many streams, in a snapshot: the oldest."""
KINDS = ("status", "circuit", "stream", "bandwidth")
"""What may be chosen; a snapshot comes in any case."""
_MEMBERS = dict(zip(KINDS, ("status", "circuits", "streams", "bandwidth"), strict=True))
"""What a snapshot has of each."""


class FeedReader(Protocol):
    """Who reads events."""

    def wake(self) -> None:
        """There are further events."""

    def end(self) -> None:
        """It is sent away."""


class Feed:
    """Listens while there are readers, and wakes them when there are events.

    :attr:`ring` has the events.
    """

    def __init__(self, gateway: Gateway, views: Views) -> None:
        self.ring = Ring()
        self._clock = gateway.reactor
        self._link = gateway.link
        self._health = gateway.health
        self._views = views
        self._readers: dict[FeedReader, None] = {}
        self._leave: list[Callable[[], None]] = []
        self._circuits: dict[str, CircuitChanged | CircuitClosed] = {}
        """Those that have changed since they were told of."""
        self._streams: dict[str, StreamChanged | StreamEnded] = {}
        self._told: set[str] = set()
        """The streams that were told of and are open."""
        self._tick: IDelayedCall | None = None
        self._end: IDelayedCall | None = None

    # --- readers ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._readers)

    def join(self, reader: FeedReader) -> None:
        """Wake ``reader`` whenever there are further events."""
        self._readers[reader] = None
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if not self._leave:
            self._listen()

    def quit(self, reader: FeedReader) -> None:
        """Wake it no more; harmless if it was not to be."""
        self._readers.pop(reader, None)
        if not self._readers and self._leave and self._end is None:
            self._end = self._clock.callLater(LINGER, self._stop)

    def dismiss(self) -> None:
        """Send all readers away."""
        for reader in list(self._readers):
            reader.end()
        self._stop()

    def _stop(self) -> None:
        """Listen no more."""
        for leave in self._leave:
            leave()
        self._leave.clear()
        for call in (self._tick, self._end):
            if call is not None and call.active():
                call.cancel()
        self._tick = self._end = None
        self._forget()
        # What happens from now on is in no event, so nobody may go on from here.
        self.ring = Ring()

    def snapshot(self, kinds: frozenset[str]) -> bytes:
        """All there is now, of what was chosen, as an event that is told to one reader."""
        return self.ring.wire("snapshot", _line(self._snapshot(kinds)), self.ring.next - 1)

    def chosen(self, event: Event, kinds: frozenset[str]) -> bytes:
        """A snapshot that is told to all, as one reader is to have it."""
        value = json.loads(event.wire.partition(b"\ndata: ")[2])
        kept = {name: value[name] for kind, name in _MEMBERS.items() if kind in kinds}
        return self.ring.wire(event.kind, _line(kept), event.number)

    def _snapshot(self, kinds: frozenset[str]) -> Json:
        link, views = self._link, self._views
        value: Json = {}
        if "status" in kinds:
            value["status"] = views.health()
        if "circuit" in kinds:
            circuits = link.circuits()[:MOST_SHOWN]
            value["circuits"] = [views.circuit(one) for one in circuits]
        if "stream" in kinds:
            streams = link.streams()[:MOST_SHOWN]
            value["streams"] = [views.stream(one) for one in streams]
        if "bandwidth" in kinds:
            value["bandwidth"] = [views.bandwidth(one) for one in link.bandwidth()]
        return value

    # --- what changes ----------------------------------------------------------------------------

    def _listen(self) -> None:
        link = self._link
        self._told = {stream.id for stream in link.streams()}
        self._leave = [
            self._health.listen(self._status),
            link.listen(CircuitChanged, self._circuit_changed),
            link.listen(CircuitClosed, self._circuit_closed),
            link.listen(StreamChanged, self._stream_changed),
            link.listen(StreamEnded, self._stream_ended),
            link.listen(Bandwidth, self._bandwidth),
            link.listen(Cleared, self._cleared),
        ]

    def _status(self) -> None:
        self._add("status", self._views.health())
        self._wake()

    def _bandwidth(self, bandwidth: Bandwidth) -> None:
        self._add("bandwidth", {"read": bandwidth.read, "written": bandwidth.written})
        self._wake()

    def _cleared(self, _: Cleared) -> None:
        self._forget()
        self._add("snapshot", self._snapshot(frozenset(KINDS)))
        self._wake()

    def _circuit_changed(self, circuit: CircuitChanged) -> None:
        self._circuits[circuit.id] = circuit
        if self._tick is None:
            self._tick = self._clock.callLater(TICK, self._tell)

    def _circuit_closed(self, closed: CircuitClosed) -> None:
        self._circuits[closed.circuit.id] = closed
        if self._tick is None:
            self._tick = self._clock.callLater(TICK, self._tell)

    def _stream_changed(self, stream: StreamChanged) -> None:
        self._streams[stream.id] = stream
        if self._tick is None:
            self._tick = self._clock.callLater(TICK, self._tell)

    def _stream_ended(self, ended: StreamEnded) -> None:
        self._streams[ended.stream.id] = ended
        if self._tick is None:
            self._tick = self._clock.callLater(TICK, self._tell)

    def _forget(self) -> None:
        self._circuits.clear()
        self._streams.clear()
        self._told.clear()

    # --- what is told ----------------------------------------------------------------------------

    def _tell(self) -> None:
        self._tick = None
        self._tell_circuits()
        self._tell_streams()
        if self._circuits or self._streams:
            self._tick = self._clock.callLater(TICK, self._tell)
        self._wake()

    def _tell_circuits(self) -> None:
        for id in list(self._circuits)[:MOST_AT_ONCE]:
            change = self._circuits.pop(id)
            if isinstance(change, CircuitClosed):
                self._add("circuit", self._views.closed_circuit(change))
            else:
                self._add("circuit", self._views.circuit(self._link.describe(change)))

    def _tell_streams(self) -> None:
        for id in list(self._streams)[:MOST_AT_ONCE]:
            change = self._streams.pop(id)
            if isinstance(change, StreamEnded):
                self._told.discard(id)
                self._add("stream", self._views.ended_stream(change))
                continue
            stream = self._link.stream(id)
            if stream is not None:
                self._told.add(id)
                self._add("stream", self._views.stream(stream))
        # Of what came and went before its turn, nobody has heard, and need not hear.
        self._streams = {
            id: change
            for id, change in self._streams.items()
            if id in self._told or not isinstance(change, StreamEnded)
        }

    def _add(self, kind: str, value: Json) -> None:
        self.ring.add(kind, _line(value))

    def _wake(self) -> None:
        for reader in list(self._readers):
            reader.wake()


def _line(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()

"""The live table of circuits and streams, kept from what the control port says.

Pure of input and output: lines go in with the time they came, and what changed comes out, as values
(:mod:`tortxd.tor.changes`), to those that listen. A burst brings some 3,000 stream events a second
onto the reactor that also relays data, so a line is split once, each event makes one value, which
is also what the table keeps, and paths are taken apart only when somebody looks.

What is open is bounded, and so is its text; beyond that, no Tor is at the other end.

SOURCE_ADDR, the client's end of a SOCKS connection, stands on STREAM NEW alone (control-spec,
section 4.1.2), and identifies the connection only where the SOCKS port is a TCP one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from attrs import evolve

from tortxd.tor.changes import (
    Change,
    CircuitChanged,
    CircuitClosed,
    Cleared,
    Source,
    StreamChanged,
    StreamEnded,
)
from tortxd.tor.lines import (
    OVER,
    age_of,
    circuit_after,
    field_of,
    is_id,
    is_stream_state,
    is_target,
    keyword,
    reasons_of,
    source_of,
    split_path,
    username_of,
    words_of,
)
from tortxd.tor.link import Circuit, Stream
from tortxd.tor.recent import Recent
from tortxd.tor.relays import Relays
from tortxd.wire.control import Implausible

MOST_OPEN_STREAMS = 32_768
"""Half of the descriptors that Debian's Tor may have."""
MOST_OPEN_CIRCUITS = 16_384
MOST_TEXT = 16 * 1024 * 1024
"""Characters that are kept of what is open: an ordinary stream has some 100, a circuit 250."""
_MOST_LEGS = 16
"""Circuits of one conflux set; Tor makes two or three."""

_C = TypeVar("_C", bound=Change)


class Table:
    """What Tor has open, and for a short while what it had open.

    :param relays: the details of relays, which circuits are shown with.
    """

    def __init__(self, relays: Relays | None = None) -> None:
        self.relays = relays or Relays()
        self._circuits: dict[str, CircuitChanged] = {}
        self._streams: dict[str, StreamChanged] = {}
        self._on: dict[str, dict[str, None]] = {}
        """The ids of the streams on each open circuit."""
        self._sets: dict[str, dict[str, None]] = {}
        """The ids of the open circuits of each conflux set."""
        self._recent = Recent()
        self._text = 0
        self._listeners: dict[type, tuple[Callable[[Any], object], ...]] = {}
        self._takers = {
            "CIRC": self._circuit_event,
            "CIRC_MINOR": self._circuit_minor_event,
            "STREAM": self._stream_event,
        }

    # --- what comes in -------------------------------------------------------------------------

    def feed(self, event: str, line: str, now: float) -> None:
        """Take a CIRC, CIRC_MINOR or STREAM event, and tell what has changed.

        :param line: the event without its name.
        :param now: seconds on the reactor's clock.
        :raises Implausible: no Tor has so much open, or says it at such length.
        """
        self._takers[event](line, now)

    def load(self, circuits: str, streams: str, now: float, utc: datetime | None = None) -> None:
        """Add the replies to GETINFO ``circuit-status`` and ``stream-status``.

        Events that came before them stay: they alone hold the sources of streams.

        :param utc: the time of day, by which TIME_CREATED becomes a time on the reactor's clock.
        :raises Implausible: as :meth:`feed`.
        """
        for line in filter(None, map(str.strip, circuits.split("\n"))):
            self._circuit_event(line, now, "GETINFO", utc)
        for line in filter(None, map(str.strip, streams.split("\n"))):
            self._stream_event(line, now, "GETINFO")

    def clear(self) -> None:
        """Forget all but the relays: another Tor, or the same after a gap."""
        self._circuits.clear()
        self._streams.clear()
        self._on.clear()
        self._sets.clear()
        self._recent.clear()
        self._text = 0
        self._tell(Cleared())

    def listen(self, kind: type[_C], listener: Callable[[_C], object]) -> Callable[[], None]:
        """Have ``listener`` called with every further change of this kind, in the order in which
        they listen; the result, called, ends that."""
        self._listeners[kind] = (*self._listeners.get(kind, ()), listener)

        def leave() -> None:
            others = (one for one in self._listeners[kind] if one is not listener)
            self._listeners[kind] = tuple(others)

        return leave

    # --- what is there -------------------------------------------------------------------------

    def circuits(self) -> tuple[Circuit, ...]:
        """The open circuits, oldest first."""
        return tuple(map(self._circuit, self._circuits.values()))

    def streams(self) -> tuple[Stream, ...]:
        """The open streams, oldest first."""
        return tuple(
            Stream(s.id, s.state, s.circuit, s.target, s.source, s.created, s.purpose)
            for s in self._streams.values()
        )

    def is_open(self, id: str) -> bool:
        """Whether there is a stream with this id."""
        return id in self._streams

    def streams_on(self, circuit: str) -> Sequence[str]:
        """The ids of the streams on an open circuit."""
        return tuple(self._on.get(circuit, ()))

    def legs(self, circuit: str) -> tuple[str, ...]:
        """The ids of the open circuits of this one's conflux set; of itself where it has none."""
        known = self._circuits.get(circuit)
        return (circuit,) if known is None or known.conflux is None else self._legs(known.conflux)

    def stream_of(self, source: Source, username: str) -> str | None:
        """The id of the open stream from ``source`` with that SOCKS username, or None where none is
        known. Where the SOCKS port is a forwarded one, a stranger may have the same source."""
        newest = self._recent.newest(source, 0.0)
        stream = self._streams.get(newest) if isinstance(newest, str) else None
        return None if stream is None or stream.username != username else stream.id

    def end_of(self, source: Source, now: float) -> StreamEnded | None:
        """How the newest stream from ``source`` ended; None while it has not, or is unknown."""
        newest = self._recent.newest(source, now)
        return newest if isinstance(newest, StreamEnded) else None

    def circuit_of(self, source: Source, now: float) -> Circuit | None:
        """The circuit of the newest stream from ``source``.

        When the one leg of a conflux set that carried it has gone, a leg which is still there takes
        its place: they share the exit.
        """
        newest = self._recent.newest(source, now)
        if isinstance(newest, StreamEnded):
            stream: StreamChanged | None = newest.stream
        else:
            stream = self._streams.get(newest or "")
        if stream is None or stream.circuit is None:
            return None
        circuit = self._circuits.get(stream.circuit) or self._recent.circuit(stream.circuit)
        if circuit is not None and circuit.state in OVER and circuit.conflux is not None:
            legs = map(self._circuits.__getitem__, self._legs(circuit.conflux))
            circuit = next((leg for leg in legs if leg.state == "BUILT"), circuit)
        return None if circuit is None else self._circuit(circuit)

    def _legs(self, conflux: str) -> tuple[str, ...]:
        return tuple(islice(self._sets.get(conflux, ()), _MOST_LEGS))

    def _circuit(self, circuit: CircuitChanged) -> Circuit:
        path = []
        for fingerprint, nickname in split_path(circuit.path):
            relay = self.relays.get(fingerprint)
            path.append(evolve(relay, nickname=nickname) if nickname else relay)
        return Circuit(
            circuit.id,
            circuit.state,
            tuple(path),
            circuit.purpose,
            circuit.created,
            tuple(self._on.get(circuit.id, ())),
        )

    # --- circuits ------------------------------------------------------------------------------

    def _circuit_event(
        self, line: str, now: float, event: str = "CIRC", utc: datetime | None = None
    ) -> None:
        words = words_of(line)
        if len(words) < 2 or keyword(words[1]) is None:
            return
        id, state = words[:2]
        before = self._circuits.get(id)
        if before is None:
            if state in OVER or not is_id(id):
                return
            if len(self._circuits) >= MOST_OPEN_CIRCUITS:
                raise Implausible("more open circuits than a Tor has")
            created = now if utc is None else now - age_of(line, utc)
            before = CircuitChanged(
                id, state, "", None, "", None, None, created, now, event, is_claimed=False
            )
        circuit = circuit_after(before, state, words[2:], now, event)
        if state in OVER:
            self._circuit_over(circuit, line)
        else:
            self._put(circuit)

    def _circuit_minor_event(self, line: str, now: float) -> None:
        """A circuit has another purpose now, say."""
        words = words_of(line)
        before = self._circuits.get(words[0]) if words else None
        if before is not None:
            self._put(circuit_after(before, before.state, words[2:], now, "CIRC_MINOR"))

    def _put(self, circuit: CircuitChanged) -> None:
        before = self._circuits.get(circuit.id)
        self._keep(_text(circuit) - (0 if before is None else _text(before)))
        if circuit.conflux is not None:
            self._sets.setdefault(circuit.conflux, {})[circuit.id] = None
        self._circuits[circuit.id] = circuit
        self._tell(circuit)

    def _circuit_over(self, circuit: CircuitChanged, line: str) -> None:
        before = self._circuits.pop(circuit.id)
        self._text -= _text(before)
        self._on.pop(circuit.id, None)
        legs = self._sets.get(before.conflux or "")
        if legs is not None:
            legs.pop(circuit.id, None)
            if not legs:
                del self._sets[before.conflux or ""]
        self._recent.circuit_closed(circuit, circuit.at)
        self._tell(CircuitClosed(circuit, *reasons_of(line)))

    # --- streams -------------------------------------------------------------------------------

    def _stream_event(self, line: str, now: float, event: str = "STREAM") -> None:
        words = words_of(line, 4)
        if len(words) < 4 or not is_stream_state(words[1]):
            return
        id, state, circuit, target = words[:4]
        before = self._streams.get(id)
        if state in OVER:
            if before is not None:
                self._stream_over(before, state, line, now)
            return
        if before is None:
            if not is_id(id) or not is_target(target):
                return
            before = self._begin(id, state, target, line, now)
        on = previous = before.circuit
        if state == "DETACHED" or circuit == "0":
            on = None
        elif circuit != previous and is_id(circuit):
            on = circuit
        if on != previous:
            self._move(before, on, now, event)
        stream = self._streams[id] = StreamChanged(
            id,
            state,
            on,
            previous,
            before.target,
            before.source,
            before.username,
            before.purpose,
            before.reached or state == "SUCCEEDED",
            before.created,
            now,
        )
        self._tell(stream)

    def _begin(self, id: str, state: str, target: str, line: str, now: float) -> StreamChanged:
        if len(self._streams) >= MOST_OPEN_STREAMS:
            raise Implausible("more open streams than a Tor has")
        source = source_of(field_of(line, "SOURCE_ADDR"))
        username = username_of(field_of(line, "SOCKS_USERNAME"))
        purpose = keyword(field_of(line, "PURPOSE"))
        self._keep(len(target) + len(username or ""))
        if source is not None:
            self._recent.stream_began(id, source)
        return StreamChanged(
            id, state, None, None, target, source, username, purpose, False, now, now
        )

    def _move(self, stream: StreamChanged, circuit: str | None, now: float, event: str) -> None:
        """Put a stream on another circuit. Of one that it had ready, Tor says for whom it is only
        when it is closed; the first stream on it shows it."""
        self._leave(stream)
        to = self._circuits.get(circuit or "")
        if to is None:
            return
        self._on.setdefault(to.id, {})[stream.id] = None
        if to.username is None and stream.username is not None:
            owned = to._replace(username=stream.username, at=now, event=event, is_claimed=True)
            self._put(owned)

    def _leave(self, stream: StreamChanged) -> None:
        others = self._on.get(stream.circuit or "")
        if others is not None:
            others.pop(stream.id, None)

    def _stream_over(self, stream: StreamChanged, state: str, line: str, now: float) -> None:
        """Tor says FAILED and then CLOSED; the first ends the stream, the second finds none."""
        reason, remote = reasons_of(line)
        ended = StreamEnded(stream, state, reason or "MISC", remote, now)
        del self._streams[stream.id]
        self._text -= len(stream.target) + len(stream.username or "")
        self._leave(stream)
        self._recent.stream_ended(ended)
        self._tell(ended)

    # --- inside --------------------------------------------------------------------------------

    def _tell(self, change: Change) -> None:
        for listener in self._listeners.get(type(change), ()):
            listener(change)

    def _keep(self, characters: int) -> None:
        self._text += characters
        if self._text > MOST_TEXT:
            raise Implausible("more circuits and streams than a Tor has")


def _text(circuit: CircuitChanged) -> int:
    return len(circuit.path) + len(circuit.flags) + len(circuit.username or "")

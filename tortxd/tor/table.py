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

from collections.abc import Callable
from datetime import datetime

from tortxd.tor.changes import (
    C,
    CircuitChanged,
    CircuitClosed,
    Cleared,
    Listeners,
    StreamChanged,
    StreamEnded,
)
from tortxd.tor.lines import (
    OVER,
    age_of,
    bandwidth_of,
    circuit_after,
    field_of,
    is_id,
    is_stream_state,
    is_target,
    keyword,
    reasons_of,
    source_of,
    username_of,
    words_of,
)
from tortxd.tor.mappings import PREFIX
from tortxd.tor.records import Records
from tortxd.tor.relays import Relays
from tortxd.tor.traffic import Traffic
from tortxd.wire.control import Implausible

MOST_OPEN_STREAMS = 32_768
"""Half of the descriptors that Debian's Tor may have."""
MOST_OPEN_CIRCUITS = 16_384
MOST_TEXT = 16 * 1024 * 1024
"""Characters that are kept of what is open: an ordinary stream has some 100, a circuit 250."""


class Table(Records):
    """What Tor has open, fed with events.

    :param relays: see :class:`~tortxd.tor.records.Records`.
    """

    def __init__(self, relays: Relays | None = None) -> None:
        super().__init__(relays)
        self.traffic = Traffic()
        """What Tor has read and written in the last minutes."""
        self.host_of: Callable[[str], str | None] = unknown_name
        """Knows for which host a name of ours stands."""
        self._text = 0
        self._listeners = Listeners()
        self._tell = self._listeners.tell
        self._takers = {
            "CIRC": self._circuit_event,
            "CIRC_MINOR": self._circuit_minor_event,
            "STREAM": self._stream_event,
            "BW": self._bandwidth_event,
        }

    # --- what comes in -------------------------------------------------------------------------

    def feed(self, event: str, line: str, now: float) -> None:
        """Take a CIRC, CIRC_MINOR, STREAM or BW event, and tell what has changed.

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
        self._forget()
        self.traffic.clear()
        self._text = 0
        self._tell(Cleared())

    def listen(self, kind: type[C], listener: Callable[[C], object]) -> Callable[[], None]:
        """See :meth:`~tortxd.tor.changes.Listeners.listen`."""
        return self._listeners.listen(kind, listener)

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
                id=id,
                state=state,
                path="",
                purpose=None,
                flags="",
                username=None,
                conflux=None,
                leg=None,
                created=created,
                built=None,
                at=now,
                event=event,
                is_claimed=False,
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
        if circuit.conflux is not None and circuit.leg is None:
            legs = self._sets.setdefault(circuit.conflux, {})
            legs[circuit.id] = leg = next(reversed(legs.values()), 0) + 1
            circuit = circuit._replace(leg=leg)
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
                self._owners.pop(before.conflux or "", None)
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
        if target.startswith(PREFIX):
            name, _, port = target.rpartition(":")
            target = f"{self.host_of(name) or name}:{port}"
        self._keep(len(target) + len(username or ""))
        if source is not None:
            self._recent.stream_began(id, source)
        return StreamChanged(
            id, state, None, None, target, source, username, purpose, False, now, now
        )

    def _move(self, stream: StreamChanged, circuit: str | None, now: float, event: str) -> None:
        """Put a stream on another circuit. Of one that it had ready, Tor says for whom it is only
        when it is closed; the first stream on it shows it. One that it launched for somebody may
        serve another after all, where that one's stream found a circuit that was ready sooner."""
        self._leave(stream)
        to = self._circuits.get(circuit or "")
        if to is None:
            return
        on = self._on.setdefault(to.id, {})
        is_first = not on
        on[stream.id] = None
        is_new = to.username is None or is_first
        if is_new and stream.username not in (None, to.username):
            owned = to._replace(username=stream.username, at=now, event=event, is_claimed=True)
            self._put(owned)
            if to.conflux is not None:
                self._owners[to.conflux] = stream.username

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

    # --- the rest ------------------------------------------------------------------------------

    def _bandwidth_event(self, line: str, now: float) -> None:
        bandwidth = bandwidth_of(line, now)
        if bandwidth is not None:
            self.traffic.add(bandwidth)
            self._tell(bandwidth)

    def _keep(self, characters: int) -> None:
        self._text += characters
        if self._text > MOST_TEXT:
            raise Implausible("more circuits and streams than a Tor has")


def unknown_name(name: str) -> None:
    """No name is known."""


def _text(circuit: CircuitChanged) -> int:
    return len(circuit.path) + len(circuit.flags) + len(circuit.username or "")

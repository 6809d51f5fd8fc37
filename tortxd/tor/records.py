"""What Tor has open, and for a short while what it had open, for those who ask.

:class:`tortxd.tor.table.Table` keeps it up to date.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from attrs import evolve

from tortxd.tor.changes import CircuitChanged, Source, StreamChanged, StreamEnded
from tortxd.tor.lines import OVER, split_path
from tortxd.tor.link import Circuit, Stream
from tortxd.tor.recent import Recent
from tortxd.tor.relays import Relays

_MOST_LEGS = 16
"""Circuits of one conflux set; Tor makes two or three."""


def as_stream(stream: StreamChanged) -> Stream:
    """A stream as it was after a change."""
    return Stream(
        stream.id,
        stream.state,
        stream.circuit,
        stream.target,
        stream.source,
        stream.created,
        stream.purpose,
        stream.username,
    )


class Records:
    """See the module's description.

    :param relays: the details of relays, which circuits are shown with.
    """

    def __init__(self, relays: Relays | None = None) -> None:
        self.relays = relays or Relays()
        self._circuits: dict[str, CircuitChanged] = {}
        self._streams: dict[str, StreamChanged] = {}
        self._on: dict[str, dict[str, None]] = {}
        """The ids of the streams on each open circuit."""
        self._sets: dict[str, dict[str, int]] = {}
        """The open circuits of each conflux set, by their ids, and which leg each is."""
        self._owners: dict[str, str] = {}
        """The SOCKS usernames of those who use each conflux set, whichever leg is theirs."""
        self._recent = Recent()

    def circuits(self) -> tuple[Circuit, ...]:
        """The open circuits, oldest first."""
        return tuple(map(self.describe, self._circuits.values()))

    def circuit(self, id: str) -> Circuit | None:
        """The open circuit with this id."""
        circuit = self._circuits.get(id)
        return None if circuit is None else self.describe(circuit)

    def owner(self, id: str) -> str | None:
        """The SOCKS username of those for whom a circuit is, or was until a short while ago."""
        circuit = self._circuits.get(id) or self._recent.circuit(id)
        if circuit is None:
            return None
        return circuit.username or self._owners.get(circuit.conflux or "")

    def streams(self) -> tuple[Stream, ...]:
        """The open streams, oldest first."""
        return tuple(map(as_stream, self._streams.values()))

    def stream(self, id: str) -> Stream | None:
        """The open stream with this id."""
        stream = self._streams.get(id)
        return None if stream is None else as_stream(stream)

    def is_open(self, id: str) -> bool:
        """Whether there is a stream with this id."""
        return id in self._streams

    def has_waited_since(self, then: float) -> bool:
        """Whether some stream was there at ``then`` and has not reached its destination yet."""
        return any(one.created <= then and not one.reached for one in self._streams.values())

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
        return None if circuit is None else self.describe(circuit)

    def _legs(self, conflux: str) -> tuple[str, ...]:
        return tuple(islice(self._sets.get(conflux, ()), _MOST_LEGS))

    def describe(self, circuit: CircuitChanged) -> Circuit:
        """A circuit, with what is known of the relays on its path."""
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
            tuple(circuit.flags.split(",")) if circuit.flags else (),
            None if circuit.built is None else circuit.built - circuit.created,
            circuit.conflux,
            circuit.leg,
            self.relays.is_guard(path[0].fingerprint) if path else None,
            circuit.username or self._owners.get(circuit.conflux or ""),
        )

    def _forget(self) -> None:
        """All but the relays."""
        self._circuits.clear()
        self._streams.clear()
        self._on.clear()
        self._sets.clear()
        self._owners.clear()
        self._recent.clear()

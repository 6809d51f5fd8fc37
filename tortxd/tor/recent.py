"""Which stream came last from which source, and what was open a short while ago."""

from __future__ import annotations

from collections import OrderedDict, deque

from tortxd.tor.changes import CircuitChanged, Source, StreamEnded

REMEMBER_SECONDS = 30.0
"""How long a closed stream or circuit stays known."""
REMEMBER_STREAMS = 8192
REMEMBER_CIRCUITS = 1024


class Recent:
    """Remembers them for :data:`REMEMBER_SECONDS`, and so many at most."""

    def __init__(self) -> None:
        self._by_source: dict[Source, str | StreamEnded] = {}
        """The newest stream from each source: its id while it is open."""
        self._streams: deque[StreamEnded] = deque()
        self._circuits: OrderedDict[str, tuple[CircuitChanged, float]] = OrderedDict()
        """With when they ended."""

    def clear(self) -> None:
        """Forget all."""
        self._by_source.clear()
        self._streams.clear()
        self._circuits.clear()

    def stream_began(self, id: str, source: Source) -> None:
        """A stream has come from there."""
        self._by_source[source] = id

    def stream_ended(self, ended: StreamEnded) -> None:
        """A stream has ended."""
        source = ended.stream.source
        if source is not None and self._by_source.get(source) == ended.stream.id:
            self._by_source[source] = ended
            self._streams.append(ended)
            self._prune(ended.at)

    def circuit_closed(self, circuit: CircuitChanged, now: float) -> None:
        """A circuit has ended."""
        self._circuits[circuit.id] = circuit, now
        self._circuits.move_to_end(circuit.id)
        self._prune(now)

    def newest(self, source: Source, now: float) -> str | StreamEnded | None:
        """The newest stream from ``source``: its id, or how it ended; None where none is known."""
        newest = self._by_source.get(source)
        if isinstance(newest, StreamEnded) and now - newest.at > REMEMBER_SECONDS:
            return None
        return newest

    def circuit(self, id: str) -> CircuitChanged | None:
        """A circuit that has ended."""
        known = self._circuits.get(id)
        return None if known is None else known[0]

    def _prune(self, now: float) -> None:
        oldest = now - REMEMBER_SECONDS
        streams = self._streams
        while streams and (len(streams) > REMEMBER_STREAMS or streams[0].at < oldest):
            ended = streams.popleft()
            source = ended.stream.source
            if source is not None and self._by_source.get(source) is ended:
                del self._by_source[source]
        circuits = self._circuits
        while circuits:
            _, at = next(iter(circuits.values()))
            if len(circuits) <= REMEMBER_CIRCUITS and at >= oldest:
                break
            circuits.popitem(last=False)

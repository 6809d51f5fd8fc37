"""What keeps a Tor from endless work: streams for which no circuit will do, and circuits of no use.

Measured on 0.4.9.11: where no exit carries what a stream asks for, Tor goes on launching circuits
for it, hundreds a second on loopback; and circuits over which streams have only failed it keeps for
long.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tortxd.tor.changes import CircuitChanged, Cleared, StreamChanged, StreamEnded
from tortxd.tor.table import Table
from tortxd.tor.usage import Usage

MOST_CIRCUITS = 10
"""Circuits that Tor may launch for one stream's credentials while the stream waits. It needs a few
where some fail."""
_MOST_ALIKE = 256
"""Waiting streams with the same credentials of which the oldest are looked at."""
_SWEEP = 1.0
"""Seconds between a circuit's failure and a look at what can be closed."""


class UnroutableStreams:
    """Listens to ``table`` for streams that wait while Tor launches one circuit after the other for
    them, until :meth:`close`.

    :param unroutable: called once with the id of each for which there were more than
        :data:`MOST_CIRCUITS`.
    :param username_prefix: how the SOCKS usernames begin of those that count.
    """

    def __init__(
        self, table: Table, unroutable: Callable[[str], object], username_prefix: str = ""
    ) -> None:
        self._unroutable = unroutable
        self._prefix = username_prefix
        self._waiting: dict[str, dict[str, None]] = {}
        """The ids of those that have no circuit, by username."""
        self._launched: dict[str, int] = {}
        """How many circuits were launched for a stream, or for others like it, while it waited."""
        self._leave = (
            table.listen(StreamChanged, self._stream_changed),
            table.listen(StreamEnded, self._stream_ended),
            table.listen(CircuitChanged, self._circuit_changed),
            table.listen(Cleared, self._cleared),
        )

    def close(self) -> None:
        """Listen no more."""
        for leave in self._leave:
            leave()

    def _stream_changed(self, stream: StreamChanged) -> None:
        username = stream.username
        if stream.circuit is not None:
            if username in self._waiting:
                self._waits_no_more(stream)
        elif username is not None and username.startswith(self._prefix):
            self._waiting.setdefault(username, {})[stream.id] = None

    def _stream_ended(self, ended: StreamEnded) -> None:
        self._launched.pop(ended.stream.id, None)
        if ended.stream.username in self._waiting:
            self._waits_no_more(ended.stream)

    def _cleared(self, _: Cleared) -> None:
        self._waiting.clear()
        self._launched.clear()

    def _waits_no_more(self, stream: StreamChanged) -> None:
        username = stream.username or ""
        self._waiting[username].pop(stream.id, None)
        if not self._waiting[username]:
            del self._waiting[username]

    def _circuit_changed(self, circuit: CircuitChanged) -> None:
        """Tor says for whose credentials a circuit is with its first hop, not at its launch."""
        alike = self._waiting.get(circuit.username or "")
        launched = circuit.is_claimed and circuit.event == "CIRC" and circuit.purpose == "GENERAL"
        if alike is None or not launched:
            return
        for id in tuple(islice(alike, _MOST_ALIKE)):
            count = self._launched[id] = self._launched.get(id, 0) + 1
            if count == MOST_CIRCUITS + 1:
                self._unroutable(id)


class UselessCircuits:
    """Looks now and then which circuits have served failures only, until :meth:`close`.

    :param close_circuit: called with the id of each.
    :param username_prefix: how the SOCKS usernames begin of those that count.
    """

    def __init__(
        self,
        clock: IReactorTime,
        usage: Usage,
        close_circuit: Callable[[str], object],
        username_prefix: str = "",
    ) -> None:
        self._clock = clock
        self._usage = usage
        self._close_circuit = close_circuit
        self._prefix = username_prefix
        self._timer: IDelayedCall | None = None
        self._closed = False

    def suspect(self) -> None:
        """There may be some before long."""
        if self._timer is None and not self._closed:
            self._timer = self._clock.callLater(_SWEEP, self._sweep)

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _sweep(self) -> None:
        self._timer = None
        for id in self._usage.take_useless(self._clock.seconds(), self._prefix):
            self._close_circuit(id)
        if self._usage.has_suspects:
            self.suspect()

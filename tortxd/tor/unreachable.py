"""Finds out that an exit which streams must leave by cannot be reached, though it is listed.

Tor goes on trying, once a second, for as long as a client waits (measured on 0.4.9.11): each
circuit comes as far as the relay before the exit, and fails there. Circuits to an exit that was
chosen have four relays: one that fails earlier says something of a relay in the middle.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from tortxd.tor.changes import CircuitChanged, CircuitClosed, Cleared
from tortxd.tor.lines import split_path
from tortxd.tor.table import Table

MOST_FAILURES = 3
"""Circuits in a row that fail before the exit."""
_BEFORE_EXIT = 3
"""Relays of a circuit that lacks its exit alone."""


@define(eq=False)
class _Watched:
    exit: str
    failures: int = 0
    waiting: list[Callable[[], object]] = field(factory=list)
    """Who is told."""


class UnreachableExits:
    """Listens to ``table`` for circuits that fail before the exit, until :meth:`close`.

    :param unreachable: called with the fingerprint of an exit that cannot be reached.
    :param reached: called with that of one that could not, when a circuit to it is built.
    """

    def __init__(
        self,
        table: Table,
        unreachable: Callable[[str], object],
        reached: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._unreachable = unreachable
        self._reached = reached
        self._lost: set[str] = set()
        """Exits that could not be reached."""
        self._watched: dict[str, _Watched] = {}
        """By SOCKS username."""
        self._leave = (
            table.listen(CircuitClosed, self._circuit_closed),
            table.listen(CircuitChanged, self._circuit_changed),
            table.listen(Cleared, self._cleared),
        )

    def close(self) -> None:
        """Listen no more."""
        for leave in self._leave:
            leave()

    def watch(
        self, username: str, exit: str, unreachable: Callable[[], object]
    ) -> Callable[[], None]:
        """Have ``unreachable`` called where no circuit to ``exit`` comes about for streams with
        this username; the result, called, ends that."""
        watched = self._watched.get(username)
        if watched is None:
            watched = self._watched[username] = _Watched(exit)
        watched.waiting.append(unreachable)

        def end() -> None:
            if unreachable in watched.waiting:
                watched.waiting.remove(unreachable)
                if not watched.waiting and self._watched.get(username) is watched:
                    del self._watched[username]

        return end

    def _circuit_changed(self, circuit: CircuitChanged) -> None:
        if circuit.state != "BUILT":
            return
        watched = self._watched.get(circuit.username or "") if self._watched else None
        if watched is not None:
            watched.failures = 0
        if self._lost:
            path = list(split_path(circuit.path))
            exit = path[-1][0] if path else ""
            if exit in self._lost:
                self._lost.remove(exit)
                self._reached(exit)

    def _circuit_closed(self, closed: CircuitClosed) -> None:
        if not self._watched or closed.circuit.state != "FAILED":
            return
        username = closed.circuit.username or ""
        watched = self._watched.get(username)
        if watched is None:
            return
        path = [fingerprint for fingerprint, _ in split_path(closed.circuit.path)]
        if len(path) < _BEFORE_EXIT or watched.exit in path:
            return
        watched.failures += 1
        if watched.failures >= MOST_FAILURES:
            del self._watched[username]
            self._lost.add(watched.exit)
            self._unreachable(watched.exit)
            for tell in tuple(watched.waiting):  # who is told leaves
                tell()

    def _cleared(self, _: Cleared) -> None:
        self._watched.clear()

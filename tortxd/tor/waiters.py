"""Those who wait for one thing to happen."""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

_T = TypeVar("_T")


class Waiters(Generic[_T]):
    """Deferreds that fire together; one that is cancelled just leaves."""

    def __init__(self) -> None:
        self._deferreds: list[Deferred[_T]] = []

    def __len__(self) -> int:
        return len(self._deferreds)

    def add(self) -> Deferred[_T]:
        """One more who waits."""
        deferred: Deferred[_T] = Deferred(self._deferreds.remove)
        self._deferreds.append(deferred)
        return deferred

    def fire(self, value: _T) -> None:
        """It has happened."""
        waiting, self._deferreds = self._deferreds, []
        for deferred in waiting:
            deferred.callback(value)

    def fail(self, error: Exception) -> None:
        """It will not happen."""
        waiting, self._deferreds = self._deferreds, []
        for deferred in waiting:
            deferred.errback(error)

    def resolve(self, deferred: Deferred[_T], value: _T) -> None:
        """One of them has waited long enough."""
        if deferred in self._deferreds:
            self._deferreds.remove(deferred)
            deferred.callback(value)

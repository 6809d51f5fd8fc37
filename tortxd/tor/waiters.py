"""Those who wait for one thing to happen."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tortxd.errors import InternalError, TortxdError

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


class Shared(Generic[_T]):
    """What is asked for once, by whoever comes first, for all who want it then and later.

    Who no longer wants it just leaves: a command that is on its way cannot be taken back. What
    fails is asked for anew by who comes next.
    """

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        self._ask = ask
        self._known: list[_T] = []
        self._asking = False
        self._waiting: Waiters[list[_T] | TortxdError] = Waiters()

    async def get(self) -> _T:
        """It.

        :raises TortxdError: it cannot be had.
        """
        if not self._known:
            got = self._waiting.add()
            if not self._asking:
                self._asking = True
                Deferred.fromCoroutine(self._ask()).addCallbacks(self._got, self._failed)
            result = await got
            if isinstance(result, TortxdError):
                raise type(result)(str(result))  # one for each: errors are written on
        return self._known[0]

    def _got(self, value: _T) -> None:
        self._asking = False
        self._known.append(value)
        self._waiting.fire(self._known)

    def _failed(self, failure: Failure) -> None:
        self._asking = False
        error = failure.value
        self._waiting.fire(error if isinstance(error, TortxdError) else InternalError())

"""Waiting for something to become true of what a test watches."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred, succeed


@define
class Watch:
    """Those who wait; each says what for."""

    _waiting: list[tuple[Callable[[], bool], Deferred[None]]] = field(factory=list)

    def when(self, true: Callable[[], bool]) -> Deferred[None]:
        """Fire when this is true, which is asked now and at every :meth:`look`."""
        if true():
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiting.append((true, waiter))
        return waiter

    def look(self) -> None:
        """Something has changed."""
        for watcher in list(self._waiting):
            true, waiter = watcher
            if waiter.called:
                self._waiting.remove(watcher)  # cancelled
            elif true():
                self._waiting.remove(watcher)
                waiter.callback(None)

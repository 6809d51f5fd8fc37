"""Many timers of few lengths.

A gateway starts and cancels several timers for each request, and nearly none of them ever fires.
Those of one length expire in the order in which they were started, so a dictionary (which keeps
order) holds them and one reactor timer watches its head: starting and cancelling cost a dictionary
entry each.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()


class Timeout:
    """One timer; see :meth:`Timeouts.start`."""

    __slots__ = ("_queue", "callback")

    def __init__(self, queue: _Queue, callback: Callable[[], object]) -> None:
        self._queue = queue
        self.callback = callback

    def cancel(self) -> None:
        """Stop it; harmless if it has fired or was cancelled."""
        self._queue.entries.pop(self, None)

    def restart(self) -> None:
        """Let its whole length pass again, from now on. Not for one that has fired."""
        self._queue.entries.pop(self, None)
        self._queue.add(self)


class _Queue:
    def __init__(
        self, clock: IReactorTime, seconds: float, emptied: Callable[[float], object]
    ) -> None:
        self.entries: dict[Timeout, float] = {}
        self._clock = clock
        self._seconds = seconds
        self._emptied = emptied
        self._call: IDelayedCall | None = None

    def add(self, timeout: Timeout) -> None:
        self.entries[timeout] = self._clock.seconds() + self._seconds
        if self._call is None:
            self._call = self._clock.callLater(self._seconds, self._due)

    def _due(self) -> None:
        # The timer that has just fired stays in place until the queue has been gone through: what a
        # callback starts is found there, and needs no timer of its own.
        now = self._clock.seconds()
        while self.entries:
            timeout, expiry = next(iter(self.entries.items()))
            if expiry > now:
                self._call = self._clock.callLater(expiry - now, self._due)
                return
            del self.entries[timeout]
            try:
                timeout.callback()
            except Exception:  # the others must fire all the same
                log.failure("A timer's callback failed.")
        self._call = None
        self._emptied(self._seconds)

    def stop(self) -> None:
        self.entries.clear()
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None


class Timeouts:
    """Starts timers on ``clock``."""

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self._queues: dict[float, _Queue] = {}

    def start(self, seconds: float, callback: Callable[[], object]) -> Timeout:
        """Call ``callback`` after ``seconds``, unless the result is cancelled before.

        It may be up to a tenth of a second later, above 10 s a second: clients choose lengths, too,
        and each has a queue, and a timer of the reactor's, for as long as it is.
        """
        queue = self._queues.get(seconds)
        if queue is None:
            seconds = ceil(seconds * 10 - 1e-6) / 10 if seconds < 10 else ceil(seconds - 1e-6)
            queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = _Queue(self.clock, seconds, self._forget)
        timeout = Timeout(queue, callback)
        queue.add(timeout)
        return timeout

    def _forget(self, seconds: float) -> None:
        self._queues.pop(seconds, None)

    def stop(self) -> None:
        """Cancel every timer."""
        for queue in self._queues.values():
            queue.stop()
        self._queues.clear()

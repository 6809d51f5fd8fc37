"""How fast something may come, where it may come fast for a while."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime


class Pace:
    """So many at once, and then so many a second. The clock is looked at only when those are used
    up, so that each one costs next to nothing.

    :param rate: how many may come each second.
    :param burst: how many may come at once.
    """

    def __init__(self, clock: IReactorTime, *, rate: float, burst: float) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._since = clock.seconds()

    def keeps(self, number: float = 1) -> bool:
        """Whether so many more keep to it. Those that do not, do not count."""
        if self._left < number:
            now = self._clock.seconds()
            self._left = min(self._burst, self._left + (now - self._since) * self._rate)
            self._since = now
            if self._left < number:
                return False
        self._left -= number
        return True

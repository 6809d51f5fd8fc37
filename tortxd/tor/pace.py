"""How fast something may come, where it may come fast for a while."""

from __future__ import annotations

import math

from twisted.internet.interfaces import IReactorTime

from tortxd.rates import Rate

_ALMOST_NONE = 1e-6


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


class Bucket:
    """What is left of a rate, which can be waited for, and owed.

    :param rate: None: without limit.
    :param now: seconds on a monotonic clock, as everywhere here.
    """

    def __init__(self, rate: Rate | None, now: float) -> None:
        self._rate = rate
        self._level = 0.0 if rate is None else float(rate.burst)
        self._at = now

    def level(self, now: float) -> float:
        """How much there is; less than 0 is owed."""
        rate = self._rate
        if rate is None:
            return math.inf
        self._level = min(rate.burst, self._level + (now - self._at) * rate.per_second)
        self._at = now
        return self._level

    def take(self, now: float, *, debt: bool = True) -> None:
        """Take one, on credit if need be, which has a limit as well."""
        if self._rate is not None:
            least = -float(self._rate.burst) if debt else 0.0
            self._level = max(least, self.level(now) - 1)

    def wait(self, number: int, now: float) -> float:
        """Seconds until there are so many."""
        missing = number - self.level(now)
        if self._rate is None or missing <= _ALMOST_NONE:
            return 0.0
        return missing / self._rate.per_second

    def is_full(self, now: float) -> bool:
        """Whether no more can be saved up."""
        return self._rate is None or self.level(now) >= self._rate.burst

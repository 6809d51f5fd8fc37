"""A clock that is off or has jumped, as Tor says it, and for how long that counts."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tortxd.tor.replies import jump_in_words, skew_in_words

STAYS = 30 * 60.0
"""Seconds that Tor's word counts: it never says that the clock is right again."""
JUMPED_STAYS = 60.0
"""Seconds that a jump counts: Tor has given its circuits up, and builds others meanwhile."""
_SET = 30.0
"""Seconds by which a clock differs that somebody has set, and that is not just kept right."""


def wall_clock_offset() -> float:
    """What this machine's clock is ahead of one that only goes on; it changes when it is set."""
    return time.time() - time.monotonic()


class ClockSkew:
    """Tells of a clock that is off, until Tor has said nothing for long, or the clock was set: if
    that was not enough, Tor says so again.

    :param tell: called with a sentence, or with None when it no longer counts.
    :param offset: see :func:`wall_clock_offset`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        tell: Callable[[str | None], None],
        offset: Callable[[], float] = wall_clock_offset,
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._offset = offset
        self._offset_then = 0.0
        self._timer: IDelayedCall | None = None

    def is_ahead(self, seconds: int) -> None:
        """Tor says that it is so much ahead."""
        self.close()
        self._offset_then = self._offset()
        self._timer = self._clock.callLater(STAYS, self._over)
        self._tell(skew_in_words(seconds))

    def look(self) -> None:
        """See whether it was set."""
        if self._timer is not None and abs(self._offset() - self._offset_then) > _SET:
            self.close()
            self._over()

    def close(self) -> None:
        """Tell no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _over(self) -> None:
        self._timer = None
        self._tell(None)


class ClockJumps:
    """Tells of a clock that has jumped, which also shows that this machine was suspended, until a
    while after.

    :param tell: as :class:`ClockSkew`.
    """

    def __init__(self, clock: IReactorTime, tell: Callable[[str | None], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._timer: IDelayedCall | None = None

    def has_jumped(self, seconds: int) -> None:
        """Tor says that it has jumped so far ahead; back, where that is negative."""
        self.close()
        self._timer = self._clock.callLater(JUMPED_STAYS, self._over)
        self._tell(jump_in_words(seconds))

    def close(self) -> None:
        """Tell no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _over(self) -> None:
        self._timer = None
        self._tell(None)

"""New circuits for everything, as Tor makes them on request (NEWNYM)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from tortxd.errors import TorDown, TorTimeout
from tortxd.tor.waiters import Waiters

if TYPE_CHECKING:
    from tortxd.tor.control import Control

_INTERVAL = 10.0
"""Seconds; Tor carries out one NEWNYM in that time, and keeps further ones waiting, as one
(MAX_SIGNEWNYM_RATE in C-tor). It counts in whole seconds, so it may be less there, but not more."""
_PATIENCE = 2 * _INTERVAL


class NewIdentity:
    """Asks for one, waits until it is made, and knows when Tor will make the next."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: Waiters[None] = Waiters()
        self._made_at: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def next_in(self, heard_since: float) -> float | None:
        """Seconds until Tor makes another at once; 0: now. None: that is not known.

        :param heard_since: from when on none was made unheard, on the clock.
        """
        now, made_at = self._clock.seconds(), self._made_at
        if made_at is not None and made_at >= heard_since:
            left = max(0.0, made_at + _INTERVAL - now)
        elif now - heard_since >= _INTERVAL:
            left = 0.0
        else:
            return None
        return left + _INTERVAL if self._waiting else left

    async def make(self, control: Control) -> None:
        """Have one made.

        :raises TorTimeout: Tor does not answer, or does not make it in time.
        :raises TorDown: the connection is lost, or :meth:`fail` was called meanwhile.
        """
        made = self._waiting.add()
        made.addTimeout(_PATIENCE, self._clock)
        try:
            await control.tell("SIGNAL NEWNYM")
        except BaseException:
            made.addErrback(lambda failure: failure.trap(CancelledError))
            made.cancel()
            raise
        try:
            await made
        except DeferredTimeout:
            raise TorTimeout("Tor has not made a new identity in time.") from None

    def made(self) -> None:
        """Tor has made one, for us or for another controller."""
        self._made_at = self._clock.seconds()
        self._waiting.fire(None)

    def fail(self, reason: str) -> None:
        """None will be made any more."""
        self._waiting.fail(TorDown(reason, retryable=False))

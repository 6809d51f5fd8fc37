"""New circuits for everything, as Tor makes them on request (NEWNYM)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from tortxd.errors import TorDown, TorTimeout
from tortxd.tor.waiters import Waiters

if TYPE_CHECKING:
    from tortxd.tor.control import Control

_INTERVAL = 10.0
"""Seconds; Tor carries out one NEWNYM in that time, and keeps further ones waiting (control-spec,
section 3.7)."""
_PATIENCE = 2 * _INTERVAL


class NewIdentity:
    """Asks for one, and waits until it is made."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: Waiters[None] = Waiters()
        self._made_at = -math.inf

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_in(self) -> float:
        """Seconds until Tor makes another at once, as far as was seen."""
        return max(0.0, self._made_at + _INTERVAL - self._clock.seconds())

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

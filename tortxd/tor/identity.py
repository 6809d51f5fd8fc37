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

_PATIENCE = 20.0
"""Seconds; Tor carries out one NEWNYM in 10 s, and keeps further ones waiting."""


class NewIdentity:
    """Asks for one, and waits until it is made."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: Waiters[None] = Waiters()

    def __len__(self) -> int:
        return len(self._waiting)

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
        """Tor has made one."""
        self._waiting.fire(None)

    def fail(self, reason: str) -> None:
        """None will be made any more."""
        self._waiting.fail(TorDown(reason, retryable=False))

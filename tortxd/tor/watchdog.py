"""Asks a Tor something small at an interval: one that does not answer in time hangs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from tortxd.errors import TorDown, TortxdError

if TYPE_CHECKING:
    from tortxd.tor.control import Control


LATE = 1.0
"""Seconds after the end of Tor's time at which it was this process that did nothing."""
EXTENSIONS = 5
"""How often in a row a Tor that speaks, but does not answer, is asked again."""


@frozen
class Watch:
    """How often Tor is asked if it lives, and how long it may take to answer, in seconds."""

    interval: float = 15.0
    patience: float = 10.0


class Watchdog:
    """Watches one control connection from :meth:`begin` to :meth:`close`.

    :param look: called each time, before Tor is asked.
    :param hung: called once, with a sentence, when Tor has not answered.
    :param failed: called with a fault of ours.
    """

    def __init__(
        self,
        clock: IReactorTime,
        control: Control,
        watch: Watch,
        *,
        look: Callable[[], None],
        hung: Callable[[str], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._clock = clock
        self._control = control
        self._watch = watch
        self._look = look
        self._hung = hung
        self._failed = failed
        self._extended = 0
        self._timer: IDelayedCall | None = None
        self._closed = False

    def begin(self) -> None:
        """Ask after the first interval."""
        self._timer = self._clock.callLater(self._watch.interval, self._ask)

    def close(self) -> None:
        """Ask no more."""
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _ask(self) -> None:
        Deferred.fromCoroutine(self._ask_if_it_lives()).addErrback(self._failed)

    async def _ask_if_it_lives(self) -> None:
        self._look()
        begun = self._clock.seconds()
        try:
            await self._control.ask("version", patience=self._watch.patience)
        except TorDown:
            return  # control_lost says so
        except TortxdError as e:
            if self._closed:
                return
            if self._may_live(begun):
                self._extended += 1
                self._timer = self._clock.callLater(0, self._ask)
            else:
                self._hung(str(e))
            return
        self._extended = 0
        if not self._closed:
            self.begin()

    def _may_live(self, begun: float) -> bool:
        """Whether it means nothing that no answer has come to what was asked at ``begun``: under
        load Tor may be slow and still speak, and where this process was stopped, or had no
        processor, the answer may be there unread."""
        is_late = self._clock.seconds() - begun > self._watch.patience + LATE
        return (self._control.heard > begun or is_late) and self._extended < EXTENSIONS

"""Why a start does not get on, where Tor says so in its log alone.

Measured with tor 0.4.9.11: of a pluggable transport that is missing or ends, of certificates that a
wrong clock makes invalid, and of exits that cannot be chosen, no status event tells. Lines that
Tor repeats while they hold count for a while; those that it says once count until it gets on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tortxd.errors import printable

STAYS = 60.0
"""Seconds after which a line that Tor would repeat no longer counts. It starts a transport's
program anew every 1 to 4 s, and looks for exits every second."""
_LONGEST = 1000
"""Characters of a line that are looked at."""
_DONE = 100


@frozen
class Cause:
    """Something that keeps Tor from getting on."""

    key: str
    """Of several causes with one key, the last counts."""
    sentence: str
    repeated: bool
    """Whether Tor says it again while it holds."""


_ENDED = re.compile(
    r'Managed proxy "(.*)" having PID \d+ (?:has exited|terminated with status code (\d+))'
)
_NO_TRANSPORT = re.compile(
    r'Can\'t use bridge at .*: there is no configured transport called "(.*)"'
)
_METHOD_ERROR = re.compile(r"Client managed proxy encountered a method error\. \((.*)\)")


def cause_in(text: str, exists: Callable[[str], bool] | None = os.path.exists) -> Cause | None:
    """What this line of Tor's log says about a start that does not get on, or None.

    Only the name of a program is told, not its path: clients of the gateway read it.

    :param exists: whether there is a file with this path; None: paths are not looked at.
    """
    if match := _ENDED.match(text):
        program = os.path.basename(match[1])
        if exists is None:
            sentence = f"The pluggable transport program {program} is missing, or ends by itself."
        elif not exists(match[1]):
            sentence = f"The pluggable transport program {program} is missing."
        else:
            status = "" if match[2] is None else f", with status {match[2]}"
            sentence = f"The pluggable transport program {program} ends by itself{status}."
        return Cause("transport", sentence, repeated=True)
    if match := _NO_TRANSPORT.match(text):
        return Cause(
            "bridge",
            f"A bridge needs the pluggable transport {match[1]}, which is not running: see "
            "ClientTransportPlugin in the torrc file.",
            repeated=False,
        )
    if match := _METHOD_ERROR.match(text):
        return Cause(
            "transport", f"The pluggable transport program failed: {match[1]}.", repeated=False
        )
    if "certificate expired" in text or "or your clock is wrong" in text:
        return Cause(
            "certificates",
            "The certificates of relays do not count as valid now: this machine's clock seems to "
            "be wrong.",
            repeated=False,
        )
    if text.endswith("We have no recent usable consensus."):
        return Cause(
            "consensus",
            "The directory that Tor was given counts as out of date: this machine's clock seems to "
            "be wrong.",
            repeated=False,
        )
    if text.startswith("Failed to choose an exit server"):
        return Cause(
            "exits",
            "Tor finds no exit relay that it may use: see ExitNodes, ExcludeNodes and "
            "ExcludeExitNodes in the torrc file.",
            repeated=True,
        )
    return None


class Causes:
    """Hears what one Tor logs, and tells what keeps it from getting on.

    :param tell: called with a key and a sentence; with None when that no longer holds.
    :param exists: see :func:`cause_in`. A Tor that others run may name any path, and one that means
        something else where it runs.
    """

    def __init__(
        self,
        clock: IReactorTime,
        tell: Callable[[str, str | None], None],
        exists: Callable[[str], bool] | None = os.path.exists,
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._exists = exists
        self._percent = 0
        self._timers: dict[str, IDelayedCall | None] = {}
        """The causes that hold, with when those end that Tor would repeat."""

    def heard(self, text: str) -> None:
        """Tor has logged this."""
        cause = cause_in(printable(text[:_LONGEST]), self._exists)
        if cause is None or (self._percent >= _DONE and not cause.repeated):
            return
        self._stop(cause.key)
        timer = self._clock.callLater(STAYS, self._over, cause.key) if cause.repeated else None
        self._timers[cause.key] = timer
        self._tell(cause.key, cause.sentence)

    def progress(self, percent: int) -> None:
        """Tor has got so far; what kept it from that does so no more."""
        if percent > self._percent:
            for key in tuple(self._timers):
                self._stop(key)
                self._over(key)
        self._percent = percent

    def close(self) -> None:
        """Tell no more."""
        for key in tuple(self._timers):
            self._stop(key)
        self._timers.clear()

    def _stop(self, key: str) -> None:
        timer = self._timers.get(key)
        if timer is not None and timer.active():
            timer.cancel()

    def _over(self, key: str) -> None:
        del self._timers[key]
        self._tell(key, None)

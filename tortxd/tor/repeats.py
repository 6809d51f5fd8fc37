"""Lines of the log that come again and again: said once, and then how often."""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime

INTERVAL = 60.0
"""Seconds between two words on a line that is repeated."""
_MOST = 200
"""Lines that are remembered at once; further ones are said as they come."""
_VARIABLE = re.compile(r"\b[0-9A-F]{40}\b|\d+")


def alike(text: str) -> str:
    """What lines about one cause have in common: all but numbers, addresses and fingerprints."""
    return _VARIABLE.sub("#", text)


@define
class _Line:
    say: Callable[[str], None]
    timer: IDelayedCall
    text: str
    more: int = 0


class Repeats:
    """Says a line at once, and one that is like it only as a number, a minute later."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lines: dict[str, _Line] = {}

    def say(self, say: Callable[[str], None], text: str, *, like: str | None = None) -> None:
        """Have ``text`` said, unless a line ``like`` it (None: the same) was said lately."""
        key = text if like is None else like
        line = self._lines.get(key)
        if line is not None:
            line.more += 1
            line.say, line.text = say, text
            return
        if len(self._lines) < _MOST:
            timer = self._clock.callLater(INTERVAL, self._over, key)
            self._lines[key] = _Line(say, timer, text)
        say(text)

    def flush(self) -> None:
        """Say what is left to say, and forget all."""
        lines, self._lines = self._lines, {}
        for line in lines.values():
            line.timer.cancel()
            if line.more:
                line.say(f"{line.text} ({_times(line.more)} more)")

    def _over(self, key: str) -> None:
        line = self._lines[key]
        if not line.more:
            del self._lines[key]
            return
        more, line.more = line.more, 0
        line.timer = self._clock.callLater(INTERVAL, self._over, key)
        line.say(f"{line.text} ({_times(more)} more in the last minute)")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"

"""How far a run is."""

from __future__ import annotations

import sys
import time

from attrs import define, field

_BETWEEN = 60.0
"""Seconds between two lines where they cannot be written over."""


@define
class Progress:
    """Says how far a run is: in a terminal all the time, elsewhere once a minute."""

    planned: float
    """Seconds that all is expected to take."""
    _done: float = 0.0
    _began: float = field(factory=time.monotonic)
    _shown: float = -_BETWEEN

    def advance(self, seconds: float) -> None:
        """So much of what was planned is done."""
        self._done += seconds

    def show(self, what: str) -> None:
        """Say what is measured now."""
        passed = time.monotonic() - self._began
        line = f"{self._done / self.planned:4.0%}, {minutes(self._left(passed))} left. {what}"
        if sys.stdout.isatty():
            print(f"\r\033[K{line}", end="", flush=True)
        elif passed - self._shown >= _BETWEEN:
            self._shown = passed
            print(line, flush=True)

    def clear(self) -> None:
        """Make room for what is to stay."""
        if sys.stdout.isatty():
            print("\r\033[K", end="")

    def _left(self, passed: float) -> float:
        # What was planned is an estimate, which is corrected by how long the first part has taken.
        pace = passed / self._done if self._done > 0.05 * self.planned else 1.0
        return (self.planned - self._done) * pace


def minutes(seconds: float) -> str:
    """A time in words."""
    number = round(seconds / 60)
    return "less than a minute" if number < 1 else f"about {number} minute{'s' * (number > 1)}"

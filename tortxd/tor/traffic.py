"""What Tor has read and written, second by second, for the last minutes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tortxd.tor.changes import Bandwidth

REMEMBERED = 300
"""Seconds, with one event in each (control-spec, section 4.1.4)."""


class Traffic:
    """Remembers the last :data:`REMEMBERED` seconds."""

    def __init__(self) -> None:
        self._seconds: deque[Bandwidth] = deque(maxlen=REMEMBERED)

    def add(self, bandwidth: Bandwidth) -> None:
        """Another second has passed."""
        self._seconds.append(bandwidth)

    def clear(self) -> None:
        """Forget all: another Tor's traffic is another's."""
        self._seconds.clear()

    @property
    def seconds(self) -> Sequence[Bandwidth]:
        """The seconds that are remembered, oldest first."""
        return tuple(self._seconds)

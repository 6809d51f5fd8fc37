"""Finds out that nothing comes from the network any more, while somebody waits for it.

Tor itself says so (NETWORK_LIVENESS) some minutes later at the earliest, and while it builds no
circuit of its own not at all; what it reads in each second (BW) is known at once.
"""

from __future__ import annotations

from collections.abc import Callable

from tortxd.tor.changes import Bandwidth, Cleared
from tortxd.tor.table import Table

PATIENCE = 10
"""Seconds in which nothing has come, and for which a stream has waited to be open."""
SILENT = "Tor hears nothing from the network, though requests wait."


class Silence:
    """Listens to ``table`` until :meth:`close`.

    :param tell: called with a sentence, and with None when something comes again.
    """

    def __init__(self, table: Table, tell: Callable[[str | None], object]) -> None:
        self._table = table
        self._tell = tell
        self._seconds = 0
        """How many have passed in which nothing came."""
        self._counts = False
        """Whether Tor has counted anything so far: of private addresses, a bridge's in the same
        house say, it does not."""
        self._is_told = False
        self._leave = (
            table.listen(Bandwidth, self._bandwidth),
            table.listen(Cleared, lambda _: self._heard()),
        )

    def close(self) -> None:
        """Listen no more."""
        for leave in self._leave:
            leave()

    def _bandwidth(self, second: Bandwidth) -> None:
        if second.read:
            self._counts = True
            self._heard()
            return
        self._seconds += 1
        if self._seconds < PATIENCE or self._is_told or not self._counts:
            return
        if self._table.has_waited_since(second.at - PATIENCE):
            self._is_told = True
            self._tell(SILENT)

    def _heard(self) -> None:
        self._seconds = 0
        if self._is_told:
            self._is_told = False
            self._tell(None)

"""What each fault was for a client, and how long until it was served again: noted by the tests of
faults, for the table in docs/reliability.md (``python -m tools.fault_times``)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.task import deferLater

from tests.daemon.process import PATIENCE, Daemon, installed
from tests.web_client import Reply

POLL = 0.02


@define
class FaultTimes:
    """Notes of one test.

    :param test: its name, ``tests/...py::test_...``.
    :param file: where they go, a line of JSON each; None: nowhere.
    """

    test: str
    file: Path | None

    async def until_served(self, fault: str, client: Client) -> None:
        """Note a row: from here on, it is over."""
        seconds = await client.until_served()
        self.note(fault, client.words, seconds)

    def note(self, fault: str, saw: str, seconds: float) -> None:
        """Note a row.

        :param fault: in the table's words.
        :param saw: what a client was answered meanwhile, and /health.
        :param seconds: from the fault's end until a request was served.
        """
        if self.file is not None:
            row = {"fault": fault, "saw": saw, "seconds": round(seconds, 3), "test": self.test}
            with self.file.open("a") as out:
                out.write(json.dumps(row) + "\n")


@define
class Client:
    """Asks for the same thing again and again, and remembers what it was answered.

    :param patience: seconds, as ``Tortxd-Timeout``.
    """

    daemon: Daemon
    url: str
    patience: float = 20.0
    saw: dict[str, None] = field(factory=dict)
    """Answers other than the wanted one, in the order in which they first came."""
    health: dict[str, None] = field(factory=dict)
    """What /health said meanwhile."""

    async def ask(self, *headers: str) -> Reply:
        """Ask once."""
        reply = await self.daemon.fetch(self.url, f"Tortxd-Timeout: {self.patience:g}", *headers)
        if reply.status != 200:
            self.saw[f"{reply.status} `{reply.json['code']}`"] = None
        return reply

    async def look(self) -> Any:
        """What /health says now."""
        told = (await self.daemon.ask("/health")).json
        self.health[f"`{told['status']}`"] = None
        return told

    async def until(self, true: Callable[[Any], bool]) -> Any:
        """Wait until /health says this."""
        deadline = installed().seconds() + PATIENCE
        while not true(told := await self.look()):
            assert installed().seconds() < deadline, told
            await deferLater(installed(), POLL)
        return told

    async def until_served(self) -> float:
        """Ask until it is served; the seconds that this took."""
        begun = installed().seconds()
        while (await self.ask()).status != 200:
            assert installed().seconds() < begun + PATIENCE, self.words
            await deferLater(installed(), POLL)
        return float(installed().seconds() - begun)

    @property
    def words(self) -> str:
        """All that it saw, in words."""
        saw = ", ".join(self.saw) or "200, later"
        return f"{saw}; health {', '.join(self.health)}" if self.health else saw

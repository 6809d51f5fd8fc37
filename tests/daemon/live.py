"""A reader of what a daemon tells its operators live."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from attrs import define

from tests.daemon.process import Daemon, soon, until
from tests.web_client import Wire


@define
class Reading:
    """A reader of a daemon's events."""

    wire: Wire

    @classmethod
    async def of(cls, daemon: Daemon) -> Reading:
        """One that has had the first snapshot."""
        wire = await daemon.connect()
        lines = ("GET /events HTTP/1.0", "Host: localhost", f"Tortxd-Token: {daemon.token}", "", "")
        wire.send("\r\n".join(lines).encode())
        await soon(wire.when_came(b"event: snapshot"))
        return cls(wire)

    def all(self) -> list[tuple[str, Any]]:
        """The types and data of what has come so far."""
        body = bytes(self.wire.raw).partition(b"\r\n\r\n")[2].rpartition(b"\n\n")[0].decode()
        lines = [block.split("\n") for block in body.split("\n\n") if "data: " in block]
        return [
            (event.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
            for _, event, data in lines
        ]

    async def first(self, true: Callable[[str, Any], bool]) -> Any:
        """The data of the first event of which this is true."""
        await until(lambda: any(true(*one) for one in self.all()))
        return next(data for kind, data in self.all() if true(kind, data))

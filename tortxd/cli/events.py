"""Server-Sent Events of a gateway, read as they come (HTML, section 9.2), and what they make up."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from tortxd.cli.asking import Asker
from tortxd.cli.failures import NotReached

LONGEST = 16 * 1024 * 1024
"""Bytes of a line; a snapshot of 2,000 circuits and streams has some 2 MiB."""
SILENCE = 45.0
"""Seconds: the gateway says something every 15."""
AGAIN = 2.0
"""Seconds before a lost connection is tried again."""
MOST = 10_000
"""Circuits that are kept, and as many streams; a snapshot has 2,000."""
_FIELDS = ("id", "event", "data")


class Event(NamedTuple):
    """One event."""

    id: str
    kind: str
    data: Any


def read(lines: Iterator[bytes]) -> Iterator[Event]:
    """The events in these lines, each of which ends with a line break.

    :raises ValueError: one is longer than :data:`LONGEST`, or its data is not JSON.
    """
    fields: dict[str, str] = {}
    for line in lines:
        if len(line) >= LONGEST:
            raise ValueError("an endless line")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            if name in _FIELDS:  # a gateway may send any number of others
                fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            kind = fields.get("event", "message")
            yield Event(fields.get("id", ""), kind, _value(fields["data"]))
        fields = {}


def _value(data: str) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("JSON that is too deep") from None


def follow(
    asker: Asker,
    types: str | None = None,
    *,
    lost: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Event]:
    """The events of a gateway, for ever: where the connection is lost, it is made again, and they
    go on where they were.

    :param lost: called each time when the connection is lost.
    :raises CommandFailed: the first time, it cannot be made; later, the gateway refuses it.
    """
    path = "/events" if types is None else f"/events?types={types}"
    last, is_first = "", True
    while True:
        try:
            headers = {"Last-Event-ID": last} if last else {}
            answer = asker.ask("GET", path, headers=headers, patience=SILENCE)
            answer.check()
            is_first = False
            for event in read(iter(partial(answer.response.readline, LONGEST), b"")):
                last = event.id or last
                yield event
        except NotReached:
            if is_first:
                raise
        except (OSError, ValueError, http.client.HTTPException):
            pass
        lost()
        sleep(AGAIN)


class State:
    """A Tor as its events make it up; of more circuits and streams than :data:`MOST`, the first."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.circuits: dict[str, dict[str, Any]] = {}
        self.streams: dict[str, dict[str, Any]] = {}
        self.bandwidth: list[dict[str, int]] = []
        """Of the last minutes, oldest first."""

    def take(self, event: Event) -> None:
        """Another event has come."""
        data = event.data
        if event.kind == "snapshot":
            self.status = data.get("status", self.status)
            self.circuits = {one["id"]: one for one in data.get("circuits", ())[:MOST]}
            self.streams = {one["id"]: one for one in data.get("streams", ())[:MOST]}
            self.bandwidth = list(data.get("bandwidth", ()))
        elif event.kind == "status":
            self.status = data
        elif event.kind == "bandwidth":
            self.bandwidth = [*self.bandwidth[-299:], data]
        elif event.kind in ("circuit", "stream"):
            known = self.circuits if event.kind == "circuit" else self.streams
            if data["state"] in ("CLOSED", "FAILED"):
                known.pop(data["id"], None)
            elif data["id"] in known or len(known) < MOST:
                known[data["id"]] = data

    def streams_on(self, circuit: str) -> list[dict[str, Any]]:
        """The streams on a circuit."""
        return [one for one in self.streams.values() if one["circuit"] == circuit]

"""``tortxd events``: what changes, a line each, as it does."""

from __future__ import annotations

import json
import time

import click

from tortxd.cli import words
from tortxd.cli.events import Event, follow
from tortxd.cli.main import Settings, command
from tortxd.cli.output import note


@command("events")
@click.option(
    "--types", metavar="TYPES", help="What to follow: status, circuit, stream, bandwidth."
)
def events(settings: Settings, types: str | None) -> None:
    """Follow what changes: Tor's status, its circuits and streams, until Ctrl-C.

    With --json, each line is an object: the event's name and its data. Bandwidth, which comes every
    second, is left out unless --types or --json asks for it.
    """
    if types is None and not settings.as_json:
        types = "status,circuit,stream"
    asker = settings.asker()
    lost = "The connection is lost; trying again."
    for event in follow(asker, types, lost=lambda: note(lost)):
        if settings.as_json:
            settings.output.line(json.dumps({"event": event.kind, "data": event.data}))
            continue
        for line in lines_of(event):
            clock = settings.output.dim(time.strftime("%H:%M:%S"))
            settings.output.line(f"{clock}  {words.plain(line)}")


def lines_of(event: Event) -> list[str]:
    """An event in words."""
    data = event.data
    match event.kind:
        case "snapshot":
            found = [_status(data["status"])] if "status" in data else []
            counts = [
                f"{len(data[name])} {name}" for name in ("circuits", "streams") if name in data
            ]
            return [*found, *([", ".join(counts) + " open"] if counts else [])]
        case "status":
            return [_status(data)]
        case "bandwidth":
            return [f"read {words.size(data['read'])}/s, wrote {words.size(data['written'])}/s"]
        case "circuit":
            path = words.path(data["path"])
            return [f"circuit {data['id']:>5}  {data['state']:<10} {path}{_why(data)}"]
        case "stream":
            on = "" if data["circuit"] is None else f" on circuit {data['circuit']}"
            target = words.plain(data["target"])
            return [
                f"stream  {data['id']:>5}  {data['state']:<10} {target}{on}, "
                f"by {words.way(data)}{_why(data)}"
            ]
    return []


def _status(health: words.Json) -> str:
    return " ".join((words.health(health) + ".", *words.reasons(health)))


def _why(data: words.Json) -> str:
    reasons = [words.plain(one) for one in (data.get("reason"), data.get("remoteReason")) if one]
    return f" ({', '.join(reasons)})" if reasons else ""

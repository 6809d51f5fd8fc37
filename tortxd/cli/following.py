"""``tortxd events``: what changes, a line each, as it does."""

from __future__ import annotations

import json
import time

import click

from tortxd.cli import words
from tortxd.cli.events import Event
from tortxd.cli.failures import CommandFailed, NotReached
from tortxd.cli.fleet import MembersFailed
from tortxd.cli.main import Settings, command
from tortxd.cli.merging import Came, Merged
from tortxd.cli.output import note
from tortxd.cli.roster import Member, Roster


@command("events")
@click.option(
    "--types", metavar="TYPES", help="What to follow: status, circuit, stream, bandwidth."
)
def events(settings: Settings, types: str | None) -> None:
    """Follow what changes: Tor's status, its circuits and streams, until Ctrl-C.

    With --json, each line is an object: the event's name and its data, and of a fleet the member.
    Bandwidth, which comes every
    second, is left out unless --types or --json asks for it.
    """
    if types is None and not settings.as_json:
        types = "status,circuit,stream"
    output, roster = settings.output, settings.roster()
    width = max(len(member.name) for member in roster.members)

    def shape(member: Member, event: Event) -> list[str]:
        if settings.as_json:
            value = {"event": event.kind, "data": event.data}
            return [json.dumps({"member": member.name} | value if roster.is_fleet else value)]
        if not roster.is_fleet:
            return list(map(words.plain, lines_of(event)))
        name = words.plain(member.name.ljust(width))
        return [f"{name}  {words.plain(words.clipped(line, 1000))}" for line in lines_of(event)]

    losses = _Losses(roster)
    merged = Merged(roster.members, shape, types)
    merged.start()
    for came in merged:
        if came.value is None:
            losses.lost(came)
            continue
        losses.back(came.member)
        for line in came.value:
            clock = "" if settings.as_json else output.dim(time.strftime("%H:%M:%S")) + "  "
            output.line(clock + line)


class _Losses:
    """Which gateways do not answer now, and what is said of it."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._lost: dict[str, CommandFailed] = {}
        self._refused: set[str] = set()
        self._is_any_reached = False

    def back(self, member: Member) -> None:
        """It answers."""
        self._is_any_reached = True
        if self._lost.pop(member.name, None) is not None and self._roster.is_fleet:
            note(f"{member.name}: The connection is back.")

    def lost(self, came: Came[list[str]]) -> None:
        """It does not answer, or refuses.

        :raises CommandFailed: so do all, and there is nothing to wait for.
        """
        name, number = came.member.name, len(self._roster.members)
        is_news = name not in self._lost
        error = came.error or NotReached("The connection is lost.")
        self._lost[name] = error
        if came.is_over:
            self._refused.add(name)
        if len(self._refused) == number or (len(self._lost) == number and not self._is_any_reached):
            if not self._roster.is_fleet:
                raise error
            raise MembersFailed([(name, error)], before=list(self._lost.values()))
        if not self._roster.is_fleet:
            note("The connection is lost; trying again.")
        elif came.is_over:
            note(f"{name}: {words.clipped(error, 1000)}")
        elif is_news:
            note(f"{name}: {words.clipped(error, 1000)} It is tried again.")


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

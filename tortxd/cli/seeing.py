"""Commands that show what is: ``status``, ``circuits``, ``streams``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tortxd.cli import words
from tortxd.cli.asking import Asker
from tortxd.cli.failures import CommandFailed, NotReady
from tortxd.cli.fleet import Json, Listing, Reply, consult, described, listing
from tortxd.cli.main import Settings, command
from tortxd.cli.output import Output, Row

_NONE = "-"
_MOST_REASONS = 20
"""Of one member of a fleet; a gateway has a handful."""


class _Doing(NamedTuple):
    """How a gateway does."""

    health: Json
    is_ready: bool
    counts: _Counts | None
    """None: only operators see them."""


@command("status")
def status(settings: Settings) -> None:
    """Say whether requests are served, how far Tor is, and what is wrong.

    It exits with 4 while Tor is not ready.
    """
    output = settings.output

    def question(asker: Asker) -> _Doing:
        answer = asker.ask("GET", "/health", as_client=True)
        if answer.status not in (200, 503) or answer.error_code is not None:
            answer.check()
        health = answer.json()
        counts = None if settings.as_json else _counts(asker)
        doing = _Doing(health, answer.status == 200, counts)
        if not settings.as_json:  # which notices what is no health
            _row("", doing)
            words.reasons(health)
        return doing

    def alone(asker: Asker, doing: _Doing) -> None:
        if settings.as_json:
            output.json(doing.health)
        else:
            _status(output, asker, doing)

    consult(
        settings,
        question,
        alone=alone,
        together=lambda replies: _statuses(output, replies),
        as_json=lambda replies: {
            "members": [described(one, one.value and one.value.health) for one in replies]
        },
        judge=lambda doing: None if doing.is_ready else NotReady("Tor is not ready."),
    )


def _status(output: Output, asker: Asker, doing: _Doing) -> None:
    health = doing.health
    colour = {"ok": "green", "degraded": "yellow"}.get(health["status"], "red")
    output.line(output.bold(words.health(health), colour))
    for reason in words.reasons(health):
        output.line(reason)
    facts = {"since": f"{words.age(health['age'])} ago"} if "age" in health else {}
    facts |= {
        "gateway": asker.gateway.url,
        "SOCKS": health["tor"] or "not open",
        "network": health["network"],
        "version": health["version"],
    }
    output.facts(facts | ({} if doing.counts is None else doing.counts.facts()))


# --- a fleet --------------------------------------------------------------------------------------


def _statuses(output: Output, replies: Sequence[Reply[_Doing]]) -> None:
    """How many members serve, a row for each, and what is wrong with whom."""
    ready = sum(one.value is not None and one.value.is_ready for one in replies)
    colour = "green" if ready == len(replies) else "yellow" if ready else "red"
    verb = "serves" if ready == 1 else "serve"
    of = f"{ready} of {words.counted(len(replies), 'member')}"
    output.line(output.bold(f"{of} {verb} requests", colour))
    header = (
        "MEMBER",
        "TOR",
        "SINCE",
        "CIRCUITS",
        "REQUESTS",
        "UNDER WAY",
        "FAILED",
        "VERSION",
    )
    rows = []
    for one in replies:
        if one.value is not None:
            rows.append(_row(one.member.name, one.value))
        else:
            how = "no answer of its own" if one.is_reached else "not reached"
            rows.append((one.member.name, how, *[_NONE] * (len(header) - 2)))
    output.table(header, rows, "There are no members.")
    for one in replies:
        reasons = words.reasons(one.value.health) if one.value is not None else []
        for reason in reasons[:_MOST_REASONS]:
            output.line(f"{words.plain(one.member.name)}: {words.clipped(reason, 1000)}")


def _row(member: str, doing: _Doing) -> Row:
    health, counts = doing.health, doing.counts
    cells = (
        words.short_health(health),
        words.age(health["age"]) if "age" in health else _NONE,
        *([_NONE] * 4 if counts is None else counts.cells()),
        health["version"],
    )
    return (member, *map(words.clipped, cells))


# --- counts ---------------------------------------------------------------------------------------


class _Counts(NamedTuple):
    """What operators see beside it."""

    circuits: int
    requests: int
    under_way: int
    failed: dict[str, int]
    failures: list[dict[str, Any]]

    def facts(self) -> dict[str, str]:
        """For one gateway."""
        failures = ", ".join(f"{count} {code}" for code, count in sorted(self.failed.items()))
        return {
            "circuits": str(self.circuits),
            "requests": f"{self.requests}, and {self.under_way} under way",
            "failed": failures or "none",
            **_last_failure(self.failures),
        }

    def cells(self) -> Row:
        """For a table."""
        numbers = (self.circuits, self.requests, self.under_way, sum(self.failed.values()))
        return tuple(map(str, numbers))


def _counts(asker: Asker) -> _Counts | None:
    """None where there is no token."""
    if asker.token is None:
        return None
    try:
        requests, circuits = asker.get("/requests"), asker.get("/circuits")
    except CommandFailed:
        return None
    failed: dict[str, int] = {}
    ended = sum(one["count"] for one in requests["counts"])
    for one in requests["counts"]:
        if one["outcome"] not in ("ok", "client_gone"):
            failed[one["outcome"]] = failed.get(one["outcome"], 0) + one["count"]
    return _Counts(
        len(circuits["circuits"]), ended, requests["underWay"], failed, requests["failures"]
    )


def _last_failure(failures: list[dict[str, Any]]) -> dict[str, str]:
    if not failures:
        return {}
    last = failures[0]
    told = f"{words.age(last['age'])} ago, at fault: {words.FAULTS[last['fault']]}. {last['error']}"
    return {"last one": told}


# --- lists ----------------------------------------------------------------------------------------


@command("circuits")
def circuits(settings: Settings) -> None:
    """List the circuits that are open: guard - middle - exit, with countries.

    KEY is the same for circuits of one isolation key, and tells nothing else of it.
    """
    header = ("ID", "STATE", "AGE", "BUILT IN", "PATH", "STREAMS", "KEY", "PURPOSE")
    listing(settings, Listing("circuits", header, _circuit_row, "No circuit is open."))


def _circuit_row(one: Json) -> Row:
    return (
        one["id"],
        one["state"],
        words.age(one["age"]),
        "" if one["buildTime"] is None else words.age(one["buildTime"]),
        words.path(one["path"]),
        str(len(one["streams"])),
        one["isolation"] or _NONE,
        one["purpose"] or _NONE,
    )


@command("streams")
def streams(settings: Settings) -> None:
    """List the streams that are open, with their destinations and how the requests came."""
    header = ("ID", "STATE", "CIRCUIT", "CAME BY", "TARGET", "KEY", "AGE")
    listing(settings, Listing("streams", header, _stream_row, "No stream is open."))


def _stream_row(one: Json) -> Row:
    return (
        one["id"],
        one["state"],
        one["circuit"] or _NONE,
        words.way(one),
        one["target"],
        one["isolation"] or _NONE,
        words.age(one["age"]),
    )

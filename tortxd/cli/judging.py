"""Commands that show how a gateway is set up, and whether it does what it is for: ``verify``,
``config``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tortxd.cli import words
from tortxd.cli.asking import ANSWER, Asker
from tortxd.cli.failures import CommandFailed
from tortxd.cli.fleet import Json, Reply, consult, members_json
from tortxd.cli.main import Settings, command
from tortxd.cli.output import Output, Row

_VERDICTS = {
    "verified": ("Requests go through Tor: the control port and the check agree.", "green"),
    "unverified": ("The check service did not answer.", "yellow"),
    "contradicted": ("The check service says that this was not Tor.", "red"),
}


@command("verify")
def verify(settings: Settings) -> None:
    """Ask whether requests go through Tor, by the control port's word and a check service's."""
    output = settings.output

    def question(asker: Asker) -> Json:
        value: Json = asker.get("/verify-tor", as_client=True)
        _verdict_row(value)  # which notices what is no verdict
        return value

    def alone(_: Asker, value: Json) -> None:
        if settings.as_json:
            output.json(value)
        else:
            _verdict(output, value)

    def together(replies: Sequence[Reply[Json]]) -> None:
        header = ("MEMBER", "VERDICT", "EXIT ADDRESS", "CIRCUIT", "CHECK")
        rows = [
            (one.member.name, *map(words.clipped, _verdict_row(one.value)))
            for one in replies
            if one.value is not None
        ]
        output.table(header, rows, "No member has answered.")

    consult(
        settings,
        question,
        alone=alone,
        together=together,
        as_json=members_json,
        judge=lambda value: (
            None
            if value["isTor"]
            else CommandFailed("Requests do not go through Tor, by what is known.")
        ),
        patience=ANSWER,
    )


def _verdict(output: Output, value: Json) -> None:
    sentence, colour = _VERDICTS[value["verdict"]]
    output.line(output.bold(sentence, colour))
    _, address, circuit, check = _verdict_row(value)
    facts = {
        "exit address": address,
        "circuit": circuit,
        "check": check,
        "SOCKS": value["proxyUrl"] or "not open",
    }
    output.facts(facts)


def _verdict_row(value: Json) -> Row:
    """The verdict, the exit's address, the circuit, and how the check went."""
    verdict, evidence = value["verdict"], value["evidence"]
    if verdict not in _VERDICTS:
        raise ValueError(verdict)
    circuit = evidence["controlPort"]["circuit"]
    return (
        verdict,
        value["exitIp"] or "not known",
        "none was seen" if circuit is None else _circuit(circuit),
        evidence["checkService"]["error"] or "answered",
    )


def _circuit(circuit: Json) -> str:
    return f"{circuit['id']}: {words.path(circuit['path'])}"


class _Options(NamedTuple):
    """What is in force in a gateway."""

    value: Json
    rows: list[Row]
    endpoints: str


@command("config")
def config(settings: Settings) -> None:
    """List the options in force, and where each was set; secrets are left out.

    Of a fleet, what is the same for all members is listed once.
    """
    output = settings.output

    def question(asker: Asker) -> _Options:
        value: Json = asker.get("/config")
        rows: list[Row] = [
            (one["option"], one["set"] or one["source"], words.value(one["value"]))
            for one in value["options"]
        ]
        return _Options(value, rows, " and ".join(map(words.plain, value["endpoints"])))

    def alone(_: Asker, found: _Options) -> None:
        if settings.as_json:
            output.json(found.value)
            return
        output.table(("OPTION", "SET BY", "VALUE"), found.rows, "There are no options.")
        if found.endpoints:
            output.line(f"It listens on {found.endpoints}.")

    consult(
        settings,
        question,
        alone=alone,
        together=lambda replies: _configs(output, replies),
        as_json=lambda replies: members_json(
            [Reply(one.member, one.value and one.value.value, one.error) for one in replies]
        ),
    )


def _configs(output: Output, replies: Sequence[Reply[_Options]]) -> None:
    """Each option and value once, with the members that have it."""
    having: dict[Row, list[str]] = {}
    answered = [(one.member.name, one.value) for one in replies if one.value is not None]
    for name, found in answered:
        for row in found.rows:
            having.setdefault(tuple(words.clipped(cell, 1000) for cell in row), []).append(name)
    rank: dict[str, int] = {}
    for row in having:
        rank.setdefault(row[0], len(rank))
    table = [
        (*row, f"all {len(names)}" if len(names) == len(replies) else ", ".join(names))
        for row, names in sorted(having.items(), key=lambda item: rank[item[0][0]])
    ]
    output.table(("OPTION", "SET BY", "VALUE", "MEMBERS"), table, "There are no options.")
    for name, found in answered:
        if found.endpoints:
            endpoints = words.clipped(found.endpoints, 1000)
            output.line(f"{words.plain(name)} listens on {endpoints}.")

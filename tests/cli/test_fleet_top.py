"""``tortxd top`` of a fleet: one picture of all members, and keys that act where they should."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from tests.cli.conftest import Fleet, members
from tests.cli.fake import CIRCUIT, FAILURE, HEALTH, RENEWED, REQUESTS, STREAM, error, said
from tortxd.cli.events import Event
from tortxd.cli.failures import CommandFailed, NotReached
from tortxd.cli.merging import Came
from tortxd.cli.roster import Roster
from tortxd.cli.top import Top
from tortxd.cli.watching import Watched, kept, requests


@pytest.fixture
def top(fleet: Fleet) -> Top:
    top = Top(Roster(members(fleet), is_fleet=True), start=lambda work: work())
    for watched, id in zip(top.watched, ("7", "8", "7"), strict=True):
        snapshot = {"status": HEALTH, "circuits": [CIRCUIT | {"id": id}], "streams": []}
        take(watched, "snapshot", snapshot)
        take(watched, "bandwidth", {"read": 1000, "written": 10})
        watched.requests = requests(REQUESTS)
    return top


def take(watched: Watched, kind: str, data: Any) -> None:
    watched.take(Came(watched.member, kept(watched.member, Event("", kind, data))))


def lose(top: Top, name: str, error: CommandFailed | None, *, is_over: bool = False) -> None:
    (watched,) = [one for one in top.watched if one.member.name == name]
    top.take([Came(watched.member, error=error, is_over=is_over)])


def shown(top: Top, height: int = 24) -> list[str]:
    console = Console(width=120, height=height, force_terminal=False)
    with console.capture() as captured:
        console.print(top.picture(height))
    return [line.rstrip() for line in captured.get().splitlines()]


def rows(top: Top) -> list[list[str]]:
    lines = shown(top)
    (header,) = [number for number, line in enumerate(lines) if "CIRCUIT" in line]
    return [line.split()[:2] for line in lines[header + 2 :] if " BUILT " in line]


def test_the_picture_is_of_all(top: Top) -> None:
    take(top.watched[2], "stream", STREAM | {"circuit": "7"})
    lines = shown(top)
    assert lines[0].split("   ") == [
        "3 of 3 members ready",
        "3 circuits",
        "1 streams",
        "9 requests under way",
        "read 3.0 kB/s",
        "wrote 30 B/s",
    ]
    # The circuit with a stream is c's, and not a's of the same id.
    assert rows(top) == [["c", "7"], ["b", "8"], ["a", "7"]]
    assert sum("resolve_failed" in line for line in lines) == 3


def test_who_is_lost_or_not_ready_is_said(top: Top) -> None:
    take(top.watched[0], "status", HEALTH | {"status": "down", "reason": "Tor died."})
    take(top.watched[1], "status", HEALTH | {"status": "degraded", "reasons": ["Disk full."]})
    lose(top, "c", None)
    lines = shown(top)
    assert lines[0].startswith("1 of 3 members ready   2 circuits")
    assert lines[1:5] == [
        "a: Tor is down.",
        "a: Tor died.",
        "b: Disk full.",
        "c: The connection is lost.",
    ]
    assert [row[0] for row in rows(top)] == ["b", "a"]
    lose(top, "c", NotReached("Nothing answers at X."))
    assert "c: Nothing answers at X." in shown(top)
    take(top.watched[2], "status", HEALTH)
    assert [row[0] for row in rows(top)] == ["b", "a", "c"]


def test_one_that_refuses_ends_nothing(top: Top) -> None:
    lose(top, "a", CommandFailed("No."), is_over=True)
    lose(top, "b", CommandFailed("No."), is_over=True)
    with pytest.raises(CommandFailed) as failed:
        lose(top, "c", CommandFailed("No."), is_over=True)
    assert failed.value.sentences == ["a: No.", "b: No.", "c: No."]


def test_keys_act_at_the_circuit_s_member(top: Top, fleet: Fleet) -> None:
    for key in "jjj":
        top.press(key)
    assert top.chosen == ("c", "7")
    fleet.c.answers["/circuits/7/close"] = said({"closed": "7"})
    fleet.c.answers["/identity/new"] = said(RENEWED)
    top.press("r")
    assert (fleet.c.asked[-1].body, "circuit c/7 has new" in top.message) == (
        b'{"circuit": "7"}',
        True,
    )
    top.press("c")
    assert (fleet.c.asked[-1].path, top.message) == (
        "/circuits/7/close",
        "Circuit c/7 is closed.",
    )
    assert not fleet.a.asked
    assert not fleet.b.asked
    take(top.watched[2], "circuit", CIRCUIT | {"id": "7", "state": "CLOSED"})
    top.press("c")
    assert top.message == "Choose a circuit first, with up and down."


def test_new_circuits_are_everyones(top: Top, fleet: Fleet) -> None:
    for fake in fleet[:3]:
        fake.answers["/identity/new"] = said(RENEWED)
    top.press("n")
    assert top.message == "New circuits for everyone at 3 members, from the next request on."
    assert [fake.asked[-1].body for fake in fleet[:3]] == [b""] * 3
    fleet.b.answers["/identity/new"] = error("internal", "Something broke.", 500)
    top.press("n")
    assert top.message == "b: Something broke. (internal)"


def test_the_picture_fits_the_terminal(top: Top) -> None:
    for watched in top.watched:
        circuits = [CIRCUIT | {"id": str(number)} for number in range(1, 300)]
        take(watched, "snapshot", {"status": HEALTH, "circuits": circuits, "streams": []})
        reasons = {"status": "degraded", "reasons": ["Something is wrong. " * 20] * 9}
        take(watched, "status", HEALTH | reasons)
    for height in (20, 24, 60):
        assert len(shown(top, height)) <= height
    assert "and 22 more" in shown(top)
    for _ in range(500):
        top.press("j")
    assert top.chosen is not None
    assert any(line.split()[:2] == list(top.chosen) for line in shown(top))


def test_nothing_in_the_picture_moves_the_cursor(top: Top) -> None:
    evil = "\x1b]0;title\x07\n" + "x" * 100_000
    watched = top.watched[1]
    take(watched, "circuit", CIRCUIT | {"state": evil, "isolation": evil, "purpose": evil})
    take(watched, "stream", STREAM | {"circuit": "12", "target": evil})
    take(watched, "status", HEALTH | {"status": "down", "reason": evil, "warning": evil})
    watched.requests = requests(REQUESTS | {"failures": [FAILURE | {"code": evil, "error": evil}]})
    lose(top, "c", NotReached(evil))
    lines = shown(top)
    assert "\x1b" not in "".join(lines)
    assert len(lines) <= 24
    assert len(repr(watched.state.circuits)) < 3000


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("circuit", {}),
        ("circuit", CIRCUIT | {"id": "../7"}),
        ("circuit", CIRCUIT | {"path": [5]}),
        ("stream", 5),
        ("status", {"status": "ok"}),
        ("bandwidth", {"read": "x", "written": 1}),
        ("bandwidth", {"read": 10**400, "written": 1}),
    ],
)
def test_what_is_no_event(top: Top, kind: str, data: Any) -> None:
    with pytest.raises((LookupError, TypeError, ValueError, ArithmeticError, AttributeError)):
        take(top.watched[0], kind, data)

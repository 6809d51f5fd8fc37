"""``tortxd top``: the picture, and what its keys do. The terminal itself is a daemon test's."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from tests.cli.conftest import Run
from tests.cli.fake import (
    CIRCUIT,
    FAILURE,
    HEALTH,
    RELAYS,
    REQUESTS,
    STREAM,
    FakeGateway,
    said,
)
from tortxd.cli.asking import Asker
from tortxd.cli.events import Event
from tortxd.cli.gateways import Gateway
from tortxd.cli.merging import Came
from tortxd.cli.roster import Member, Roster
from tortxd.cli.top import Top


@pytest.fixture
def top(gateway: FakeGateway) -> Top:
    roster = Roster([Member("", Asker(Gateway(gateway.url)))], is_fleet=False)
    top = Top(roster, start=lambda work: work())
    circuits = [CIRCUIT | {"id": str(number), "isolation": None} for number in range(1, 6)]
    take(top, "snapshot", {"status": HEALTH, "circuits": circuits, "streams": []})
    return top


def take(top: Top, kind: str, data: Any) -> None:
    (watched,) = top.watched
    watched.take(Came(watched.member, Event("", kind, data)))


def shown(top: Top, height: int = 24) -> list[str]:
    console = Console(width=120, height=height, force_terminal=False)
    with console.capture() as captured:
        console.print(top.picture(height))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_the_picture(top: Top) -> None:
    take(top, "stream", STREAM | {"circuit": "2"})
    take(top, "bandwidth", {"read": 12_000, "written": 300})
    top.watched[0].requests = REQUESTS
    lines = shown(top)
    assert lines[0].split("   ") == [
        "Tor is ready",
        "5 circuits",
        "1 streams",
        "3 requests under way",
        "read 12 kB/s",
        "wrote 300 B/s",
    ]
    rows = [line.split() for line in lines if line.startswith((" 1", " 2", " 3", " 4", " 5"))]
    assert [row[0] for row in rows] == ["2", "5", "4", "3", "1"]
    assert rows[0][-1] == "a.example:443"
    assert any("resolve_failed, at fault: the destination." in line for line in lines)
    assert lines[-1].startswith("up/down choose")


def test_a_lost_connection_is_said(top: Top) -> None:
    top.watched[0].is_live = False
    assert shown(top)[0] == "The connection to tortxd is lost; trying again."


def test_what_is_wrong_is_said(top: Top) -> None:
    take(top, "status", HEALTH | {"status": "degraded", "reasons": ["The disk is full."]})
    assert "The disk is full." in shown(top)[1]


def test_the_picture_fits_the_terminal(top: Top) -> None:
    circuits = [CIRCUIT | {"id": str(number)} for number in range(1, 300)]
    take(top, "snapshot", {"status": HEALTH, "circuits": circuits, "streams": []})
    top.watched[0].requests = REQUESTS | {"failures": [FAILURE] * 50}
    for height in (12, 24, 60):
        assert len(shown(top, height)) <= height
    for _ in range(200):
        top.press("j")
    assert top.chosen is not None
    assert any(line.split()[:1] == [top.chosen[1]] for line in shown(top))


def test_a_name_is_no_markup(top: Top) -> None:
    relay = RELAYS[0] | {"nickname": "[red]x\x1b[2J"}
    take(top, "circuit", CIRCUIT | {"path": [relay]})
    (line,) = [line for line in shown(top) if "[red]x" in line]
    assert line.isprintable()


def test_keys_choose_close_and_rotate(top: Top, gateway: FakeGateway) -> None:
    top.press("c")
    assert top.message == "Choose a circuit first, with up and down."
    for key in ("j", "\x1b[B", "j", "k"):
        top.press(key)
    assert top.chosen == ("", "4")
    gateway.answers["/circuits/4/close"] = said({"closed": "4"})
    gateway.answers["/identity/new"] = said(
        {"renewed": "key", "keys": 1, "connections": 0, "nextNewnym": 0.0}
    )
    top.press("r")
    assert gateway.asked[-1].body == b'{"circuit": "4"}'
    assert "new circuits" in top.message
    top.press("n")
    assert gateway.asked[-1].body == b""
    top.press("c")
    assert (gateway.asked[-1].path, top.message) == ("/circuits/4/close", "Circuit 4 is closed.")
    del gateway.answers["/circuits/4/close"]
    top.press("c")
    assert top.message == "There is no such route. (not_found)"
    take(top, "circuit", CIRCUIT | {"id": "4", "state": "CLOSED"})
    top.press("c")
    assert top.message == "Choose a circuit first, with up and down."
    for _ in range(10):
        top.press("k")
    assert top.chosen == ("", "5")


@pytest.mark.usefixtures("found")
def test_it_needs_a_terminal(tortxd: Run) -> None:
    status, _, err = tortxd("top")
    assert (status, err) == (
        2,
        "tortxd: top needs a terminal; `tortxd events --json` is for programs.\n",
    )


def test_nothing_in_the_picture_moves_the_cursor(top: Top) -> None:
    escape = "\x1b]0;title\x07"
    take(top, "circuit", CIRCUIT | {"state": escape, "isolation": escape})
    top.watched[0].requests = REQUESTS | {"failures": [FAILURE | {"code": escape, "error": escape}]}
    top.message = escape
    assert "\x1b" not in "".join(shown(top))

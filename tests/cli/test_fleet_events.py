"""``tortxd events`` of a fleet: all that comes, each line with its member."""

from __future__ import annotations

import json
from itertools import islice

import pytest

from tests.cli.conftest import Fleet, Run, members
from tests.cli.fake import CIRCUIT, HEALTH, Canned, error, streamed
from tortxd.cli.events import MOST, Event, State
from tortxd.cli.merging import MOST_WAITING, Merged

REFUSED = error("unauthorized", "A token is needed.", 401)


@pytest.fixture
def events(fleet: Fleet, tortxd: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``tortxd events`` for all of the fleet."""
    monkeypatch.setattr("tortxd.cli.events.AGAIN", 0.0)

    def command(*arguments: str) -> tuple[int, str, str]:
        return tortxd("events", *arguments, "--fleet", str(fleet.file))

    return command


def test_each_line_has_its_member(fleet: Fleet, events: Run) -> None:
    for name, fake in zip("abc", fleet[:3], strict=True):
        fake.answers["/events"] = [streamed(("circuit", CIRCUIT | {"id": name})), REFUSED]
    status, out, _ = events()
    assert status == 1
    assert sorted(line.split()[1:5] for line in out.splitlines()) == [
        [name, "circuit", name, "BUILT"] for name in "abc"
    ]
    for name, fake in zip("abc", fleet[:3], strict=True):
        fake.answers["/events"] = [streamed(("status", HEALTH | {"version": name})), REFUSED]
    _, out, _ = events("--json")
    lines = sorted(map(json.loads, out.splitlines()), key=lambda one: str(one["member"]))
    assert lines == [
        {"member": name, "event": "status", "data": HEALTH | {"version": name}} for name in "abc"
    ]


def test_the_others_go_on_where_one_is_lost(fleet: Fleet, events: Run) -> None:
    html = Canned(b"no", 502, (("Content-Type", "text/html"),))
    fleet.a.answers["/events"] = [streamed(("status", HEALTH)), html, html, REFUSED]
    fleet.b.answers["/events"] = [html, html, streamed(("status", HEALTH)), REFUSED]
    fleet.c.answers["/events"] = [streamed(("status", HEALTH)) for _ in range(3)] + [REFUSED]
    status, out, err = events()
    assert status == 1
    told = [line.split()[1] for line in out.splitlines()]
    assert {name: told.count(name) for name in "abc"} == {"a": 1, "b": 1, "c": 3}
    notes = err.splitlines()
    assert notes.count("a: The connection is lost. It is tried again.") == 1
    stranger = f"b: What answers at {fleet.b.url} is not tortxd. It is tried again."
    assert notes.index(stranger) < notes.index("b: The connection is back.")
    for name in "abc":
        assert sum(f"{name}: http" in note and "wants a token" in note for note in notes) == 0
        assert sum(f"{name}: " in note and "does not take the token" in note for note in notes) == 1


def test_where_none_is_reached_there_is_nothing_to_follow(fleet: Fleet, events: Run) -> None:
    for fake in fleet[:3]:
        fleet.stop(fake)
    status, out, err = events()
    assert (status, out) == (3, "")
    assert {line.removeprefix("tortxd: ")[0] for line in err.splitlines()} == set("abc")


def test_what_is_no_event_is_a_loss(fleet: Fleet, events: Run) -> None:
    fleet.a.answers["/events"] = streamed(("circuit", {"id": "1"}))
    fleet.b.answers["/events"] = fleet.c.answers["/events"] = REFUSED
    status, out, err = events()
    assert (status, out) == (3, "")
    assert f"a: What answers at {fleet.a.url} is not tortxd." in err


def test_no_event_moves_the_cursor(fleet: Fleet, events: Run) -> None:
    evil = "x\n12:00:00  a  circuit\x1b[2J" + "y" * 100_000
    fleet.b.answers["/events"] = [streamed(("circuit", CIRCUIT | {"state": evil})), REFUSED]
    fleet.a.answers["/events"] = fleet.c.answers["/events"] = REFUSED
    _, out, _ = events()
    (line,) = out.splitlines()
    assert line.split()[1] == "b"
    assert line.isprintable()
    assert len(line) < 2000


# --- what waits, and what is kept -----------------------------------------------------------------


def test_a_member_that_sends_faster_than_is_shown_waits(fleet: Fleet) -> None:
    flood = [("status", HEALTH)] * (4 * MOST_WAITING)
    fleet.a.answers["/events"] = [streamed(*flood), REFUSED]
    shaped: list[Event] = []
    merged = Merged(members(fleet)[:1], lambda _, event: shaped.append(event))
    merged.start()
    for number, _ in enumerate(islice(merged, 2 * MOST_WAITING), 1):
        # Those that were shown, those that wait, and one for which there is no room yet.
        assert len(shaped) <= number + MOST_WAITING + 1


def test_what_is_kept_has_an_end() -> None:
    state = State()
    for number in range(MOST + 10):
        state.take(Event("", "circuit", {"id": str(number), "state": "BUILT"}))
    assert len(state.circuits) == MOST
    state.take(Event("", "circuit", {"id": "0", "state": "CLOSED"}))
    assert len(state.circuits) == MOST - 1

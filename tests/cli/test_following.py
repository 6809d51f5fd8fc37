"""``tortxd events``: events are read as they come, and go on where the connection was lost."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.fake import CIRCUIT, HEALTH, SNAPSHOT, STREAM, FakeGateway, error, streamed, wire
from tortxd.cli.asking import Asker
from tortxd.cli.events import Event, State, follow, read
from tortxd.cli.failures import CommandFailed, NotReached
from tortxd.cli.following import lines_of
from tortxd.cli.gateways import Gateway


def lines(data: bytes) -> Iterator[bytes]:
    return iter(data.splitlines(keepends=True))


def test_events_in_lines() -> None:
    data = wire(("circuit", {"id": "1"})) + b": \n\n" + wire(("stream", {"id": "2"}))
    assert list(read(lines(data))) == [
        Event("x-1", "circuit", {"id": "1"}),
        Event("x-1", "stream", {"id": "2"}),
    ]
    assert list(read(lines(data[:-1]))) == [Event("x-1", "circuit", {"id": "1"})]


def test_an_endless_line_is_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tortxd.cli.events.LONGEST", 1000)
    with pytest.raises(ValueError, match="endless"):
        list(read(iter([b"data: " + b"x" * 1000])))


def test_fields_without_end_are_not_kept() -> None:
    others = (f"x{number}: {'x' * 100_000}\n".encode() for number in range(200))
    tracemalloc.start()
    assert list(read(chain(others, [b"data: 1\n", b"\n"]))) == [Event("", "message", 1)]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000


def test_data_that_is_too_deep_is_no_event() -> None:
    with pytest.raises(ValueError, match="deep"):
        list(read(iter([b"data: " + b"[" * 100_000 + b"\n", b"\n"])))


@pytest.fixture
def asker(gateway: FakeGateway) -> Asker:
    return Asker(Gateway(gateway.url))


def test_a_lost_connection_is_made_again(gateway: FakeGateway, asker: Asker) -> None:
    gateway.answers["/events"] = [
        streamed(("snapshot", SNAPSHOT), ("status", HEALTH)),
        streamed(("circuit", CIRCUIT)),
    ]
    told: list[str] = []
    pauses: list[float] = []
    events = follow(asker, "circuit", lost=lambda: told.append("lost"), sleep=pauses.append)
    assert [event.kind for event in islice(events, 3)] == ["snapshot", "status", "circuit"]
    assert told == ["lost"]
    assert len(pauses) == 1
    first, second = gateway.asked
    assert first.path == second.path == "/events?types=circuit"
    assert "Last-Event-ID" not in first.headers
    assert second.headers["Last-Event-ID"] == "x-2"


def test_what_is_refused_is_not_tried_again(gateway: FakeGateway, asker: Asker) -> None:
    gateway.answers["/events"] = [
        streamed(("status", HEALTH)),
        error("unauthorized", "A token is needed.", 401),
    ]
    events = follow(asker, sleep=lambda _: None)
    next(events)
    with pytest.raises(CommandFailed, match="token"):
        next(events)


def test_nobody_there_at_first_is_a_failure() -> None:
    with pytest.raises(NotReached):
        next(follow(Asker(Gateway("unix:/nonexistent"))))


def test_what_events_make_up() -> None:
    state = State()
    for kind, data in (
        ("snapshot", SNAPSHOT),
        ("circuit", CIRCUIT | {"id": "13"}),
        ("circuit", CIRCUIT | {"state": "CLOSED", "reason": "FINISHED"}),
        ("stream", STREAM | {"circuit": "13"}),
        ("status", HEALTH | {"status": "degraded"}),
        ("bandwidth", {"read": 1, "written": 2}),
    ):
        state.take(Event("", kind, data))
    assert list(state.circuits) == ["13"]
    assert [one["id"] for one in state.streams_on("13")] == ["34"]
    assert state.status["status"] == "degraded"
    assert state.bandwidth == [{"read": 1, "written": 2}]
    for _ in range(400):
        state.take(Event("", "bandwidth", {"read": 1, "written": 2}))
    assert len(state.bandwidth) == 300
    state.take(Event("", "stream", STREAM | {"state": "FAILED"}))
    assert not state.streams


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("snapshot", SNAPSHOT, ["Tor is ready.", "1 circuits, 1 streams open"]),
        ("status", HEALTH | {"status": "starting"}, ["Tor is starting."]),
        ("bandwidth", {"read": 1500, "written": 20}, ["read 1.5 kB/s, wrote 20 B/s"]),
        (
            "circuit",
            CIRCUIT | {"state": "CLOSED", "reason": "DESTROYED", "remoteReason": "FINISHED"},
            [
                "circuit    12  CLOSED     first (fr) - BBBBBBBB - last (de) (DESTROYED, FINISHED)",
            ],
        ),
        (
            "stream",
            STREAM,
            ["stream     34  SUCCEEDED  a.example:443 on circuit 12, by /proxy"],
        ),
        ("something else", {}, []),
    ],
)
def test_events_in_words(kind: str, data: Any, said: list[str]) -> None:
    assert lines_of(Event("", kind, data)) == said


@pytest.mark.usefixtures("found")
def test_the_command_follows_until_it_is_refused(
    gateway: FakeGateway, tortxd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tortxd.cli.events.AGAIN", 0.0)
    refused = error("unauthorized", "A token is needed.", 401)
    gateway.answers["/events"] = [streamed(("snapshot", SNAPSHOT)), refused]
    status, out, err = tortxd("events")
    assert status == 1
    assert [line[10:] for line in out.splitlines()] == [
        "Tor is ready.",
        "1 circuits, 1 streams open",
    ]
    assert err.splitlines()[0] == "The connection is lost; trying again."
    assert gateway.asked[0].path == "/events?types=status,circuit,stream"
    gateway.answers["/events"] = [streamed(("status", HEALTH)), refused]
    _, out, _ = tortxd("events", "--json")
    assert json.loads(out) == {"event": "status", "data": HEALTH}
    assert gateway.asked[2].path == "/events"


def test_no_event_moves_the_cursor(found: FakeGateway, tortxd: Run) -> None:
    escape = "\x1b]0;title\x07"
    circuit = CIRCUIT | {"id": escape, "state": escape, "purpose": escape}
    stream = STREAM | {"id": escape, "state": escape, "circuit": escape}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tortxd.cli.events.AGAIN", 0.0)
        found.answers["/events"] = [
            streamed(("circuit", circuit), ("stream", stream)),
            error("unauthorized", "A token is needed.", 401),
        ]
        status, out, err = tortxd("events")
    assert status == 1
    assert len(out.splitlines()) == 2
    assert "\x1b" not in out + err

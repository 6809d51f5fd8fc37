"""What commands say of a fleet, and how they fail where a member does."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.conftest import Fleet, Run, members
from tests.cli.fake import (
    CIRCUIT,
    HEALTH,
    RELAYS,
    RENEWED,
    STREAM,
    VERIFICATION,
    Canned,
    error,
    said,
)
from tortxd.cli.asking import Asker
from tortxd.cli.fleet import ask

DOWN = HEALTH | {"status": "down", "reason": "Tor died."}


@pytest.fixture
def asked(fleet: Fleet, tortxd: Run) -> Run:
    """Runs the command for all of the fleet."""

    def command(*arguments: str) -> tuple[int, str, str]:
        return tortxd(*arguments, "--fleet", str(fleet.file))

    return command


def as_json(asked: Run, *arguments: str) -> Any:
    _, out, _ = asked(*arguments, "--json")
    assert out.count("\n") == 1
    return json.loads(out)


# --- the door -------------------------------------------------------------------------------------


def test_members_are_asked_at_the_same_time(fleet: Fleet, asked: Run) -> None:
    together = threading.Barrier(3, timeout=10)

    def answer() -> Canned:
        together.wait()
        return said({"circuits": []})

    for fake in fleet[:3]:
        fake.answers["/circuits"] = answer
    assert asked("circuits")[0] == 0


def test_one_that_hangs_holds_up_no_other(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    # The others are waited for; then the time is over.
    clock = iter((0.0, 0.0, 0.0, 100.0))
    monkeypatch.setattr("tortxd.cli.fleet.time", SimpleNamespace(monotonic=clock.__next__))

    def hang() -> Canned:
        over.wait(10)
        return said(HEALTH)

    fleet.c.answers["/health"] = hang
    replies = ask(members(fleet), lambda asker: asker.get("/health")["status"], patience=30.0)
    over.set()
    assert [one.value for one in replies] == ["ok", "ok", None]
    assert str(replies[2].error) == f"{fleet.c.url} does not answer in time."


def test_a_fault_of_ours_is_no_member_s(fleet: Fleet) -> None:
    def broken(_: Asker) -> None:
        raise ZeroDivisionError

    def strange(_: Asker) -> None:
        raise AssertionError

    for reply in ask(members(fleet), broken):
        assert "is not tortxd" in str(reply.error)
    with pytest.raises(AssertionError):
        ask(members(fleet), strange)


# --- status ---------------------------------------------------------------------------------------


def test_status(fleet: Fleet, asked: Run) -> None:
    fleet.b.answers["/requests"] = error("unauthorized", "A token is needed.", 401)
    status, out, err = asked("status")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "3 of 3 members serve requests",
        "MEMBER  TOR    SINCE  CIRCUITS  REQUESTS  UNDER WAY  FAILED  VERSION",
        "a       ready  3 min  1         43        3          2       0.1.0",
        "b       ready  3 min  -         -         -          -       0.1.0",
        "c       ready  3 min  1         43        3          2       0.1.0",
    ]


def test_status_of_members_that_do_not_serve(fleet: Fleet, asked: Run) -> None:
    fleet.a.answers["/health"] = said(HEALTH | {"status": "degraded", "reasons": ["Disk full."]})
    fleet.b.answers["/health"] = said(DOWN, 503)
    status, out, err = asked("status")
    assert status == 4
    first, _, *rows = out.splitlines()
    assert first == "2 of 3 members serve requests"
    assert [row.split("  ")[0] for row in rows] == ["a", "b", "c", "a: Disk full.", "b: Tor died."]
    assert err == "tortxd: b: Tor is not ready.\n"
    fleet.stop(fleet.c)
    status, out, err = asked("status")
    assert status == 3
    assert out.startswith("1 of 3 members serves requests\n")
    assert "c       not reached" in out
    assert err.splitlines()[1] == f"tortxd: c: Nothing answers at {fleet.c.url}."


def test_status_as_json(fleet: Fleet, asked: Run) -> None:
    fleet.b.answers["/health"] = said(DOWN, 503)
    fleet.stop(fleet.c)
    assert as_json(asked, "status") == {
        "members": [
            {"member": "a", "gateway": fleet.a.url, **HEALTH},
            {"member": "b", "gateway": fleet.b.url, **DOWN},
            {
                "member": "c",
                "gateway": fleet.c.url,
                "error": f"Nothing answers at {fleet.c.url}.",
                "code": "not_reached",
            },
        ]
    }


# --- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["circuits", "streams"])
def test_each_row_names_its_member(fleet: Fleet, asked: Run, command: str) -> None:
    status, out, _ = asked(command)
    assert status == 0
    header, *rows = [line.split()[:2] for line in out.splitlines()]
    id = "12" if command == "circuits" else "34"
    assert (header, rows) == (["MEMBER", "ID"], [["a", id], ["b", id], ["c", id]])


@pytest.mark.parametrize(("command", "one"), [("circuits", CIRCUIT), ("streams", STREAM)])
def test_lists_as_json(fleet: Fleet, asked: Run, command: str, one: dict[str, Any]) -> None:
    fleet.a.answers[f"/{command}"] = said({command: [one | {"member": "b", "id": "1"}]})
    fleet.b.answers[f"/{command}"] = error("unauthorized", "A token is needed.", 401)
    value = as_json(asked, command)
    assert value[command] == [
        {"member": "a", **one, "id": "1"},  # whatever it says itself
        {"member": "c", **one},
    ]
    assert [each.get("code") for each in value["members"]] == [None, "unauthorized", None]


def test_a_member_that_fails_hides_no_other(fleet: Fleet, asked: Run) -> None:
    fleet.b.answers["/circuits"] = error("internal", "Something broke.", 500)
    status, out, err = asked("circuits")
    assert (status, [line.split()[0] for line in out.splitlines()]) == (1, ["MEMBER", "a", "c"])
    assert err == "tortxd: b: Something broke. (internal)\n"
    fleet.c.answers["/circuits"] = error("tor_down", "Tor is down.", 503)
    assert asked("circuits")[0] == 4
    fleet.stop(fleet.a)
    assert asked("circuits")[0] == 3


@pytest.mark.parametrize(
    "circuits",
    [5, [5], [{}], [CIRCUIT | {"age": "old"}], [CIRCUIT | {"path": [1]}]],
)
def test_a_stranger_is_told_from_a_member(fleet: Fleet, asked: Run, circuits: object) -> None:
    fleet.b.answers["/circuits"] = said({"circuits": circuits})
    status, out, err = asked("circuits")
    assert (status, len(out.splitlines())) == (3, 3)
    assert err == f"tortxd: b: What answers at {fleet.b.url} is not tortxd.\n"


def test_a_hostile_member_has_its_own_lines_only(fleet: Fleet, asked: Run) -> None:
    evil = "x\na       12  BUILT\x1b[2J\r" + "y" * 100_000
    relay = RELAYS[0] | {"nickname": evil}
    fleet.b.answers["/circuits"] = said({"circuits": [CIRCUIT | {"path": [relay]}]})
    fleet.b.answers["/health"] = said(HEALTH | {"status": "degraded", "reasons": [evil] * 100})
    fleet.c.answers["/circuits"] = error("internal", evil, 500)
    _, out, err = asked("circuits")
    assert [line.split()[0] for line in out.splitlines()] == ["MEMBER", "a", "b"]
    assert err.startswith("tortxd: c: x")
    _, status, _ = asked("status")
    for text in (out, err, status):
        assert all(line.isprintable() for line in text.splitlines())
        assert len(text) < 30_000


# --- config and verify ----------------------------------------------------------------------------


def option(name: str, value: object, source: str = "default") -> dict[str, object]:
    return {"name": name, "option": f"--{name}", "value": value, "source": source, "set": None}


def test_config_tells_members_apart(fleet: Fleet, asked: Run) -> None:
    for fake, timeout in zip(fleet[:3], (30.0, 60.0, 60.0), strict=True):
        options = [option("timeout", timeout), option("open", False)]
        fake.answers["/config"] = said({"options": options, "endpoints": ["http://[::1]:3080"]})
    status, out, _ = asked("config")
    assert status == 0
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["--timeout", "default", "30", "a"],
        ["--timeout", "default", "60", "b,", "c"],
        ["--open", "default", "off", "all", "3"],
        *([name, "listens", "on", "http://[::1]:3080."] for name in "abc"),
    ]
    assert [one["member"] for one in as_json(asked, "config")["members"]] == ["a", "b", "c"]


def test_verify(fleet: Fleet, asked: Run) -> None:
    for fake in fleet[:3]:
        fake.answers["/verify-tor"] = said(VERIFICATION)
    status, out, err = asked("verify")
    assert (status, err) == (0, "")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        [name, "verified", "192.0.2.7"] for name in "abc"
    ]
    fleet.b.answers["/verify-tor"] = said(
        VERIFICATION | {"isTor": False, "verdict": "contradicted"}
    )
    status, out, err = asked("verify")
    assert (status, err) == (1, "tortxd: b: Requests do not go through Tor, by what is known.\n")
    assert [one["isTor"] for one in as_json(asked, "verify")["members"]] == [True, False, True]


# --- newid and close ------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--isolation", "alice"), ("--proxy-user", "bob:pw")])
def test_newid_is_everywhere(fleet: Fleet, asked: Run, words: tuple[str, ...]) -> None:
    for fake in fleet[:3]:
        fake.answers["/identity/new"] = said(RENEWED)
    fleet.stop(fleet.c)
    status, out, err = asked("newid", *words)
    done = "New circuits for the key, from the next request on."
    assert (status, out.splitlines()) == (3, [f"a  {done}", f"b  {done}"])
    assert err == f"tortxd: c: Nothing answers at {fleet.c.url}.\n"
    assert fleet.a.asked[0].body == fleet.b.asked[0].body
    told = as_json(asked, "newid", *words)["members"]
    assert [one.get("renewed") for one in told] == ["key", "key", None]


def test_newid_of_a_circuit_is_at_its_member(fleet: Fleet, asked: Run) -> None:
    fleet.b.answers["/circuits"] = said({"circuits": [CIRCUIT | {"id": "77"}]})
    fleet.b.answers["/identity/new"] = said(RENEWED)
    for id in ("77", "b/77"):
        status, out, _ = asked("newid", "--circuit", id)
        assert (status, out[:18]) == (0, "b: New circuits fo")
        assert json.loads(fleet.b.asked[-1].body) == {"circuit": "77"}
    assert {one.method for fake in (fleet.a, fleet.c) for one in fake.asked} == {"GET"}
    assert as_json(asked, "newid", "--circuit", "77") == {"member": "b", **RENEWED}


def test_close_is_at_the_member_that_has_it(fleet: Fleet, asked: Run) -> None:
    fleet.c.answers["/streams"] = said({"streams": [STREAM | {"id": "5"}]})
    fleet.c.answers["/streams/5/close"] = said({"closed": "5"})
    fleet.a.answers["/circuits/12/close"] = said({"closed": "12"})
    assert asked("close", "5") == (0, "The stream c/5 is closed.\n", "")
    assert asked("close", "a/12") == (0, "The circuit a/12 is closed.\n", "")
    assert as_json(asked, "close", "c/5", "--stream") == {"member": "c", "closed": "5"}
    assert asked("close", "b/12", "--circuit")[2] == (
        "tortxd: b: There is no such route. (not_found)\n"
    )


def test_close_wants_to_know_which(fleet: Fleet, asked: Run) -> None:
    assert asked("close", "12") == (
        2,
        "",
        "tortxd: Several members have a circuit 12: say a/12 or b/12 or c/12.\n",
    )
    fleet.a.answers["/streams"] = said({"streams": [STREAM | {"id": "12"}]})
    assert "--circuit or --stream" in asked("close", "a/12")[2]
    assert asked("close", "d/12")[2] == (
        "tortxd: The fleet has no member 'd'. There are a, b, c.\n"
    )
    assert asked("close", "a/b/12")[0] == 2
    assert asked("close", "99") == (1, "", "tortxd: There is no circuit and no stream 99 now.\n")
    # It may be at the one that is not reached.
    fleet.stop(fleet.b)
    assert asked("close", "99") == (3, "", f"tortxd: b: Nothing answers at {fleet.b.url}.\n")

"""What the command shows, in a pipe and as JSON, and with which status it exits."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.fake import CIRCUIT, HEALTH, RELAYS, STREAM, VERIFICATION, FakeGateway, error, said


def test_status(found: FakeGateway, tortxd: Run) -> None:
    status, out, err = tortxd("status")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "Tor is ready",
        "since     3 min ago",
        f"gateway   {found.url}",
        "SOCKS     socks5h://127.0.0.1:9050",
        "network   public",
        "version   0.1.0",
        "circuits  1",
        "requests  43, and 3 under way",
        "failed    2 resolve_failed",
        "last one  3 s ago, at fault: the destination. The destination's name could not be "
        "resolved.",
    ]


@pytest.mark.parametrize(
    ("health", "first"),
    [
        (
            {
                "status": "bootstrapping",
                "bootstrap": {"progress": 45, "tag": "x", "summary": "Asking for descriptors"},
                "warning": "A guard refused the connection.",
            },
            ["Tor is 45 % ready: Asking for descriptors", "A guard refused the connection."],
        ),
        ({"status": "starting"}, ["Tor is starting"]),
        (
            {"status": "down", "reason": "Tor died.", "retryIn": 3.2},
            ["Tor is down", "Tor died.", "It is tried again in 3 s."],
        ),
    ],
)
def test_a_tor_that_is_not_ready(
    found: FakeGateway, tortxd: Run, health: dict[str, object], first: list[str]
) -> None:
    found.answers["/health"] = said(HEALTH | health, 503)
    status, out, err = tortxd("status")
    assert status == 4
    assert out.splitlines()[: len(first)] == first
    assert err == "tortxd: Tor is not ready.\n"
    assert tortxd("status", "--json")[0] == 4


def test_degraded_is_served(found: FakeGateway, tortxd: Run) -> None:
    found.answers["/health"] = said(
        HEALTH | {"status": "degraded", "reasons": ["The disk is full."]}
    )
    status, out, _ = tortxd("status")
    assert status == 0
    assert out.splitlines()[:2] == ["Tor is ready, but something is wrong", "The disk is full."]


def test_circuits_in_a_pipe(found: FakeGateway, tortxd: Run) -> None:
    other = CIRCUIT | {"id": "5", "state": "LAUNCHED", "path": [], "streams": [], "isolation": None}
    found.answers["/circuits"] = said({"circuits": [CIRCUIT, other | {"buildTime": None}]})
    status, out, _ = tortxd("circuits")
    assert status == 0
    header, *rows = out.splitlines()
    assert header.split() == [
        "ID",
        "STATE",
        "AGE",
        "BUILT",
        "IN",
        "PATH",
        "STREAMS",
        "KEY",
        "PURPOSE",
    ]
    at = header.index("PATH")
    assert [row[at:].split("  ")[0] for row in rows] == [
        "first (fr) - BBBBBBBB - last (de)",
        "no relay yet",
    ]
    assert "\x1b" not in out


def test_streams_in_a_pipe(found: FakeGateway, tortxd: Run) -> None:
    own = STREAM | {"id": "35", "way": None, "circuit": None, "isolation": None}
    found.answers["/streams"] = said({"streams": [STREAM, own]})
    _, out, _ = tortxd("streams")
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["34", "SUCCEEDED", "12", "/proxy", "a.example:443", "0badcafe", "1", "s"],
        ["35", "SUCCEEDED", "-", "Tor", "a.example:443", "-", "1", "s"],
    ]


def test_what_comes_from_elsewhere_moves_no_cursor(found: FakeGateway, tortxd: Run) -> None:
    relay = RELAYS[0] | {"nickname": "\x1b[2Jevil\r\n"}
    found.answers["/circuits"] = said({"circuits": [CIRCUIT | {"path": [relay]}]})
    found.answers["/streams"] = said({"streams": [STREAM | {"target": "\x9b1m\u202e:1"}]})
    for command in ("circuits", "streams"):
        _, out, _ = tortxd(command)
        assert all(line.isprintable() for line in out.splitlines())


@pytest.mark.parametrize("command", ["circuits", "streams"])
@pytest.mark.parametrize("place", ["before", "after"])
def test_json_is_what_the_route_says(
    found: FakeGateway, tortxd: Run, command: str, place: str
) -> None:
    words = ["--json", command] if place == "before" else [command, "--json"]
    status, out, _ = tortxd(*words)
    assert status == 0
    assert json.loads(out) == json.loads(found.answer_to(f"/{command}").body)
    assert out.count("\n") == 1


def test_config(found: FakeGateway, tortxd: Run) -> None:
    found.answers["/config"] = said(
        {
            "options": [
                {
                    "name": "timeout",
                    "option": "--timeout",
                    "value": 30.0,
                    "source": "environment",
                    "set": "TORTXD_TIMEOUT",
                },
                {
                    "name": "open",
                    "option": "--open",
                    "value": False,
                    "source": "default",
                    "set": None,
                },
            ],
            "endpoints": ["http://127.0.0.1:3080"],
        }
    )
    _, out, _ = tortxd("config")
    assert [line.split() for line in out.splitlines()] == [
        ["OPTION", "SET", "BY", "VALUE"],
        ["--timeout", "TORTXD_TIMEOUT", "30"],
        ["--open", "default", "off"],
        ["It", "listens", "on", "http://127.0.0.1:3080."],
    ]


@pytest.mark.parametrize(
    ("verdict", "is_tor", "exits", "sentence"),
    [
        ("verified", True, 0, "Requests go through Tor: the control port and the check agree."),
        ("unverified", True, 0, "The check service did not answer."),
        ("contradicted", False, 1, "The check service says that this was not Tor."),
    ],
)
def test_verify(
    found: FakeGateway, tortxd: Run, verdict: str, is_tor: bool, exits: int, sentence: str
) -> None:
    found.answers["/verify-tor"] = said(VERIFICATION | {"verdict": verdict, "isTor": is_tor})
    status, out, _ = tortxd("verify")
    assert status == exits
    assert out.splitlines()[0] == sentence
    assert "12: first (fr) - BBBBBBBB - last (de)" in out


def test_verify_while_tor_is_not_ready(found: FakeGateway, tortxd: Run) -> None:
    found.answers["/verify-tor"] = error("tor_not_ready", "Tor is not ready yet.", 503)
    assert tortxd("verify") == (4, "", "tortxd: Tor is not ready yet.\n")

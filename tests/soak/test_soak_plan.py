"""The plan of a soak follows from its seed; a failure is judged by what went wrong just then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.canaries import Canaries
from tests.soak.destinations import body
from tests.soak.ledger import EXCUSES, GRACE, Ledger, Outcome, Window
from tests.soak.plan import _ACTS, FAULTS, LAST, Fault, Plan, Step
from tests.soak.wires import frame, messages

STEP = Step(1, 0.0, 1, "download")


def test_one_seed_is_one_plan() -> None:
    assert list(Plan.of(3, 60).lines()) == list(Plan.of(3, 60).lines())
    assert list(Plan.of(3, 60).lines()) != list(Plan.of(4, 60).lines())


def test_fewer_actors_and_no_faults_leave_the_rest_as_it_is() -> None:
    all_of_them = {(one.at, one.actor, one.act) for one in Plan.of(3, 60).steps}
    few = Plan.of(3, 60, actors=2, faults=False)
    assert few.steps and not few.faults
    assert {(one.at, one.actor, one.act) for one in few.steps} < all_of_them


def test_ten_minutes_hold_every_act_and_every_fault() -> None:
    plan = Plan.of(1, 600)
    assert {one.act for one in plan.steps} == set(_ACTS)
    assert {one.kind for one in plan.faults} == set(FAULTS) == set(EXCUSES)


@pytest.mark.parametrize("seed", range(20))
def test_two_faults_at_once_at_most_and_calm_at_the_end(seed: int) -> None:
    faults = Plan.of(seed, 600).faults
    for one in faults:
        assert one.at + one.seconds <= 600 - LAST
        under_way = [two for two in faults if two.at <= one.at < two.at + two.seconds]
        assert len(under_way) <= 2


def ledger(began: float = 10.0, ended: float | None = 12.0, kind: str = "exit-stopped") -> Ledger:
    return Ledger(windows=[Window(Fault(began, kind, 2.0), began, ended)])


@pytest.mark.parametrize(
    ("code", "began", "ended", "violations"),
    [
        ("connect_failed", 5.0, 9.0, 1),
        ("connect_failed", 5.0, 10.0, 0),
        ("connect_failed", 12.0 + GRACE, 30.0, 0),
        ("connect_failed", 12.1 + GRACE, 30.0, 1),
        ("tor_down", 10.0, 11.0, 1),
    ],
)
def test_a_failure_needs_a_fault_that_it_fits(
    code: str, began: float, ended: float, violations: int
) -> None:
    judged = ledger()
    judged.take(STEP, "proxy", Outcome("failed", code), began, ended)
    assert len(judged.violations) == violations
    assert judged.counts["proxy", code] == 1


def test_a_failure_that_was_asked_for_needs_none() -> None:
    judged = Ledger()
    judged.take(STEP, "broken", Outcome("failed", "truncated", wanted=True), 0, 1)
    assert judged.violations == []
    assert judged.wanted == 1


def test_a_fault_that_lasts_excuses_until_it_ends() -> None:
    judged = ledger(ended=None)
    judged.take(STEP, "proxy", Outcome("failed", "connect_failed"), 100, 101)
    assert judged.violations == []


def test_the_next_right_answer_is_of_a_request_from_behind_the_faults_beginning() -> None:
    judged = ledger()
    judged.take(STEP, "proxy", Outcome(), 9, 11)
    assert judged.windows[0].right_again is None
    judged.take(STEP, "proxy", Outcome(), 10.5, 13)
    assert judged.windows[0].right_again == 13


def test_two_keys_on_one_circuit_are_noticed() -> None:
    judged = Ledger()
    assert judged.on_circuit(1, "7", "a") is None
    assert judged.on_circuit(1, "7", "a") is None
    assert judged.on_circuit(2, "7", "b") is None  # of another Tor
    assert judged.on_circuit(1, "7", "b") == "a"


def test_canaries_are_found_wherever_they_are(tmp_path: Path) -> None:
    canaries = Canaries.of(1)
    canaries.operator.append("operator-secret")
    assert canaries.among(canaries.key.upper().encode().hex().encode()) == []
    assert canaries.among(canaries.key.encode().hex().encode()) == [canaries.key]
    shown = f'{{"target":"{canaries.host}:80"}}'.encode()
    assert canaries.among(shown) and not canaries.among(shown, streams=True)
    (tmp_path / "operator-token").write_text("operator-secret")
    assert list(canaries.in_files(tmp_path, but="operator-token")) == []
    (tmp_path / "operator-token").write_text(f"operator-secret {canaries.token}")
    (tmp_path / "state").write_text("operator-secret")
    assert list(canaries.in_files(tmp_path, but="operator-token")) == [
        f"operator-token holds {canaries.token}",
        "state holds operator-secret",
    ]


@pytest.mark.parametrize("size", [0, 125, 126, 60_000])
def test_what_a_websocket_server_sends_back(size: int) -> None:
    sent = bytes(size)
    masked = frame(2, sent)
    # A server's frames have no mask (RFC 6455, section 5.1).
    start = 2 if size < 126 else 4
    came = masked[:1] + bytes((masked[1] & 0x7F,)) + masked[2:start] + masked[start + 4 :]
    assert messages(b"\x89\x00" + came + came[:-1]) == [sent]
    assert messages(came[: len(came) - 1]) == []


def test_no_steps_body_begins_with_anothers() -> None:
    assert not body(12, 1000).startswith(body(1, 10))

"""What failed at destinations just now is not tried on and on."""

from __future__ import annotations

import math

import pytest
from twisted.internet.task import Clock

from tortxd.errors import (
    ConnectRefused,
    OriginReset,
    ResolveFailed,
    TlsFailed,
    TorDown,
    TorTimeout,
    TortxdError,
)
from tortxd.relay.failures import FORGOTTEN, FREE, LONGEST, Failures

WHERE = (b"alice", "a.example", 80)


def failing(clock: Clock, times: int = FREE, error: TortxdError | None = None) -> Failures:
    failures = Failures(clock)
    for _ in range(times):
        assert failures.recall(*WHERE) is None
        fails(failures, error)
    return failures


def fails(failures: Failures, error: TortxdError | None = None) -> None:
    """One more try, after those before it."""
    failures.failed(*WHERE, error or ResolveFailed(), failures._clock.seconds())


def test_the_first_failures_are_tried_each_time() -> None:
    assert failing(Clock(), FREE - 1).recall(*WHERE) is None


def test_then_the_answer_is_given_from_memory_with_the_reason_and_when_it_is_tried_again() -> None:
    error = failing(Clock()).recall(*WHERE)
    assert isinstance(error, ResolveFailed)
    assert error.retry_after == 1
    assert str(error) == (
        "The destination's name could not be resolved. It has failed this way 3 times in a row. "
        "Try again in 1 s."
    )


def test_tors_own_reason_stays() -> None:
    refused = ConnectRefused()
    refused.tor_reason = "CONNECTREFUSED"
    error = failing(Clock(), error=refused).recall(*WHERE)
    assert error is not None and error.tor_reason == "CONNECTREFUSED"


def test_tries_come_at_growing_intervals() -> None:
    clock = Clock()
    failures = failing(clock)
    pauses = []
    for _ in range(8):
        began = clock.seconds()
        while failures.recall(*WHERE) is not None:
            clock.advance(0.5)
            assert clock.seconds() < began + 100
        pauses.append(clock.seconds() - began)
        fails(failures)
    assert pauses == [1, 2, 4, 8, 16, LONGEST, LONGEST, LONGEST]


def test_tries_beside_each_other_count_as_one() -> None:
    """A page asks for many things of one server, which is started anew."""
    clock = Clock()
    failures = Failures(clock)
    began = clock.seconds()
    clock.advance(1.0)
    for _ in range(10):
        failures.failed(*WHERE, ConnectRefused(), began)
    assert failures.recall(*WHERE) is None
    for _ in range(FREE - 1):
        fails(failures, ConnectRefused())
    assert failures.recall(*WHERE) is not None


def test_nothing_of_an_error_is_kept_but_what_it_says() -> None:
    def failure() -> TortxdError:
        try:
            raise ConnectRefused
        except ConnectRefused as error:
            return error

    failures = Failures(Clock())
    for _ in range(FREE):
        fails(failures, failure())
    recalled = failures.recall(*WHERE)
    assert recalled is not None
    assert recalled.__traceback__ is None


def test_what_nobody_tries_any_more_is_forgotten() -> None:
    clock = Clock()
    failures = failing(clock)
    clock.advance(FORGOTTEN + 1)
    failures.failed(b"bob", "b.example", 80, ResolveFailed(), clock.seconds())
    assert len(failures._failing) == 1


def test_another_reason_begins_anew() -> None:
    failures = failing(Clock(), FREE - 1)
    fails(failures, ConnectRefused())
    assert failures.recall(*WHERE) is None


def test_success_ends_it() -> None:
    failures = failing(Clock())
    failures.reached(*WHERE)
    assert failures.recall(*WHERE) is None


def test_what_is_long_ago_is_forgotten() -> None:
    clock = Clock()
    failures = failing(clock)
    clock.advance(FORGOTTEN + 1)
    fails(failures)
    assert failures.recall(*WHERE) is None


@pytest.mark.parametrize(
    "other", [(b"bob", "a.example", 80), (b"alice", "b.example", 80), (b"alice", "a.example", 443)]
)
def test_it_is_one_callers_and_one_destinations(other: tuple[bytes, str, int]) -> None:
    assert failing(Clock()).recall(*other) is None


@pytest.mark.parametrize("error", [TorDown(), TorTimeout(), OriginReset(), TlsFailed()])
def test_what_costs_no_circuits_is_tried_each_time(error: TortxdError) -> None:
    assert failing(Clock(), 10, error).recall(*WHERE) is None


def test_a_caller_with_a_new_identity_begins_anew() -> None:
    failures = failing(Clock())
    failures.forget(b"bob")
    assert failures.recall(*WHERE) is not None
    failures.forget(b"alice")
    assert failures.recall(*WHERE) is None


def test_where_everything_is_free_nothing_is_recalled() -> None:
    failures = Failures(Clock(), free=math.inf)
    for _ in range(100):
        fails(failures)
    assert failures.recall(*WHERE) is None


def test_it_remembers_so_much_and_no_more() -> None:
    failures = Failures(Clock())
    for number in range(10_500):
        failures.failed(b"alice", f"{number}.example", 80, ResolveFailed(), 0.0)
    assert len(failures._failing) == 10_000

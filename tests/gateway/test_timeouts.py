"""Timers of few lengths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tortxd.relay.timeouts import Timeout, Timeouts


def test_a_timer_fires_once_when_its_time_is_over() -> None:
    clock, fired = Clock(), list[int]()
    Timeouts(clock).start(5, lambda: fired.append(1))
    clock.advance(4.9)
    assert fired == []
    clock.advance(0.1)
    assert fired == [1]
    clock.advance(100)
    assert fired == [1]


def test_a_cancelled_timer_does_not_fire() -> None:
    clock, fired = Clock(), list[int]()
    timeouts = Timeouts(clock)
    timeout = timeouts.start(5, lambda: fired.append(1))
    timeouts.start(5, lambda: fired.append(2))
    timeout.cancel()
    timeout.cancel()
    clock.advance(5)
    assert fired == [2]
    timeout.cancel()


def test_a_restarted_timer_waits_its_whole_length_again() -> None:
    clock, fired = Clock(), list[int]()
    timeout = Timeouts(clock).start(5, lambda: fired.append(1))
    clock.advance(4)
    timeout.restart()
    clock.advance(4)
    assert fired == []
    clock.advance(1)
    assert fired == [1]


def test_nothing_is_left_behind() -> None:
    clock = Clock()
    timeouts = Timeouts(clock)
    for seconds in (1.5, 2.5, 300):
        timeouts.start(seconds, lambda: None)
    clock.advance(300)
    assert not clock.getDelayedCalls()
    assert not timeouts._queues
    timeouts.start(3, lambda: None)
    timeouts.stop()
    assert not clock.getDelayedCalls()


def test_a_callback_may_start_and_cancel_others() -> None:
    clock, fired = Clock(), list[str]()
    timeouts = Timeouts(clock)
    later: list[Timeout] = []

    def first() -> None:
        fired.append("first")
        later[0].cancel()
        timeouts.start(5, lambda: fired.append("third"))

    timeouts.start(5, first)
    later.append(timeouts.start(5, lambda: fired.append("second")))
    clock.advance(5)
    assert fired == ["first"]
    clock.advance(5)
    assert fired == ["first", "third"]


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 5]), st.integers(0, 6), st.booleans()), max_size=30)
)
def test_every_timer_fires_at_its_own_time(plan: list[tuple[int, int, bool]]) -> None:
    clock, fired = Clock(), list[tuple[int, float]]()
    timeouts = Timeouts(clock)
    due: list[tuple[int, float]] = []
    for number, (seconds, pause, cancelled) in enumerate(plan):

        def fire(number: int = number) -> None:
            fired.append((number, clock.seconds()))

        timeout = timeouts.start(seconds, fire)
        if cancelled:
            timeout.cancel()
        else:
            due.append((number, clock.seconds() + seconds))
        for _ in range(pause):
            clock.advance(1)
    for _ in range(10):
        clock.advance(1)
    assert sorted(fired) == sorted(due)


def test_a_callback_that_fails_keeps_none_from_firing() -> None:
    clock = Clock()
    timeouts = Timeouts(clock)
    fired: list[int] = []

    def fail() -> None:
        raise RuntimeError("canary")

    timeouts.start(10, fail)
    timeouts.start(10, lambda: fired.append(1))
    clock.advance(10)
    timeouts.start(10, lambda: fired.append(2))
    clock.advance(10)
    assert fired == [1, 2]


def test_lengths_that_clients_choose_cost_few_timers() -> None:
    clock = Clock()
    timeouts = Timeouts(clock)
    for number in range(20_000):
        timeouts.start(0.001 + number * 0.003, lambda: None).cancel()
    assert len(clock.getDelayedCalls()) < 200


@given(st.floats(min_value=0, max_value=100))
def test_a_timer_is_never_early_and_hardly_late(seconds: float) -> None:
    clock, fired = Clock(), list[float]()
    Timeouts(clock).start(seconds, lambda: fired.append(clock.seconds()))
    clock.advance(max(0.0, seconds - 1e-5))
    assert not fired or seconds < 1e-5
    clock.advance((0.1 if seconds < 10 else 1.0) + 1e-5)
    assert fired

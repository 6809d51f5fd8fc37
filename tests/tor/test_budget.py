"""How many fresh circuits may be asked of Tor."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tortxd.errors import Overloaded
from tortxd.rates import Rate
from tortxd.tor.budget import LEAST_PLACES, UNDER_WAY, CircuitBudget
from tortxd.tor.isolation import Credentials
from tortxd.tor.usage import DIRTY_SECONDS

ALICE, BOB = b"alice", b"bob"


def of(owner: bytes, key: int) -> Credentials:
    return Credentials(b"%s%d" % (owner, key), b"password", owner)


THREE = Rate(1.0, 3)


def budget(clock: Clock, daemon: Rate | None = None, caller: Rate | None = THREE) -> CircuitBudget:
    return CircuitBudget(clock, daemon, caller)


def goes(fresh: CircuitBudget, credentials: Credentials, carried: bool | None = False) -> bool:
    """Whether a stream may go at once; it does, and is open."""
    if fresh.admit(credentials, lambda _: carried, 30.0) is not None:
        return False
    fresh.opened(credentials, reached=True)
    return True


def waits(answer: Deferred[None] | None) -> Deferred[None]:
    """What is awaited, whose failures are looked at."""
    assert answer is not None
    return answer


def test_what_was_saved_up_goes_at_once_and_the_next_when_there_is_one() -> None:
    clock = Clock()
    fresh = budget(clock)
    assert [goes(fresh, of(ALICE, key)) for key in range(3)] == [True] * 3
    waiting = [waits(fresh.admit(of(ALICE, key), lambda _: False, 30.0)) for key in (3, 4)]
    clock.advance(0.9)
    assert [one.called for one in waiting] == [False, False]
    clock.advance(0.2)
    assert [one.called for one in waiting] == [True, False]
    clock.advance(1.0)
    assert [one.called for one in waiting] == [True, True]
    assert not clock.getDelayedCalls()


def test_it_saves_up_no_more_than_the_burst() -> None:
    clock = Clock()
    fresh = budget(clock)
    clock.advance(1000)
    assert [goes(fresh, of(ALICE, key)) for key in range(3)] == [True] * 3
    assert fresh.admit(of(ALICE, 3), lambda _: False, 30.0) is not None


def test_a_circuit_that_is_there_costs_nothing() -> None:
    fresh = budget(Clock(), caller=Rate(0.001, 1))
    assert goes(fresh, of(ALICE, 0))
    for _ in range(10):
        assert goes(fresh, of(ALICE, 1), True)


def test_a_circuit_that_is_paid_for_is_shared_while_it_is_built() -> None:
    clock = Clock()
    fresh = budget(clock, caller=Rate(0.001, 1))
    assert goes(fresh, of(ALICE, 0))
    assert goes(fresh, of(ALICE, 0))
    clock.advance(UNDER_WAY + 1)
    with pytest.raises(Overloaded):
        fresh.admit(of(ALICE, 0), lambda _: False, 1.0)


def test_where_nobody_watches_tor_it_is_taken_to_live_as_long_as_circuits_do() -> None:
    clock = Clock()
    fresh = budget(clock, caller=Rate(0.001, 1))
    assert goes(fresh, of(ALICE, 0), None)
    clock.advance(DIRTY_SECONDS - 1)
    assert goes(fresh, of(ALICE, 0), None)
    clock.advance(2)
    with pytest.raises(Overloaded):
        fresh.admit(of(ALICE, 0), lambda _: None, 1.0)


def test_whoever_would_wait_too_long_is_told_at_once_and_for_how_long() -> None:
    fresh = budget(Clock(), caller=Rate(0.1, 1))
    assert goes(fresh, of(ALICE, 0))
    with pytest.raises(Overloaded) as caught:
        fresh.admit(of(ALICE, 1), lambda _: False, 5.0)
    assert caught.value.retry_after == 10
    assert "10 s" in str(caught.value)


def test_those_who_wait_for_one_circuit_share_it() -> None:
    clock = Clock()
    fresh = budget(clock, caller=Rate(1.0, 1))
    assert goes(fresh, of(ALICE, 0))
    first, second = (waits(fresh.admit(of(ALICE, 1), lambda _: False, 30.0)) for _ in range(2))
    other = waits(fresh.admit(of(ALICE, 2), lambda _: False, 30.0))
    clock.advance(1.1)
    assert first.called and second.called and not other.called


def test_one_callers_requests_do_not_wait_behind_anothers() -> None:
    clock = Clock()
    fresh = budget(clock)
    for key in range(3):
        assert goes(fresh, of(ALICE, key))
    assert not goes(fresh, of(ALICE, 3))
    assert goes(fresh, of(BOB, 0))


def test_the_daemon_has_a_budget_which_callers_get_by_turns() -> None:
    clock = Clock()
    fresh = budget(clock, daemon=Rate(1.0, 1), caller=None)
    assert goes(fresh, of(ALICE, 0))
    alice = [waits(fresh.admit(of(ALICE, key), lambda _: False, 30.0)) for key in range(1, 4)]
    bob = waits(fresh.admit(of(BOB, 0), lambda _: False, 30.0))
    clock.advance(1.1)
    assert alice[0].called
    clock.advance(1.0)
    assert bob.called and not alice[1].called
    clock.advance(1.0)
    assert alice[1].called


def test_circuits_that_tor_builds_beyond_it_are_owed() -> None:
    """A name that does not resolve takes two or three of them."""
    clock = Clock()
    fresh = budget(clock)
    assert goes(fresh, of(ALICE, 0))
    for _ in range(5):  # the first is the one that was paid for
        fresh.claimed("alice0")
    waiting = waits(fresh.admit(of(ALICE, 0), lambda _: False, 30.0))
    fired: list[float] = []
    waiting.addCallback(lambda _: fired.append(clock.seconds()))
    for _ in range(40):
        clock.advance(0.1)
    assert [round(when, 1) for when in fired] == [3.0]
    assert goes(fresh, of(BOB, 0))


def test_in_debt_a_circuit_counts_only_if_it_has_served() -> None:
    fresh = budget(Clock())
    assert goes(fresh, of(ALICE, 0))
    for _ in range(5):
        fresh.claimed("alice0")
    asked: list[bool] = []

    def carried(served: bool) -> bool:
        asked.append(served)
        return not served

    assert fresh.admit(of(ALICE, 0), carried, 30.0) is not None
    assert fresh.admit(of(BOB, 0), carried, 30.0) is None
    assert asked == [True, False]


def test_a_debt_has_an_end() -> None:
    clock = Clock()
    fresh = budget(clock)
    assert goes(fresh, of(ALICE, 0))
    for _ in range(1000):
        fresh.claimed("alice0")
    clock.advance(4.1)
    assert goes(fresh, of(ALICE, 1))


def test_circuits_of_others_are_nobodys() -> None:
    fresh = budget(Clock(), daemon=Rate(1.0, 1))
    for _ in range(10):
        fresh.claimed("a program's own user name, through Tor's SOCKS port")
    assert goes(fresh, of(ALICE, 0))


def test_who_is_not_served_in_time_is_told_so() -> None:
    clock = Clock()
    fresh = budget(clock)
    for key in range(3):
        assert goes(fresh, of(ALICE, key))
    waiting = waits(fresh.admit(of(ALICE, 3), lambda _: False, 2.0))
    for _ in range(4):
        fresh.claimed("alice0")
    errors: list[Failure] = []
    waiting.addErrback(errors.append)
    clock.advance(2.0)
    assert errors[0].check(Overloaded)
    clock.advance(10)
    assert not clock.getDelayedCalls()


def test_who_leaves_takes_no_circuit_along() -> None:
    clock = Clock()
    fresh = budget(clock, caller=Rate(1.0, 1))
    assert goes(fresh, of(ALICE, 0))
    leaving = waits(fresh.admit(of(ALICE, 1), lambda _: False, 30.0))
    staying = waits(fresh.admit(of(ALICE, 2), lambda _: False, 30.0))
    leaving.addErrback(lambda failure: failure.trap(CancelledError))
    leaving.cancel()
    clock.advance(1.1)
    assert staying.called
    assert not clock.getDelayedCalls()


def test_without_limits_everything_goes() -> None:
    fresh = budget(Clock(), None, None)
    assert all(fresh.admit(of(ALICE, key), lambda _: False, 0.0) is None for key in range(1000))


def test_it_remembers_so_many_callers_and_no_more() -> None:
    clock = Clock()
    fresh = budget(clock)
    for number in range(10_500):
        assert goes(fresh, Credentials(b"%d" % number, b"", b"%d" % number))
    assert max(len(kept) for kept in (fresh._callers, fresh._owners, fresh._expected)) <= 10_000


def test_a_stopped_one_has_no_timer() -> None:
    clock = Clock()
    fresh = budget(clock, caller=Rate(1.0, 1))
    assert goes(fresh, of(ALICE, 0))
    waiting = waits(fresh.admit(of(ALICE, 1), lambda _: False, 30.0))
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    fresh.stop()
    waiting.cancel()
    assert not clock.getDelayedCalls()


# --- streams that are being opened ----------------------------------------------------------------


def test_only_so_many_are_opened_at_one_time_whatever_circuits_there_are() -> None:
    """Each may turn out to fail, and to cost Tor further circuits."""
    clock = Clock()
    fresh = budget(clock)
    assert [fresh.admit(of(ALICE, 0), lambda _: True, 30.0) for _ in range(LEAST_PLACES)] == (
        [None] * LEAST_PLACES
    )
    first, second = (waits(fresh.admit(of(ALICE, 0), lambda _: True, 30.0)) for _ in range(2))
    assert goes(fresh, of(BOB, 0))
    fresh.opened(of(ALICE, 0), reached=True)
    assert [first.called, second.called] == [True, False]
    fresh.opened(of(ALICE, 0), reached=False)
    assert second.called
    clock.advance(31)
    assert not clock.getDelayedCalls()


def test_a_larger_budget_has_more_places_which_callers_get_by_turns() -> None:
    fresh = budget(Clock(), daemon=Rate(1.0, 50), caller=None)
    assert [fresh.admit(of(ALICE, 0), lambda _: True, 30.0) for _ in range(50)] == [None] * 50
    alice = [waits(fresh.admit(of(ALICE, 0), lambda _: True, 30.0)) for _ in range(2)]
    bob = waits(fresh.admit(of(BOB, 0), lambda _: True, 30.0))
    for _ in range(2):
        fresh.opened(of(ALICE, 0), reached=True)
    assert [one.called for one in (*alice, bob)] == [True, False, True]
    fresh.opened(of(ALICE, 0), reached=True)
    assert alice[1].called


def test_whoever_waits_for_a_place_too_long_is_told_so() -> None:
    clock = Clock()
    fresh = budget(clock)
    for _ in range(LEAST_PLACES):
        assert fresh.admit(of(ALICE, 0), lambda _: True, 30.0) is None
    errors: list[Failure] = []
    waits(fresh.admit(of(ALICE, 0), lambda _: True, 2.0)).addErrback(errors.append)
    clock.advance(2.0)
    assert errors[0].check(Overloaded)
    fresh.opened(of(ALICE, 0), reached=True)
    assert fresh.admit(of(ALICE, 0), lambda _: True, 2.0) is None


def test_a_stream_that_gets_no_circuit_does_not_pay_for_the_next() -> None:
    """Onion services that are not there: each would have Tor ask for them anew."""
    fresh = budget(Clock(), caller=Rate(0.001, 2))
    for _ in range(2):
        assert fresh.admit(of(ALICE, 0), lambda _: False, 30.0) is None
        fresh.opened(of(ALICE, 0), reached=False)
    with pytest.raises(Overloaded):
        fresh.admit(of(ALICE, 0), lambda _: False, 30.0)


def test_whoever_waits_for_a_place_waits_for_a_circuit_when_there_is_none_any_more() -> None:
    """Streams of one key that fail one after the other take its circuits away."""
    clock = Clock()
    fresh = budget(clock)
    there = True
    assert goes(fresh, of(ALICE, 0))
    for _ in range(LEAST_PLACES):
        assert fresh.admit(of(ALICE, 0), lambda _: there, 30.0) is None
    waiting = waits(fresh.admit(of(ALICE, 0), lambda _: there, 30.0))
    for _ in range(11):  # the first is the one that was paid for
        fresh.claimed("alice0")
    there = False
    fresh.opened(of(ALICE, 0), reached=False)
    clock.advance(3.9)
    assert not waiting.called
    clock.advance(0.2)
    assert waiting.called


def test_whoever_wants_a_circuit_and_a_place_waits_for_the_place_in_peace() -> None:
    clock = Clock()
    fresh = budget(clock, caller=Rate(1.0, 50))
    for _ in range(50):
        assert fresh.admit(of(ALICE, 0), lambda _: True, 30.0) is None
    waiting = waits(fresh.admit(of(ALICE, 1), lambda _: False, 30.0))
    assert len(clock.getDelayedCalls()) == 1  # which ends the waiting
    fresh.opened(of(ALICE, 0), reached=True)
    assert waiting.called


def test_a_third_caller_is_served_in_its_turn() -> None:
    clock = Clock()
    fresh = budget(clock, daemon=Rate(1.0, 4), caller=Rate(10.0, 2))
    for owner in (ALICE, BOB):
        assert [goes(fresh, of(owner, key)) for key in (0, 1)] == [True, True]
    clock.advance(1e-3)
    crowd = [
        waits(fresh.admit(of(owner, key), lambda _: False, 30.0))
        for owner in (ALICE, BOB)
        for key in range(2, 12)
    ]
    third = waits(fresh.admit(of(b"carol", 0), lambda _: False, 3.5))
    for _ in range(35):
        clock.advance(0.1)
    assert third.called
    assert 2 <= sum(one.called for one in crowd) <= 3


def test_one_callers_debts_are_no_others() -> None:
    clock = Clock()
    fresh = budget(clock, daemon=Rate(1.0, 5), caller=Rate(1.0, 5))
    assert goes(fresh, of(ALICE, 0))
    for _ in range(100):
        fresh.claimed("alice0")
    waiting = waits(fresh.admit(of(BOB, 0), lambda _: False, 1.1))
    clock.advance(1.05)
    assert waiting.called


def test_a_request_that_is_given_up_has_paid_for_its_circuit_but_shares_it_with_nobody() -> None:
    fresh = budget(Clock(), caller=Rate(0.001, 3))
    assert fresh.admit(of(ALICE, 0), lambda _: False, 30.0) is None
    fresh.opened(of(ALICE, 0), reached=None)
    fresh.claimed("alice0")
    for key in (1, 2):
        assert goes(fresh, of(ALICE, key))
    with pytest.raises(Overloaded):
        fresh.admit(of(ALICE, 3), lambda _: False, 30.0)


def test_one_that_is_cancelled_while_others_go_gives_its_place_back() -> None:
    clock = Clock()
    fresh = budget(clock)
    for _ in range(LEAST_PLACES):
        assert fresh.admit(of(ALICE, 0), lambda _: True, 30.0) is None
    first, second = (waits(fresh.admit(of(ALICE, 0), lambda _: True, 30.0)) for _ in range(2))
    first.addCallback(lambda _: second.cancel())
    second.addErrback(lambda failure: failure.trap(CancelledError))
    fresh._close(fresh._callers[ALICE])  # two at one time
    fresh.opened(of(ALICE, 0), reached=True)
    assert first.called and second.called
    assert fresh._callers[ALICE].opening == fresh._all.opening == LEAST_PLACES - 1


def test_the_sentence_says_what_is_wanting() -> None:
    clock = Clock()
    fresh = budget(clock)
    for _ in range(LEAST_PLACES):
        assert fresh.admit(of(ALICE, 0), lambda _: True, 30.0) is None
    errors: list[Failure] = []
    waits(fresh.admit(of(ALICE, 0), lambda _: True, 1.0)).addErrback(errors.append)
    clock.advance(1.0)
    assert errors[0].getErrorMessage() == (
        "Too many connections are being opened through Tor at once."
    )


def test_hundreds_who_wait_cost_little() -> None:
    """Counted, since time is not for tests: how often it is asked what circuits there are. (The
    Clock sorts all of its calls at each new one, so that thousands would cost a lot here.)"""
    asked = 0

    def carried(_: bool) -> bool:
        nonlocal asked
        asked += 1
        return True

    fresh = budget(Clock(), caller=Rate(1.0, 50))
    for _ in range(50):
        assert fresh.admit(of(ALICE, 0), carried, 30.0) is None
    asked = 0
    for key in range(300):
        waits(fresh.admit(of(ALICE, key), carried, 30.0))
    assert asked <= 600
    asked = 0
    for _ in range(10):
        fresh.opened(of(ALICE, 0), reached=True)
    assert asked <= 30

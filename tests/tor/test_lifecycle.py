"""The lifecycle machine on a clock of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.task import Clock

from tortxd.tor.lifecycle import JITTER, LONGEST_DELAY, RESTORING, Core, Lifecycle, make_lifecycle
from tortxd.tor.status import (
    BackingOff,
    Bootstrapping,
    Degraded,
    Failed,
    Launching,
    Ready,
    Status,
    Stopped,
)


class Hands:
    """A Tor that records what is done to it, and may answer at once."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.at_once: Callable[[], None] | None = None

    def begin(self) -> None:
        self.done.append("begin")
        if self.at_once is not None:
            self.at_once()

    def end(self) -> None:
        self.done.append("end")


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.hands = Hands()
        self.said: list[Status] = []
        self.chance = 0.0
        self.life: Lifecycle = make_lifecycle(
            Core(self.hands, self.clock, self.said.append, random=lambda: self.chance)
        )

    def now(self) -> Status:
        return self.said[-1]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def serving(world: World) -> World:
    world.life.start()
    world.life.established()
    return world


def test_the_way_up(world: World) -> None:
    world.life.start()
    world.life.progress(Bootstrapping(5, "conn", "Connecting"))
    world.life.progress(Bootstrapping(5, "conn", "Connecting"))
    world.life.progress(Bootstrapping(10, "conn_done", "Connected", "Slow"))
    world.life.established()
    world.life.established()
    world.life.progress(Bootstrapping(100))
    assert world.said == [
        Launching(),
        Bootstrapping(5, "conn", "Connecting"),
        Bootstrapping(10, "conn_done", "Connected", "Slow"),
        Ready(),
    ]
    assert world.hands.done == ["begin"]


def test_a_slow_bootstrap_is_left_alone(world: World) -> None:
    world.life.start()
    world.life.progress(Bootstrapping(5))
    world.clock.advance(24 * 3600)
    assert world.hands.done == ["begin"]


def test_troubles_degrade_and_mend(serving: World) -> None:
    life = serving.life
    life.trouble("clock", "The clock is off.")
    life.trouble("disk", "The disk is full.")
    assert serving.now() == Degraded(("The clock is off.", "The disk is full."))
    life.trouble("clock", None)
    assert serving.now() == Degraded(("The disk is full.",))
    life.trouble("disk", None)
    life.trouble("network", None)
    assert serving.now() == Ready()


def test_a_trouble_from_before_is_not_forgotten(world: World) -> None:
    world.life.start()
    world.life.trouble("clock", "The clock is off.")
    assert world.now() == Launching()
    world.life.established()
    assert world.now() == Degraded(("The clock is off.",))
    world.life.gone("Dead.")
    world.clock.advance(1)
    world.life.established()
    assert world.now() == Ready()


def test_what_keeps_it_from_getting_on_shows_while_it_does(world: World) -> None:
    world.life.start()
    world.life.trouble("clock", "The clock is off.")
    world.life.progress(Bootstrapping(5, "conn", "Connecting", "It refused."))
    assert world.now() == Bootstrapping(5, "conn", "Connecting", "The clock is off. It refused.")
    world.life.trouble("clock", None)
    assert world.now() == Bootstrapping(5, "conn", "Connecting", "It refused.")
    world.life.trouble("transport", "It is missing.")
    world.life.progress(Bootstrapping(10, "conn_done", "Connected"))
    assert world.now() == Bootstrapping(10, "conn_done", "Connected", "It is missing.")
    world.life.trouble("transport", None)
    world.life.established()
    assert world.said[-2:] == [Bootstrapping(10, "conn_done", "Connected"), Ready()]
    world.life.interrupted("No circuit.")
    world.life.trouble("clock", "The clock is off.")
    assert world.now() == Bootstrapping(
        95, "circuit_create", "Establishing a Tor circuit", "The clock is off. No circuit."
    )


def test_backoff_grows_to_its_cap(world: World) -> None:
    world.life.start()
    delays = []
    for _ in range(9):
        world.life.gone("Dead.")
        status = world.now()
        assert isinstance(status, BackingOff)
        assert status.reason == "Dead."
        delays.append(status.seconds)
        world.clock.advance(status.seconds - 0.01)
        assert isinstance(world.now(), BackingOff)
        world.clock.advance(0.02)
        assert world.now() == Launching("Dead.")
    assert delays == [1, 2, 4, 8, 16, 32, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]


def test_chance_makes_delays_shorter_and_never_longer(world: World) -> None:
    world.life.start()
    delays = []
    for chance in (0.0, 0.5, 0.25, 0.999, 0.0, 0.0, 0.5, 0.0):
        world.chance = chance
        world.life.gone("Dead.")
        status = world.now()
        assert isinstance(status, BackingOff)
        delays.append(status.seconds)
        world.clock.advance(status.seconds)
        assert isinstance(world.now(), Launching)
    half = 1 - JITTER / 2
    near_least = 8 * (1 - JITTER * 0.999)
    whole = LONGEST_DELAY
    assert delays == [1, 2 * half, 4 * (1 - JITTER / 4), near_least, 16, 32, whole * half, whole]


def test_daemons_that_lose_their_tor_at_once_do_not_come_back_at_once() -> None:
    clock, said = Clock(), list[Status]()
    for _ in range(20):
        life = make_lifecycle(Core(Hands(), clock, said.append))
        life.start()
        life.gone("Dead.")
    delays = {status.seconds for status in said if isinstance(status, BackingOff)}
    assert len(delays) > 10
    assert all(0.5 <= delay <= 1 for delay in delays)


@pytest.mark.parametrize(("served", "delay"), [(59, 8.0), (61, 1.0)])
def test_backoff_begins_anew_after_a_while_of_service(
    world: World, served: float, delay: float
) -> None:
    world.life.start()
    for seconds in (1, 2, 4):
        world.life.gone("Dead.")
        world.clock.advance(seconds)
    world.life.established()
    world.clock.advance(served)
    world.life.gone("Dead.")
    assert world.now() == BackingOff(delay, "Dead.")


def test_circuits_lost_and_found(serving: World) -> None:
    serving.life.interrupted("CLOCK_JUMPED")
    assert serving.now() == Bootstrapping(
        95, "circuit_create", "Establishing a Tor circuit", "CLOCK_JUMPED"
    )
    serving.life.established()
    assert serving.now() == Ready()


def test_detached_goes_on_and_comes_back(serving: World) -> None:
    serving.life.detached("Lost.")
    assert serving.now() == Degraded((f"Lost. {RESTORING}",))
    serving.clock.advance(1)
    assert serving.hands.done == ["begin", "begin"]
    serving.life.detached("Refused.")
    serving.clock.advance(1.9)
    assert serving.hands.done == ["begin", "begin"]
    serving.clock.advance(0.2)
    assert serving.hands.done == ["begin", "begin", "begin"]
    serving.life.established()
    assert serving.now() == Ready()
    assert not serving.clock.getDelayedCalls()


def test_detached_and_then_dead(serving: World) -> None:
    serving.life.detached("Lost.")
    serving.clock.advance(1)
    serving.life.gone("Dead.")
    assert isinstance(serving.now(), BackingOff)
    assert len(serving.clock.getDelayedCalls()) == 1


def test_detached_before_it_served_is_gone(world: World) -> None:
    world.life.start()
    world.life.detached("Lost.")
    assert world.now() == BackingOff(1.0, "Lost.")


def test_hopeless_until_started_again(world: World) -> None:
    world.life.start()
    world.life.fatal("Bad torrc.")
    assert world.now() == Failed("Bad torrc.")
    world.life.gone("Late.")
    world.clock.advance(1000)
    assert world.now() == Failed("Bad torrc.")
    world.life.start()
    assert world.now() == Launching()


def test_an_answer_at_once(world: World) -> None:
    world.hands.at_once = lambda: world.life.gone("No such file.")
    world.life.start()
    assert world.said == [Launching(), BackingOff(1.0, "No such file.")]


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, it is survived, and a stopped one does nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(
        name=st.sampled_from(["start", "stop", "established", "retry"]),
    )
    def plain(self, name: str) -> None:
        getattr(self.world.life, name)()

    @rule(name=st.sampled_from(["interrupted", "gone", "detached", "fatal"]))
    def with_reason(self, name: str) -> None:
        getattr(self.world.life, name)("Reason.")

    @rule(reason=st.sampled_from(["Trouble.", None]))
    def trouble(self, reason: str | None) -> None:
        self.world.life.trouble("key", reason)

    @rule(progress=st.integers(0, 100))
    def progress(self, progress: int) -> None:
        self.world.life.progress(Bootstrapping(progress))

    @rule(seconds=st.floats(0, 100))
    def time(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @invariant()
    def one_timer_at_most(self) -> None:
        waiting = len(self.world.clock.getDelayedCalls())
        now = self.world.said[-1] if self.world.said else Stopped()
        assert waiting <= (1 if isinstance(now, BackingOff | Degraded) else 0)

    @invariant()
    def retries_while_backing_off(self) -> None:
        if self.world.said and isinstance(self.world.now(), BackingOff):
            assert self.world.clock.getDelayedCalls()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

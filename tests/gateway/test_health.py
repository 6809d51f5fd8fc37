"""Whether requests are served: by Tor's word, and by what requests experience."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock

from tests.gateway.conftest import FakeLink, Gateway
from tortxd.errors import (
    BadRequest,
    ConnectFailed,
    ConnectRefused,
    InternalError,
    OriginTimeout,
    Overloaded,
    ResolveFailed,
    TorTimeout,
    TortxdError,
)
from tortxd.gateway.health import (
    BEYOND_TOR,
    FULL,
    FULL_FOR,
    IN_TOR,
    PATIENT,
    STAYS,
    Health,
)
from tortxd.gateway.journal import RequestJournal
from tortxd.relay.journal import Summary
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

FAILS = "Requests fail (tor_timeout), though Tor says that it is ready."
UNREACHED = (
    "Requests do not reach their destinations (resolve_failed), though Tor says that it is ready."
)


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.link = FakeLink()
        self.health = Health(self.clock, self.link)
        self.journal = RequestJournal(self.clock, self.link, self.health)
        self.told: list[str] = []
        self.health.listen(lambda: self.told.append(self.health.name))

    def fails(self, error: TortxdError, times: int = 1, seconds: float = PATIENT) -> None:
        for number in range(times):
            self.journal.over(
                Summary(
                    way="proxy",
                    outcome=error.code,
                    status=None,
                    to_connect=None,
                    to_head=None,
                    seconds=seconds,
                    sent=0,
                    received=0,
                    attempts=1,
                    error=error,
                    username=b"%d" % number,
                )
            )

    def is_served(self) -> None:
        self.journal.responded(self.clock.seconds(), 0.1)


@pytest.fixture
def world() -> World:
    return World()


def test_it_is_not_ok_while_requests_fail_in_tor(world: World) -> None:
    world.fails(TorTimeout(), IN_TOR - 1)
    assert world.health.name == "ok"
    world.fails(TorTimeout())
    assert world.health.status == Degraded((FAILS,))
    assert world.told == ["degraded"]
    world.fails(TorTimeout(), 50)
    assert world.told == ["degraded"]
    world.is_served()
    assert world.health.name == "ok"
    assert world.told == ["degraded", "ok"]


def test_it_is_not_ok_while_no_destination_is_reached(world: World) -> None:
    world.fails(ResolveFailed(), BEYOND_TOR - 1)
    assert world.health.name == "ok"
    world.fails(ConnectFailed())
    assert world.health.name == "degraded"
    world.is_served()
    world.fails(ResolveFailed(), BEYOND_TOR)
    assert world.health.status == Degraded((UNREACHED,))


def test_one_destination_that_is_gone_is_no_fault_of_tor(world: World) -> None:
    for _ in range(BEYOND_TOR * 2):
        world.fails(ConnectRefused())
    assert world.health.name == "ok"


@pytest.mark.parametrize(
    "error", [BadRequest(), Overloaded(), OriginTimeout(), InternalError()], ids=lambda e: e.code
)
def test_others_faults_are_no_fault_of_tor(world: World, error: TortxdError) -> None:
    world.fails(error, BEYOND_TOR * 2)
    assert world.health.name == "ok"


def test_who_gives_tor_no_time_says_nothing_of_it(world: World) -> None:
    world.fails(TorTimeout(), 100, seconds=PATIENT - 0.1)
    assert world.health.name == "ok"


def test_one_that_is_served_among_those_that_fail_is_enough(world: World) -> None:
    for _ in range(10):
        world.fails(TorTimeout(), IN_TOR - 1)
        world.is_served()
    assert world.told == []


def test_what_is_long_past_says_nothing_any_more(world: World) -> None:
    world.fails(TorTimeout(), IN_TOR)
    world.clock.advance(STAYS - 1)
    world.fails(TorTimeout())
    world.clock.advance(STAYS - 1)
    assert world.health.name == "degraded"
    world.clock.advance(1)
    assert world.health.name == "ok"
    world.fails(TorTimeout(), IN_TOR - 1)
    assert world.health.name == "ok"


def test_what_a_tor_before_did_says_nothing_of_the_next(world: World) -> None:
    world.fails(TorTimeout(), IN_TOR)
    world.link.become(Launching("It died."))
    world.fails(TorTimeout(), IN_TOR)
    world.link.become(Ready())
    assert world.health.name == "ok"
    assert not world.clock.getDelayedCalls()


def test_reasons_stand_beside_tors_own(world: World) -> None:
    world.link.status = Degraded(("The disk is full.",))
    world.fails(TorTimeout(), IN_TOR)
    assert world.health.status == Degraded(("The disk is full.", FAILS))


def test_it_says_that_it_is_full(world: World) -> None:
    for _ in range(3):
        world.health.is_full()
        world.clock.advance(FULL_FOR - 1)
        assert world.health.status == Degraded((FULL,))
    assert world.told == ["degraded"]
    world.clock.advance(1)
    assert world.told == ["degraded", "ok"]
    world.health.is_full()
    world.health.close()
    assert not world.clock.getDelayedCalls()


def test_its_age_is_that_of_the_state(world: World) -> None:
    assert world.health.age == 0
    world.clock.advance(5)
    world.link.become(Degraded(("One.",)))
    world.clock.advance(3)
    world.link.become(Degraded(("Two.",)))
    world.clock.advance(1)
    assert world.health.age == 4
    world.fails(TorTimeout(), IN_TOR)
    world.link.become(Ready())
    assert world.health.age == 4
    world.is_served()
    assert (world.health.name, world.health.age) == ("ok", 0)


def test_the_age_counts_from_before_the_gateway() -> None:
    link, clock = FakeLink(since=2.0), Clock()
    clock.advance(10)
    assert Health(clock, link).age == 8


def test_who_left_is_told_no_more(world: World) -> None:
    leave = world.health.listen(lambda: world.told.append("?"))
    leave()
    world.link.become(Launching())
    assert world.told == ["starting"]


@pytest.mark.parametrize(
    ("status", "ready", "live"),
    [
        (Ready(), True, True),
        (Degraded(("One.",)), True, True),
        (Launching(), False, True),
        (Bootstrapping(5), False, True),
        (BackingOff(1.0, "It died."), False, True),
        (Stopped(), False, True),
        (Failed("It has no executable."), False, False),
    ],
    ids=lambda value: type(value).__name__,
)
@ensureDeferred
async def test_ready_and_live_are_two_things(
    gateway: Gateway, status: Status, ready: bool, live: bool
) -> None:
    gateway.link.become(status)
    for path, expected in (
        ("/health", ready),
        ("/health?live", live),
        ("/health?pretty&live=1", live),
        ("/health?live=0", ready),
    ):
        reply = await gateway.ask(path)
        assert reply.status == (200 if expected else 503)
        assert reply.json["status"] == gateway.core.health.name


@ensureDeferred
async def test_a_stop_is_told(gateway: Gateway) -> None:
    gateway.core.health.stop()
    reply = await gateway.ask("/health")
    assert (reply.status, reply.json["status"]) == (503, "stopping")
    assert (await gateway.ask("/health?live")).status == 200
    page = await gateway.ask("/", "Accept: text/html")
    assert b"tortxd is stopping" in page.body


def is_time(value: Any) -> bool:
    from datetime import UTC, datetime

    then = datetime.fromisoformat(value)
    return abs((datetime.now(UTC) - then).total_seconds()) < 60


@ensureDeferred
async def test_it_says_since_when_and_why(gateway: Gateway) -> None:
    gateway.link.become(Bootstrapping(5, reason="Tor ended."))
    value = (await gateway.ask("/health")).json
    assert is_time(value["since"])
    assert 0 <= value["age"] < 60
    assert value["reason"] == "Tor ended."
    gateway.link.become(Launching("Tor ended."))
    assert (await gateway.ask("/health")).json["reason"] == "Tor ended."

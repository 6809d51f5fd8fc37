"""When Tor carries out the next NEWNYM, as far as that is known."""

from __future__ import annotations

from typing import Any, cast

import pytest
from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from tortxd.errors import TorDown
from tortxd.tor.identity import NewIdentity
from tortxd.tor.supervisor import AttachSettings, TorSupervisor


class PlayedControl:
    """Takes a NEWNYM, of which the test says when it is carried out."""

    async def tell(self, command: str) -> str:
        assert command == "SIGNAL NEWNYM"
        return "OK"


@define
class World:
    clock: Clock
    identity: NewIdentity

    def make(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.identity.make(cast(Any, PlayedControl())))


@pytest.fixture
def world() -> World:
    clock = Clock()
    clock.advance(1000)
    return World(clock, NewIdentity(clock))


def test_somebody_may_have_had_one_made_before_we_listened(world: World) -> None:
    assert world.identity.next_in(1000) is None
    world.clock.advance(9.5)
    assert world.identity.next_in(1000) is None
    world.clock.advance(0.5)
    assert world.identity.next_in(1000) == 0


def test_tor_makes_one_in_ten_seconds_at_whoevers_request(world: World) -> None:
    world.identity.made()
    assert world.identity.next_in(1000) == 10
    world.clock.advance(4)
    assert world.identity.next_in(1000) == 6
    world.identity.made()  # by a Tor whose clock was set meanwhile
    assert world.identity.next_in(1000) == 10
    world.clock.advance(11)
    assert world.identity.next_in(1000) == 0


def test_what_was_heard_over_an_earlier_connection_is_not_all(world: World) -> None:
    world.identity.made()
    world.clock.advance(3)
    assert world.identity.next_in(1002) is None
    world.clock.advance(9)
    assert world.identity.next_in(1002) == 0


def test_one_that_tor_keeps_waiting_comes_before_the_next(world: World) -> None:
    world.identity.made()
    world.clock.advance(2)
    made: list[None] = []
    world.make().addCallback(made.append)
    assert not made
    assert world.identity.next_in(1000) == 18
    world.clock.advance(8)
    world.identity.made()
    assert made == [None]
    assert world.identity.next_in(1000) == 10


def test_who_waited_for_one_is_told_of_the_next(world: World) -> None:
    told: list[float | None] = []
    world.make().addCallback(lambda _: told.append(world.identity.next_in(0)))
    world.clock.advance(1)
    world.identity.made()
    assert told == [10]


def test_one_that_is_given_up_is_waited_for_no_more(world: World) -> None:
    failed: list[Any] = []
    world.make().addErrback(failed.append)
    world.identity.fail("Tor is stopped.")
    assert failed[0].check(TorDown)
    assert world.identity.next_in(0) == 0


def test_without_a_control_connection_it_is_not_known() -> None:
    @define
    class Played:
        heard_since: float | None = None

        @property
        def session(self) -> Played:
            return self

    reactor: Any = MemoryReactorClock()
    supervisor = TorSupervisor(reactor, AttachSettings("tcp:127.0.0.1:9051"))

    def told() -> float | None:
        return supervisor.next_new_identity

    assert told() is None
    run = supervisor._lives.run = cast(Any, Played())
    assert told() is None  # it has not asked for events so far
    run.heard_since = 0.0
    reactor.advance(12)
    assert told() == 0
    supervisor._lives.new_identity_made()
    assert told() == 10
    supervisor._lives.run = None
    assert told() is None

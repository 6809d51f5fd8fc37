"""Which exit an isolation has, and keeps: for the sake of circuits, or because it was asked to."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock

from tortxd.errors import ExitUnavailable, TorNotReady
from tortxd.policy.steering import ANY, UNSTEERED, Choice, Steering, Sticky
from tortxd.relay.placement import Place, Placements, Steered
from tortxd.tor.isolation import Isolation, IsolationKeys
from tortxd.tor.usage import DIRTY_SECONDS

ALICE, BOB = Isolation("key", b"alice", b"caller"), Isolation("key", b"bob", b"caller")
DE = Choice(frozenset({"de"}))


class Link:
    """A Tor with exits that are numbered, each of which is chosen once if there are others."""

    def __init__(self) -> None:
        self.exits = ["1", "2", "3", "4", "5", "6", "7", "8", "9"]
        self.chosen = 0
        self.held: list[Deferred[str]] | None = None
        self.asking: Deferred[bool] | None = None
        self.asked: list[tuple[Choice, frozenset[str]]] = []

    def choose_exit(
        self, choice: Choice, host: str, port: int, avoiding: Collection[str] = ()
    ) -> Deferred[str]:
        self.asked.append((choice, frozenset(avoiding)))
        if self.held is not None:
            self.held.append(Deferred())
            return self.held[-1]
        left = [exit for exit in self.exits if exit not in avoiding] or self.exits
        if not left:
            return fail(ExitUnavailable())
        self.chosen += 1
        return succeed(left[(self.chosen - 1) % len(left)])

    def has_exit(self, fingerprint: str, port: int, username: bytes) -> Deferred[bool]:
        return self.asking or succeed(fingerprint in self.exits)


class World:
    def __init__(self) -> None:
        self.clock, self.link = Clock(), Link()
        link: Any = self.link
        self.keys = IsolationKeys()
        self.placements = Placements(self.clock, link, self.keys)

    def is_sticky(self, who: Isolation) -> bool:
        return self.placements.steered(who, UNSTEERED) is not None

    def begin(
        self,
        who: Isolation = ALICE,
        choice: Choice = ANY,
        sticky: Sticky | None = None,
        *,
        host: str = "a.example",
        tried: tuple[str, ...] = (),
        fresh: bool = False,
    ) -> tuple[Deferred[Any], list[Any]]:
        got: list[Any] = []
        steered = Steered(who, Steering(choice, sticky))
        placing: Deferred[Any] = self.placements.place(
            steered, host, 80, tried=frozenset(tried), fresh=fresh
        )
        placing.addBoth(got.append)
        return placing, got

    def place(self, *args: Any, **options: Any) -> Place:
        (place,) = self.begin(*args, **options)[1]
        if not isinstance(place, Place):
            place.raiseException()
        assert isinstance(place, Place)
        return place

    def exit(self, *args: Any, **options: Any) -> str | None:
        return self.place(*args, **options).exit


@pytest.fixture
def world() -> World:
    return World()


# --- for the sake of circuits -------------------------------------------------------------------


def test_a_choice_has_one_exit_as_long_as_tor_gives_streams_to_a_circuit(world: World) -> None:
    first = world.place(ALICE, DE)
    assert first == world.place(ALICE, DE) == world.place(ALICE, DE, host="b.example")
    assert world.exit(BOB, DE) != first.exit
    assert world.exit(ALICE, Choice(frozenset({"fr"}))) != first.exit
    world.clock.advance(DIRTY_SECONDS)
    assert world.exit(ALICE, DE) != first.exit


def test_credentials_tell_exits_apart_and_belong_to_one_identity(world: World) -> None:
    places = [
        world.place(ALICE, DE),
        world.place(ALICE, Choice(frozenset({"fr"}))),
        world.place(ALICE, DE, fresh=True),
        world.place(ALICE, DE, fresh=True),
        world.place(ALICE),
    ]
    assert len({place.credentials.username for place in places}) == 5
    assert {place.credentials.identity for place in places} == {
        world.keys.credentials(ALICE).identity
    }
    assert places[-1] == Place(world.keys.credentials(ALICE))


def test_an_exit_that_has_gone_is_replaced_without_a_word(world: World) -> None:
    first = world.exit(ALICE, DE)
    world.link.exits.remove(str(first))
    second = world.place(ALICE, DE)
    assert second.exit != first and not second.changed
    assert world.exit(ALICE, DE) == second.exit


def test_many_at_once_have_one_exit(world: World) -> None:
    world.link.held = []
    waiting = [world.begin(ALICE, DE) for _ in range(5)]
    other = world.begin(BOB, DE)
    assert len(world.link.held) == 2
    waiting[1][0].cancel()
    assert waiting[1][1][0].check(CancelledError)
    world.link.held[0].callback("1")
    assert [got[0].exit for _, got in (waiting[0], *waiting[2:])] == ["1"] * 4
    assert not other[1]
    assert len(world.link.held) == 2


def test_however_many_wait_all_are_placed(world: World) -> None:
    world.link.held = []
    waiting = [world.begin(ALICE, DE) for _ in range(600)]
    world.link.held[0].callback("1")
    assert {got[0].exit for _, got in waiting} == {"1"}
    assert world.exit(ALICE, DE) == "1"
    assert len(world.link.held) == 1


def test_where_the_first_fails_the_next_tries_itself(world: World) -> None:
    world.link.held = []
    first, second = world.begin(ALICE, DE), world.begin(ALICE, DE)
    world.link.held[0].errback(TorNotReady())
    assert first[1][0].check(TorNotReady)
    world.link.held[1].callback("2")
    assert second[1][0].exit == "2"
    assert not world.placements._drawing


def test_there_may_be_none(world: World) -> None:
    world.link.exits = []
    with pytest.raises(ExitUnavailable):
        world.place(ALICE, DE)


# --- sticky -------------------------------------------------------------------------------------


def test_a_sticky_key_keeps_its_exit_past_the_life_of_circuits(world: World) -> None:
    sticky = Sticky(3 * int(DIRTY_SECONDS))
    exit = world.exit(ALICE, DE, sticky)
    for _ in range(2):
        world.clock.advance(DIRTY_SECONDS + 1)
        assert world.exit(ALICE, DE) == exit
    world.clock.advance(DIRTY_SECONDS)
    assert world.is_sticky(ALICE)  # until somebody looks
    assert world.exit(ALICE, DE) != exit


def test_each_request_that_says_so_keeps_it_that_long_from_then_on(world: World) -> None:
    exit = world.exit(ALICE, ANY, Sticky(100))
    for _ in range(5):
        world.clock.advance(99)
        assert world.exit(ALICE, ANY, Sticky(100)) == exit
    world.clock.advance(50)
    assert world.exit(ALICE, ANY, Sticky(10)) == exit  # which does not make it less
    world.clock.advance(49)
    assert world.exit(ALICE, ANY, Sticky(1)) == exit
    world.clock.advance(2)
    assert world.exit(ALICE, ANY, Sticky(1)) != exit


def test_requests_of_the_key_that_do_not_say_it_use_it_too(world: World) -> None:
    assert not world.is_sticky(ALICE)
    exit = world.exit(ALICE, DE, Sticky(100))
    assert world.is_sticky(ALICE) and not world.is_sticky(BOB)
    assert world.exit(ALICE) == exit
    assert world.exit(ALICE, ANY, Sticky(100)) == exit
    assert world.exit(BOB) is None
    world.clock.advance(100)
    assert world.exit(ALICE) is None
    assert not world.is_sticky(ALICE)


def test_one_that_has_gone_makes_room_for_another_and_that_is_said(world: World) -> None:
    exit = world.exit(ALICE, DE, Sticky(100))
    world.link.exits.remove(str(exit))
    moved, beside = (world.place(ALICE, DE, Sticky(100)) for _ in range(2))
    assert moved.changed and moved.exit == beside.exit != exit
    # Until a response has told it.
    world.placements.told(moved)
    again = world.place(ALICE, DE, Sticky(100))
    assert not again.changed and again.exit == moved.exit


def test_it_keeps_its_time_when_it_moves(world: World) -> None:
    exit = world.exit(ALICE, DE, Sticky(1000))
    world.link.exits.remove(str(exit))
    moved = world.place(ALICE, DE)
    assert moved.changed
    world.clock.advance(999)
    assert world.exit(ALICE) == moved.exit


def test_a_strict_one_does_not_move(world: World) -> None:
    exit = world.exit(ALICE, DE, Sticky(100, True))
    world.link.exits.remove(str(exit))
    with pytest.raises(ExitUnavailable, match="strict"):
        world.place(ALICE, DE, Sticky(100, True))
    # Nor do requests of the key that do not say it move it.
    with pytest.raises(ExitUnavailable, match="strict"):
        world.place(ALICE)
    world.link.exits.append(str(exit))
    assert world.exit(ALICE, DE, Sticky(100, True)) == exit
    assert world.exit(ALICE, DE, Sticky(100, True), tried=(str(exit),)) == exit


def test_a_key_that_had_an_exit_keeps_that_when_it_becomes_sticky(world: World) -> None:
    exit = world.exit(ALICE, DE)
    assert world.exit(ALICE, DE, Sticky(5)) == exit
    world.clock.advance(5)
    moved = world.place(ALICE, DE, Sticky(5))
    assert not moved.changed  # its time was over


def test_requests_that_come_while_it_is_chosen_wait_for_it(world: World) -> None:
    world.link.held = []
    _, first = world.begin(ALICE, DE, Sticky(100))
    _, plain = world.begin(ALICE)
    _, other = world.begin(BOB)
    assert not plain and other[0].exit is None
    world.link.held[0].callback("7")
    assert first[0].exit == plain[0].exit == "7"


def test_where_none_is_found_it_is_not_sticky(world: World) -> None:
    world.link.exits = []
    with pytest.raises(ExitUnavailable):
        world.place(ALICE, DE, Sticky(100))
    assert world.exit(ALICE) is None
    assert not world.is_sticky(ALICE)


def test_of_what_was_in_vain_nothing_is_remembered(world: World) -> None:
    world.link.exits = []
    for number in range(50):
        with pytest.raises(ExitUnavailable):
            world.place(Isolation("key", b"%d" % number, b"caller"), DE, Sticky(86_400))
    world.link.held = []
    giving_up, _ = world.begin(BOB, DE, Sticky(86_400))
    giving_up.cancel()
    assert not world.placements._sticky
    assert not world.placements._callers


def test_a_new_identity_meanwhile_counts(world: World) -> None:
    """Nothing leaves by the old identity's exit with the new one's credentials."""
    old = world.exit(ALICE, DE, Sticky(100))
    asked: Deferred[bool] = Deferred()
    world.link.asking = asked
    _, got = world.begin(ALICE, DE, Sticky(100))
    world.placements.forget(ALICE)
    world.link.asking = None
    asked.callback(True)
    assert got[0].exit != old
    assert not got[0].changed


def test_a_change_is_told_by_what_leaves_there(world: World) -> None:
    before = world.place(ALICE, DE, Sticky(100))
    world.link.exits.remove(str(before.exit))
    assert world.place(ALICE, DE).changed  # whose request fails
    world.placements.told(before)  # a response that was under way
    after = world.place(ALICE, DE)
    assert after.changed
    world.placements.told(after)
    assert not world.place(ALICE, DE).changed


def test_a_new_identity_forgets_it(world: World) -> None:
    for forget in (partial(world.placements.forget, ALICE), world.placements.forget_all):
        exit = world.exit(ALICE, DE, Sticky(100))
        other = world.exit(BOB, DE, Sticky(100))
        forget()
        assert not world.is_sticky(ALICE)
        moved = world.place(ALICE, DE, Sticky(100))
        assert moved.exit != exit and not moved.changed
        assert (world.exit(BOB, DE) == other) is world.is_sticky(BOB)
        world.placements.forget_all()


def test_onion_services_have_no_exit_to_keep(world: World) -> None:
    assert world.exit(ALICE, ANY, Sticky(100), host="a.onion") is None
    exit = world.exit(ALICE, ANY, Sticky(100))
    assert world.exit(ALICE, host="a.onion") is None
    assert world.exit(ALICE) == exit


# --- tried in vain ------------------------------------------------------------------------------


def test_a_further_try_leaves_elsewhere_and_moves_nobody(world: World) -> None:
    exit = str(world.exit(ALICE, DE))
    other = world.exit(ALICE, DE, tried=(exit,), fresh=True)
    assert other != exit
    assert world.exit(ALICE, DE) == exit


def test_one_that_did_not_care_leaves_by_an_exit_that_was_not_tried(world: World) -> None:
    place = world.place(ALICE, tried=("1",), fresh=True)
    assert place.exit not in (None, "1")
    assert world.link.asked == [(ANY, frozenset({"1"}))]
    assert world.exit(ALICE, fresh=True) is None
    # Where none can be chosen, a fresh circuit is what there is.
    world.link.exits = []
    assert world.exit(ALICE, tried=("1",), fresh=True) is None


def test_a_sticky_one_moves_with_it(world: World) -> None:
    exit = str(world.exit(ALICE, DE, Sticky(100)))
    moved = world.place(ALICE, DE, Sticky(100), tried=(exit,), fresh=True)
    assert moved.changed and moved.exit != exit
    assert world.exit(ALICE, DE) == moved.exit


def test_where_there_is_no_other_it_has_not_changed(world: World) -> None:
    world.link.exits = ["1"]
    world.exit(ALICE, DE, Sticky(100))
    place = world.place(ALICE, DE, Sticky(100), tried=("1",), fresh=True)
    assert (place.exit, place.changed) == ("1", False)


# --- bounds -------------------------------------------------------------------------------------


def test_a_caller_with_very_many_keys_forgets_its_own(world: World) -> None:
    exit = world.exit(ALICE, DE, Sticky(100))
    for number in range(1500):
        world.place(Isolation("key", b"%d" % number, b"other"), DE, Sticky(100))
    assert world.exit(ALICE, DE) == exit
    assert sum(len(one.kept) for one in world.placements._callers.values()) <= 1001
    assert len(world.placements._sticky) <= 1001


def test_what_is_over_or_only_there_for_circuits_makes_room_first(world: World) -> None:
    """And of those that are sticky, what was used longest ago."""
    exit = world.exit(ALICE, DE, Sticky(86_400))
    for number in range(990):
        world.place(Isolation("key", b"loose %d" % number, b"caller"), DE)
    for number in range(900):
        world.place(Isolation("key", b"%d" % number, b"caller"), DE, Sticky(86_400))
        assert world.exit(ALICE, DE) == exit
    assert world.is_sticky(Isolation("key", b"0", b"caller"))
    for number in range(900, 1200):
        world.place(Isolation("key", b"%d" % number, b"caller"), DE, Sticky(86_400))
        assert world.exit(ALICE, DE) == exit
    assert not world.is_sticky(Isolation("key", b"0", b"caller"))
    world.clock.advance(86_400)
    world.place(BOB, DE)
    assert len(world.placements._callers[b"caller", b""].kept) <= 1000


def test_nobody_can_take_away_what_others_keep(world: World) -> None:
    exit = world.exit(ALICE, DE, Sticky(100, True))
    for caller in range(25):
        for number in range(900):
            world.place(Isolation("key", b"%d" % number, b"flood %d" % caller), DE, Sticky(100))
    for number in range(1100):
        world.place(Isolation("key", b"%d" % number, b"caller", b"another origin"), DE)
    assert world.exit(ALICE, DE) == exit
    kept = sum(len(one.kept) for one in world.placements._callers.values())
    assert kept == world.placements._count <= 20_000
    assert len(world.placements._sticky) <= 20_000
    world.placements.forget_all()
    assert world.placements._count == 0


@pytest.mark.parametrize("host", ["a.onion", "2001:db8::1"])
def test_where_no_exit_can_be_chosen_that_is_said_every_time(world: World, host: str) -> None:
    for _ in range(2):
        with pytest.raises(ExitUnavailable):
            world.place(ALICE, DE, host=host)
        world.place(ALICE, DE)


def test_where_a_site_stands_for_the_key_others_are_not_bound(world: World) -> None:
    site = Isolation("site", b"a.example", b"caller")
    exit = world.exit(site, ANY, Sticky(100))
    assert not world.is_sticky(site)
    assert world.exit(site, ANY, Sticky(100)) == exit

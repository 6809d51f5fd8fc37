"""Names of ours that lead to an exit: made, shared, removed, and nobody else's touched."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tortxd.errors import ExitUnavailable, TorDown
from tortxd.tor.mappings import Mapping, Mappings, UserMappings
from tortxd.tor.replies import CommandRefused

A, B = "A" * 40, "B" * 40
CONTROL, CONFIG = "address-mappings/control", "address-mappings/config"


class Control:
    """Tor's mappings, kept as it keeps them."""

    def __init__(self) -> None:
        self.mapped: dict[str, str] = {}
        self.config = ""
        self.told: list[str] = []
        self.held: list[Deferred[None]] | None = None
        """Commands wait here, where it is not None."""
        self.asking: list[Deferred[None]] | None = None
        """Questions wait here, where it is not None."""

    async def ask(self, *keys: str) -> dict[str, str]:
        if self.asking is not None:
            waiting: Deferred[None] = Deferred()
            self.asking.append(waiting)
            await waiting
        listed = "\n".join(f"{name} {to} NEVER" for name, to in self.mapped.items())
        return {key: {CONTROL: listed, CONFIG: self.config}.get(key, "") for key in keys}

    async def tell(self, command: str) -> str:
        self.told.append(command)
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.append(waiting)
            await waiting
        for pair in command.removeprefix("MAPADDRESS ").split():
            name, _, to = pair.partition("=")
            if name == to:
                self.mapped.pop(name, None)
            else:
                self.mapped[name] = to
        return ""


class World:
    def __init__(self) -> None:
        self.clock, self.control = Clock(), Control()
        control: Any = self.control
        self.mappings = Mappings(self.clock, control)

    def begin(self, host: str = "a.example", exit: str = A) -> tuple[Deferred[Any], list[Any]]:
        got: list[Any] = []
        making: Deferred[Any] = Deferred.fromCoroutine(self.mappings.map(host, exit))
        making.addBoth(got.append)
        return making, got

    def again(self) -> Mapping:
        got: list[Any] = []
        Deferred.fromCoroutine(self.mappings.map("a.example", A, anew=True)).addBoth(got.append)
        assert isinstance(got[0], Mapping)
        return got[0]

    def map(self, host: str = "a.example", exit: str = A) -> Mapping:
        (mapping,) = self.begin(host, exit)[1]
        if not isinstance(mapping, Mapping):
            mapping.raiseException()
        assert isinstance(mapping, Mapping)
        return mapping


@pytest.fixture
def world() -> World:
    return World()


def test_a_name_stands_for_a_host_by_an_exit_as_long_as_it_is_used(world: World) -> None:
    mapping = world.map()
    assert re.fullmatch(r"tortxd-[0-9a-f]{32}\.onion", mapping.name)
    assert world.control.mapped == {mapping.name: f"a.example.{A}.exit"}
    assert world.mappings.host_of(mapping.name) == "a.example"
    mapping.release()
    mapping.release()
    assert world.control.mapped == {}
    # What Tor says of its streams may be read later.
    assert world.mappings.host_of(mapping.name) == "a.example"
    assert world.mappings.host_of("tortxd-other.onion") is None
    assert len(world.control.told) == 2


def test_the_same_is_one_name_until_its_last_use_is_over(world: World) -> None:
    first, second = world.map(), world.map()
    assert first.name == second.name
    assert len(world.control.told) == 1
    first.release()
    assert world.control.mapped
    second.release()
    assert not world.control.mapped
    assert world.map().name == first.name  # Tor may keep destinations apart by their names


def test_what_tor_has_forgotten_is_told_it_once_more(world: World) -> None:
    """While others use the name, too."""
    first = world.map()
    world.control.mapped.clear()
    again = world.again()
    assert again.name == first.name
    assert world.control.mapped.keys() == {first.name}
    first.release()
    assert world.control.mapped
    again.release()
    assert not world.control.mapped


def test_others_have_other_names(world: World) -> None:
    names = {world.map(host, exit).name for host in ("a.example", "b.example") for exit in (A, B)}
    names.add(World().map().name)
    assert len(names) == 5


def test_who_comes_while_it_is_made_waits_for_it(world: World) -> None:
    world.control.held = []
    (_, first), (_, second) = world.begin(), world.begin()
    assert not first and not second
    world.control.held[0].callback(None)
    assert first[0].name == second[0].name
    assert len(world.control.told) == 1


def test_who_gives_up_meanwhile_does_not_take_it_from_the_others(world: World) -> None:
    world.control.held = []
    (giving_up, _), (_, other) = world.begin(), world.begin()
    giving_up.cancel()
    world.control.held[0].callback(None)
    assert world.control.mapped.keys() == {other[0].name}
    world.control.held = None
    other[0].release()
    assert not world.control.mapped


def test_what_the_user_maps_is_asked_for_once(world: World) -> None:
    world.control.asking = []
    waiting = [world.begin(f"{number}.example")[1] for number in range(20)]
    (asked,) = world.control.asking
    world.control.asking = None
    asked.callback(None)
    assert all(isinstance(got[0], Mapping) for got in waiting)


def test_after_the_end_nothing_is_mapped_any_more(world: World) -> None:
    world.control.asking = []
    _, got = world.begin()
    asked, world.control.asking = world.control.asking[0], None
    Deferred.fromCoroutine(world.mappings.clear())
    asked.callback(None)
    assert got[0].check(TorDown)
    assert not world.control.mapped


def test_where_all_give_up_it_is_removed(world: World) -> None:
    world.control.held = []
    making, _ = world.begin()
    making.cancel()
    assert [command.count("=") for command in world.control.told] == [1, 1]
    for waiting in world.control.held:
        waiting.callback(None)
    assert not world.control.mapped


@pytest.mark.parametrize(
    ("error", "kind"), [(CommandRefused("", 512), ExitUnavailable), (TorDown(), TorDown)]
)
def test_where_tor_refuses_everybody_hears_of_it(
    world: World, error: Exception, kind: type[Exception]
) -> None:
    world.control.held = []
    (_, first), (_, second) = world.begin(), world.begin()
    world.control.held[0].errback(error)
    assert first[0].check(kind) and second[0].check(kind)
    assert first[0].value is not second[0].value
    world.control.held = None
    assert world.map().name in world.control.mapped


@pytest.mark.parametrize("host", ["x.onion", "2001:db8::1", "a b.example", "x" * 250 + ".example"])
def test_hosts_to_which_no_exit_can_be_chosen(world: World, host: str) -> None:
    with pytest.raises(ExitUnavailable):
        world.map(host)
    assert not world.control.told


# --- what is there already ----------------------------------------------------------------------


def test_what_a_daemon_has_left_is_swept_and_nothing_else(world: World) -> None:
    left = {f"tortxd-{n:032x}.onion": f"a.example.{A}.exit" for n in range(250)}
    users = {"a.example": "b.example", "tortxd-mine.onion": "c.example", "*.tortxd-x": "d.example"}
    world.control.mapped = {**left, **users}
    mine = world.map("c.example")
    Deferred.fromCoroutine(world.mappings.sweep())
    assert world.control.mapped == {**users, mine.name: f"c.example.{A}.exit"}
    assert max(map(len, world.control.told)) < 10_000


def test_at_the_end_all_are_removed(world: World) -> None:
    mappings = [world.map(f"{n}.example") for n in range(3)]
    Deferred.fromCoroutine(world.mappings.clear())
    assert not world.control.mapped
    told = len(world.control.told)
    for mapping in mappings:
        mapping.release()
    assert len(world.control.told) == told


@pytest.mark.parametrize(
    ("listing", "host", "to"),
    [
        ("a.example 192.0.2.1 NEVER", "a.example", "192.0.2.1"),
        ("A.example 192.0.2.1 NEVER", "a.EXAMPLE", "192.0.2.1"),
        ("a.example b.example NEVER\nb.example c.example NEVER", "a.example", "c.example"),
        ("*.a.example b.example NEVER", "x.y.a.example", "b.example"),
        ("*.a.example b.example NEVER", "a.example", "b.example"),
        ("*.a.example b.example NEVER", "aa.example", "aa.example"),
        ("*.a.example *.b.example NEVER", "x.y.a.example", "x.y.b.example"),
        ("*.a.example *.b.example NEVER", "a.example", "b.example"),
        ("*.a.example a.example NEVER", "x.a.example", "a.example"),
        ("*.a.example a.example NEVER", "a.example", "a.example"),
        ('a.example b.example "2026-11-27 00:00:00"', "a.example", "b.example"),
        ("", "a.example", "a.example"),
        ("a.example", "a.example", "a.example"),
    ],
)
def test_the_users_own_mappings_go_on_counting(
    world: World, listing: str, host: str, to: str
) -> None:
    """As Tor rewrites addresses: to one that ends with ``.exit`` it applies none."""
    assert UserMappings([listing, ""]).rewrite(host) == to
    world.control.config = listing
    assert world.control.mapped.get(world.map(host).name) == f"{to}.{A}.exit"


def test_mappings_in_a_circle_end() -> None:
    circle = "a.example b.example NEVER\nb.example a.example NEVER"
    assert UserMappings([circle]).rewrite("a.example") in ("a.example", "b.example")


def test_an_exit_that_the_users_mapping_chooses_is_the_one(world: World) -> None:
    world.control.config = f"a.example a.example.${B}~nick.exit NEVER"
    with pytest.raises(ExitUnavailable, match="MapAddress"):
        world.map("a.example", A)
    world.control.config = f"a.example a.example.{B.lower()}.exit NEVER"
    world.clock.advance(2)
    assert world.control.mapped[world.map("a.example", B).name] == f"a.example.{B}.exit"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b.a", "*.a", "*.b.a", "c"]),
            st.sampled_from(["a", "c", "*.c", "b.a", "x.onion"]),
        ),
        max_size=6,
    ),
    st.sampled_from(["a", "b.a", "z.b.a", "c", "q.c"]),
)
def test_no_listing_keeps_it_forever(pairs: list[tuple[str, str]], host: str) -> None:
    rewritten = UserMappings(["\n".join(f"{a} {b} NEVER" for a, b in pairs)]).rewrite(host)
    assert rewritten
    if not pairs:
        assert rewritten == host

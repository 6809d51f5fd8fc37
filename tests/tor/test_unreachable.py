"""An exit that is listed and cannot be reached is noticed by the circuits that fail before it."""

from __future__ import annotations

import pytest

from tortxd.tor.table import Table
from tortxd.tor.unreachable import MOST_FAILURES, UnreachableExits

EXIT, OTHER = "E" * 40, "0" * 40
PATH = f"${'A' * 40}~a,${'B' * 40}~b,${'C' * 40}~c"


class World:
    def __init__(self) -> None:
        self.table = Table()
        self.exits: list[str] = []
        self.told: list[str] = []
        self.watch = UnreachableExits(self.table, self.exits.append)
        self.circuits = 0

    def wait(self, username: str = "u", exit: str = EXIT) -> None:
        self.watch.watch(username, exit, lambda: self.told.append(username))

    def circuit(self, state: str, path: str = PATH, username: str = "u") -> None:
        """One more circuit, which comes so far."""
        self.circuits += 1
        id = self.circuits
        self.table.feed("CIRC", f"{id} LAUNCHED PURPOSE=GENERAL", 0.0)
        more = f'PURPOSE=GENERAL SOCKS_USERNAME="{username}" REASON=DESTROYED'
        self.table.feed("CIRC", f"{id} EXTENDED {path} {more}", 0.0)
        self.table.feed("CIRC", f"{id} {state} {path} {more}", 0.0)


@pytest.fixture
def world() -> World:
    return World()


def test_some_in_a_row_are_enough(world: World) -> None:
    world.wait()
    world.wait()
    for _ in range(MOST_FAILURES - 1):
        world.circuit("FAILED")
    assert not world.told
    world.circuit("FAILED")
    assert world.exits == [EXIT]
    assert world.told == ["u", "u"]
    world.circuit("FAILED")  # nobody waits any more
    assert world.exits == [EXIT]


@pytest.mark.parametrize(
    ("state", "path", "username"),
    [
        ("FAILED", f"${'A' * 40}~a", "u"),
        ("FAILED", f"${'A' * 40}~a,${'B' * 40}~b", "u"),
        ("FAILED", f"{PATH},${EXIT}~e", "u"),
        ("FAILED", PATH, "other"),
        ("CLOSED", PATH, "u"),
    ],
    ids=["at the guard", "in the middle", "behind the exit", "another's", "closed"],
)
def test_other_failures_say_nothing_of_it(
    world: World, state: str, path: str, username: str
) -> None:
    world.wait()
    for _ in range(2 * MOST_FAILURES):
        world.circuit(state, path, username)
    assert not world.exits


def test_one_that_is_built_makes_them_count_anew(world: World) -> None:
    world.wait()
    for _ in range(MOST_FAILURES - 1):
        world.circuit("FAILED")
    world.circuit("BUILT", f"{PATH},${EXIT}~e")
    for _ in range(MOST_FAILURES - 1):
        world.circuit("FAILED")
    assert not world.exits
    world.circuit("FAILED")
    assert world.exits == [EXIT]


def test_a_circuit_that_is_built_to_it_tells_that_it_is_back(world: World) -> None:
    back: list[str] = []
    world.watch = UnreachableExits(world.table, world.exits.append, back.append)
    world.wait()
    for _ in range(MOST_FAILURES):
        world.circuit("FAILED")
    world.circuit("BUILT", f"${OTHER}~o,${EXIT}~e,${'A' * 40}~a")
    assert not back
    world.circuit("BUILT", f"{PATH},${EXIT}~e", "another")
    world.circuit("BUILT", f"{PATH},${EXIT}~e", "another")
    assert back == [EXIT]


def test_who_waits_no_more_hears_nothing(world: World) -> None:
    leave = world.watch.watch("u", EXIT, lambda: world.told.append("u"))
    world.circuit("FAILED")
    leave()
    leave()
    world.wait("u", OTHER)
    for _ in range(MOST_FAILURES):
        world.circuit("FAILED")
    assert world.exits == [OTHER]
    world.watch.close()


def test_another_tor_begins_anew(world: World) -> None:
    world.wait()
    world.table.clear()
    for _ in range(MOST_FAILURES):
        world.circuit("FAILED")
    assert not world.exits

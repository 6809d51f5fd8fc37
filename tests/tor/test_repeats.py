"""Lines of the log that come again and again."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tortxd.tor.repeats import Repeats, alike


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.repeats = Repeats(self.clock)
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.repeats.say(self.said.append, text, like=alike(text))


@pytest.fixture
def world() -> World:
    return World()


def test_once_and_then_how_often(world: World) -> None:
    for count in range(13):
        world.say(f"It failed {count} times.")
    world.say("Other.")
    assert world.said == ["It failed 0 times.", "Other."]
    world.clock.advance(60)
    assert world.said[2:] == ["It failed 12 times. (12 times more in the last minute)"]
    world.say("It failed 99 times.")
    world.clock.advance(60)
    assert world.said[3:] == ["It failed 99 times. (once more in the last minute)"]


def test_a_line_that_comes_back_after_a_while_is_new(world: World) -> None:
    world.say("Odd.")
    world.clock.advance(61)
    world.say("Odd.")
    assert world.said == ["Odd.", "Odd."]


def test_what_is_left_is_said_at_the_end(world: World) -> None:
    for _ in range(3):
        world.say("Odd.")
    world.repeats.flush()
    assert world.said == ["Odd.", "Odd. (2 times more)"]
    assert not world.clock.getDelayedCalls()
    world.say("Odd.")
    assert world.said[2:] == ["Odd."]


def test_lines_without_end_are_not_remembered(world: World) -> None:
    for letters in range(1000):
        world.say("x" * letters)
    assert len(world.said) == 1000
    assert len(world.clock.getDelayedCalls()) == 200


def test_lines_of_one_cause_are_alike() -> None:
    relay = "host {} at 127.0.0.{}:9001"
    assert alike(relay.format("A" * 40, 1)) == alike(relay.format("B7" * 20, 25))
    assert alike("[scrubbed] died") != alike("[scrubbed] lives")

"""What Tor's log says of a start that does not get on. Its lines are those of tor 0.4.9.11."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tortxd.tor.causes import STAYS, Causes, cause_in

ENDED = 'Managed proxy "/usr/bin/obfs4proxy" having PID 22900 terminated with status code 1'
NO_TRANSPORT = 'Can\'t use bridge at [scrubbed]: there is no configured transport called "obfs4".'


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        (ENDED, "transport", "program obfs4proxy ends by itself, with status 1"),
        (
            'Managed proxy "/a b/pt" having PID 1 has exited.',
            "transport",
            "program pt ends by itself.",
        ),
        (
            NO_TRANSPORT,
            "bridge",
            "transport obfs4, which is not running: see Client",
        ),
        (
            "Client managed proxy encountered a method error. (obfs4 no such thing)",
            "transport",
            "failed: obfs4 no such thing.",
        ),
        (
            "Received a bad CERTS cell: At least one certificate expired.",
            "certificates",
            "clock seems to be wrong",
        ),
        (
            "Certificate already expired. Either their clock is set wrong, or your clock is wrong.",
            "certificates",
            "clock seems to be wrong",
        ),
        (
            "I learned some more directory information, but not enough to build a circuit: We have "
            "no recent usable consensus.",
            "consensus",
            "clock seems to be wrong",
        ),
        ("Failed to choose an exit server", "exits", "ExcludeExitNodes"),
    ],
)
def test_causes(text: str, key: str, says: str) -> None:
    cause = cause_in(text, exists=lambda _: True)
    assert cause is not None
    assert cause.key == key
    assert says in cause.sentence
    assert cause.sentence.endswith(".")


def test_a_path_that_others_name_is_not_looked_at() -> None:
    cause = cause_in(ENDED, exists=None)
    assert cause is not None
    assert cause.sentence == (
        "The pluggable transport program obfs4proxy is missing, or ends by itself."
    )


def test_a_program_that_is_missing_is_told_from_one_that_ends() -> None:
    cause = cause_in(ENDED, exists=lambda path: path != "/usr/bin/obfs4proxy")
    assert cause is not None
    assert cause.sentence == "The pluggable transport program obfs4proxy is missing."


@pytest.mark.parametrize(
    "text",
    [
        "Managed proxy at '/usr/bin/obfs4proxy' died in state Launched",
        "I learned some more directory information, but not enough to build a circuit: We have no "
        "usable consensus.",
        "The current consensus has no exit nodes. Tor can only build internal paths.",
        "You are running Tor as root. You don't need to, and you probably shouldn't.",
        "",
    ],
)
def test_other_lines_are_no_causes(text: str) -> None:
    assert cause_in(text) is None


@given(st.text(max_size=80))
def test_any_line_is_survived(text: str) -> None:
    cause_in(text)


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, str | None]] = []
        self.causes = Causes(self.clock, lambda key, sentence: self.told.append((key, sentence)))

    @property
    def keys(self) -> list[tuple[str, bool]]:
        return [(key, sentence is not None) for key, sentence in self.told]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.causes.close()
    assert not world.clock.getDelayedCalls()


def test_what_tor_repeats_counts_as_long_as_it_does(world: World) -> None:
    for _ in range(5):
        world.causes.heard(ENDED)
        world.clock.advance(STAYS - 1)
    assert set(world.keys) == {("transport", True)}
    world.clock.advance(2)
    assert world.keys[-1] == ("transport", False)


def test_what_tor_says_once_counts_until_it_gets_on(world: World) -> None:
    world.causes.heard(NO_TRANSPORT)
    world.clock.advance(10 * STAYS)
    world.causes.progress(0)
    assert world.keys == [("bridge", True)]
    world.causes.progress(1)
    assert world.keys == [("bridge", True), ("bridge", False)]


def test_progress_ends_every_cause(world: World) -> None:
    world.causes.heard(ENDED)
    world.causes.heard(NO_TRANSPORT)
    world.causes.progress(2)
    assert world.keys[2:] == [("transport", False), ("bridge", False)]


def test_once_it_serves_only_what_tor_would_repeat_counts(world: World) -> None:
    world.causes.progress(100)
    world.causes.heard(NO_TRANSPORT)
    assert not world.told
    world.causes.heard(ENDED)
    world.clock.advance(STAYS)
    assert world.keys == [("transport", True), ("transport", False)]


def test_nothing_is_told_after_the_end(world: World) -> None:
    world.causes.heard(ENDED)
    world.causes.close()
    world.clock.advance(10 * STAYS)
    world.causes.progress(50)
    assert world.keys == [("transport", True)]

"""What exits carry, as microdescriptors say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tortxd.errors import TorTimeout
from tortxd.tor.control import Control
from tortxd.tor.exits import FRESH, Exits, PortPolicy

RELAY = ["onion-key", "-----BEGIN RSA PUBLIC KEY-----", "p6x", "ntor-onion-key p6 accept 25"]


class Microdescriptors:
    """A control port that is asked for ``md/all``."""

    def __init__(self, *summaries: str | None) -> None:
        self.summaries = summaries
        self.asked: list[Deferred[None]] = []

    async def ask_for_lines(self, key: str, take: Callable[[str], None]) -> None:
        assert key == "md/all"
        asked: Deferred[None] = Deferred()
        self.asked.append(asked)
        await asked
        for line in ("md/all=", *self.lines()):
            take(line)

    def lines(self) -> list[str]:
        lines: list[str] = []
        for summary in self.summaries:
            lines += [*RELAY, "p accept 1-65535", *([] if summary is None else [f"p6 {summary}"])]
        return lines


class World:
    def __init__(self, *summaries: str | None) -> None:
        self.clock = Clock()
        self.control = Microdescriptors(*summaries)
        self.exits = Exits(self.clock, cast(Control, self.control))

    def ask(self, port: int) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.exits.carry_ipv6(port))

    def answer(self, port: int) -> bool | None:
        asking = self.ask(port)
        if self.control.asked and not self.control.asked[-1].called:
            self.control.asked[-1].callback(None)
        return cast("bool | None", asking.result)


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("accept 80", [80], [79, 81, 443]),
        ("accept 80,443,8000-8100", [80, 443, 8000, 8050, 8100], [7999, 8101]),
        ("reject 25,119,135-139", [1, 24, 26, 140, 65535], [25, 119, 137]),
        ("accept 1-65535", [1, 65535], []),
        ("reject 1-65535", [], [1, 80, 65535]),
    ],
)
def test_port_summaries(text: str, yes: list[int], no: list[int]) -> None:
    policy = PortPolicy.parse(text)
    assert all(policy.takes(port) for port in yes)
    assert not any(policy.takes(port) for port in no)


@pytest.mark.parametrize("text", ["", "accept", "allow 80", "accept x", "accept 1-", "accept 1,,2"])
def test_what_is_no_summary(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        PortPolicy.parse(text)


def test_one_exit_is_enough() -> None:
    world = World(None, "accept 80", None, "accept 443")
    assert world.answer(80) is True
    assert world.answer(443) is True
    assert world.answer(25) is False
    assert len(world.control.asked) == 1


def test_no_exit_carries_ipv6() -> None:
    assert World(None, None).answer(80) is False


def test_what_cannot_be_read_is_left_out() -> None:
    assert World("accept nothing", "accept 80").answer(80) is True


def test_policies_have_a_bound() -> None:
    """Those that are the same count once."""
    long = "accept " + ",".join(["80"] * 300)
    assert World(*[long] * 1000).answer(80) is True
    world = World(*(f"{long},{port}" for port in range(1, 1000)))
    asking = world.ask(80)
    world.control.asked[-1].callback(None)
    failure = asking.result
    assert isinstance(failure, Failure)
    assert "more exit policies than there can be" in failure.getErrorMessage()
    asking.addErrback(lambda _: None)


def test_before_there_is_a_consensus_nothing_is_known() -> None:
    world = World()
    assert world.answer(80) is None
    world.control.summaries = ("accept 80",)
    assert world.answer(80) is True


def test_it_is_read_again_after_a_while() -> None:
    world = World("accept 80")
    assert world.answer(25) is False
    world.control.summaries = ("accept 25",)
    world.clock.advance(FRESH - 1)
    assert world.answer(25) is False
    world.clock.advance(2)
    assert world.answer(25) is True


def test_many_who_ask_at_once_cause_one_question() -> None:
    world = World("accept 80")
    asking = [world.ask(80) for _ in range(50)]
    asking[7].cancel()
    asking[7].addErrback(lambda _: None)
    assert len(world.control.asked) == 1
    world.control.asked[0].callback(None)
    assert [one.result for one in asking if one is not asking[7]] == [True] * 49
    assert len(world.control.asked) == 1


def test_a_tor_that_does_not_answer_is_asked_again() -> None:
    world = World("accept 80")
    failing = world.ask(80)
    world.control.asked[0].errback(TorTimeout())
    failing.addErrback(lambda failure: failure.trap(TorTimeout))
    assert world.answer(80) is True


def test_who_gives_up_asking_causes_no_further_question() -> None:
    """A command that is on its way cannot be taken back: others would queue up behind it."""
    world = World("accept 80")
    for _ in range(20):
        asking = world.ask(80)
        asking.cancel()
        asking.addErrback(lambda _: None)
    assert len(world.control.asked) == 1
    assert world.answer(80) is True
    assert len(world.control.asked) == 1

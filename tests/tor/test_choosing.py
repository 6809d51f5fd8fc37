"""Which exit is chosen: drawn as the consensus weighs them, of those that will do."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from time import process_time
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tortxd.errors import ExitUnavailable
from tortxd.policy.steering import ANY, Choice
from tortxd.tor.choosing import (
    NO_COUNTRIES,
    UNREACHABLE_FOR,
    ExitChooser,
    drawn,
    read_weights,
    weight_of,
)
from tortxd.tor.consensus import Consensus, Node
from tortxd.tor.exit_rules import ExitRules, Patterns
from tortxd.tor.link import Relay
from tortxd.tor.nodes import matches
from tortxd.tor.relays import Relays
from tortxd.tor.replies import CommandRefused

T = TypeVar("T")
A, B, C, D = ("A" * 40, "B" * 40, "C" * 40, "D" * 40)
EXIT = frozenset({"Running", "Valid", "Exit"})
COUNTRIES = {A: "de", B: "de", C: "fr", D: "nl"}
WEB = "p accept 80,443"


def node(fingerprint: str, bandwidth: int = 1, *flags: str, without: str = "") -> Node:
    kept = EXIT.union(flags) - {without}
    return Node(fingerprint, "n", f"192.0.2.{ord(fingerprint[0])}", frozenset(kept), bandwidth)


class Control:
    """Tor, as a table says what it knows."""

    def __init__(self) -> None:
        self.known = {f"md/id/{one}": f"onion-key\n{WEB}\nid ed25519 x" for one in (A, B, C, D)}
        self.options: dict[str, list[str]] = {}
        self.lines: dict[str, list[str]] = {}
        self.refuses = False
        """To say what is configured."""
        self.asked: list[tuple[str, ...]] = []
        self.held: list[Deferred[None]] | None = None
        """Where questions of many lines wait, if it is not None."""

    async def ask(self, *keys: str) -> dict[str, str]:
        self.asked.append(keys)
        if not self.known.keys() >= set(keys):
            raise CommandRefused("Tor refused a command (552).", 552)
        return {key: self.known[key] for key in keys}

    async def ask_for_lines(self, key: str, take: Callable[[str], None]) -> None:
        self.asked.append((key,))
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.append(waiting)
            await waiting
        if key not in self.lines:
            raise CommandRefused("Tor refused a command (552).", 552)
        for line in self.lines[key]:
            take(line)

    async def configured(self, option: str) -> list[str]:
        if self.refuses:
            raise CommandRefused("Tor refused a command (510).", 510)
        return self.options.get(option, [])


class World:
    def __init__(self, *exits: Node, random: Random | None = None) -> None:
        self.clock, self.control = Clock(), Control()
        self.relays = [
            Relay(one, None, f"192.0.2.{ord(one[0])}", country)
            for one, country in COUNTRIES.items()
        ]
        self.known = relays = Relays()
        relays.replace(self.relays)
        control: Any = self.control
        self.chooser = ExitChooser(self.clock, control, relays, random)
        self.chooser.consensus_read(Consensus(tuple(self.relays), exits))

    def choose(self, choice: Choice = ANY, port: int = 80, avoiding: tuple[str, ...] = ()) -> str:
        return done(self.chooser.choose(choice, port, avoiding))

    def unavailable(self, choice: Choice = ANY, port: int = 80) -> bool:
        with pytest.raises(ExitUnavailable):
            self.choose(choice, port)
        return True


def done(work: Coroutine[Any, Any, T]) -> T:
    results: list[T] = []
    deferred = Deferred.fromCoroutine(work)
    deferred.addCallback(results.append)
    failures: list[Any] = []
    deferred.addErrback(failures.append)
    if failures:
        failures[0].raiseException()
    return results[0]


def of(*countries: str, exits: tuple[str, ...] = ()) -> Choice:
    return Choice(frozenset(countries), frozenset(exits))


# --- the draw -----------------------------------------------------------------------------------


def test_they_are_drawn_by_their_weights() -> None:
    """The first of the order is drawn by its share of all; the second by its share of the rest."""
    weights = {A: 6, B: 3, C: 1}
    nodes = [node(one, weight) for one, weight in weights.items()]
    random, firsts, seconds = Random(11), Counter[str](), Counter[str]()
    for _ in range(6000):
        first, second, _ = drawn(nodes, {}, random)
        firsts[first.fingerprint] += 1
        if first.fingerprint == A:
            seconds[second.fingerprint] += 1
    for one, weight in weights.items():
        assert abs(firsts[one] / 6000 - weight / 10) < 0.03
    assert abs(seconds[B] / seconds.total() - 3 / 4) < 0.03


def test_the_consensus_says_what_a_guard_counts_as_an_exit() -> None:
    weights = read_weights("bandwidth-weights Wee=10000 Wed=2500 Weg=0 Wem=5000 Wbd=7 x=y")
    assert weights["Wbd"] == 7 and "x" not in weights
    assert weight_of(node(A, 8), weights) == 8
    assert weight_of(node(A, 8, "Guard"), weights) == 2
    assert weight_of(node(A, 8, "Guard", without="Exit"), weights) == 0
    assert weight_of(node(A, 8, without="Exit"), weights) == 4
    assert weight_of(node(A, 8, "Guard"), {}) == 8


def test_the_weights_are_read_once_for_each_consensus() -> None:
    world = World(node(A, 8, "Guard"), node(C, 2), random=Random(3))
    key = "dir/status-vote/current/consensus-microdesc"
    world.control.lines[key] = ["directory-footer", "bandwidth-weights Wed=0 Wee=10000"]
    assert {world.choose() for _ in range(30)} == {C}
    assert world.control.asked.count((key,)) == 1
    world.chooser.consensus_read(Consensus((), (node(A, 8, "Guard"), node(C, 2))))
    world.control.lines[key] = ["bandwidth-weights Wed=10000 Wee=0"]
    assert {world.choose() for _ in range(30)} == {A}


def test_of_those_that_will_do_each_is_drawn_by_its_share() -> None:
    """Whatever else there is that does not, and however much that weighs."""
    world = World(node(A, 900), node(B, 60), node(C, 30), node(D, 10), random=Random(17))
    world.control.known[f"md/id/{A}"] = "p accept 22"
    counts = Counter(world.choose() for _ in range(3000))
    for one, share in ((B, 0.6), (C, 0.3), (D, 0.1)):
        assert abs(counts[one] / 3000 - share) < 0.04
    assert not counts[A]


def test_who_asks_at_once_asks_together_and_under_one_consensus() -> None:
    world = World(node(A, 8, "Guard"), node(C, 2), random=Random(3))
    key = "dir/status-vote/current/consensus-microdesc"
    world.control.lines[key] = ["bandwidth-weights Wed=0 Wee=10000"]
    world.control.held = []
    got: list[Any] = []
    for _ in range(50):
        Deferred.fromCoroutine(world.chooser.choose(ANY, 80)).addBoth(got.append)
    assert world.control.asked.count((key,)) == 1
    world.chooser.consensus_read(Consensus((), (node(D),)))  # meanwhile
    held, world.control.held = world.control.held, None
    for waiting in held:
        waiting.callback(None)
    assert set(got) == {C} and len(got) == 50
    assert world.choose() == D


def test_where_none_weighs_anything_each_is_as_likely() -> None:
    world = World(*(node(one, 0) for one in COUNTRIES), random=Random(5))
    counts = Counter(world.choose() for _ in range(2000))
    assert set(counts) == set(COUNTRIES)
    assert min(counts.values()) > 400


@given(st.lists(st.integers(0, 10**9), max_size=20), st.integers())
def test_each_is_drawn_once(bandwidths: list[int], seed: int) -> None:
    nodes = [node(f"{n:040X}", bandwidth) for n, bandwidth in enumerate(bandwidths)]
    assert sorted(drawn(nodes, {}, Random(seed)), key=id) == sorted(nodes, key=id)


# --- which will do ------------------------------------------------------------------------------


def test_countries_and_relays() -> None:
    world = World(node(A), node(B), node(C), node(D))
    assert {world.choose(of("de")) for _ in range(40)} == {A, B}
    assert {world.choose(of("fr", "nl")) for _ in range(40)} == {C, D}
    assert {world.choose(of(exits=(A, D))) for _ in range(40)} == {A, D}
    assert world.choose(of("de", exits=(A, D))) == A
    assert world.unavailable(of("us"))
    assert world.unavailable(of("fr", exits=(A, D)))


def test_it_carries_the_port() -> None:
    world = World(node(A), node(C), node(D), random=Random(9))
    world.control.known[f"md/id/{C}"] = "onion-key\np accept 22,80-90"
    world.control.known[f"md/id/{D}"] = "onion-key\np reject 25,443"
    assert {world.choose(port=22) for _ in range(40)} == {C, D}
    assert {world.choose(port=443) for _ in range(40)} == {A}
    assert world.unavailable(port=25)
    assert world.unavailable(of("fr"), port=443)


@pytest.mark.parametrize("text", ["", "onion-key", "p6 accept 80", "p maybe 80", "p accept x"])
def test_one_of_which_nothing_is_known_is_none(text: str) -> None:
    world = World(node(A))
    world.control.known[f"md/id/{A}"] = text
    assert world.unavailable()


def test_where_there_are_no_microdescriptors_the_status_says_it() -> None:
    world = World(node(A), node(B))
    del world.control.known[f"md/id/{A}"]
    world.control.known[f"ns/id/{A}"] = "r x\ns Exit\np accept 80"
    del world.control.known[f"md/id/{B}"]
    assert world.choose() == A


def test_policies_are_asked_for_as_they_are_needed() -> None:
    many = [node(f"{n:040X}") for n in range(500)]
    world = World(*many)
    world.control.known |= {f"md/id/{one.fingerprint}": WEB for one in many}
    world.choose()
    assert sum(len(keys) for keys in world.control.asked if keys[0].startswith("md/")) == 1
    for one in many[1:]:
        world.control.known[f"md/id/{one.fingerprint}"] = "p accept 22"
    assert world.choose(port=80) in {one.fingerprint for one in many}
    assert world.choose(port=22) in {one.fingerprint for one in many}
    # And each once, where one after the other does not do.
    asked = Counter(key for keys in world.control.asked for key in keys if key.startswith("md/"))
    assert max(asked.values()) == 1


def test_exits_that_were_tried_are_the_last_choice() -> None:
    world = World(node(A, 10**6), node(B, 1))
    assert {world.choose(avoiding=(A,)) for _ in range(20)} == {B}
    assert world.choose(of(exits=(A,)), avoiding=(A,)) == A


def test_a_relay_that_is_named_need_not_be_flagged_as_an_exit() -> None:
    world = World(node(A))
    world.control.lines[f"ns/id/{C}"] = status(C, "Running Valid")
    for _ in range(3):
        assert world.choose(of(exits=(C,))) == C
    assert world.control.asked.count((f"ns/id/{C}",)) == 1
    for flags in ("Running", "Valid", "Running Valid BadExit Exit"):
        world = World(node(A))
        world.control.lines[f"ns/id/{C}"] = status(C, flags)
        assert world.unavailable(of(exits=(C,)))
    world = World(node(A))
    world.control.lines[f"ns/id/{C}"] = status(D, "Running Valid Exit")
    assert world.unavailable(of(exits=(C,)))  # an answer about another relay


def test_relays_that_the_consensus_does_not_name_are_not_asked_for() -> None:
    world = World(node(A))
    for number in range(100):
        assert world.unavailable(of(exits=(f"{number:040X}",)))
    assert not [keys for keys in world.control.asked if keys[0].startswith("ns/")]


def status(fingerprint: str, flags: str) -> list[str]:
    name = b64encode(bytes.fromhex(fingerprint)).decode().rstrip("=")
    return [
        f"r n {name} digest 2038-01-01 00:00:00 192.0.2.{ord(fingerprint[0])} 9001 0",
        f"s {flags}",
    ]


@pytest.mark.parametrize("option", ["ExcludeNodes", "ExcludeExitNodes"])
@pytest.mark.parametrize("pattern", ["{de}", A, "192.0.2.64/31"])
def test_what_the_user_has_excluded_is_none(option: str, pattern: str) -> None:
    world = World(node(A), node(C))
    world.control.options[option] = [f"{{us}},{pattern}"]
    assert {world.choose() for _ in range(30)} == {C}
    assert world.unavailable(of(exits=(A,)))


def test_exit_nodes_count_where_nobody_chooses() -> None:
    """As in Tor: what is chosen counts for more (tor(1), "ExitNodes")."""
    world = World(node(A), node(C), node(D))
    world.control.options["ExitNodes"] = ["{fr}", D]
    assert {world.choose() for _ in range(40)} == {C, D}
    assert world.choose(of("de")) == A
    world = World(node(A))
    world.control.options["ExitNodes"] = ["{us}"]
    assert world.unavailable()


def test_where_the_users_rules_cannot_be_known_no_exit_is_chosen() -> None:
    world = World(node(A))
    world.control.refuses = True
    for _ in range(2):
        assert world.unavailable()


def test_without_geoip_a_country_cannot_be_asked_for_and_that_is_said() -> None:
    world = World(node(A), node(C))
    nowhere = [Relay(one.fingerprint, None, one.address) for one in world.relays]
    world.known.replace(nowhere)
    world.chooser.consensus_read(Consensus(tuple(nowhere), (node(A), node(C))))
    assert {world.choose() for _ in range(40)} == {A, C}
    assert world.choose(of(exits=(A,))) == A
    with pytest.raises(ExitUnavailable) as unavailable:
        world.choose(of("de"))
    assert str(unavailable.value) == NO_COUNTRIES


def test_options_that_change_count_at_once() -> None:
    world = World(node(A), node(C))
    assert {world.choose() for _ in range(40)} == {A, C}
    world.control.options["ExcludeExitNodes"] = ["{de}"]
    world.chooser.options_changed()
    assert {world.choose() for _ in range(40)} == {C}
    assert not done(world.chooser.has(A, 80))


def test_one_that_could_not_be_reached_is_none_for_a_while() -> None:
    world = World(node(A))
    assert done(world.chooser.has(A, 80))
    world.chooser.unreachable(A)
    assert world.unavailable()
    assert not done(world.chooser.has(A, 80))
    assert done(world.chooser.has(A, 80, has_circuit=True))
    world.clock.advance(UNREACHABLE_FOR)
    assert world.choose() == A
    world.chooser.unreachable(A)
    world.chooser.reached(A)
    assert world.choose() == A


def test_rules_of_many_items_take_no_longer() -> None:
    rules = ExitRules(None, Patterns.of([*(f"nick{n}" for n in range(20_000)), "n"]))
    began = process_time()
    for number in range(2_000):
        assert not rules.permit(node(f"{number:040X}"), None, chosen=True)
    assert process_time() - began < 1


@given(
    st.lists(
        st.sampled_from(
            [
                "{de}",
                "{??}",
                "{FR}",
                A,
                f"${B.lower()}~x",
                "n",
                "N",
                "other",
                "192.0.2.64/31",
                "192.0.2.66",
                "[2001:db8::]/32",
                "!",
                "",
            ]
        ),
        max_size=4,
    ),
    st.sampled_from([A, B, C, D]),
    st.sampled_from(["de", "fr", None]),
)
def test_rules_match_as_single_items_do(items: list[str], one: str, country: str | None) -> None:
    relay = node(one)
    countries = {} if country is None else {relay.address: country}
    each = any(matches(item, relay, countries) for item in items if item)
    assert Patterns.of(filter(None, items)).match(relay, country) is each


def test_whether_one_is_there() -> None:
    world = World(node(A), node(B))
    assert done(world.chooser.has(A, 443))
    assert not done(world.chooser.has(A, 22))
    assert not done(world.chooser.has(C, 80))
    world.chooser.consensus_read(Consensus((), (node(B),)))
    assert not done(world.chooser.has(A, 443))

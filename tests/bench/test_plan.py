"""What is measured with whom, and how long that takes."""

from __future__ import annotations

import pytest

from bench.cases.bulk import download, tunnel
from bench.cases.requests import small
from bench.options import Options
from bench.pairs import Comparison
from bench.peers import PEERS, TORTXD, Peer
from bench.peers.bare import RAW_SOCKS, TOR
from bench.peers.node import NODE_KEPT
from bench.peers.privoxy import PRIVOXY
from bench.plan import parts
from bench.progress import minutes
from bench.ways import Way

EVERYONE = (*PEERS, TOR)


def seconds(*arguments: str) -> float:
    options = Options.parse(arguments)
    return sum(part.seconds(options.turns) for part in parts(options, EVERYONE))


def test_a_quick_run_takes_three_minutes_at_most() -> None:
    assert seconds("--quick") < 180


def test_a_whole_run_has_ten_pairs_of_each_and_takes_an_afternoon_at_most() -> None:
    assert Options.parse([]).turns >= 10
    assert seconds() < 3 * 3600


@pytest.mark.parametrize("arguments", [[], ["--quick"]])
def test_no_case_stands_twice_in_a_setting(arguments: list[str]) -> None:
    for part in parts(Options.parse(arguments), EVERYONE):
        keys = [comparisons[0].case.key for comparisons in part.comparisons]
        assert len(set(keys)) == len(keys)


def test_one_case_of_one_setting_can_be_chosen() -> None:
    (part,) = parts(Options.parse(["--only", "near/small-50"]), [PRIVOXY])
    (comparisons,) = part.comparisons
    assert [(one.case.key, one.peer) for one in comparisons] == [("small-50", PRIVOXY)]


def test_a_setting_can_be_chosen_and_a_case_wherever_it_is() -> None:
    assert {one.setting.key for one in parts(Options.parse(["--only", "far"]), EVERYONE)} == {"far"}
    everywhere = parts(Options.parse(["--only", "small-200"]), EVERYONE)
    assert {part.setting.key for part in everywhere} == {"near", "tor"}


def test_whoever_is_missing_is_not_planned() -> None:
    for part in parts(Options.parse([]), [PRIVOXY]):
        assert {one.peer for case in part.comparisons for one in case} == {PRIVOXY}


def test_tunnels_of_tor_are_there_in_a_tor_network_only() -> None:
    for part in parts(Options.parse([]), EVERYONE):
        peers = {one.peer.key for case in part.comparisons for one in case}
        assert ("tunnel" in peers) == part.setting.is_tor


@pytest.mark.parametrize(
    ("peer", "way", "own_way"),
    [
        (PRIVOXY, Way.PROXY, Way.PROXY),
        (NODE_KEPT, Way.URL, Way.URL),
        (RAW_SOCKS, Way.SOCKS, Way.PROXY),
    ],
)
def test_tortxd_is_asked_as_the_peer_is(peer: Peer, way: Way, own_way: Way) -> None:
    comparison = Comparison.of(small(50, 1.0), peer, TORTXD.ways)
    assert comparison is not None
    assert (comparison.way, comparison.own_way) == (way, own_way)


def test_tunnels_are_compared_with_tunnels() -> None:
    for peer in (PRIVOXY, RAW_SOCKS):
        comparison = Comparison.of(tunnel(1, 1.0), peer, TORTXD.ways)
        assert comparison is not None and comparison.own_way is Way.CONNECT
    assert Comparison.of(tunnel(1, 1.0), NODE_KEPT, TORTXD.ways) is None


def test_a_way_that_a_case_is_not_about_is_not_taken() -> None:
    assert Comparison.of(small(50, 1.0, tls=True), PRIVOXY, TORTXD.ways) is None
    comparison = Comparison.of(download(1, 1.0), PRIVOXY, TORTXD.ways)
    assert comparison is not None and comparison.own_way is Way.PROXY


@pytest.mark.parametrize(
    ("time", "text"),
    [(20, "less than a minute"), (50, "about 1 minute"), (7000, "about 117 minutes")],
)
def test_a_time_is_said_in_minutes(time: float, text: str) -> None:
    assert minutes(time) == text

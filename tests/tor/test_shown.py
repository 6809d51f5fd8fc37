"""What operators are shown of a Tor beside circuits and streams: as its control port says it."""

from __future__ import annotations

from collections import deque

import pytest

from tests.tor.circuits import FLAGS, PATH, A, B, built, opened
from tortxd.tor.changes import Bandwidth, CircuitChanged, Cleared
from tortxd.tor.figures import Figures, figures_of
from tortxd.tor.isolation import Isolation, IsolationKeys
from tortxd.tor.replies import guards_of
from tortxd.tor.table import Table
from tortxd.tor.traffic import REMEMBERED

ALICE = Isolation("key", b"alice", b"caller")


def test_how_long_a_circuit_took_to_be_built() -> None:
    table = Table()
    told: list[CircuitChanged] = []
    table.listen(CircuitChanged, told.append)
    table.feed("CIRC", "9 LAUNCHED", 1.0)
    table.feed("CIRC", f"9 EXTENDED ${A}~guard", 1.5)
    assert table.circuits()[0].build_time is None
    table.feed("CIRC", f"9 BUILT {PATH}", 1.75)
    assert table.circuits()[0].build_time == 0.75
    # A circuit that serves another purpose is built anew: that is not what it is measured by.
    table.feed("CIRC", f"9 EXTENDED {PATH}", 3.0)
    table.feed("CIRC", f"9 BUILT {PATH}", 4.0)
    assert table.circuits()[0].build_time == 0.75
    assert [one.built for one in told] == [None, None, 1.75, 1.75, 1.75]


def test_nobody_knows_how_long_it_took_before_the_control_connection() -> None:
    table = Table()
    table.load(f"7 BUILT {PATH} {FLAGS}", "", 5.0)
    table.feed("CIRC_MINOR", f"7 PURPOSE_CHANGED BUILT {PATH} PURPOSE=GENERAL", 6.0)
    assert table.circuits()[0].build_time is None


def test_flags_and_the_legs_of_a_conflux_set() -> None:
    table = Table()
    for id in ("1", "2", "3"):
        leg = f"BUILD_FLAGS=NEED_CAPACITY,CONFLUX CONFLUX_ID={'AB' * 8}"
        table.feed("CIRC", f"{id} BUILT {PATH} {leg}", 1.0)
    assert [(one.conflux, one.leg) for one in table.circuits()] == [
        ("AB" * 8, 1),
        ("AB" * 8, 2),
        ("AB" * 8, 3),
    ]
    assert table.circuits()[0].flags == ("NEED_CAPACITY", "CONFLUX")
    table.feed("CIRC", f"2 CLOSED {PATH} REASON=FINISHED", 2.0)
    leg = f"CONFLUX_ID={'AB' * 8}"
    table.feed("CIRC", f"4 BUILT {PATH} {leg}", 3.0)
    assert [one.leg for one in table.circuits()] == [1, 3, 4]


def test_all_legs_of_a_set_are_for_those_whose_streams_are_on_one() -> None:
    """Streams of a set may be on any of its legs, and on another one later."""
    table = Table()
    for id in ("1", "2"):
        table.feed("CIRC", f"{id} BUILT {PATH} CONFLUX_ID={'AB' * 8}", 1.0)
    table.feed("CIRC", f"3 BUILT {PATH} CONFLUX_ID={'CD' * 8}", 1.0)
    opened(table, circuit="1")
    assert [one.username for one in table.circuits()] == ["u", "u", None]
    table.feed("CIRC", f"1 CLOSED {PATH} REASON=FINISHED", 3.0)
    assert [one.username for one in table.circuits()] == ["u", None]
    table.feed("CIRC", f"2 CLOSED {PATH} REASON=FINISHED", 3.0)
    table.feed("CIRC", f"4 BUILT {PATH} CONFLUX_ID={'AB' * 8}", 4.0)
    assert [one.username for one in table.circuits()] == [None, None]
    assert [table.owner(id) for id in ("1", "3", "99")] == ["u", None, None]


def test_whether_the_first_hop_is_a_guard() -> None:
    table = Table()
    table.feed("CIRC", "8 LAUNCHED", 1.0)
    built(table)
    assert [one.uses_guard for one in table.circuits()] == [None, None]
    table.relays.guards = frozenset((B,))
    assert [one.uses_guard for one in table.circuits()] == [None, False]
    table.relays.guards = frozenset((A, B))
    assert [one.uses_guard for one in table.circuits()] == [None, True]


@pytest.mark.parametrize(
    ("reply", "guards"),
    [
        (f"${A}~guard up\n${B.lower()}=other never-connected", {A, B}),
        (f"${A} up 2026-11-26", {A}),
        (f"{A}", {A}),
        ("", set()),
        (f"${A}F~longer up\nrubbish", set()),
    ],
)
def test_which_relays_are_guards(reply: str, guards: set[str]) -> None:
    assert guards_of(reply) == guards


def test_traffic_of_the_last_minutes() -> None:
    table = Table()
    told: list[Bandwidth] = []
    table.listen(Bandwidth, told.append)
    for second in range(REMEMBERED + 5):
        table.feed("BW", f"{second} 7", float(second))
    assert len(told) == REMEMBERED + 5
    assert table.traffic.seconds == tuple(deque(told, REMEMBERED))
    assert told[-1] == Bandwidth(REMEMBERED + 4, 7, REMEMBERED + 4.0)
    cleared: list[Cleared] = []
    table.listen(Cleared, cleared.append)
    table.clear()
    assert (table.traffic.seconds, cleared) == ((), [Cleared()])


@pytest.mark.parametrize("line", ["", "1", "1 x", "-1 2", "1" * 16 + " 2", "1.5 2"])
def test_bandwidth_that_makes_no_sense_is_passed_over(line: str) -> None:
    table = Table()
    table.feed("BW", line, 1.0)
    assert not table.traffic.seconds


def test_bandwidth_may_say_more() -> None:
    """Later versions may have further arguments (control-spec, section 2.3)."""
    table = Table()
    table.feed("BW", "1 2 OR=3,4", 1.0)
    assert table.traffic.seconds == (Bandwidth(1, 2, 1.0),)


def test_figures_as_tor_says_them() -> None:
    said = {
        "version": "0.4.9.11",
        "uptime": "77",
        "dormant": "0",
        "traffic/read": "1000",
        "traffic/written": "2000",
        "network-liveness": "up",
        "status/circuit-established": "1",
    }
    assert figures_of(said) == Figures("0.4.9.11", 77, False, 1000, 2000, True, True)
    assert figures_of({}) == Figures()
    odd = dict.fromkeys(said, "-1\x1b[2J") | {"version": "\x1b" + "x" * 200}
    figures = figures_of(odd)
    assert figures == Figures(figures.version)
    assert figures.version is not None
    assert (figures.version.isprintable(), len(figures.version)) == (True, 100)


# --- for whom -------------------------------------------------------------------------------------


def test_a_tag_is_the_same_for_all_identities_of_one_isolation() -> None:
    keys = IsolationKeys()
    first = keys.credentials(ALICE).username.decode()
    keys.renew(ALICE)
    second = keys.credentials(ALICE).username.decode()
    assert first != second
    assert keys.tag(first) == keys.tag(second)
    assert keys.isolation(first) == keys.isolation(second) == ALICE
    bob = keys.credentials(Isolation("key", b"bob", b"caller")).username.decode()
    assert keys.tag(bob) != keys.tag(first)
    assert keys.tag("another program's") not in {keys.tag(first), keys.tag(bob)}
    assert keys.isolation("another program's") is None


def test_a_tag_tells_nothing() -> None:
    tags = {
        keys.tag(keys.credentials(ALICE).username.decode())
        for keys in (IsolationKeys() for _ in range(8))
    }
    assert len(tags) == 8
    assert all(len(tag) == 8 and int(tag, 16) >= 0 for tag in tags)


def test_usernames_are_forgotten_at_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tortxd.tor.isolation._REMEMBERED_USERNAMES", 10)
    keys = IsolationKeys()
    usernames = [
        keys.credentials(Isolation("key", b"%d" % number)).username.decode() for number in range(11)
    ]
    assert keys.isolation(usernames[0]) is None
    assert keys.isolation(usernames[1]) == Isolation("key", b"1")

"""Who uses which circuit, fed through the table with lines as Tor writes them."""

from __future__ import annotations

import pytest

from tests.tor.circuits import FLAGS, PATH, A, built, opened
from tortxd.tor.table import Table
from tortxd.tor.usage import DIRTY_SECONDS, GRACE_SECONDS, Usage

OURS = '"u"'


class Watched(Table):
    """A table, and who uses what is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: list[str] = []
        self.usage = Usage(self, claimed=self.claims.append, suspected=str)

    def take_claims(self) -> list[str]:
        claims, self.claims[:] = self.claims.copy(), []
        return claims


def asked(table: Table, id: str = "20", now: float = 2.0) -> None:
    table.feed("STREAM", f"{id} NEW 0 a.example:80 SOCKS_USERNAME={OURS}", now)


def sent(table: Table, circuit: str = "7", id: str = "20", now: float = 2.0) -> None:
    table.feed("STREAM", f"{id} SENTCONNECT {circuit} a.example:80", now)


def failed(table: Table, how: str, circuit: str = "7", id: str = "20", now: float = 2.0) -> None:
    table.feed(
        "STREAM", f"{id} {how} {circuit} a.example:80 REASON=END REMOTE_REASON=RESOLVEFAILED", now
    )


def test_a_circuit_that_tor_had_ready_is_claimed_by_the_first_stream() -> None:
    table = Watched()
    built(table)
    assert not table.usage.carries("u", 2.0)
    asked(table)
    sent(table)
    assert table.take_claims() == ["u"]
    assert table.usage.carries("u", 2.0)
    assert not table.usage.carries("u", 2.0, served=True)
    asked(table, "21")
    sent(table, id="21")
    assert table.take_claims() == []


def test_a_circuit_that_is_launched_for_streams_is_claimed_at_once() -> None:
    table = Watched()
    table.feed("CIRC", f"7 EXTENDED ${A} {FLAGS} SOCKS_USERNAME={OURS}", 1.0)
    assert table.take_claims() == ["u"]
    assert table.usage.carries("u", 1.0)
    table.feed("CIRC", f"7 BUILT {PATH} {FLAGS} SOCKS_USERNAME={OURS}", 1.0)
    assert table.take_claims() == []


def test_a_circuit_that_serves_another_than_it_was_launched_for_is_that_ones() -> None:
    """Where the stream for which Tor launches it finds one that is ready sooner."""
    table = Watched()
    table.feed("CIRC", f'7 BUILT {PATH} {FLAGS} SOCKS_USERNAME="other"', 1.0)
    assert table.take_claims() == ["other"]
    asked(table)
    sent(table)
    assert table.take_claims() == ["u"]
    assert table.circuits()[0].username == "u"
    assert table.usage.carries("u", 2.0)
    assert not table.usage.carries("other", 2.0)
    table.feed("STREAM", '30 NEW 0 a.example:80 SOCKS_USERNAME="third"', 3.0)
    sent(table, id="30")  # they share it, as they may on a port that does not isolate
    assert table.circuits()[0].username == "u"


def test_legs_of_a_conflux_set_are_claimed_once() -> None:
    table = Watched()
    for id in ("7", "8"):
        built(table, id, " CONFLUX_ID=AB")
    asked(table)
    sent(table, "7")
    asked(table, "21")
    sent(table, "8", "21")
    assert table.take_claims() == ["u"]


def test_a_circuit_that_ends_is_claimed_by_nobody() -> None:
    """Tor names the user of a circuit that it had ready when that is closed."""
    table = Watched()
    built(table)
    table.feed("CIRC", f"7 CLOSED {PATH} {FLAGS} SOCKS_USERNAME={OURS} REASON=FINISHED", 3.0)
    assert table.take_claims() == []
    assert not table.usage.carries("u", 3.0)


def test_a_circuit_carries_no_further_streams_when_it_is_gone_old_or_spent() -> None:
    table = Watched()
    for id in ("7", "8", "9"):
        built(table, id)
        asked(table, f"2{id}")
        sent(table, id, f"2{id}", now=float(id))
    table.feed("CIRC", f"9 CLOSED {PATH} {FLAGS} REASON=FINISHED", 10.0)
    failed(table, "DETACHED", "8", "28", 10.0)
    assert table.usage.carries("u", 10.0)
    assert not table.usage.carries("u", 7.0 + DIRTY_SECONDS)


def test_one_over_which_streams_have_only_failed_is_not_counted_upon() -> None:
    table = Watched()
    built(table)
    asked(table)
    sent(table)
    failed(table, "FAILED")
    assert not table.usage.carries("u", 3.0)
    opened(table, id="21")
    assert table.usage.carries("u", 3.0, served=True)


def test_a_circuit_that_tor_gives_up_for_a_stream_is_useless_at_once() -> None:
    table = Watched()
    built(table, "7", " CONFLUX_ID=AB")
    built(table, "8", " CONFLUX_ID=AB")
    asked(table)
    sent(table)
    failed(table, "DETACHED")
    assert table.usage.has_suspects
    assert sorted(table.usage.take_useless(2.0)) == ["7", "8"]
    assert table.usage.take_useless(2.0) == []


def test_a_set_on_both_legs_of_which_streams_failed_is_told_once() -> None:
    table = Watched()
    for id in ("7", "8"):
        built(table, id, " CONFLUX_ID=AB")
        asked(table, f"2{id}")
        sent(table, id, f"2{id}")
        failed(table, "DETACHED", id, f"2{id}")
    assert sorted(table.usage.take_useless(2.0)) == ["7", "8"]


def test_one_that_may_still_fare_better_is_useless_after_a_while() -> None:
    table = Watched()
    built(table)
    asked(table)
    sent(table)
    failed(table, "FAILED")
    failed(table, "CLOSED")
    assert table.usage.take_useless(2.0 + GRACE_SECONDS - 0.1) == []
    assert table.usage.take_useless(2.0 + GRACE_SECONDS) == ["7"]


def test_one_that_has_served_is_not() -> None:
    table = Watched()
    built(table)
    opened(table)
    asked(table, "21")
    sent(table, id="21")
    failed(table, "DETACHED", id="21")
    assert not table.usage.has_suspects


def test_one_that_serves_after_a_failure_is_not() -> None:
    table = Watched()
    built(table)
    asked(table)
    sent(table)
    failed(table, "FAILED")
    opened(table, id="21")
    assert table.usage.take_useless(100.0) == []
    assert not table.usage.has_suspects


def test_one_that_carries_a_stream_is_not_yet() -> None:
    table = Watched()
    built(table)
    for id in ("20", "21"):
        asked(table, id)
        sent(table, id=id)
    failed(table, "DETACHED", id="20")
    assert table.usage.take_useless(100.0) == []
    failed(table, "FAILED", id="21")
    assert table.usage.take_useless(100.0) == ["7"]


@pytest.mark.parametrize("reason", ["DONE", "CONNRESET", "MISC"])
def test_a_client_that_leaves_says_nothing_of_a_circuit(reason: str) -> None:
    table = Watched()
    built(table)
    asked(table)
    sent(table)
    table.feed("STREAM", f"20 CLOSED 7 a.example:80 REASON={reason}", 2.0)
    assert not table.usage.has_suspects
    assert table.usage.carries("u", 2.0)


def test_a_circuit_on_which_a_stream_took_too_long_is_suspect() -> None:
    table = Watched()
    built(table)
    asked(table)
    sent(table)
    table.feed("STREAM", "20 FAILED 7 a.example:80 REASON=TIMEOUT", 2.0)
    assert table.usage.has_suspects


def test_others_circuits_are_left_to_them() -> None:
    table = Watched()
    built(table)
    asked(table)
    sent(table)
    failed(table, "DETACHED")
    assert table.usage.take_useless(2.0, "ours") == []
    built(table, "8")
    table.feed("STREAM", "30 NEW 0 a.example:80", 2.0)
    sent(table, "8", "30")
    failed(table, "DETACHED", "8", "30")
    assert not table.usage.has_suspects


def test_what_is_closed_is_forgotten() -> None:
    table = Watched()
    built(table)
    asked(table)
    sent(table)
    failed(table, "DETACHED")
    table.feed("CIRC", f"7 CLOSED {PATH} {FLAGS} REASON=FINISHED", 3.0)
    assert not table.usage.has_suspects
    assert not table.usage._by_username

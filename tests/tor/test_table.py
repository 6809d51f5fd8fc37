"""The table of circuits and streams, fed with lines as Tor writes them."""

from __future__ import annotations

import gc
import time
import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tor.circuits import FLAGS, PATH, A, B, C, built, opened
from tortxd.tor import table as table_module
from tortxd.tor.changes import Source, StreamEnded
from tortxd.tor.guard import MOST_CIRCUITS, UnroutableStreams
from tortxd.tor.lines import source_of, split_path
from tortxd.tor.link import Relay
from tortxd.tor.recent import REMEMBER_SECONDS, REMEMBER_STREAMS
from tortxd.tor.table import Table
from tortxd.wire.control import Implausible

SOURCE = ("127.0.0.1", 43210)


def why(table: Table, now: float, source: Source = SOURCE) -> str | None:
    ended = table.end_of(source, now)
    return None if ended is None else ended.cause


def guarded(table: Table, username_prefix: str = "") -> list[str]:
    """The ids of streams that no circuit is enough for, as they are found."""
    unroutable: list[str] = []
    UnroutableStreams(table, unroutable.append, username_prefix)
    return unroutable


def test_a_circuit_from_launch_to_close() -> None:
    table = Table()
    built(table)
    assert table.relays.missing(PATH) == (C, B, A)
    (circuit,) = table.circuits()
    assert (circuit.id, circuit.state, circuit.purpose, circuit.created) == (
        "7",
        "BUILT",
        "GENERAL",
        1.0,
    )
    assert [relay.nickname for relay in circuit.path] == ["guard", "middle", "exit"]
    assert circuit.exit == Relay(C, "exit")
    table.feed("CIRC", f"7 CLOSED {PATH} {FLAGS} REASON=FINISHED", 3.0)
    assert table.circuits() == ()


def test_relays_are_wanted_once() -> None:
    table = Table()
    table.relays.add(Relay(A, None, "192.0.2.1", "de"))
    built(table)
    assert table.relays.missing(PATH) == (C, B)
    assert table.circuits()[0].path[0] == Relay(A, "guard", "192.0.2.1", "de")
    assert A in table.relays


def test_a_stream_and_its_circuit() -> None:
    table = Table()
    built(table)
    opened(table)
    (stream,) = table.streams()
    assert (stream.id, stream.state, stream.circuit, stream.target, stream.source) == (
        "20",
        "SUCCEEDED",
        "7",
        "a.example:443",
        SOURCE,
    )
    assert stream.purpose == "USER"
    assert table.circuits()[0].streams == ("20",)
    circuit = table.circuit_of(SOURCE, 3.0)
    assert circuit is not None
    assert circuit.exit is not None
    assert circuit.exit.fingerprint == C
    assert table.circuit_of(("127.0.0.1", 1), 3.0) is None


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("REASON=END REMOTE_REASON=DONE", "DONE"),
        ("REASON=DONE", "DONE"),
        ("REASON=END REMOTE_REASON=CONNRESET", "CONNRESET"),
        ("REASON=DESTROY", "DESTROY"),
        ("", "MISC"),
    ],
)
def test_why_a_stream_ended(told: str, reason: str) -> None:
    table = Table()
    built(table)
    opened(table)
    assert why(table, 3.0) is None
    table.feed("STREAM", f"20 CLOSED 7 a.example:443 {told}", 3.0)
    assert table.streams() == ()
    assert table.circuits()[0].streams == ()
    assert table.circuit_of(SOURCE, 3.5) is not None
    assert why(table, 3.5) == reason


def test_failed_then_closed_is_one_end() -> None:
    table = Table()
    opened(table)
    ends: list[StreamEnded] = []
    table.listen(StreamEnded, ends.append)
    table.feed("STREAM", "20 FAILED 7 a.example:443 REASON=TIMEOUT", 3.0)
    table.feed("STREAM", "20 CLOSED 7 a.example:443 REASON=DONE", 3.0)
    assert [ended.cause for ended in ends] == ["TIMEOUT"] == [why(table, 3.0)]


def test_a_detached_stream_tries_another_circuit() -> None:
    table = Table()
    built(table, "7")
    built(table, "8")
    opened(table)
    table.feed("STREAM", "20 DETACHED 7 a.example:443 REASON=TIMEOUT", 3.0)
    assert table.circuit_of(SOURCE, 3.0) is None
    assert [circuit.streams for circuit in table.circuits()] == [(), ()]
    table.feed("STREAM", "20 SENTCONNECT 8 a.example:443", 3.0)
    circuit = table.circuit_of(SOURCE, 3.0)
    assert circuit is not None
    assert circuit.id == "8"
    assert circuit.streams == ("20",)


def test_a_port_that_is_used_again() -> None:
    table = Table()
    built(table)
    opened(table, id="20")
    table.feed("STREAM", "20 CLOSED 7 a.example:443 REASON=DONE", 3.0)
    opened(table, id="21")
    assert why(table, 3.0) is None
    table.feed("STREAM", "21 CLOSED 7 a.example:443 REASON=DESTROY", 3.0)
    assert why(table, 3.0) == "DESTROY"


def test_what_is_past_is_forgotten() -> None:
    table = Table()
    built(table)
    opened(table)
    table.feed("STREAM", "20 CLOSED 7 a.example:443 REASON=DONE", 3.0)
    assert table.circuit_of(SOURCE, 3.0 + REMEMBER_SECONDS) is not None
    assert table.circuit_of(SOURCE, 3.1 + REMEMBER_SECONDS) is None
    assert why(table, 3.1 + REMEMBER_SECONDS) is None


def test_memory_is_bounded() -> None:
    table = Table()
    guard = UnroutableStreams(table, str)
    for number in range(3 * REMEMBER_STREAMS):
        opened(table, str(number), str(number), 1 + number % 65535)
        table.feed("STREAM", f"{number} CLOSED 0 a.example:443 REASON=DONE", 3.0)
        built(table, str(number), now=3.0)
        table.feed("CIRC", f"{number} CLOSED {PATH} {FLAGS}", 3.0)
    recent = table._recent
    assert len(recent._by_source) == len(recent._streams) == REMEMBER_STREAMS
    assert len(recent._circuits) <= REMEMBER_STREAMS
    assert not table._streams
    assert not table._circuits
    assert not table._on
    assert not table._sets
    assert not guard._waiting
    assert not guard._launched


def test_one_leg_of_conflux_stands_for_the_other() -> None:
    table = Table()
    built(table, "7", " CONFLUX_ID=AB CONFLUX_RTT=1")
    built(table, "8", " CONFLUX_ID=AB CONFLUX_RTT=2")
    built(table, "9", " CONFLUX_ID=CD CONFLUX_RTT=2")
    opened(table)
    table.feed("CIRC", f"7 CLOSED {PATH} {FLAGS} CONFLUX_ID=AB", 3.0)
    circuit = table.circuit_of(SOURCE, 3.0)
    assert circuit is not None
    assert circuit.id == "8"
    table.feed("CIRC", f"8 CLOSED {PATH} {FLAGS} CONFLUX_ID=AB", 3.0)
    circuit = table.circuit_of(SOURCE, 3.0)
    assert circuit is not None
    assert (circuit.id, circuit.state, circuit.exit) == ("7", "CLOSED", circuit.path[-1])


def test_a_circuit_changes_its_purpose() -> None:
    table = Table()
    built(table, "7", " PURPOSE=CONFLUX_UNLINKED")
    table.feed(
        "CIRC_MINOR",
        f"7 PURPOSE_CHANGED {PATH} {FLAGS} PURPOSE=CONFLUX_LINKED CONFLUX_ID=AB "
        "OLD_PURPOSE=CONFLUX_UNLINKED",
        2.0,
    )
    table.feed("CIRC_MINOR", "8 PURPOSE_CHANGED PURPOSE=GENERAL", 2.0)
    table.feed("CIRC_MINOR", "", 2.0)
    (circuit,) = table.circuits()
    assert (circuit.purpose, circuit.state) == ("CONFLUX_LINKED", "BUILT")


def launched(table: Table, id: str, login: str = "u", purpose: str = "GENERAL") -> None:
    flags = f"BUILD_FLAGS=NEED_CAPACITY PURPOSE={purpose}"
    table.feed("CIRC", f"{id} LAUNCHED {flags}", 2.0)
    for path in (f"${A}", f"${A},${B}"):
        table.feed("CIRC", f'{id} EXTENDED {path} {flags} SOCKS_USERNAME="{login}"', 2.0)


def waits(table: Table, id: str, login: str) -> None:
    rest = f'SOURCE_ADDR=127.0.0.1:4321 PURPOSE=USER SOCKS_USERNAME="{login}"'
    table.feed("STREAM", f"{id} NEW 0 a.example:443 {rest}", 1.0)


def test_a_stream_that_no_circuit_is_enough_for_is_told_once() -> None:
    """Rule 29."""
    table = Table()
    unroutable = guarded(table)
    waits(table, "20", "u")
    waits(table, "21", "other")
    for number in range(MOST_CIRCUITS):
        launched(table, str(number))
        assert unroutable == []
    launched(table, "100", "other")
    launched(table, "101", "u", "HS_CLIENT_REND")
    assert unroutable == []
    launched(table, "102")
    assert unroutable == ["20"]
    launched(table, "103")
    assert unroutable == ["20"]


def test_circuits_count_only_while_a_stream_waits() -> None:
    table = Table()
    unroutable = guarded(table)
    waits(table, "20", "u")
    launched(table, "1")
    table.feed("STREAM", '20 SENTCONNECT 1 a.example:443 SOCKS_USERNAME="u"', 2.0)
    for number in range(2, 100):
        launched(table, str(number))
    table.feed("STREAM", '20 CLOSED 1 a.example:443 REASON=DONE SOCKS_USERNAME="u"', 3.0)
    waits(table, "21", "u")
    for number in range(100, 100 + MOST_CIRCUITS):
        launched(table, str(number))
    assert unroutable == []


def test_what_was_there_before_us() -> None:
    table = Table()
    opened(table, id="21", circuit="8")
    table.load(
        f"7 BUILT {PATH} {FLAGS}\r\n8 EXTENDED ${A} {FLAGS}\n",
        "20 SUCCEEDED 7 a.example:443\n21 SENTCONNECT 8 a.example:443\n",
        100.0,
        datetime(2026, 11, 22, 15, 52, 9, 938000, UTC),
    )
    old, new = table.circuits()
    assert old.created == 40.0
    assert old.streams == ("20",)
    assert new.path == (Relay(A),)
    assert table.circuit_of(SOURCE, 100.0) == new
    table.clear()
    assert not table.circuits()
    assert not table.streams()


def test_paths_and_sources() -> None:
    assert list(split_path("")) == []
    assert list(split_path(f"${A.lower()}")) == [(A, None)]
    assert source_of("[::1]:5") == source_of("::1:5") == ("::1", 5)
    assert source_of("(Tor_internal):0") is None
    assert source_of("unix:") is None
    assert source_of("localhost:5") is source_of("[::1%eth0]:5") is source_of(":5") is None


@given(st.lists(st.text(max_size=80)))
def test_any_line_is_survived(lines: list[str]) -> None:
    table = Table()
    for line in lines:
        for text in (line, f"7 BUILT {line}", f"7 CLOSED {line}", f"20 NEW 0 a:1 {line}"):
            table.feed("CIRC", text, 1.0)
            table.feed("STREAM", text, 1.0)
    table.load("\n".join(lines), "\n".join(lines), 1.0, datetime.now(UTC))
    table.circuits()
    table.streams()


def burst(streams: int) -> float:
    """Seconds of the processor's time for so many streams, each from its beginning to its end."""
    table = Table()
    built(table)
    gc.collect()
    gc.disable()  # it would look through all that the other tests have left
    try:
        begun = time.process_time()
        for number in range(streams):
            opened(table, "7", str(number), 1024 + number)
            table.feed(
                "STREAM", f"{number} CLOSED 7 a.example:443 REASON=END REMOTE_REASON=DONE", 2
            )
        return time.process_time() - begun
    finally:
        gc.enable()


def test_a_burst_costs_no_more_than_its_size() -> None:
    """Eight times as many cost some eight times as much, where they could cost 64 times."""
    few, many = (min(burst(number) for _ in range(3)) for number in (500, 4000))
    assert many < 24 * few


def test_strangers_streams_may_be_left_alone() -> None:
    """On a Tor that others use as well."""
    table = Table()
    unroutable = guarded(table, "ours")
    waits(table, "20", "ours-1")
    waits(table, "21", "theirs")
    for number in range(MOST_CIRCUITS + 1):
        launched(table, f"1{number:03}", "ours-1")
        launched(table, f"2{number:03}", "theirs")
    assert unroutable == ["20"]


def test_a_stream_is_found_by_its_source_and_username() -> None:
    table = Table()
    waits(table, "20", "u")
    assert table.stream_of(("127.0.0.1", 4321), "u") == "20"
    assert table.stream_of(("127.0.0.1", 4321), "v") is None
    assert table.stream_of(("127.0.0.1", 4322), "u") is None
    table.feed("STREAM", '20 CLOSED 0 a.example:443 REASON=DONE SOCKS_USERNAME="u"', 3.0)
    assert table.stream_of(("127.0.0.1", 4321), "u") is None


# --- what no Tor says -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "",
        "7",
        "7 BUILT\x1b",
        "7\tX-Evil: BUILT",
        "12345678901234567 BUILT",
        "7-7 BUILT",
        "é BUILT",
    ],
)
def test_a_line_of_another_form_is_passed_over(line: str) -> None:
    table = Table()
    table.feed("CIRC", line, 1.0)
    table.feed("CIRC_MINOR", line, 1.0)
    table.feed("STREAM", f"{line} 0 a.example:80", 1.0)
    shown = [(one.id, one.state) for one in table.circuits()]
    shown += [(one.id, one.state) for one in table.streams()]
    assert not shown


@pytest.mark.parametrize(
    ("path", "hops"),
    [
        (PATH, 3),
        (f"${A}=named", 1),
        (f"${A.lower()}", 1),
        (f"${A}X", 0),
        (f"${'G' * 40}", 0),
        (f"${A}~<script>", 0),
        (f"${A}~{'n' * 20}", 0),
        (",".join([f"${A}"] * 16), 16),
        (",".join([f"${A}"] * 17), 0),
    ],
)
def test_a_path_is_made_of_relays(path: str, hops: int) -> None:
    table = Table()
    table.feed("CIRC", f"7 BUILT {path} PURPOSE=GENERAL", 1.0)
    (circuit,) = table.circuits()
    assert len(circuit.path) == hops
    assert all(relay.fingerprint == A for relay in circuit.path[:1])


def test_words_that_are_none_are_left_out() -> None:
    table = Table()
    table.feed("CIRC", f"7 BUILT {PATH} PURPOSE=a\x1bb CONFLUX_ID=<b>", 1.0)
    source = "SOURCE_ADDR=127.0.0.1:43210"
    table.feed("STREAM", f"20 NEW 0 a.example:443 {source} PURPOSE=\N{RIGHT-TO-LEFT OVERRIDE}", 2.0)
    table.feed("STREAM", "20 SENTCONNECT 7\rX: a.example:443", 2.0)
    table.feed("STREAM", "21 NEW 0 a\x7f.example:443", 2.0)
    table.feed("STREAM", f"22 NEW 0 {'a' * 301}", 2.0)
    (circuit,), (stream,) = table.circuits(), table.streams()
    assert (circuit.purpose, stream.purpose, stream.circuit) == (None, None, "7")
    table.feed("STREAM", "20 CLOSED 7 a.example:443 REASON=a\x1bb", 3.0)
    assert why(table, 3.0) == "MISC"


def test_what_is_open_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "MOST_OPEN_CIRCUITS", 100)
    monkeypatch.setattr(table_module, "MOST_OPEN_STREAMS", 100)
    table = Table()
    for n in range(500):  # over and over, but not at once
        table.feed("CIRC", f"{n} LAUNCHED", float(n))
        table.feed("STREAM", f"{n} NEW 0 a.example:80", float(n))
        if n >= 50:
            table.feed("CIRC", f"{n - 50} CLOSED", float(n))
            table.feed("STREAM", f"{n - 50} CLOSED 0 a.example:80 REASON=DONE", float(n))
    with pytest.raises(Implausible, match="more open circuits than a Tor has"):
        table.load("".join(f"{n} LAUNCHED\n" for n in range(1000, 1100)), "", 1.0)
    with pytest.raises(Implausible, match="more open streams than a Tor has"):
        table.load("", "".join(f"{n} NEW 0 a.example:80\n" for n in range(1000, 1100)), 1.0)
    assert len(table.circuits()) == len(table.streams()) == 100


def test_text_that_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended is not counted any more."""
    monkeypatch.setattr(table_module, "MOST_TEXT", 2000)
    login = '"' + "x" * 500 + '"'
    for begin, end in (
        (f"{{}} NEW 0 a.example:80 SOCKS_USERNAME={login}", "{} CLOSED 0 a.example:80"),
        (f"{{}} BUILT {PATH} SOCKS_USERNAME={login}", "{} CLOSED"),
    ):
        table = Table()
        event = "STREAM" if "NEW" in begin else "CIRC"
        for n in range(100):
            table.feed(event, begin.format(n), 1.0)
            table.feed(event, end.format(n), 1.0)
        with pytest.raises(Implausible, match="more circuits and streams than a Tor has"):
            for n in range(4):
                table.feed(event, begin.format(n), 1.0)
    for event in ("STREAM", "CIRC", "CIRC_MINOR"):
        with pytest.raises(Implausible, match="event that is too long"):
            table.feed(event, "1 NEW 0 " + "x" * 9000, 1.0)


def test_a_stream_beyond_the_bound_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were there before are shown until the next control connection."""
    table = Table()
    built(table)
    monkeypatch.setattr(table_module, "MOST_TEXT", table._text + 15)
    with pytest.raises(Implausible, match="more circuits and streams than a Tor has"):
        rest = 'SOURCE_ADDR=127.0.0.1:43210 SOCKS_USERNAME="username"'
        table.feed("STREAM", f"20 SENTCONNECT 7 a:80 {rest}", 2.0)
    assert table.circuit_of(SOURCE, 2.0) is None
    assert table.stream_of(SOURCE, "username") is None


LONG = "x" * 8000


@pytest.mark.parametrize(
    "line",
    [
        "STREAM {n}{long} NEW 0 a.example:80",
        "STREAM {n} NEW{long} 0 a.example:80",
        "STREAM {n} NEW 0{long} a.example:80",
        "STREAM {n} NEW 0 {long}:80",
        "STREAM {n} NEW 0 a.example:80 SOURCE_ADDR={long}{n}:1",
        "STREAM {n} NEW 0 a.example:80 SOURCE_ADDR=127.0.0.1:{long}",
        "STREAM {n} NEW 0 a.example:80 SOURCE_ADDR=[::1%{long}]:1",
        "STREAM {n} NEW 0 a.example:80 PURPOSE={long}",
        "STREAM {n} NEW 0 a.example:80 SOCKS_USERNAME={long}{n}",
        "CIRC {n}{long} BUILT",
        "CIRC {n} BUILT{long}",
        "CIRC {n} BUILT {long}{n}",
        "CIRC {n} BUILT PURPOSE={long}",
        "CIRC {n} BUILT CONFLUX_ID={long}{n}",
        "CIRC {n} BUILT SOCKS_USERNAME={long}{n}",
    ],
)
def test_no_field_of_what_is_kept_is_long(line: str) -> None:
    """Neither while it is open nor afterwards."""
    table = Table()
    kind, _, rest = line.partition(" ")
    tracemalloc.start()
    try:
        for n in range(500):
            table.feed(kind, rest.format(n=n, long=LONG), 1.0)
        grown = [tracemalloc.get_traced_memory()[0]]
        for n in range(500):
            table.feed(kind, f"{n} CLOSED 0 a.example:80 REASON={LONG}{n}", 1.0)
        grown.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(grown) < 500 * 1500


def test_a_closed_circuit_keeps_no_streams() -> None:
    """They might be put on many, one after the other."""
    table = Table()
    opened(table)
    for n in range(100, 110):
        built(table, str(n))
        table.feed("STREAM", f"20 SENTCONNECT {n} a.example:443", 2.5)
        table.feed("CIRC", f"{n} CLOSED {PATH} {FLAGS}", 3.0)
    circuit = table.circuit_of(SOURCE, 3.0)
    assert circuit is not None
    assert (circuit.id, circuit.streams) == ("109", ())


def test_a_change_of_purpose_is_no_launch() -> None:
    """Nobody takes what would be kept of it."""
    table = Table()
    unroutable = guarded(table)
    waits(table, "20", "u")
    for n in range(2 * MOST_CIRCUITS):
        table.feed("CIRC", f"{n} LAUNCHED PURPOSE=GENERAL", 2.0)
        table.feed("CIRC_MINOR", f'{n} PURPOSE_CHANGED PURPOSE=GENERAL SOCKS_USERNAME="u"', 2.0)
    assert unroutable == []


def test_a_circuit_for_many_waiting_streams_costs_little() -> None:
    """Only the oldest are counted for; those that have a circuit are none of them."""
    table = Table()
    unroutable = guarded(table)
    for n in range(1000):
        table.feed("STREAM", f'{n} NEW 0 a.example:80 SOCKS_USERNAME="u"', 1.0)
    for n in range(500):
        table.feed("STREAM", f"{n} SENTCONNECT 7 a.example:80", 1.0)
    for n in range(MOST_CIRCUITS + 1):
        table.feed("CIRC", f'{n} LAUNCHED PURPOSE=GENERAL SOCKS_USERNAME="u"', 1.0)
    assert unroutable == [str(n) for n in range(500, 756)]

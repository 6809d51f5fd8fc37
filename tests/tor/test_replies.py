"""What the control port answers, taken apart."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.addresses import SocksAddress
from tortxd.errors import SetupError
from tortxd.tor.replies import (
    bootstrap_of,
    choose_socks,
    listeners,
    parse_conf,
    parse_info,
    parse_protocolinfo,
    parse_status,
    relay_address,
    skew_in_words,
    skew_of,
    unquoted,
)
from tortxd.tor.status import Bootstrapping

ONE, TWO = SocksAddress(port=1), SocksAddress(port=2)


def test_info_of_one_and_of_many_lines() -> None:
    reply = 'a/b="127.0.0.1:1"\ncircuit-status=\n7 BUILT x=y\n8 BUILT\nversion=0.4=9\nOK'
    assert parse_info(reply, ["a/b", "circuit-status", "version"]) == {
        "a/b": '"127.0.0.1:1"',
        "circuit-status": "7 BUILT x=y\n8 BUILT",
        "version": "0.4=9",
    }


def test_values_of_options() -> None:
    assert parse_conf("SocksPort") == []
    assert parse_conf('SocksPort="unix:\\"/a\\303\\244 b\\" X"\nSocksPort=9050 Y') == [
        'unix:"/aä b" X',
        "9050 Y",
    ]


def test_unquoting() -> None:
    assert unquoted("plain") == "plain"
    assert unquoted(r'"a\"\\\n\t\r\q"') == 'a"\\\n\t\rq'
    assert unquoted(r'"\377"') == "\xff"
    assert unquoted('"\xc3\xa4\\303\\244"') == "ää"
    assert unquoted('"\xe4"') == "\xe4"


def test_paths_are_utf_8() -> None:
    """However they are written, they are the same."""
    (path,) = listeners(r'"unix:/\303\244 b"')
    assert path == SocksAddress(path="/ä b")
    plain = SocksAddress(path="/ä")
    for value in ('unix:"/\xc3\xa4" X', "unix:/\xc3\xa4 X", r'"unix:\"/\303\244\" X"'):
        (mixing,) = parse_conf(f"SocksPort={value.replace('X', 'NoIsolateSOCKSAuth')}")
        with pytest.raises(SetupError, match="NoIsolateSOCKSAuth"):
            choose_socks([plain], [mixing])
    offer = parse_protocolinfo('AUTH METHODS=SAFECOOKIE COOKIEFILE="/\xc3\xa4\\303\\244\\377"')
    assert os.fsencode(str(offer.cookie)) == "/ää".encode() + b"\xff"


@pytest.mark.parametrize("text", ["a", 'a="', '"\\', '\\"', 'a="\\', "a="])
def test_a_long_line_is_read_at_once(text: str) -> None:
    """It would take minutes, if each of its characters were taken for a beginning."""
    long = f"NOTICE BOOTSTRAP {text * (256 * 1024 // len(text))}"
    began = time.process_time()
    parse_status(long)
    parse_conf(f"SocksPort={long}")
    listeners(long)
    parse_protocolinfo(f"AUTH METHODS={long} COOKIEFILE={long}")
    assert time.process_time() - began < 2.0


def test_status_events() -> None:
    event = parse_status(
        'WARN BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="Connecting to a relay" '
        'WARNING="Connection \\"refused\\"" REASON=CONNECTREFUSED COUNT=1 HOSTADDR="192.0.2.1:9"'
    )
    assert (event.severity, event.action) == ("WARN", "BOOTSTRAP")
    assert bootstrap_of(event) == Bootstrapping(
        5, "conn", "Connecting to a relay", "A guard or bridge refused the connection."
    )
    closed = parse_status('WARN BOOTSTRAP PROGRESS=5 WARNING="DONE" REASON=DONE')
    assert bootstrap_of(closed).warning == "A guard or bridge closed the connection."
    transport = parse_status("WARN BOOTSTRAP PROGRESS=1 TAG=conn_pt REASON=CONNECTREFUSED")
    assert bootstrap_of(transport).warning == "The pluggable transport refused the connection."
    proxy = parse_status("WARN BOOTSTRAP PROGRESS=1 TAG=conn_proxy REASON=TIMEOUT")
    assert bootstrap_of(proxy).warning == "The connection to the proxy timed out."
    other = parse_status('WARN BOOTSTRAP PROGRESS=1 WARNING="No \\"cell\\"" REASON=MISC')
    assert bootstrap_of(other).warning == 'No "cell".'
    assert bootstrap_of(parse_status("NOTICE BOOTSTRAP PROGRESS=x")) == Bootstrapping()
    assert parse_status("NOTICE CIRCUIT_ESTABLISHED").action == "CIRCUIT_ESTABLISHED"


@pytest.mark.parametrize(
    ("line", "ahead"),
    [
        ("WARN CLOCK_SKEW SKEW=7200 SOURCE=OR:192.0.2.1:9", 7200),
        ("WARN CLOCK_SKEW SKEW=-259200 SOURCE=CONSENSUS", -259_200),
        (
            'WARN BOOTSTRAP PROGRESS=40 WARNING="Clock skew -7196 in microdesc flavor consensus '
            'from CONSENSUS" REASON=CLOCK_SKEW COUNT=4',
            -7196,
        ),
        ("NOTICE BOOTSTRAP PROGRESS=40", None),
        ("WARN CLOCK_SKEW SKEW=much", None),
        ("WARN CLOCK_SKEW SKEW=" + "9" * 5000, None),
    ],
)
def test_the_skew_of_the_clock(line: str, ahead: int | None) -> None:
    event = parse_status(line)
    assert skew_of(event) == ahead
    assert bootstrap_of(event).warning is None


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (7200, "some 2 hours ahead of"),
        (7199, "some 2 hours ahead of"),
        (-259_203, "some 3 days behind"),
        (-600, "some 10 minutes behind"),
        (40, "clock is ahead of"),
    ],
)
def test_the_skew_in_words(seconds: int, says: str) -> None:
    """Rounded: Tor's word differs by seconds from one time to the next."""
    assert says in skew_in_words(seconds)


def test_the_address_of_a_relay() -> None:
    entry = "r nick AAAA BBBB 2026-11-22 15:00:00 192.0.2.7 9001 0\ns Exit Fast\nw Bandwidth=1"
    assert relay_address(entry) == "192.0.2.7"
    assert relay_address("") is None


def test_listening_addresses() -> None:
    assert listeners("") == []
    assert listeners('"127.0.0.1:1" "unix:/a b" "[::1]:2" "0.0.0.0:3"') == [
        ONE,
        SocksAddress(path="/a b"),
        SocksAddress("::1", 2),
        SocksAddress(port=3),
    ]


@pytest.mark.parametrize(
    ("listening", "configured", "wanted", "chosen"),
    [
        ([ONE], [], None, ONE),
        ([ONE], ["1"], None, ONE),
        ([ONE, TWO], ["1 NoIsolateSOCKSAuth", "2"], None, TWO),
        ([ONE, TWO], ["127.0.0.1:1 noisolatesocksauth", "2 IsolateDestAddr"], None, TWO),
        ([SocksAddress(path="/a b"), TWO], ['unix:"/a b" NoIsolateSOCKSAuth', "2"], None, TWO),
        ([ONE], ["auto"], None, ONE),
        ([ONE], ["1"], SocksAddress("192.0.2.1", 99), SocksAddress("192.0.2.1", 99)),
        ([ONE, TWO], ["1 NoIsolateSOCKSAuth", "2"], TWO, TWO),
        ([], ["0"], ONE, ONE),
        ([ONE, TWO], ["2", "auto NoIsolateSOCKSAuth"], None, TWO),
        ([ONE, TWO], ["1", "auto NoIsolateSOCKSAuth"], ONE, ONE),
    ],
)
def test_the_socks_port_that_isolates(
    listening: list[SocksAddress],
    configured: list[str],
    wanted: SocksAddress | None,
    chosen: SocksAddress,
) -> None:
    assert choose_socks(listening, configured, wanted) == chosen


@pytest.mark.parametrize(
    ("listening", "configured", "wanted"),
    [
        ([ONE], ["1 NoIsolateSOCKSAuth"], None),
        ([ONE], ["auto NoIsolateSOCKSAuth"], None),
        ([ONE, TWO], ["1", "auto NoIsolateSOCKSAuth"], TWO),
        ([ONE], ["localhost:1 NoIsolateSOCKSAuth"], None),
        ([ONE, TWO], ["1 NoIsolateSOCKSAuth", "2"], SocksAddress(port=99)),
        ([ONE, TWO], ["1 NoIsolateSOCKSAuth", "2"], ONE),
        ([ONE], ["1 NoIsolateSOCKSAuth"], TWO),
    ],
)
def test_socks_ports_that_mix(
    listening: list[SocksAddress], configured: list[str], wanted: SocksAddress | None
) -> None:
    with pytest.raises(SetupError, match="NoIsolateSOCKSAuth"):
        choose_socks(listening, configured, wanted)


def test_no_socks_port() -> None:
    with pytest.raises(SetupError, match="no SOCKS port"):
        choose_socks([], ["0"])


@given(st.text(max_size=60))
def test_any_text_is_survived(text: str) -> None:
    parse_info(text, ["a"])
    parse_conf(text)
    bootstrap_of(parse_status(text))
    relay_address(text)
    listeners(text)


@pytest.mark.parametrize("progress", ["9" * 5000, "٣", "-1", ""])
def test_progress_that_is_no_number_is_none(progress: str) -> None:
    line = f'NOTICE BOOTSTRAP PROGRESS={progress} TAG=conn SUMMARY="x"'
    assert bootstrap_of(parse_status(line)).progress == 0

"""What a control port sends, line by line."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import TorDown
from tortxd.wire import control
from tortxd.wire.control import ControlReader, Event, Implausible, Reply


def read(*lines: bytes, taken: list[str] | None = None) -> list[Reply | Event]:
    reader = ControlReader()
    take = None if taken is None else taken.append
    messages = (reader.feed(line, take) for line in lines)
    return [message for message in messages if message is not None]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((b"250 OK",), Reply(250, "OK")),
        ((b"250-a=1", b"250 OK"), Reply(250, "a=1\nOK")),
        ((b"250+a=", b"x", b"..y", b".", b"250 OK"), Reply(250, "a=\nx\n.y\nOK")),
        ((b"250+a=", b".", b"250-b=2", b"250 OK"), Reply(250, "a=\nb=2\nOK")),
        (
            (b"250+a=", b"650 CIRC 1", b"250 OK", b".", b"250 "),
            Reply(250, "a=\n650 CIRC 1\n250 OK\n"),
        ),
        ((b"250-x=y", b"512 no"), Reply(512, "x=y\nno")),
        ((b"551 no",), Reply(551, "no")),
        ((b"650 CIRC 1 BUILT",), Event("CIRC 1 BUILT")),
        ((b"650+NS", b"r a", b".", b"650 OK"), Event("NS\nr a\nOK")),
        ((b"650 WARN \xc3\xa9 \xff",), Event("WARN \xc3\xa9 \xff")),
    ],
)
def test_replies_and_events(lines: tuple[bytes, ...], message: Reply | Event) -> None:
    assert read(*lines) == [message]
    assert read(*lines, *lines) == [message, message]


def test_lines_of_a_reply_that_says_yes_are_passed_on() -> None:
    taken: list[str] = []
    lines = (b"250+a=", b"x", b".", b"250 OK", b"650 CIRC 1", b"551 no")
    assert read(*lines, taken=taken) == [Reply(250, ""), Event("CIRC 1"), Reply(551, "no")]
    assert taken == ["a=", "x", "OK"]


@pytest.mark.parametrize(
    "lines",
    [
        (b"",),
        (b"25",),
        (b"250",),
        (b"250=OK",),
        (b"350 OK",),
        (b"\xe9\xe9\xe9 OK",),
        (b"250-a", b"650 CIRC"),
        (b"650-a", b"250 OK"),
        (b"250 a\nb",),
        (b"250 a\0b",),
        (b"250+a=", b"\0", b"."),
        (b"650 " + b"x" * control.LONGEST_LINE,),
    ],
)
def test_what_no_tor_sends(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(Implausible, match=r"^Tor's control port is not believed: it sent .*\.$"):
        read(*lines)
    assert issubclass(Implausible, TorDown)


def test_a_reply_takes_no_more_memory_than_its_bound() -> None:
    """Whatever the characters are that its bytes make up."""
    line = b"250-" + b"x" * 200_000 + "\U0001f600".encode()
    reader = ControlReader()
    tracemalloc.start()
    try:
        for _ in range(control.MOST_KEPT // (len(line) + 64)):
            reader.feed(line)
        assert tracemalloc.get_traced_memory()[0] < 1.1 * control.MOST_KEPT
        assert isinstance(reader.feed(b"250 OK"), Reply)
        assert tracemalloc.get_traced_memory()[1] < 2.1 * control.MOST_KEPT
    finally:
        tracemalloc.stop()


def test_a_reply_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MOST_KEPT", 10_000)
    monkeypatch.setattr(control, "MOST_PASSED_ON", 20_000)
    fits = [b"250-x"] * (10_000 // 69 - 2)
    read(*fits, b"250 OK")
    for last in (b"250-x", b"250 " + b"x" * 9000):
        with pytest.raises(Implausible, match="a reply that is too long"):
            read(*fits, *[b"250-x"] * 2, last)
    read(*fits, *fits, b"250 OK", taken=[])
    with pytest.raises(Implausible, match="a reply that is too long"):
        read(*fits * 3, taken=[])
    with pytest.raises(Implausible, match="a reply that is too long"):
        read(*[b"650-x"] * 200, taken=[])  # an event is not what was asked for


_WHOLE = (b"250 OK", b"250-a=1", b"250+a=", b".", b"650 CIRC 1", b"650-X", b"551 n")
_LINES = st.lists(st.binary(max_size=12) | st.sampled_from(_WHOLE), max_size=12)
_DATA = rb"\+[^\n]*\r\n(?:(?!\.\r\n)[^\n]*\r\n)*\."
_MESSAGE = re.compile(rb"(?:[2456]\d\d(?:-[^\n]*|%s)\r\n)*[2456]\d\d [^\n]*\r\n" % _DATA)


@given(_LINES)
def test_any_lines_are_survived(lines: list[bytes]) -> None:
    """What comes of them is what a reading of the whole finds, up to what no Tor sends."""
    reader, messages, taken = ControlReader(), 0, b""
    for line in lines:
        try:
            message = reader.feed(line)
        except Implausible:
            break
        taken += line + b"\r\n"
        messages += message is not None
    position = found = 0
    while match := _MESSAGE.match(taken, position):
        position = match.end()
        found += 1
    assert found == messages

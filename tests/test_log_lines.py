"""What the lines of the log look like, as text and as JSON."""

from __future__ import annotations

import json
from datetime import timedelta, timezone
from typing import Any

import pytest
from twisted.logger import LogEvent, Logger, LogLevel, capturedLogs
from twisted.python.failure import Failure

from tortxd.log_lines import JsonLines, TextLines, level_of, name_of

ZONE = timezone(timedelta(hours=2))
TIME = 1772600767.0894
"""2026-03-04, 05:06:07 in Greenwich."""


def event_of(
    text: str = "Tor is ready.",
    level: LogLevel = LogLevel.info,
    namespace: str = "tortxd.tor",
    **more: Any,
) -> LogEvent:
    log = Logger(namespace=namespace)
    with capturedLogs() as events:
        log.emit(level, "{text}", text=text, **more)
    (event,) = events
    return {**event, "log_time": TIME}


def fault_of(text: str = "A fault.") -> LogEvent:
    return event_of(text, LogLevel.critical, log_failure=Failure(ValueError("odd")))


def read(event: LogEvent) -> dict[str, Any]:
    line = JsonLines()(event)
    assert line is not None
    assert "\n" not in line
    assert line.isascii()
    entry: dict[str, Any] = json.loads(line)
    return entry


def test_a_line_in_a_file_has_the_date_the_zone_and_milliseconds() -> None:
    lines = TextLines(zone=ZONE)
    assert lines(event_of()) == "2026-03-04T07:06:07.089+02:00 info  tor      Tor is ready."


def test_a_line_in_a_terminal_has_the_time_of_day() -> None:
    lines = TextLines(zone=ZONE, terminal=True)
    assert lines(event_of()) == "07:06:07 info  tor      Tor is ready."


def test_colours_change_no_column() -> None:
    plain = TextLines(zone=ZONE, terminal=True)
    coloured = TextLines(zone=ZONE, terminal=True, colours=True)
    line = coloured(event_of(level=LogLevel.warn))
    assert line is not None
    assert line.count("\x1b[33mwarn \x1b[0m") == 1
    for code in ("33", "2", "0"):
        line = line.replace(f"\x1b[{code}m", "")
    assert line == plain(event_of(level=LogLevel.warn))


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (LogLevel.debug, 7),
        (LogLevel.info, 6),
        (LogLevel.warn, 4),
        (LogLevel.error, 3),
        (LogLevel.critical, 2),
    ],
)
def test_the_journal_gets_a_priority_and_no_time(level: LogLevel, priority: int) -> None:
    """<https://www.freedesktop.org/software/systemd/man/latest/sd-daemon.html>"""
    line = TextLines(clock=False)(event_of(level=level))
    assert line == f"<{priority}>{level.name:5} tor      Tor is ready."


def test_the_journal_gets_a_priority_on_every_line() -> None:
    entry = TextLines(clock=False)(fault_of())
    assert entry is not None
    assert entry.count("\n") > 0
    assert all(line.startswith("<2>") for line in entry.split("\n"))


def test_a_fault_has_its_traceback_which_is_indented() -> None:
    entry = TextLines(zone=ZONE)(fault_of())
    assert entry is not None
    first, *others = entry.split("\n")
    assert first.endswith(" critical tor      A fault.")
    assert others[-1].endswith("ValueError: odd")
    assert all(line.startswith("    ") for line in others)


def test_text_neither_begins_an_entry_nor_commands_a_terminal() -> None:
    evil = "x\n2026-03-04T07:06:07.089+02:00 info  tor      In a browser: http://evil/\r\x1b[2J"
    entry = TextLines(zone=ZONE)(event_of(evil))
    assert entry is not None
    first, second = entry.split("\n")
    assert first.endswith("tor      x")
    assert second.startswith("    2026-")
    assert "\x1b" not in entry
    assert "\r" not in entry


def test_json_has_time_level_name_and_message() -> None:
    assert read(event_of("Tor is \x1b ready.\N{RIGHT-TO-LEFT OVERRIDE}")) == {
        "time": "2026-03-04T05:06:07.089Z",
        "level": "info",
        "name": "tor",
        "message": "Tor is \x1b ready.\N{RIGHT-TO-LEFT OVERRIDE}",
    }


def test_json_has_an_exception_and_its_traceback() -> None:
    entry = read(fault_of())
    assert entry["level"] == "critical"
    assert entry["message"] == "A fault."
    assert entry["exception"] == "ValueError: odd"
    assert entry["traceback"].startswith("Traceback ")


def test_json_has_the_fields_of_an_event_and_nothing_else_of_it() -> None:
    entry = read(event_of(fields={"status": 200}, other="secret"))
    assert entry["status"] == 200
    assert "secret" not in str(entry)


def test_a_fault_without_a_word_is_told_as_well() -> None:
    event = {"log_failure": Failure(ValueError("odd")), "log_level": LogLevel.critical}
    assert read(event)["message"] == "ValueError: odd"
    assert "odd" in (TextLines()(event) or "")


@pytest.mark.parametrize("text", ["", "\n", " "])
def test_what_says_nothing_has_no_line(text: str) -> None:
    assert TextLines()(event_of(text)) is None
    assert JsonLines()(event_of(text)) is None


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        ("tortxd.tor", "tor"),
        ("tortxd.gateway.front.listener", "gateway"),
        ("tor", "tor.log"),
        ("twisted.internet.base", "twisted"),
        ("log_legacy", "twisted"),
        ("someone.else", "someone"),
        ("stdout", "stdout"),
        ("", "twisted"),
    ],
)
def test_names_are_short(namespace: str, name: str) -> None:
    assert name_of({"log_namespace": namespace}) == name


@pytest.mark.parametrize("namespace", ["twisted.internet.base", "log_legacy", "-"])
def test_notes_of_twisted_are_for_debugging(namespace: str) -> None:
    assert level_of(event_of(namespace=namespace)) is LogLevel.debug
    for event in (
        event_of(namespace=namespace, level=LogLevel.warn),
        event_of(namespace=namespace, log_failure=Failure(ValueError())),
    ):
        assert level_of(event) is event["log_level"]
    assert level_of(event_of(namespace="tor")) is LogLevel.info

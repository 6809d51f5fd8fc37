"""What a person in a terminal is shown, and when a log is for a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny

from tortxd import console


def shown(namespace: str, level: LogLevel, text: str, **more: Any) -> str:
    stream = io.StringIO()
    observer = LogPublisher(console.terminal_observer(stream))
    Logger(namespace=namespace, observer=observer).emit(level, "{text}", text=text, **more)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("namespace", "level", "line"),
    [
        ("tortxd.tor", LogLevel.info, "Text {x}.\n"),
        ("tortxd.service", LogLevel.warn, "Text {x}.\n"),
        ("tor", LogLevel.info, ""),
        ("tor", LogLevel.warn, "Tor says: Text {x}.\n"),
        ("twisted.internet.base", LogLevel.info, ""),
        ("twisted.scripts._twistd_unix.UnixAppLogger", LogLevel.info, ""),
        ("twisted.internet.defer", LogLevel.critical, "Text {x}.\n"),
        ("log_legacy", LogLevel.info, ""),
        ("stdout", LogLevel.info, "Text {x}.\n"),
        ("someone.else", LogLevel.info, "Text {x}.\n"),
    ],
)
def test_lines(namespace: str, level: LogLevel, line: str) -> None:
    assert shown(namespace, level, "Text {x}.") == line


def test_what_is_for_logs_alone() -> None:
    assert shown("tortxd.service", LogLevel.warn, "Text.", for_logs_alone=True) == ""


def test_a_fault_has_its_traceback() -> None:
    text = shown("tortxd", LogLevel.critical, "A fault.", log_failure=Failure(ValueError("odd")))
    assert text.startswith("A fault.\n")
    assert "ValueError: odd" in text


def test_twistd_finds_the_observer() -> None:
    assert namedAny(console.LOGGER) is console.observer


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"nodaemon": 1}, True),
        ({"nodaemon": 1, "logfile": None, "syslog": 0, "logger": None}, True),
        ({"nodaemon": 1, "logfile": "-"}, True),
        ({"nodaemon": 1, "logfile": "x.log"}, False),
        ({"nodaemon": 1, "syslog": 1}, False),
        ({"nodaemon": 1, "logger": "twisted.logger.jsonFileLogObserver"}, False),
        ({"nodaemon": 0}, False),
        ({}, False),
    ],
)
def test_where_the_log_goes(options: dict[str, object], seen: bool) -> None:
    assert console.logs_to_standard_output(options) is seen


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("-ny tortxd.tac", True),
        ("-n -y tortxd.tac --pidfile=", True),
        ("--nodaemon --python tortxd.tac", True),
        ("-nytortxd.tac", True),
        ("-y tortxd.tac", False),
        ("-yplain.tac", False),
        ("-ny tortxd.tac -l x.log", False),
        ("-nl x.log -y tortxd.tac", False),
        ("-ny tortxd.tac --logfile=x.log", False),
        ("-ny tortxd.tac --logf x.log", False),
        ("-ny tortxd.tac --syslog", False),
        ("-ny tortxd.tac --logger twisted.logger.jsonFileLogObserver", False),
        ("", False),
    ],
)
def test_where_the_log_goes_by_the_command_line(line: str, seen: bool) -> None:
    said = console.said_on_command_line(line.split())
    assert console.logs_to_standard_output(said) is seen

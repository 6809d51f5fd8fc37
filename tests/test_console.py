"""What a person in a terminal is shown, and when a log is for a terminal."""

from __future__ import annotations

import io
import os
import re
import signal
from pathlib import Path
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
    ("namespace", "level", "kept"),
    [
        ("tortxd.tor", LogLevel.info, True),
        ("tor", LogLevel.info, True),
        ("twisted.internet.base", LogLevel.info, False),
        ("twisted.scripts._twistd_unix.UnixAppLogger", LogLevel.info, False),
        ("log_legacy", LogLevel.info, False),
        ("twisted.internet.defer", LogLevel.critical, True),
    ],
)
def test_what_a_log_holds(namespace: str, level: LogLevel, kept: bool) -> None:
    stream = io.StringIO()
    log = Logger(namespace=namespace, observer=LogPublisher(console.log_observer(stream)))
    log.emit(level, "Text.")
    log.emit(level, "Text.", for_logs_alone=True)
    line = rf"\d{{4}}-\S+ \[{namespace}#{level.name}\] Text\.\n"
    assert re.fullmatch(f"(?:{line}){{2}}" if kept else "", stream.getvalue())


@pytest.mark.parametrize(
    ("options", "seen", "ours"),
    [
        ({"nodaemon": 1}, True, True),
        ({"nodaemon": 1, "logfile": None, "syslog": 0, "logger": None}, True, True),
        ({"nodaemon": 1, "logfile": "-"}, True, True),
        ({"nodaemon": 1, "logfile": "x.log"}, False, True),
        ({"nodaemon": 1, "syslog": 1}, False, False),
        ({"nodaemon": 1, "logger": "twisted.logger.jsonFileLogObserver"}, False, False),
        ({"nodaemon": 0, "logfile": "x.log"}, False, True),
        ({"nodaemon": 0, "logfile": "-"}, False, False),
        ({"nodaemon": 0, "debug": True}, True, True),
        ({}, False, True),
    ],
)
def test_where_the_log_goes(
    options: dict[str, object], seen: bool, ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_logfile", None)
    assert console.is_seen(options) is seen
    assert console.take_over(options) is ours


def test_a_log_file_begins_anew_between_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SIGUSR1, as twistd's own does; in one piece, and without a reactor."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    monkeypatch.setattr(console, "_logfile", None)
    try:
        console.take_over({"logfile": str(tmp_path / "log")})
        observer = console.observer()
        log = Logger(observer=LogPublisher(observer))
        log.info("One.")
        os.kill(os.getpid(), signal.SIGUSR1)
        log.info("Two.")
        handler: Any = signal.getsignal(signal.SIGUSR1)
        handler.__self__.close()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (tmp_path / "log.1").read_text().endswith("One.\n")
    assert (tmp_path / "log").read_text().endswith("Two.\n")


def test_what_calls_itself_tor_does_not_command_the_terminal() -> None:
    evil = "x\n\x1b[2JIn a browser: http://evil/"
    line = "x\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[2JIn a browser: http://evil/\n"
    assert shown("tortxd.tor", LogLevel.info, evil) == line
    stream = io.StringIO()
    log = Logger(namespace="tortxd.tor", observer=LogPublisher(console.log_observer(stream)))
    log.info("{text}", text=evil)
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().count("[tortxd.tor#info]") == 1

"""What a terminal, a file and the journal are shown, and when a log is for which of them."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.reflect import namedAny

from tortxd import console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


TEXT = console.Style(environ={"NO_COLOR": "1"})
STAMP = r"\d\d:\d\d:\d\d "
FULL_STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d "


def written(
    stream: io.StringIO,
    style: console.Style,
    namespace: str = "tortxd.tor",
    level: LogLevel = LogLevel.info,
    text: str = "Text {x}.",
    **more: Any,
) -> str:
    """What one event comes to in this stream."""
    log = Logger(namespace=namespace, observer=LogPublisher(console.observer_of(stream, style)))
    log.emit(level, "{text}", text=text, **more)
    return stream.getvalue()


def shown(namespace: str, level: LogLevel, style: console.Style = TEXT, **more: Any) -> str:
    """The same in a terminal, without the time."""
    line = written(Terminal(), style, namespace, level, **more)
    assert not line or re.match(STAMP, line)
    return re.sub(STAMP, "", line)


@pytest.mark.parametrize(
    ("namespace", "level", "line"),
    [
        ("tortxd.tor", LogLevel.info, "info  tor      Text {x}.\n"),
        ("tortxd.service", LogLevel.warn, "warn  service  Text {x}.\n"),
        ("tortxd.service", LogLevel.debug, ""),
        ("tor", LogLevel.info, ""),
        ("tor", LogLevel.warn, "warn  tor.log  Text {x}.\n"),
        ("twisted.internet.base", LogLevel.info, ""),
        ("twisted.scripts._twistd_unix.UnixAppLogger", LogLevel.info, ""),
        ("twisted.internet.defer", LogLevel.critical, "critical twisted  Text {x}.\n"),
        ("log_legacy", LogLevel.info, ""),
        ("stdout", LogLevel.info, "info  stdout   Text {x}.\n"),
        ("someone.else", LogLevel.info, "info  someone  Text {x}.\n"),
    ],
)
def test_lines_in_a_terminal(namespace: str, level: LogLevel, line: str) -> None:
    assert shown(namespace, level) == line


def test_what_is_for_logs_alone() -> None:
    assert shown("tortxd.service", LogLevel.warn, for_logs_alone=True) == ""
    assert written(io.StringIO(), TEXT, for_logs_alone=True)


@pytest.mark.parametrize("namespace", ["tor", "twisted.internet.base", "tortxd.tor"])
def test_debugging_shows_everything_in_a_terminal_too(namespace: str) -> None:
    style = evolve(TEXT, level="debug")
    assert shown(namespace, LogLevel.info, style, for_logs_alone=True)
    assert shown(namespace, LogLevel.debug, style)


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("least", list(LogLevel.iterconstants()), ids=lambda level: level.name)
def test_nothing_less_than_the_level_is_written(format: str, least: LogLevel) -> None:
    style = console.Style(format, least.name)
    for level in LogLevel.iterconstants():
        assert bool(written(io.StringIO(), style, level=level)) is (level >= least)


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [
        ({}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_only_a_terminal_that_takes_colours_gets_them(
    environ: dict[str, str], coloured: bool
) -> None:
    style = console.Style(environ=environ)
    assert ("\x1b[" in written(Terminal(), style)) is coloured
    assert "\x1b[" not in written(io.StringIO(), style)


def test_json_is_the_same_in_a_terminal() -> None:
    for stream in (Terminal(), io.StringIO()):
        entry = json.loads(written(stream, console.Style("json"), "tor"))
        assert (entry["name"], entry["message"]) == ("tor.log", "Text {x}.")


def test_the_stream_of_the_journal_is_known(tmp_path: Path) -> None:
    """A process that has inherited the variable writes elsewhere."""
    file = tmp_path / "out"
    with file.open("w+") as stream:
        status = os.fstat(stream.fileno())
        for inode in (status.st_ino, status.st_ino + 1):
            environ = {"JOURNAL_STREAM": f"{status.st_dev}:{inode}"}
            observer = console.observer_of(stream, console.Style(environ=environ))
            Logger(namespace="tortxd.tor", observer=LogPublisher(observer)).warn("Text.")
    first, second = file.read_text().splitlines()
    assert first == "<4>warn  tor      Text."
    assert re.fullmatch(FULL_STAMP + r"warn  tor      Text\.", second)


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
    line = written(io.StringIO(), TEXT, namespace, level)
    assert re.fullmatch(FULL_STAMP + rf"{level.name} +\S+ +Text {{x}}\.\n" if kept else "", line)


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
    keep_as_it_is(monkeypatch)
    assert console.is_seen(options, TEXT) is seen
    assert console.take_over(options, TEXT) is ours


def test_people_do_not_see_a_log_of_objects() -> None:
    """The reason why the process ends is in that log, too, then."""
    assert not console.is_seen({"nodaemon": 1}, console.Style("json"))


def keep_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What take_over changes."""
    monkeypatch.setattr(console, "_logfile", None)
    monkeypatch.setattr(console, "_style", TEXT)


def test_a_log_file_begins_anew_between_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SIGUSR1, as twistd's own does; in one piece, and without a reactor."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    keep_as_it_is(monkeypatch)
    try:
        console.take_over({"logfile": str(tmp_path / "log")}, TEXT)
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

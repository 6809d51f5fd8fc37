"""Where the log goes, and in which form: for a terminal, systemd's journal, a file or a pipe.

What ``--syslog`` and a ``--logger`` of the user's own get is Twisted's, with everything.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TextIO

from attrs import define, evolve, frozen
from twisted.logger import ILogObserver, LogEvent, LogLevel
from twisted.python.logfile import LogFile
from zope.interface import implementer

from tortxd.log_lines import JsonLines, TextLines, level_of

LOGGER = "tortxd.console.observer"
"""What ``--logger`` is to be for such a log."""


@frozen
class Style:
    """How the log is to be written."""

    format: str = "text"
    """``text`` or ``json``."""
    level: str = "info"
    """The least that is written."""
    environ: Mapping[str, str] = {}
    """What says whether a terminal shows colours, and which stream is the journal's."""


_style = Style()
_writers: list[Writer] = []
"""Those that :func:`observer` has made."""
_logfile: str | None = None
"""Where :func:`observer`, which twistd calls without an argument, writes to; None: standard
output."""


def observer() -> ILogObserver:
    """For ``twistd --logger``; see :func:`take_over`."""
    made = observer_of(sys.stdout if _logfile is None else _rotated(_logfile), _style)
    _writers.append(made)
    return made


def take_over(options: Mapping[str, object], style: Style) -> bool:
    """Whether our log replaces the one that a twistd with these options would write; if so,
    :func:`observer` makes it."""
    global _logfile, _style
    if options.get("syslog") or options.get("logger"):
        return False
    _style = style
    logfile = str(options.get("logfile") or "")
    if in_foreground(options):
        _logfile = None if logfile in ("", "-") else logfile
        return True
    _logfile = logfile or "twistd.log"
    return logfile != "-"  # which twistd refuses by itself


def set_level(level: str) -> None:
    """The least that is written from now on, where our log replaces twistd's."""
    global _style
    _style = evolve(_style, level=level)
    for writer in _writers:
        writer.least = LogLevel.levelWithName(level)


def is_seen(options: Mapping[str, object], style: Style) -> bool:
    """Whether people see the log of a twistd with these options where its standard error goes."""
    elsewhere = options.get("logfile") not in (None, "", "-")
    elsewhere = elsewhere or bool(options.get("syslog") or options.get("logger"))
    return in_foreground(options) and not elsewhere and style.format == "text"


def in_foreground(options: Mapping[str, object]) -> bool:
    """Whether a twistd with these options stays in the terminal; ``--debug`` implies it."""
    return bool(options.get("nodaemon") or options.get("debug"))


def observer_of(stream: TextIO | LogFile, style: Style) -> Writer:
    """Writes to ``stream`` in the form that suits it."""
    least = LogLevel.levelWithName(style.level)
    if style.format == "json":
        return Writer(stream, JsonLines(), least)
    if isinstance(stream, LogFile):
        return Writer(stream, TextLines(), least)
    if stream.isatty():
        lines = TextLines(terminal=True, colours=_shows_colours(style.environ))
        return Writer(stream, lines, least, for_people=True)
    return Writer(stream, TextLines(clock=not _is_journal(stream, style.environ)), least)


def _shows_colours(environ: Mapping[str, str]) -> bool:
    """See https://no-color.org."""
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether ``$JOURNAL_STREAM`` names this stream (systemd.exec(5))."""
    named = environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # it is no file
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


@implementer(ILogObserver)
@define(eq=False)
class Writer:
    """Writes the events that matter.

    With ``for_people``, what Tor logs without being worried is left out, as its status is told in
    our own words, and so is what says nothing without what surrounds it; unless for debugging.
    """

    _stream: TextIO | LogFile
    _lines: Callable[[LogEvent], str | None]
    least: LogLevel
    _for_people: bool = False

    def __call__(self, event: LogEvent) -> None:
        if self._level(event) < self.least:
            return
        line = self._lines(event)
        if line is not None:
            self._stream.write(line + "\n")
            self._stream.flush()

    def _level(self, event: LogEvent) -> LogLevel:
        level = level_of(event)
        is_remark = event.get("log_namespace") == "tor" and level < LogLevel.warn
        is_left_out = self._for_people and (is_remark or event.get("for_logs_alone"))
        return LogLevel.debug if is_left_out else level


def _rotated(path: str) -> LogFile:
    """A log file that is rotated on SIGUSR1, as twistd's own is."""
    file: _LogFile = _LogFile.fromFullPath(path)  # type: ignore[no-untyped-call]
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, file.rotate_soon)
    return file


class _LogFile(LogFile):
    _rotates = False

    def rotate_soon(self, *_: object) -> None:
        """Rotate before the next line: a signal may come in the middle of one."""
        self._rotates = True

    def write(self, data: str) -> None:
        if self._rotates:
            self._rotates = False
            self.rotate()  # type: ignore[no-untyped-call]
        super().write(data)  # type: ignore[no-untyped-call]

"""Where the log goes and what it holds: plain lines in a terminal, lines with times elsewhere.

Twisted's own notes on factories, ports and reactors say nothing to a user: they are left out of
both. What ``--syslog`` and a ``--logger`` of the user's own get is Twisted's, with everything.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from typing import TextIO, cast

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    PredicateResult,
    eventAsText,
    formatEventAsClassicLogText,
)
from twisted.python.logfile import LogFile
from zope.interface import implementer, provider

from tortxd.errors import printable

LOGGER = "tortxd.console.observer"
"""What ``--logger`` is to be for such a log."""

_QUIET = ("twisted", "log_legacy", "-")
"""Namespaces of Twisted's own."""

_logfile: str | None = None
"""Where :func:`observer`, which twistd calls without an argument, writes to; None: standard
output."""


def observer() -> ILogObserver:
    """For ``twistd --logger``; see :func:`take_over`."""
    if _logfile is not None:
        return log_observer(_rotated(_logfile))
    if sys.stdout.isatty():
        return terminal_observer(sys.stdout)
    return log_observer(sys.stdout)


def take_over(options: Mapping[str, object]) -> bool:
    """Whether our log replaces the one that a twistd with these options would write; if so,
    :func:`observer` makes it."""
    global _logfile
    if options.get("syslog") or options.get("logger"):
        return False
    logfile = str(options.get("logfile") or "")
    if in_foreground(options):
        _logfile = None if logfile in ("", "-") else logfile
        return True
    _logfile = logfile or "twistd.log"
    return logfile != "-"  # which twistd refuses by itself


def is_seen(options: Mapping[str, object]) -> bool:
    """Whether the log of a twistd with these options goes where its standard error goes."""
    elsewhere = options.get("logfile") not in (None, "", "-")
    elsewhere = elsewhere or bool(options.get("syslog") or options.get("logger"))
    return in_foreground(options) and not elsewhere


def in_foreground(options: Mapping[str, object]) -> bool:
    """Whether a twistd with these options stays in the terminal; ``--debug`` implies it."""
    return bool(options.get("nodaemon") or options.get("debug"))


def terminal_observer(stream: TextIO) -> ILogObserver:
    """Writes plain lines to ``stream``."""
    return _Terminal(stream)


def log_observer(stream: TextIO | LogFile) -> ILogObserver:
    """Writes lines with times and namespaces to ``stream``."""
    observer = FileLogObserver(cast(TextIO, stream), _line_with_time)
    return FilteringLogObserver(observer, [_judge])


def _line_with_time(event: LogEvent) -> str | None:
    text = formatEventAsClassicLogText(event)
    return None if text is None else "\n".join(map(printable, text.expandtabs().split("\n")))


@implementer(ILogObserver)
class _Terminal:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        line = line_of(event)
        if line is not None:
            self._stream.write(line + "\n")
            self._stream.flush()


def line_of(event: LogEvent) -> str | None:
    """The line for a terminal. None: the event is not for people."""
    if event.get("for_logs_alone") or not _says_something(event):
        return None
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    if "log_failure" not in event:
        text = printable(text)  # what calls itself Tor must not control the terminal
    if _namespace(event) == "tor":
        return f"Tor says: {text}" if _is_serious(event) else None
    return text


@provider(ILogFilterPredicate)
def _judge(event: LogEvent) -> object:
    return PredicateResult.maybe if _says_something(event) else PredicateResult.no


def _says_something(event: LogEvent) -> bool:
    return _is_serious(event) or _namespace(event).split(".")[0] not in _QUIET


def _is_serious(event: LogEvent) -> bool:
    return event.get("log_level", LogLevel.info) >= LogLevel.warn or "log_failure" in event


def _namespace(event: LogEvent) -> str:
    return str(event.get("log_namespace", ""))


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

"""What ``twistd -n`` shows in a terminal: plain lines, and of them what a person wants to read.

A log that goes anywhere else (a pipe, ``--logfile``, ``--syslog``, ``--logger``) stays Twisted's,
with times, namespaces and everything that is logged.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import implementer

LOGGER = "tortxd.console.observer"
"""What ``--logger`` is to be for such a log."""

_QUIET = ("twisted", "log_legacy", "-")
"""Namespaces of Twisted's own, whose notes on factories and reactors say nothing to a user."""
_LONG_OPTIONS = ("--logf", "--logg", "--sy")
"""How the options of twistd begin that send the log elsewhere; they may be cut short."""
_TAKE_VALUES = "bdfglprsuy"
"""The options of one letter after which a value follows."""


def observer() -> ILogObserver:
    """Writes to standard output as it is now. For ``twistd --logger``."""
    return terminal_observer(sys.stdout)


def terminal_observer(stream: TextIO) -> ILogObserver:
    """Writes plain lines to ``stream``."""

    return _Terminal(stream)


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
    """What a person is shown of this event; None: nothing."""
    level = event.get("log_level", LogLevel.info)
    namespace = str(event.get("log_namespace", ""))
    serious = level >= LogLevel.warn or "log_failure" in event
    if event.get("for_logs_alone") or (not serious and namespace.split(".")[0] in _QUIET):
        return None
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    if namespace == "tor":
        return f"Tor says: {text}" if serious else None
    return text


def logs_to_standard_output(options: Mapping[str, object]) -> bool:
    """Whether a twistd with these options writes its log, in its own form, to standard output."""
    to_file = options.get("logfile") not in (None, "", "-")
    elsewhere = to_file or options.get("syslog") or options.get("logger")
    return bool(options.get("nodaemon")) and not elsewhere


def said_on_command_line(arguments: Sequence[str]) -> dict[str, object]:
    """The same options, where only the command line is known, as in a .tac. What may send the log
    elsewhere counts as doing so."""
    letters = "".join(map(_letters, arguments))
    return {
        "nodaemon": "n" in letters or "--nodaemon" in arguments,
        "logger": "l" in letters or any(one.startswith(_LONG_OPTIONS) for one in arguments),
    }


def _letters(argument: str) -> str:
    """The options in ``-ny``, and not what follows one that takes a value."""
    if argument.startswith("--") or not argument.startswith("-"):
        return ""
    letters = argument[1:]
    ends = [place for place, letter in enumerate(letters) if letter in _TAKE_VALUES]
    return letters[: min(ends) + 1] if ends else letters

"""The lines of the log: events of twisted.logger as text for people, or as objects for programs.

Pure: times are those of the events. Whatever the text holds, it cannot begin an entry of its own,
nor move a terminal's cursor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import Any

from attrs import frozen
from twisted.logger import LogEvent, LogLevel, eventAsText, formatEvent
from twisted.python.failure import Failure

from tortxd.errors import printable

__all__ = ["JsonLines", "TextLines", "level_of", "name_of"]

_TWISTED = ("twisted", "log_legacy", "-")
"""Loggers of Twisted's own, whose notes on factories, ports and reactors say nothing to a user."""
_NAME_WIDTH = 8
_INDENT = "    "
"""Before what follows the first line of an entry."""
_PRIORITIES = {"critical": 2, "error": 3, "warn": 4, "info": 6, "debug": 7}
"""Of syslog, as the journal reads them (sd-daemon(3))."""
_COLOURS = {"critical": "1;31", "error": "31", "warn": "33", "info": "32", "debug": "36"}
"""Of terminals (ECMA-48, Select Graphic Rendition)."""
_FAINT = "2"


# --- events ---------------------------------------------------------------------------------------


def level_of(event: LogEvent) -> LogLevel:
    """How much an event matters; Twisted's own notes count as for debugging."""
    level: LogLevel = event.get("log_level") or LogLevel.info
    is_note = level < LogLevel.warn and "log_failure" not in event
    return LogLevel.debug if is_note and _logger(event) in _TWISTED else level


def name_of(event: LogEvent) -> str:
    """What an event is about, in a word: the part of tortxd, ``tor.log`` for what Tor itself logs,
    or the package of someone else's."""
    namespace = str(event.get("log_namespace") or "")
    if namespace == "tor":
        return "tor.log"
    if _logger(event) in _TWISTED:
        return "twisted"
    return printable(namespace.removeprefix("tortxd.").partition(".")[0])


def _logger(event: LogEvent) -> str:
    """The package that logs."""
    return str(event.get("log_namespace") or "-").partition(".")[0]


def _time_of(event: LogEvent, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(event.get("log_time") or 0.0, UTC).astimezone(zone)


# --- text -----------------------------------------------------------------------------------------


@frozen
class TextLines:
    """Time, level, name and text. Further lines of an entry, as of a traceback, are indented."""

    clock: bool = True
    """Whether a time stands in front, as ISO 8601 has it; where it does not, the priority does that
    systemd's journal reads."""
    terminal: bool = False
    """Whether it is for the eyes of somebody for whom today's date would be too much."""
    colours: bool = False
    zone: tzinfo | None = None
    """In which times are told. None: that of the machine."""

    def __call__(self, event: LogEvent) -> str | None:
        """The entry, without its last line end; None: there is nothing to say."""
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        lines = [printable(line) for line in text.expandtabs().split("\n") if line.strip()]
        if not lines:
            return None
        head, level, name = self._head(event), level_of(event).name, name_of(event)
        first = " ".join(
            (
                *((self._in_colour(head, _FAINT),) if head else ()),
                self._in_colour(f"{level:5}", _COLOURS[level]),
                self._in_colour(f"{name:{_NAME_WIDTH}}", _FAINT),
                lines[0],
            )
        )
        return "\n".join(self._with_priority(level, [first, *(_INDENT + one for one in lines[1:])]))

    def _head(self, event: LogEvent) -> str:
        if not self.clock:
            return ""
        time = _time_of(event, self.zone)
        return f"{time:%H:%M:%S}" if self.terminal else time.isoformat(timespec="milliseconds")

    def _in_colour(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colours else text

    def _with_priority(self, level: str, lines: list[str]) -> Iterator[str]:
        """Each line is an entry of its own to the journal."""
        priority = "" if self.clock else f"<{_PRIORITIES[level]}>"
        return (priority + line for line in lines)


# --- JSON -----------------------------------------------------------------------------------------


class JsonLines:
    """An object in ASCII: ``time`` (ISO 8601, UTC), ``level``, ``name``, ``message``, for faults
    ``exception`` and ``traceback``, and what an event has under ``fields``."""

    def __call__(self, event: LogEvent) -> str | None:
        """The object, without a line end; None: there is nothing to say."""
        failure = event.get("log_failure")
        fault = _fault(failure) if isinstance(failure, Failure) else {}
        message = formatEvent(event).strip() or fault.get("exception")
        if not message:
            return None
        time = _time_of(event, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry: dict[str, Any] = {"time": time, "level": level_of(event).name}
        entry |= {"name": name_of(event), "message": message} | fault
        return json.dumps(entry | event.get("fields", {}))


def _fault(failure: Failure) -> dict[str, str]:
    kind = getattr(failure.type, "__name__", "")
    return {
        "exception": f"{kind}: {failure.getErrorMessage()}",
        "traceback": failure.getTraceback(),
    }

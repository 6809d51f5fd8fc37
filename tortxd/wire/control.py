"""What a control port sends, line by line: replies and events (control-spec, section 2.3).

A control port is not believed blindly: what is longer than anything that a Tor sends, or has
another form, ends its reading.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import frozen

from tortxd.errors import TorDown

LONGEST_LINE = 256 * 1024
"""Bytes. The longest that are known name the family of a relay, and are part of a descriptor, which
has 20,000 bytes at most."""
MOST_KEPT = 16 * 1024 * 1024
"""Bytes of a reply or event that is kept whole. The router status entries of the public network are
some 3 million bytes."""
MOST_PASSED_ON = 256 * 1024 * 1024
"""Bytes of a reply whose lines are passed on, and not kept. The microdescriptors of the public
network are some 20 million bytes."""
_FOR_A_LINE = 64
"""Bytes that count for each line beside its own, since it costs as much to keep."""

_STATUS = re.compile(r"([2456][0-9]{2})([ +-])")


class Implausible(TorDown):
    """A control port sent what no Tor sends.

    :param what: what it sent.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"Tor's control port is not believed: it sent {what}.")


@frozen
class Reply:
    """The reply to a command. Its characters are bytes."""

    code: int
    text: str
    """Its lines without their codes, separated; empty where they were passed on."""

    @property
    def accepted(self) -> bool:
        """Whether the command was carried out."""
        return self.code < 300


@frozen
class Event:
    """What Tor says unasked. Its characters are bytes."""

    text: str
    """Its lines without their codes, separated; the first begins with the event's name."""


class ControlReader:
    """Takes the lines of one connection, and gives what they make up."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0
        self._is_event: bool | None = None
        """Whether an event or a reply has begun; None: neither has."""
        self._in_data = False

    def feed(self, raw: bytes, take: Callable[[str], object] | None = None) -> Reply | Event | None:
        """The reply or event that ends with this line, which has no line end; None where it goes
        on.

        :param take: given each line of a reply that says yes, instead of its being kept.
        :raises Implausible: no Tor sends this.
        """
        if len(raw) > LONGEST_LINE:
            raise Implausible("a line that is too long")
        if b"\0" in raw or b"\n" in raw:
            raise Implausible("a line with bytes that do not belong in one")
        # Paths of files may be in any encoding; and a character for each byte takes no more memory
        # than that.
        line = raw.decode("latin-1")
        if line.startswith("650 ") and self._is_event is None:
            return Event(line[4:])  # as nearly all are, and they may be thousands a second
        if self._in_data:
            if line == ".":
                self._in_data = False
            else:
                self._add(line[1:] if line.startswith("..") else line, len(raw), take)
            return None
        match = _STATUS.match(line)
        if match is None:
            raise Implausible("a line that is not a reply")
        code, kind = match.groups()
        is_event = code[0] == "6"
        if self._is_event not in (None, is_event):
            raise Implausible("an event mixed with a reply")
        self._is_event = is_event
        self._add(line[4:], len(raw), take if code[0] == "2" else None)
        self._in_data = kind == "+"
        if kind != " ":
            return None
        text = "\n".join(self._lines)
        self._lines, self._size, self._is_event = [], 0, None
        return Event(text) if is_event else Reply(int(code), text)

    def _add(self, line: str, size: int, take: Callable[[str], object] | None) -> None:
        self._size += size + _FOR_A_LINE
        if take is None or self._is_event:
            if self._size > MOST_KEPT:
                raise Implausible("a reply that is too long")
            self._lines.append(line)
        else:
            if self._size > MOST_PASSED_ON:
                raise Implausible("a reply that is too long")
            take(line)

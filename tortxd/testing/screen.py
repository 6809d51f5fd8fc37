"""What a demonstration writes: to a terminal, or line by line to a file or a pipe."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from typing import TextIO

_BAR = 24
_PLAIN_STEP = 10
"""Percent between two lines of progress where lines cannot be written over."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ASCII = str.maketrans("█░→─·", "#.>--")


class Screen:
    """One stream of text for people.

    On a terminal, progress is one line that is written over; elsewhere it is a line now and then.
    Colour is used on terminals alone, and not where ``NO_COLOR`` is set (https://no-color.org).
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self._stream = stream
        self._terminal = stream.isatty() and environ.get("TERM") != "dumb"
        self._colour = self._terminal and not environ.get("NO_COLOR")
        self._under_way = False
        self._told: tuple[str, int] = ("", 0)

    def say(self, text: str = "") -> None:
        """A line, or several."""
        if self._under_way:
            self._stream.write("\r\x1b[K")
            self._under_way = False
        self._write(text + "\n")

    def progress(self, what: str, percent: int, sentence: str) -> None:
        """How far ``what`` is, 0 to 100."""
        if not self._terminal:
            self._line_of_progress(what, percent, sentence)
            return
        full = _BAR * percent // 100
        bar = "█" * full + "░" * (_BAR - full)
        room = shutil.get_terminal_size().columns - 1
        head = f"{what:8} "
        rest = f"  {percent:3d} %  {sentence}"[: max(0, room - len(head) - _BAR)]
        if room < len(head) + _BAR:
            head, bar, rest = "", "", f"{percent:3d} %"
        self._under_way = percent < 100
        self._write("\r\x1b[K" + head + self.good(bar) + rest + ("" if self._under_way else "\n"))

    def _line_of_progress(self, what: str, percent: int, sentence: str) -> None:
        told_what, told_percent = self._told
        if what == told_what and percent < min(100, told_percent + _PLAIN_STEP):
            return
        if (what, percent) != self._told:
            self._told = (what, percent)
            self._write(f"{what}: {percent:3d} %  {sentence}\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            ascii_only = text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
            self._stream.write(ascii_only)
        self._stream.flush()

    # --- colours ---------------------------------------------------------------------------------

    def strong(self, text: str) -> str:
        """What the eye shall find first."""
        return self._in("1", text)

    def good(self, text: str) -> str:
        """What went as it should."""
        return self._in("32", text)

    def warn(self, text: str) -> str:
        """What nobody shall overlook."""
        return self._in("33", text)

    def faint(self, text: str) -> str:
        """What only some will read."""
        return self._in("2", text)

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and text else text


def printable(text: object) -> str:
    """Text from elsewhere, without what could command a terminal."""
    return _CONTROL.sub("?", str(text))

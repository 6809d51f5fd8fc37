"""Where ``tortxd get`` writes a body that goes to no file."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from io import BytesIO
from typing import IO, Any, Protocol

from tortxd.cli import words
from tortxd.cli.failures import CommandFailed

LONGEST = 64 * 1024 * 1024
"""Bytes of a body."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]")
"""All but tabs and ends of lines."""


class Sink(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Write them."""


class Kept(BytesIO):
    """Keeps a body, so far as a program should have to read it as one value."""

    def write(self, data: Any) -> int:
        """Keep this as well.

        :raises CommandFailed: it is too much.
        """
        if self.tell() + len(data) > LONGEST:
            raise CommandFailed(
                f"The response is longer than {words.size(LONGEST)}, which is too much "
                "for --json: save it with -o FILE"
            )
        return super().write(data)


class Plain:
    """Writes text to a terminal, without what could move its cursor (ECMA-48, control functions).

    :param terminal: reads UTF-8.
    """

    def __init__(self, terminal: IO[bytes]) -> None:
        self._terminal = terminal
        self._decode = getincrementaldecoder("utf-8")("replace").decode

    def write(self, data: bytes) -> None:
        """Write this, or as much of it as is whole."""
        text = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", self._decode(data))
        self._terminal.write(text.encode())

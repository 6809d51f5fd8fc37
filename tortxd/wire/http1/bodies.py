"""From the bytes behind a head to those of the body (RFC 9112, sections 6 and 7)."""

from __future__ import annotations

import re
import sys
from enum import Enum

from attrs import frozen

from tortxd.errors import BadRequest, BadResponse, TortxdError
from tortxd.grammar import TOKEN
from tortxd.wire.http1.heads import MAX_FIELDS, MAX_HEAD


class BodyReader:
    """Turns the bytes behind a head into those of the body."""

    done = False
    """Whether the body is whole."""
    rest = b""
    """What followed the body."""

    @property
    def unframed(self) -> int:
        """How many bytes at least are the body's that come next, whatever they are."""
        return 0

    def skip(self, size: int) -> None:
        """So many of them have gone another way. Not the last of a body of known length."""

    def feed(self, data: bytes) -> bytes:
        """Take ``data``, give the body bytes in it.

        :raises BadRequest: if a request's body is malformed.
        :raises BadResponse: if a response's body is.
        """
        raise NotImplementedError


class LengthBody(BodyReader):
    """A body of known length."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    @property
    def unframed(self) -> int:
        return self._left

    def skip(self, size: int) -> None:
        self._left -= size

    def feed(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left > 0:
            return data
        self.done = True
        if self._left < 0:
            self.rest += data[self._left :]
            data = data[: self._left]
            self._left = 0
        return data


class CloseBody(BodyReader):
    """A body that ends with the connection (RFC 9112, section 6.3, rule 8)."""

    @property
    def unframed(self) -> int:
        return sys.maxsize

    def feed(self, data: bytes) -> bytes:
        return data


# --- chunks ---------------------------------------------------------------------------------------


@frozen
class Grammar:
    """How the lines between chunks are read."""

    size: re.Pattern[bytes]
    """The line before a chunk, without its end."""
    trailer: re.Pattern[bytes]
    bare_lf: bool
    """Whether LF without CR ends a line."""
    error: type[TortxdError]


_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION = rb";" + TOKEN + rb"(?:=(?:" + TOKEN + rb"|" + _QUOTED + rb"))?"
_SIZE = rb"([0-9A-Fa-f]{1,15})"
_DIGIT = re.compile(rb"[0-9A-Fa-f]")
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"

OF_REQUEST = Grammar(
    size=re.compile(_SIZE + rb"(?:" + _EXTENSION + rb")*"),
    trailer=re.compile(TOKEN + rb":" + _TEXT),
    bare_lf=False,
    error=BadRequest,
)
"""To the letter, and without the blanks that RFC 9112 tells readers to bear with."""

OF_RESPONSE = Grammar(
    size=re.compile(rb"0*" + _SIZE + rb"[ \t]*(?:;" + _TEXT + rb")?"),
    trailer=re.compile(_TEXT),
    bare_lf=True,
    error=BadResponse,
)
"""Zeros before a size and blanks behind it, any text as an extension (RFC 9112, section 7.1.1),
bare LF."""


class _Part(Enum):
    SIZE = "the line that says how long the next chunk is"
    DATA = "a chunk"
    END = "the line end behind a chunk"
    TRAILERS = "the trailers"


class ChunkedBody(BodyReader):
    """A chunked body (RFC 9112, section 7.1). Chunk extensions and trailers are dropped."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._part = _Part.SIZE
        self._left = 0
        """Bytes of the chunk that are still to come."""
        self._line = bytearray()
        """The beginning of a line whose end has not come."""
        self._overhead = 0
        """Bytes since the last that brought a part of the body."""
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        if self.done:
            self.rest += data
            return b""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end and not self.done:
            if self._part is _Part.DATA:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._part = _Part.END
                continue
            at = self._feed_line(data, at)
        self.rest = data[at:]
        self._count(end - len(self.rest), pieces)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _feed_line(self, data: bytes, at: int) -> int:
        """Take a line from ``data``, or the part of one that there is; where it ends."""
        newline = data.find(b"\n", at)
        if newline < 0:
            self._line += data[at:]
            self._check_part()
            return len(data)
        line = data[at : newline + 1]
        if self._line:
            line = bytes(self._line) + line
            self._line.clear()
        if line.endswith(b"\r\n"):
            self._take_line(line[:-2])
        elif self._grammar.bare_lf:
            self._take_line(line[:-1])
        else:
            raise self._malformed()
        return newline + 1

    def _take_line(self, line: bytes) -> None:
        if self._part is _Part.END:
            if line:
                raise self._malformed()
            self._part = _Part.SIZE
        elif self._part is _Part.SIZE:
            match = self._grammar.size.fullmatch(line)
            if match is None:
                raise self._malformed()
            self._left = int(match[1], 16)
            self._part = _Part.DATA if self._left else _Part.TRAILERS
        elif not line:
            self.done = True
        elif self._grammar.trailer.fullmatch(line) is None:
            raise self._malformed()
        else:
            self._trailers += 1

    def _check_part(self) -> None:
        """Refuse at once what no further byte can make right."""
        if self._part is _Part.END and self._line != b"\r":
            raise self._malformed()
        if self._part is _Part.SIZE and not _DIGIT.match(self._line):
            raise self._malformed()

    def _count(self, read: int, pieces: list[bytes]) -> None:
        """Set bounds to extensions and trailers, which bring no part of the body."""
        self._overhead = 0 if pieces else self._overhead + read
        if self._overhead > MAX_HEAD or self._trailers > MAX_FIELDS:
            raise self._grammar.error("A chunked body has too long extensions or trailers.")

    def _malformed(self) -> TortxdError:
        return self._grammar.error("A chunked body is malformed.")

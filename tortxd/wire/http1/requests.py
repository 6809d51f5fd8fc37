"""Requests as clients send them, read strictly (RFC 9112).

The first line is read here: any token is a method, and a target may hold raw UTF-8. The header
section is read by llhttp (through httptools), behind a first line of our own, so that neither
method nor target changes how it is read. The rules that llhttp leaves open are kept here:

- versions other than 1.0 and 1.1 are refused, and so is Transfer-Encoding in HTTP/1.0;
- the only transfer coding is ``chunked``;
- a head has at most :data:`~tortxd.wire.http1.heads.MAX_HEAD` bytes, if no other limit is set,
  half of them in its target, and :data:`~tortxd.wire.http1.heads.MAX_FIELDS` fields.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from tortxd.errors import BadRequest, NotServed, TooLarge
from tortxd.grammar import TOKEN
from tortxd.wire.http1.bodies import OF_REQUEST, BodyReader, ChunkedBody, LengthBody
from tortxd.wire.http1.heads import (
    MAX_FIELDS,
    MAX_HEAD,
    Headers,
    RequestHead,
    persists,
)

_END = b"\r\n\r\n"
_CHUNKED = b"chunked"
_OTHER_CODING = "The only transfer coding that the gateway takes is chunked."

_TARGET = rb"[\x21-\x7e\x80-\xff]+"
_LINE = re.compile(rb"(" + TOKEN + rb") (" + _TARGET + rb") HTTP/1\.([01])\r\n")
_OTHER_VERSION = re.compile(TOKEN + rb" " + _TARGET + rb" [A-Z]+/[0-9]\.[0-9]\r\n")
_BEGINNING = re.compile(TOKEN + rb"(?: |$)")
_LONGEST_METHOD = 64
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PRIMERS = (b"POST / HTTP/1.0\r\n", b"POST / HTTP/1.1\r\n")


class _Section:
    """The header section of a request, as llhttp tells of it. It is none of the reader's own, so
    that nothing that the parser knows leads back to the parser: all is freed at once."""

    def __init__(self) -> None:
        self.headers: Headers = []
        self.fields: dict[bytes, bytes] = {}
        self.complete = False

    # What llhttp calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        value = value.rstrip(b" \t")
        self.headers.append((name, value))
        self.fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.complete = True


class RequestReader:
    """Reads one request: :meth:`feed` its head, then :meth:`body` its body.

    :param max_head: how many bytes the head may have.
    """

    rest = b""
    """What followed the head."""
    size = 0
    """Bytes of the head so far."""
    for_head = False
    """Whether it is a HEAD, be it malformed: then there is no body in what it is answered."""

    def __init__(self, max_head: int = MAX_HEAD) -> None:
        self._max_head = max_head
        self._section = _Section()
        self._line = bytearray()
        """The first line, as long as it is not whole."""
        self._first: re.Match[bytes] | None = None
        self._parser: HttpRequestParser | None = None
        self._tail = b""

    @property
    def begun(self) -> bool:
        """Whether more than empty lines has come."""
        return bool(self._line)

    @property
    def first(self) -> bytes:
        """The first bytes that came, which say what is spoken where it is not HTTP."""
        return bytes(self._line[:2])

    def feed(self, data: bytes) -> RequestHead | None:
        """Take ``data``; give the head once it is whole.

        :raises BadRequest: if it is malformed.
        :raises NotServed: if its transfer coding is not served.
        :raises TooLarge: with status 414 if the target, 431 if the header section is too large.
        """
        if self._first is None:
            data = self._read_line(data)
            if self._first is None:
                return None
        try:
            return self._head() if self._read_section(data) else None
        except HttpParserError as error:
            if set(self._codings()) - {_CHUNKED, b"identity"}:
                raise NotServed(_OTHER_CODING) from None
            raise BadRequest(f"The request is malformed: {error}.") from None

    # --- the first line ---------------------------------------------------------------------------

    def _read_line(self, data: bytes) -> bytes:
        """Take the first line from ``data``; what is behind it."""
        line, size = self._line, len(data)
        if not line:
            data = data.lstrip(b"\r\n")  # RFC 9112, section 2.2
        newline = data.find(b"\n")
        behind = b"" if newline < 0 else data[newline + 1 :]
        self.size += size - len(behind)
        piece = data if newline < 0 else data[: newline + 1]
        if newline < 0 and (line.endswith(b"\r") or _CONTROL.search(piece, 0, len(piece) - 1)):
            line += piece
            raise self._no_line()  # at once: what is no HTTP may never have a line's end
        line += piece
        self.for_head = line.startswith(b"HEAD ")
        if newline >= 0:
            self._end_line()
        elif self.size > self._max_head:
            raise TooLarge("The request target is too long.", status=414)
        elif line and not _BEGINNING.match(line, 0, _LONGEST_METHOD):
            raise self._no_line()
        return behind

    def _end_line(self) -> None:
        self._first = _LINE.fullmatch(bytes(self._line))
        if self._first is None:
            raise self._no_line()
        if len(self._first[2]) > self._max_head // 2:
            raise TooLarge("The request target is too long.", status=414)
        self._parser = HttpRequestParser(self._section)
        self._parser.feed_data(_PRIMERS[int(self._first[3])])
        self._tail = b"\r\n"

    def _no_line(self) -> BadRequest:
        if _OTHER_VERSION.fullmatch(self._line):
            return BadRequest("The gateway speaks HTTP/1.1 and HTTP/1.0.")
        if not _BEGINNING.match(self._line, 0, _LONGEST_METHOD):
            return BadRequest("This is not an HTTP request.")
        return BadRequest("The request line is malformed.")

    # --- the header section -----------------------------------------------------------------------

    def _read_section(self, data: bytes) -> bool:
        """Give the parser the bytes up to the head's end; whether it has been reached."""
        assert self._parser is not None
        if not data:
            return False
        # An end that straddles two reads is found with the last bytes before this one.
        tail = self._tail
        found = (tail + data).find(_END)
        if found < 0:
            self._tail = (tail + data)[-3:]
            piece = data
        else:
            end = found + len(_END) - len(tail)
            piece, self.rest = data[:end], data[end:]
        self.size += len(piece)
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade:
            pass  # said at the end of a head with Upgrade; others decide what comes of that
        if self.size > self._max_head or len(self._section.headers) > MAX_FIELDS:
            raise TooLarge("The request's header section is too large.", status=431)
        return self._section.complete

    def _codings(self) -> list[bytes]:
        """Every Transfer-Encoding field, in lower case."""
        section = self._section
        if b"transfer-encoding" not in section.fields:
            return []
        return [v.lower() for name, v in section.headers if name.lower() == b"transfer-encoding"]

    def _head(self) -> RequestHead:
        assert self._first is not None
        method, target, minor = self._first[1], self._first[2], int(self._first[3])
        codings = self._codings()
        if codings and minor == 0:
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding.")
        if codings and codings != [_CHUNKED]:
            raise NotServed(_OTHER_CODING)
        headers, fields = self._section.headers, self._section.fields
        length = fields.get(b"content-length")
        return RequestHead(
            method,
            target,
            minor,
            headers,
            fields,
            tuple([value for name, value in headers if name.lower() == b"host"]),
            None if length is None else int(length),
            bool(codings),
            persists(minor, headers, fields),
        )

    def body(self, head: RequestHead) -> BodyReader:
        """A reader of the body that follows ``head``."""
        return ChunkedBody(OF_REQUEST) if head.chunked else LengthBody(head.length or 0)

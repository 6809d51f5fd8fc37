"""HTTP/1.1 heads and bodies, without I/O (RFC 9112).

The bytes of heads and of chunked bodies are read by llhttp (through httptools). The rules that
llhttp leaves open are kept here:

- versions other than 1.0 and 1.1 are refused, and so is Transfer-Encoding in HTTP/1.0;
- the only transfer coding is ``chunked``;
- a head has at most :data:`MAX_HEAD` bytes and :data:`MAX_FIELDS` fields; so have trailers, which
  are dropped;
- the framing of a response follows from the request's method and the status too (section 6.3).

A reader is fed bytes as they come and is used for one message. What follows the message is in its
``rest``, except behind a chunked body: there llhttp does not say where the body ended, so bytes
that follow at once only set ``overrun``, and such a connection is not used again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from attrs import frozen
from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from tortxd.errors import BadRequest, BadResponse, NotServed, TooLarge, TortxdError

Headers = list[tuple[bytes, bytes]]
P = TypeVar("P", HttpRequestParser, HttpResponseParser)

MAX_HEAD = 64 * 1024
"""Bytes of a request or response head, its first line included."""
MAX_FIELDS = 256
MAX_TARGET = 32 * 1024
"""Bytes of a request target."""

_END = b"\r\n\r\n"
_CHUNKED = b"chunked"
_OTHER_CODING = "The only transfer coding that the gateway takes is chunked."
_REQUEST_VERSIONS = {b" HTTP/1.1\r\n": 1, b" HTTP/1.0\r\n": 0}
_RESPONSE_VERSIONS = {b"HTTP/1.1 ": 1, b"HTTP/1.0 ": 0}
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: |$)")
_REASON = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_CHUNKED_PRIMER = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_BODILESS = frozenset((204, 304))


@frozen(eq=False)
class HeaderSection:
    """The header section of requests without a body (RFC 9110, section 6.3).

    Clients send the same one again and again, with other targets. What follows from it alone can be
    kept with it: equal ones that come close to each other are one and the same object.
    """

    headers: Headers
    fields: dict[bytes, bytes]
    hosts: tuple[bytes, ...]
    keep_alive: bool


class RequestHead(NamedTuple):
    """A request's first line and header section."""

    method: bytes
    target: bytes
    minor: int
    """1 for HTTP/1.1, 0 for HTTP/1.0."""
    headers: Headers
    """As sent, in order, values without surrounding blanks."""
    fields: dict[bytes, bytes]
    """By lower-case name; of repeated fields, the last."""
    hosts: tuple[bytes, ...]
    """Every Host field."""
    length: int | None
    """Content-Length, where it was given."""
    chunked: bool
    keep_alive: bool
    section: HeaderSection | None = None
    """All but the first line, where that is kept."""

    @property
    def has_body(self) -> bool:
        """Whether body bytes (perhaps none, if chunked) follow the head."""
        return self.chunked or bool(self.length)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for 100 Continue (RFC 9110, section 10.1.1)."""
        return self.minor == 1 and self.fields.get(b"expect", b"").lower() == b"100-continue"


class ResponseHead(NamedTuple):
    """A final response's status line and header section, and how its body is framed."""

    status: int
    reason: bytes
    headers: Headers
    length: int | None
    """Bytes of the body, 0 where there can be none; None if chunked or ended by the connection."""
    chunked: bool
    declared_length: int | None
    """What Content-Length says; that of HEAD and 304 describes no body that follows."""
    keep_alive: bool

    @property
    def until_close(self) -> bool:
        """Whether the end of the connection ends the body."""
        return self.length is None and not self.chunked


class _HeadReader(Generic[P]):
    """Feeds a parser exactly the bytes of one head."""

    _ignored = b""
    """Line ends that may stand before the first line."""
    rest = b""
    """What followed the head."""
    size = 0
    """Bytes of the head so far."""
    _parser: P
    _line = b""
    _tail = b""
    _complete = False

    def __init__(self) -> None:
        self.headers: Headers = []
        self.fields: dict[bytes, bytes] = {}

    # What llhttp calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        value = value.rstrip(b" \t")
        self.headers.append((name, value))
        self.fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._complete = True

    def _feed_head(self, data: bytes) -> bool:
        """Give the parser the bytes up to the head's end; whether it has been reached."""
        while data:
            # An end that straddles two reads is found with the last three bytes before this one.
            # An empty line before the first line is none (RFC 9112, section 2.2), hence the loop.
            found = (self._tail + data).find(_END) if self._tail else data.find(_END)
            if found < 0:
                self._tail = (self._tail + data)[-3:]
                piece, data = data, b""
            else:
                end = found + len(_END) - len(self._tail)
                self._tail = b""
                piece, data = (data, b"") if end == len(data) else (data[:end], data[end:])
            if not self.size:
                self._parser = self._make_parser()
            self.size += len(piece)
            if not self._line.endswith(b"\r\n"):
                self._line = _first_line((self._line + piece).lstrip(self._ignored))
            try:
                self._parser.feed_data(piece)
            except HttpParserUpgrade:
                # Said at the head's end of CONNECT and Upgrade; others decide what comes of those.
                pass
            if self.size > MAX_HEAD or len(self.headers) > MAX_FIELDS:
                raise self._too_large()
            if self._complete:
                self.rest = data
                return True
        return False

    def _make_parser(self) -> P:
        raise NotImplementedError

    def _too_large(self) -> TortxdError:
        raise NotImplementedError

    def _codings(self) -> list[bytes]:
        """Every Transfer-Encoding field, in lower case."""
        if b"transfer-encoding" not in self.fields:
            return []
        return [v.lower() for name, v in self.headers if name.lower() == b"transfer-encoding"]

    def _persists(self, minor: int) -> bool:
        """Whether the connection may carry another message (RFC 9112, section 9.3)."""
        if b"connection" not in self.fields:
            return minor == 1
        options = connection_options(self.headers)
        return b"close" not in options and (minor == 1 or b"keep-alive" in options)


class RequestReader(_HeadReader[HttpRequestParser]):
    """Reads one request: :meth:`feed` its head, then :meth:`body` its body."""

    _ignored = b"\r\n"  # RFC 9112, section 2.2
    _target = b""

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def feed(self, data: bytes) -> RequestHead | None:
        """Take ``data``; give the head once it is whole.

        :raises BadRequest: if it is malformed.
        :raises NotServed: if its method or transfer coding is not served.
        :raises TooLarge: with status 414 if the target, 431 if the header section is too large.
        """
        if not self.size:
            head = _known(data)
            if head is not None:
                self._line = data
                return head
        return self.read(data)

    def read(self, data: bytes) -> RequestHead | None:
        """The same, whether such a header section came before or not."""
        try:
            return self._head() if self._feed_head(data) else None
        except HttpParserInvalidMethodError:
            if not _METHOD.match(self._line):
                raise BadRequest("This is no HTTP request.") from None
            raise NotServed("The gateway does not serve this request method.") from None
        except HttpParserInvalidURLError:
            raise BadRequest("The request target holds bytes that a URL cannot hold.") from None
        except HttpParserError as error:
            if set(self._codings()) - {_CHUNKED, b"identity"}:
                raise NotServed(_OTHER_CODING) from None
            raise BadRequest(f"The request is malformed: {error}.") from None

    @property
    def for_head(self) -> bool:
        """Whether it is a HEAD, be it malformed: then there is no body in what it is answered."""
        return self._line.startswith(b"HEAD ")

    def _make_parser(self) -> HttpRequestParser:
        return HttpRequestParser(self)

    def _too_large(self) -> TortxdError:
        if self.headers and len(self._target) <= MAX_TARGET:
            return TooLarge("The request's header section is too large.", status=431)
        return TooLarge("The request target is too long.", status=414)

    def _head(self) -> RequestHead:
        if len(self._target) > MAX_TARGET:
            raise TooLarge("The request target is too long.", status=414)
        minor = _REQUEST_VERSIONS.get(self._line[-11:])
        if minor is None:
            raise BadRequest("The gateway speaks HTTP/1.1 and HTTP/1.0.")
        method = self._parser.get_method()
        if len(self._line) != len(method) + len(self._target) + len(b"  HTTP/1.1\r\n"):
            raise BadRequest("The request line is malformed.")
        codings = self._codings()
        if codings and minor == 0:
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding.")
        if codings and codings != [_CHUNKED]:
            raise NotServed(_OTHER_CODING)
        fields = self.fields
        length = fields.get(b"content-length")
        return RequestHead(
            method,
            self._target,
            minor,
            self.headers,
            fields,
            tuple([value for name, value in self.headers if name.lower() == b"host"]),
            None if length is None else int(length),
            bool(codings),
            self._persists(minor),
        )

    def body(self, head: RequestHead) -> BodyReader:
        """A reader of the body that follows ``head``."""
        return ChunkedBody(BadRequest) if head.chunked else LengthBody(head.length or 0)


_SIMPLE_LINE = re.compile(
    rb"(GET|HEAD|OPTIONS|DELETE) "
    rb"((?:http://[a-z0-9.-]+(?::[0-9]{1,5})?)?/[A-Za-z0-9._~:/?@!$&'()*+,;=%-]*) HTTP/1\.1\r\n"
)
"""Request lines of which there is nothing to find out that llhttp would say."""
_TELLS_OF_MORE = frozenset((b"content-length", b"transfer-encoding", b"expect", b"upgrade"))
_LONGEST_KEPT = 2048
"""Bytes of a header section that is kept, and of the target before it."""


def _known(data: bytes) -> RequestHead | None:
    """The head that ``data`` is, if it is one that needs no closer look."""
    line = _SIMPLE_LINE.match(data)
    if line is None or line.end() > _LONGEST_KEPT or len(data) - line.end() > _LONGEST_KEPT:
        return None
    # To its end and no further: else it would be a key that never comes again.
    if data.find(_END, line.end() - 2) != len(data) - len(_END):
        return None
    section = _section(data[line.end() :])
    if section is None:
        return None
    method, target = line.groups()
    headers, fields, hosts = section.headers, section.fields, section.hosts
    keep_alive = section.keep_alive
    return RequestHead(method, target, 1, headers, fields, hosts, None, False, keep_alive, section)


@lru_cache(512)
def _section(data: bytes) -> HeaderSection | None:
    """The header section that ``data`` is, read behind a line that could be any; None if it is
    malformed, or says something about the bytes behind it."""
    reader = RequestReader()
    try:
        head = reader.read(b"GET / HTTP/1.1\r\n" + data)
    except TortxdError:
        return None
    if head is None or not _TELLS_OF_MORE.isdisjoint(head.fields):
        return None
    return HeaderSection(head.headers, head.fields, head.hosts, head.keep_alive)


class ResponseReader(_HeadReader[HttpResponseParser]):
    """Reads one response to a request of the given method: its final head, then its body.

    :param upgrade: whether the request asked for another protocol. What follows a 101 is then that
        protocol's, and is read as a body that ends with the connection.
    """

    def __init__(self, method: bytes, *, upgrade: bool = False) -> None:
        super().__init__()
        self._method = method
        self._upgrade = upgrade

    def feed(self, data: bytes) -> ResponseHead | None:
        """Take ``data``; give the head once it is whole. Interim responses other than 101 are
        passed over (RFC 9110, section 15.2).

        :raises BadResponse: if it is malformed, too large, or switches protocols unasked.
        """
        try:
            while self._feed_head(data):
                head = self._head()
                if head is not None:
                    return head
                # They count towards the size of the one head that is waited for.
                size, data = self.size, self.rest
                self.__init__(self._method, upgrade=self._upgrade)  # type: ignore[misc]
                self.rest = self._line = b""
                self._complete = False
                self._parser = self._make_parser()
                self.size = size
        except HttpParserError as error:
            raise BadResponse(f"The destination's response is malformed: {error}.") from None
        return None

    def _make_parser(self) -> HttpResponseParser:
        return HttpResponseParser(self)

    def _too_large(self) -> TortxdError:
        return BadResponse("The destination's header section is too large.")

    def _head(self) -> ResponseHead | None:
        minor = _RESPONSE_VERSIONS.get(self._line[:9])
        status = self._parser.get_status_code()
        reason = self._line[len(b"HTTP/1.1 200 ") : -2]
        if minor is None or not 100 <= status <= 599 or not _REASON.fullmatch(reason):
            raise BadResponse
        codings = self._codings()
        if codings and (codings != [_CHUNKED] or minor == 0):
            raise BadResponse("The destination used a transfer coding that is not chunked.")
        if status == 101:
            if not self._upgrade or minor == 0:
                raise BadResponse("The destination switched to a protocol that was not asked for.")
            return ResponseHead(101, reason, self.headers, None, False, None, False)
        if status < 200:
            return None
        declared = self.fields.get(b"content-length")
        length = None if declared is None else int(declared)
        shown = None if status == 204 else length
        chunked = bool(codings)
        if self._method == b"HEAD" or status in _BODILESS:
            length, chunked = 0, False
        return ResponseHead(
            status,
            reason,
            self.headers,
            length,
            chunked,
            shown,
            self._persists(minor) and (length is not None or chunked),
        )

    def body(self, head: ResponseHead) -> BodyReader:
        """A reader of the body that follows ``head``."""
        if head.chunked:
            return ChunkedBody(BadResponse)
        return CloseBody() if head.length is None else LengthBody(head.length)


class BodyReader:
    """Turns the bytes behind a head into those of the body."""

    done = False
    """Whether the body is whole."""
    rest = b""
    """What followed the body, where that can be told."""
    overrun = False
    """Whether something followed that could not be kept."""

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

    def feed(self, data: bytes) -> bytes:
        return data


class ChunkedBody(BodyReader):
    """A chunked body (RFC 9112, section 7.1). Chunk extensions and trailers are dropped.

    It has a parser of its own, which is told of nothing but chunks: what else the head says
    (``Upgrade``, say) must not change how the body is read.
    """

    def __init__(self, error: type[TortxdError]) -> None:
        self._error = error
        self._pieces: list[bytes] = []
        self._overhead = 0
        self._trailers = -1  # the one field of the primer counts as well
        self._parser = HttpRequestParser(self)
        self._parser.feed_data(_CHUNKED_PRIMER)

    # What llhttp calls.

    def on_message_begin(self) -> None:
        self.overrun = self.done

    def on_header(self, name: bytes, value: bytes) -> None:
        self._trailers += 1

    def on_body(self, piece: bytes) -> None:
        if not self.done:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self.done = True

    def feed(self, data: bytes) -> bytes:
        already_done = self.done
        if already_done:
            self.overrun = self.overrun or bool(data)
            return b""
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not self.done:
                raise self._error(f"A chunked body is malformed: {error}.") from None
            self.overrun = True
        except HttpParserUpgrade:
            self.overrun = True  # of a message behind this one
        body = b"".join(self._pieces)
        self._pieces.clear()
        # llhttp sets no bounds to extensions and trailers: bytes that bring no body do.
        self._overhead = 0 if body else self._overhead + len(data)
        if self._overhead > MAX_HEAD or self._trailers > MAX_FIELDS:
            raise self._error("A chunked body has too long extensions or trailers.")
        return body


def _first_line(head: bytes) -> bytes:
    """What of ``head`` is its first line, with the line end if it has come."""
    end = head.find(b"\r\n")
    return head if end < 0 else head[: end + 2]


def connection_options(headers: Headers) -> list[bytes]:
    """What ``Connection`` fields list, in lower case (RFC 9110, section 7.6.1)."""
    return [
        option.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for option in value.split(b",")
    ]


def chunk(data: bytes) -> bytes:
    """``data`` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def head_bytes(first_line: bytes, headers: Headers) -> bytes:
    """A head as it goes out."""
    return b"%b\r\n%b\r\n" % (first_line, field_lines(headers))


def field_lines(headers: Headers) -> bytes:
    """Fields as they go out."""
    return b"".join([b"%b: %b\r\n" % field for field in headers])

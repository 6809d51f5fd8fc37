"""Responses as destinations send them (RFC 9112), read where there is one way to understand them.

Beyond the standard, as browsers and curl have it: empty lines before the first, bare LF for CRLF,
white space before a field's colon, a Content-Length that is repeated with the same value,
``Transfer-Encoding: identity`` (as if it were not there), statuses up to 999. Refused is what can
be understood in two ways: differing lengths, a length beside chunks, other transfer codings, folded
lines, control bytes.
"""

from __future__ import annotations

import re

from tortxd.errors import BadResponse
from tortxd.grammar import TOKEN
from tortxd.wire.http1.bodies import OF_RESPONSE, BodyReader, ChunkedBody, CloseBody, LengthBody
from tortxd.wire.http1.heads import (
    MAX_RESPONSE_FIELDS,
    MAX_RESPONSE_HEAD,
    Headers,
    ResponseHead,
    persists,
)

MAX_INTERIM = 100
"""Interim responses before a final one: a server that says each second that it is still at work
takes no longer than that, or the request's time is over."""

_START = b"HTTP/1."
_ALERT = b"\x15\x03"
"""How TLS complains of what is none: an alert record (RFC 8446, section 5.1)."""
_SPEAKS_TLS = (
    "The destination speaks TLS on this port, not plain http: https:// might be meant instead of "
    "http://."
)
_END = re.compile(rb"\n\r?\n")
# Possessive where a hostile line could otherwise be tried in many ways; but no group is, in which
# Python 3.11.2 loses its place.
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*+))?\r?\n")
_VISIBLE, _SPACED = rb"[^\x00-\x20\x7f]", rb"[^\x00-\x08\x0a-\x1f\x7f]"
_FIELD = re.compile(
    rb"^(%b)[ \t]*+:[ \t]*+(|%b(?:%b*%b)?)[ \t]*\r?\n" % (TOKEN, _VISIBLE, _SPACED, _VISIBLE),
    re.MULTILINE,
)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BODILESS = frozenset((204, 304))


class ResponseReader:
    """Reads one response to a request of the given method: its final head, then its body.

    :param upgrade: whether the request asked for another protocol. What follows a 101 is then that
        protocol's, and is read as a body that ends with the connection.
    """

    rest = b""
    """What followed the head."""
    size = 0
    """Bytes of the heads so far."""
    is_http = False
    """Whether what came begins as HTTP does."""

    def __init__(self, method: bytes, *, upgrade: bool = False) -> None:
        self.interim: list[ResponseHead] = []
        """The interim responses (RFC 9110, section 15.2) that came before the final one; they are
        the caller's to take out."""
        self._interims = 0
        self._method = method
        self._upgrade = upgrade
        self._so_far = bytearray()
        """The head that is being read, as far as it has come."""

    def feed(self, data: bytes) -> ResponseHead | None:
        """Take ``data``; give the final head once it is whole.

        :raises BadResponse: if it is malformed, too large, or switches protocols unasked.
        """
        while True:
            head = self._take(data)
            if head is None or head.status >= 200 or head.status == 101:
                return head
            self.interim.append(head)
            self._interims += 1
            if self._interims > MAX_INTERIM:
                raise BadResponse("The destination sent too many interim responses.")
            data = self.take_rest()

    def take_rest(self) -> bytes:
        """What followed the head, which is not kept any longer."""
        rest, self.rest = self.rest, b""
        return rest

    def body(self, head: ResponseHead) -> BodyReader:
        """A reader of the body that follows ``head``."""
        if head.chunked:
            return ChunkedBody(OF_RESPONSE)
        return CloseBody() if head.length is None else LengthBody(head.length)

    def _take(self, data: bytes) -> ResponseHead | None:
        """The next head, once it is whole; what is behind it is in ``rest``."""
        self.size += len(data)
        so_far = self._so_far
        taken: bytes | bytearray
        if so_far:
            seen = max(0, len(so_far) - 2)
            so_far += data
            taken, found = so_far, _END.search(so_far, seen)
        else:
            taken = data = data.lstrip(b"\r\n")
            found = _END.search(data)
            if found is None:
                so_far += data
        if taken.startswith(_START):
            self.is_http = True
        elif not _START.startswith(taken):
            raise BadResponse(_SPEAKS_TLS if _ALERT.startswith(taken[:2]) else None)
        end = len(taken) if found is None else found.end()
        self.size -= len(taken) - end
        if self.size > MAX_RESPONSE_HEAD:
            raise BadResponse("The destination's header section is too large.")
        if found is None:
            return None
        self.rest = bytes(taken[end:])
        head = self._read(taken, end)
        so_far.clear()
        return head

    def _read(self, data: bytes | bytearray, end: int) -> ResponseHead:
        line = _STATUS_LINE.match(data)
        if line is None:
            raise BadResponse
        headers: Headers = _FIELD.findall(data, line.end(), end)
        if len(headers) != data.count(b"\n", line.end(), end) - 1:
            raise BadResponse("The destination's header section is malformed.")
        if len(headers) > MAX_RESPONSE_FIELDS:
            raise BadResponse("The destination's header section is too large.")
        minor, status = int(line[1]), int(line[2])
        names = {name.lower(): value for name, value in headers}
        length = None
        if b"content-length" in names:
            value = names[b"content-length"]
            alone = len(names) == len(headers) and _LENGTH.fullmatch(value)
            length = int(value) if alone else _length(headers)
        chunked = b"transfer-encoding" in names and _is_chunked(headers, minor)
        if chunked and length is not None:
            raise BadResponse("The destination declared a length beside a transfer coding.")
        reason = (line[3] or b"").strip()
        if status == 101:
            if not self._upgrade or minor == 0:
                raise BadResponse("The destination switched to a protocol that was not asked for.")
            return ResponseHead(101, reason, headers, None, False, None, False)
        declared = None if status == 204 else length
        if self._method == b"HEAD" or status in _BODILESS or status < 200:
            length, chunked = 0, False
        keeps = persists(minor, headers, names) and (length is not None or chunked)
        return ResponseHead(status, reason, headers, length, chunked, declared, keeps)


def _length(headers: Headers) -> int:
    """What Content-Length says, however often (RFC 9112, section 6.3, rule 5)."""
    values = [
        length.strip(b" \t")
        for name, value in headers
        if name.lower() == b"content-length"
        for length in value.split(b",")
    ]
    if not all(map(_LENGTH.fullmatch, values)) or len(set(map(int, values))) > 1:
        raise BadResponse("The destination declared a length that is malformed or ambiguous.")
    return int(values[0])


def _is_chunked(headers: Headers, minor: int) -> bool:
    """Whether the body is chunked. ``identity``, of early HTTP/1.1, says nothing."""
    codings = [
        coding.strip(b" \t").lower()
        for name, value in headers
        if name.lower() == b"transfer-encoding"
        for coding in value.split(b",")
    ]
    codings = [coding for coding in codings if coding != b"identity"]
    if not codings:
        return False
    if codings == [b"chunked"] and minor == 1:
        return True
    raise BadResponse("The destination used a transfer coding that is not chunked.")

"""What a stream of requests says, by the grammar of RFC 9112 alone: the measure of the gateway."""

from __future__ import annotations

import re

from attrs import frozen

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD = _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n"
_HEAD = re.compile(
    rb"[\r\n]*(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([01])\r\n((?:" + _FIELD + rb")*)\r\n"
)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILERS = re.compile(rb"(?:" + _FIELD + rb")*\r\n")


@frozen
class Asked:
    """One request."""

    method: bytes
    target: bytes
    minor: int
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case."""
    body: bytes
    whole: bool
    """Whether all of the body is there."""
    chunked: bool

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header, whose name is given in lower case."""
        return [value for key, value in self.headers if key == name]

    @property
    def persists(self) -> bool:
        """Whether the connection goes on behind it."""
        options = {
            one.strip(b" \t").lower() for v in self.all(b"connection") for one in v.split(b",")
        }
        return b"close" not in options and (self.minor == 1 or b"keep-alive" in options)


@frozen
class Reading:
    """A stream as far as it can be read."""

    asked: list[Asked]
    rest: list[bytes]
    """What follows each of them."""


def requests_in(data: bytes) -> Reading:
    """Read until something is wrong or unfinished, or the stream is over: with a CONNECT to the
    origin, too, behind which anything may follow."""
    asked: list[Asked] = []
    rest: list[bytes] = []
    while (match := _HEAD.match(data)) is not None:
        method, target, minor, lines = match[1], match[2], int(match[3]), match[4]
        pairs = [line.split(b":", 1) for line in lines.split(b"\r\n")[:-1]]
        headers = tuple((name.lower(), value.strip(b" \t")) for name, value in pairs)
        lengths = [value for name, value in headers if name == b"content-length"]
        codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
        data = data[match.end() :]
        if codings:
            if codings != [b"chunked"] or lengths or minor == 0:
                break
            body, whole, behind = _chunks(data)
        elif lengths:
            if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
                break
            length = int(lengths[0])
            body, behind = data[:length], data[length:]
            whole = len(body) == length
        else:
            body, whole, behind = b"", True, data
        asked.append(Asked(method, target, minor, headers, body, whole, bool(codings)))
        rest.append(behind)
        opens = method == b"CONNECT" and target.startswith(b"origin.test.example:") and not body
        if not whole or not asked[-1].persists or opens:
            break
        data = behind
    return Reading(asked, rest)


def _chunks(data: bytes) -> tuple[bytes, bool, bytes]:
    """Body, whether it is whole, and what follows."""
    body = b""
    while (match := _CHUNK.match(data)) is not None:
        size = int(match[1], 16)
        if size == 0:
            end = _TRAILERS.match(data, match.end())
            return (body, False, b"") if end is None else (body, True, data[end.end() :])
        piece = data[match.end() : match.end() + size]
        body += piece
        if data[match.end() + size : match.end() + size + 2] != b"\r\n":
            return body, False, b""
        data = data[match.end() + size + 2 :]
    return body, False, b""

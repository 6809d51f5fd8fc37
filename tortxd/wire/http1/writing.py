"""Messages as they go out."""

from __future__ import annotations

from tortxd.wire.http1.heads import Headers

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """``data`` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def head_bytes(first_line: bytes, headers: Headers) -> bytes:
    """A head as it goes out."""
    return b"\r\n".join((first_line, *map(b": ".join, headers), b"", b""))


def field_lines(headers: Headers) -> bytes:
    """Fields as they go out."""
    return b"".join([b"%b: %b\r\n" % field for field in headers])

"""What h11, another strict reader of HTTP/1.1, makes of the same bytes."""

from __future__ import annotations

import re

import h11
from attrs import frozen

_WHOLE = 1 << 22
_PADDED_SIZE = re.compile(rb"(?<=\n)([0-9A-Fa-f]+)[ \t]+(?=;)")
"""Blanks between a chunk's size and its extension, which h11 does not know (RFC 9112, section
7.1.1)."""


@frozen
class Message:
    """One message as h11 reads it."""

    start: tuple[bytes, bytes] | int
    """Method and target, or the status."""
    minor: int
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    body: bytes
    whole: bool
    rest: bytes = b""
    """What follows it."""


class Refused(Exception):
    """h11 takes no such bytes."""


def request(data: bytes) -> Message | None:
    """The first request in ``data``; None while its head is not whole.

    Empty lines before it are none (RFC 9112, section 2.2), which h11 does not know.
    """
    return _read(h11.Connection(h11.SERVER, _WHOLE), data.lstrip(b"\r\n"))


def response(data: bytes, method: bytes, *, ended: bool = False) -> Message | None:
    """The response in ``data`` to a request of this method; ``ended`` if nothing comes after it."""
    connection = h11.Connection(h11.CLIENT, _WHOLE)
    target = b"h:1" if method == b"CONNECT" else b"/"
    connection.send(h11.Request(method=method, target=target, headers=[(b"Host", b"h")]))
    connection.send(h11.EndOfMessage())
    return _read(connection, _PADDED_SIZE.sub(rb"\1", data), ended=ended)


def _read(connection: h11.Connection, data: bytes, *, ended: bool = False) -> Message | None:
    head: h11.Request | h11.Response | None = None
    body = b""
    try:
        if data:
            connection.receive_data(data)
        if ended:
            connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request | h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif event is h11.NEED_DATA or isinstance(
                event, h11.EndOfMessage | h11.ConnectionClosed
            ):
                rest = bytes(connection.trailing_data[0])
                return None if head is None else _message(head, body, event, rest)
            elif event is h11.PAUSED:
                rest = bytes(connection.trailing_data[0])
                return None if head is None else _message(head, body, h11.EndOfMessage(), rest)
    except h11.RemoteProtocolError as error:
        if head is not None:
            return _message(head, body, h11.NEED_DATA)  # its body is what is malformed
        raise Refused(str(error)) from None


def _message(
    head: h11.Request | h11.Response, body: bytes, last: object, rest: bytes = b""
) -> Message:
    start = (head.method, head.target) if isinstance(head, h11.Request) else head.status_code
    minor = int(head.http_version.partition(b".")[2])
    whole = isinstance(last, h11.EndOfMessage)
    return Message(start, minor, list(head.headers), body, whole, rest)

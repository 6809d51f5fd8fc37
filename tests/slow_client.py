"""A client that has little room for what it gets, takes it slowly, and is still sending."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from attrs import frozen

ROOM = 4096
"""Bytes that the client's kernel keeps for it."""
PIECE = 1000
"""Bytes that it takes, and sends, at a time."""
SOON = 0.02
"""Seconds in which the next piece may come before it pauses again."""
PATIENCE = 60.0
"""Seconds after which whatever it is waiting for has failed."""


@frozen
class Got:
    """What came of a conversation."""

    data: bytes
    reset: bool

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


def with_little_room(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    """A socket to connect."""
    client = socket.socket(family)
    client.settimeout(PATIENCE)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
    return client


def converse(client: socket.socket, first: bytes, pause: Callable[[], object]) -> Got:
    """Send ``first``, and then read a piece, send another and ``pause``, until the end.

    It blocks, and closes ``client``. Once something has come, it also pauses while it waits.
    """
    got = bytearray()
    reset = False
    with client:
        try:
            client.sendall(first)
            while piece := _next(client, pause if got else None):
                got += piece
                client.sendall(b"." * PIECE)
                pause()
        except OSError:
            # What was sent last may have met a connection that is over; what came before can still
            # be read.
            reset = True
            got += _rest(client)
    return Got(bytes(got), reset)


def _next(client: socket.socket, pause: Callable[[], object] | None) -> bytes:
    if pause is None:
        return client.recv(PIECE)
    deadline = time.monotonic() + PATIENCE
    client.settimeout(SOON)
    while True:
        try:
            piece = client.recv(PIECE)
        except TimeoutError:
            if time.monotonic() > deadline:
                raise AssertionError("The connection has no end") from None
            pause()
        else:
            client.settimeout(PATIENCE)
            return piece


def _rest(client: socket.socket) -> bytes:
    got = b""
    try:
        while piece := client.recv(PIECE):
            got += piece
    except OSError:
        pass
    return got

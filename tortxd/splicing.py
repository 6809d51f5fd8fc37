"""Moves bytes from one connection to another within the kernel (splice(2)).

For bytes that the gateway passes on without looking at them: a tunnel's, and those of a long body
that is not chunked. They are neither copied nor kept here, and neither connection has to wait for
the reactor's next round.

What the receiver has no room for goes the way of all bytes, by ``write``. So backpressure, errors
and ends are Twisted's own, and the pipe that splice(2) wants between two sockets is empty again
after each step: one serves all.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from errno import EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM
from functools import cache
from struct import unpack_from
from typing import Any, TypeGuard

from twisted.internet.main import CONNECTION_LOST
from twisted.internet.tcp import Connection

from tortxd.writing import send_now

STEP = 64 * 1024
"""Bytes that are moved at once, as Twisted reads them: what the receiver has no room for is kept
here."""
GROWTH = STEP // 2
"""How much longer the next step may be where one was as long as it might be, and all of it went.
Not much: the kernel says that there is room, and with many who do not read, all at once there is
none."""
LONGEST_STEP = 1024 * 1024
"""The same as a pipe may hold of those who are not root: see pipe(7)."""

_UNABLE = (EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM)
"""Why there is no pipe, or no splice(2) on this system or between these connections."""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_SO_MEMINFO = 55
"""What the kernel holds of a socket: nine numbers (linux/sock_diag.h), of which these count:"""
_SNDBUF, _WMEM_QUEUED = 3, 5


def splice(
    source: object, sink: object, may_move: Callable[[], int], moved: Callable[[int], object]
) -> Splice | None:
    """Move what comes from ``source`` to ``sink`` without giving it to ``source``'s protocol, until
    :meth:`Splice.end` is called; None where that cannot be done: with TLS, for example.

    :param may_move: how many bytes may be moved now; the protocol gets the others.
    :param moved: told how many were.
    """
    if _is_plain(source) and _is_plain(sink):
        return Splice(source, sink, may_move, moved)
    return None


def _is_plain(transport: object) -> TypeGuard[Connection]:
    """Whether what is written to it is what its socket sends."""
    return isinstance(transport, Connection) and not transport.TLS


class Splice:
    """One direction between two connections; see :func:`splice`."""

    def __init__(
        self,
        source: Connection,
        sink: Connection,
        may_move: Callable[[], int],
        moved: Callable[[int], object],
    ) -> None:
        self._source = source
        self._sink: Any = sink
        self._may_move = may_move
        self._moved = moved
        self._read = source.doRead
        self._size = STEP
        """How long the next step may be, if there is room."""
        source.doRead = self._step  # type: ignore[method-assign]

    def end(self) -> None:
        """Let the protocol have what comes from now on; harmless if it has it already."""
        if vars(self._source).get("doRead") == self._step:
            del self._source.doRead

    def _step(self) -> Any:
        """What the reactor calls when there is something to read; see ``Connection.doRead``."""
        send_now(self._sink)
        size = min(self._may_move(), self._fitting()) if self._is_free() else 0
        if size <= 0:
            return self._read()
        try:
            outlet, inlet = _pipe()
            came = os.splice(self._source.fileno(), inlet, size, flags=_FLAGS)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _UNABLE:
                return CONNECTION_LOST
            self.end()
            return self._read()
        if came == 0:
            return self._read()
        left = self._pass_on(outlet, came)
        if left:
            self._sink.write(left)
        grows = came == size and not left
        self._size = min(self._size + GROWTH, LONGEST_STEP) if grows else STEP
        self._moved(came)
        return None

    def _pass_on(self, outlet: int, size: int) -> bytes:
        """Empty the pipe; the result is what the socket has not taken."""
        try:
            with suppress(OSError):  # it has no room, or it is broken: then so says its next write
                size -= os.splice(outlet, self._sink.fileno(), size, flags=_FLAGS)
            left = b""
            while len(left) < size:
                left += os.read(outlet, size - len(left))
        except BaseException:
            _throw_pipe_away()  # the next one must not get what is in it
            raise
        return left

    def _is_free(self) -> bool:
        """Whether the receiver is there and has been sent all that was written to it."""
        sink = self._sink
        return (
            sink.connected
            and not sink.disconnecting
            and not sink.dataBuffer
            and not sink._tempDataLen
        )

    def _fitting(self) -> int:
        """How long a step may be; there is always room for a short one, or it is found out."""
        return STEP if self._size == STEP else max(STEP, min(self._size, _room(self._sink.socket)))


@cache
def _pipe() -> tuple[int, int]:
    """The two ends of the pipe. Raises OSError: there is none to be had now."""
    outlet, inlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    with suppress(OSError):
        fcntl.fcntl(inlet, fcntl.F_SETPIPE_SZ, LONGEST_STEP)
    return outlet, inlet


def _throw_pipe_away() -> None:
    for end in _pipe():
        os.close(end)
    _pipe.cache_clear()


def _room(connected: socket.socket) -> int:
    """How much a socket still takes, more or less; 0 where the kernel does not tell."""
    numbers: tuple[int, ...]
    try:
        numbers = unpack_from("=9I", connected.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))
    except OSError:
        return 0
    return numbers[_SNDBUF] - numbers[_WMEM_QUEUED]

"""Moves bytes from one connection to another within the kernel (splice(2)), where nobody looks at
them: they are neither copied nor kept here, and neither connection has to wait for the reactor's
next round.

What the receiver has no room for goes the way of all bytes, by ``write``. So backpressure, errors
and ends are Twisted's own, and the pipe that splice(2) wants between two sockets is empty again
after each step: one serves all.
"""

from __future__ import annotations

import fcntl
import os
import termios
from collections.abc import Callable
from contextlib import suppress
from errno import EINVAL, ENOMEM, ENOSYS, EPERM
from functools import cache
from typing import Any

from twisted.internet.main import CONNECTION_LOST
from twisted.internet.tcp import Connection

STEP = 64 * 1024
"""Bytes that are moved at once, as Twisted reads them: what the receiver has no room for is kept
here."""
LONG_STEP = 256 * 1024
"""The same to a receiver that takes them as fast as they come."""

_UNABLE = (EINVAL, ENOMEM, ENOSYS, EPERM)
"""What splice(2) fails with where it is not for this system or these connections."""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


def splice(
    source: object, sink: object, may_move: Callable[[], int], moved: Callable[[int], object]
) -> Splice | None:
    """Move what comes from ``source`` to ``sink`` without giving it to ``source``'s protocol, until
    :meth:`Splice.end` is called; None where that cannot be done: with TLS, for example.

    :param may_move: how many bytes may be moved now; the protocol gets the others.
    :param moved: told how many were.
    """
    if not (isinstance(source, Connection) and isinstance(sink, Connection)):
        return None
    pipe = _pipe()
    return None if pipe is None else Splice(source, sink, pipe, may_move, moved)


class Splice:
    """One direction between two connections; see :func:`splice`."""

    def __init__(
        self,
        source: Connection,
        sink: Connection,
        pipe: tuple[int, int],
        may_move: Callable[[], int],
        moved: Callable[[int], object],
    ) -> None:
        self._source = source
        self._sink: Any = sink
        self._outlet, self._inlet = pipe
        self._may_move = may_move
        self._moved = moved
        self._read = source.doRead
        self._filled = False
        """Whether the last step was as long as it might be, and all of it went."""
        source.doRead = self._step  # type: ignore[method-assign]

    def end(self) -> None:
        """Let the protocol have what comes from now on; harmless if it has it already."""
        if vars(self._source).get("doRead") == self._step:
            del self._source.doRead

    def _step(self) -> Any:
        """What the reactor calls when there is something to read; see ``Connection.doRead``."""
        if not self._is_free():
            return self._read()
        size = min(self._may_move(), self._size())
        if size <= 0:
            return self._read()
        try:
            came = os.splice(self._source.fileno(), self._inlet, size, flags=_FLAGS)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _UNABLE:
                return CONNECTION_LOST
            self.end()
            return self._read()
        if came == 0:
            return self._read()
        went = self._pass_on(came)
        self._filled = went == came == size
        self._moved(came)
        return None

    def _pass_on(self, size: int) -> int:
        """Empty the pipe; the result is how much has gone to the socket."""
        try:
            went = os.splice(self._outlet, self._sink.fileno(), size, flags=_FLAGS)
        except OSError:
            went = 0  # it has no room, or it is broken: then so says its next write
        left = size - went
        while left > 0:
            data = os.read(self._outlet, left)
            left -= len(data)
            self._sink.write(data)
        return went

    def _is_free(self) -> bool:
        """Whether the receiver is there and has been sent all that was written to it."""
        sink = self._sink
        return (
            sink.connected
            and not sink.disconnecting
            and not sink.dataBuffer
            and not sink._tempDataLen
        )

    def _size(self) -> int:
        """How long a step may be."""
        return LONG_STEP if self._filled and _unsent(self._sink.fileno()) < STEP else STEP


@cache
def _pipe() -> tuple[int, int] | None:
    """The two ends of the pipe; None if there is none to be had."""
    try:
        outlet, inlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with suppress(OSError):  # there may be less for those who are not root: pipe(7)
        fcntl.fcntl(inlet, fcntl.F_SETPIPE_SZ, LONG_STEP)
    return outlet, inlet


os.register_at_fork(after_in_child=_pipe.cache_clear)


def _unsent(socket: int) -> int:
    """How many bytes the other end has not received yet (tcp(7), SIOCOUTQ)."""
    count = fcntl.ioctl(socket, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(count, "little")

"""Reading files, without ever waiting for one that is none.

Opening a FIFO waits for a writer, opening a device may do something by itself, and neither has an
end; so what a file is, is looked at first.
"""

from __future__ import annotations

import os
import re
import select
import stat
import time
from collections.abc import Callable
from errno import EFBIG, EINVAL, EISDIR, ELOOP, ETIMEDOUT
from pathlib import Path

LARGEST = 1024 * 1024
"""Bytes; what is larger was not meant."""
PATIENCE = 5.0
"""Seconds that a pipe has for what it is to bring."""

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFCHR: "it is a device",
    stat.S_IFBLK: "it is a device",
    stat.S_IFIFO: "it is a pipe",
    stat.S_IFSOCK: "it is a socket",
}
_NULL = os.makedev(1, 3)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def read_regular(
    path: str | Path,
    *,
    most: int = LARGEST,
    follow_links: bool = True,
    judge: Callable[[int, os.stat_result], None] | None = None,
) -> bytes:
    """What a regular file holds, at once.

    :param follow_links: whether it may be a link to one.
    :param judge: called with its descriptor and what it is, before it is read.
    :raises OSError: it cannot be read, is something else, or is larger than ``most``.
    """
    _check_regular(os.stat(path, follow_symlinks=follow_links))
    descriptor = os.open(path, _FLAGS | (0 if follow_links else os.O_NOFOLLOW))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _check_regular(status)
        if judge is not None:
            judge(descriptor, status)
        return _bounded(file.read(most + 1), most)


def read_whole(path: str | Path) -> bytes:
    """What a file holds that a user names: a regular one, ``/dev/null``, or a pipe, as a shell's
    ``<(...)`` is. A pipe is read to its end, if that comes in time.

    :raises OSError: it cannot be read, is something else, or is larger than :data:`LARGEST`.
    """
    status = os.stat(path)
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL:
        return b""
    if not stat.S_ISFIFO(status.st_mode):
        return read_regular(path)
    descriptor = os.open(path, _FLAGS)
    try:
        return _bounded(_from_pipe(descriptor, time.monotonic() + PATIENCE), LARGEST)
    finally:
        os.close(descriptor)


def secret_in(data: bytes) -> bytes | None:
    """The one line that a file with a secret holds, without the white space around it; None: it
    holds none, or more than that."""
    secret = data.strip()
    return secret if secret and not _CONTROL.search(secret) else None


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        raise OSError(EISDIR, os.strerror(EISDIR))
    if stat.S_ISLNK(status.st_mode):
        raise OSError(ELOOP, "it is a link")
    raise OSError(EINVAL, _KINDS.get(stat.S_IFMT(status.st_mode), "it is not a regular file"))


def _from_pipe(descriptor: int, deadline: float) -> bytes:
    data = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(data) <= LARGEST:
        # One that nobody has opened for writing yet has no end yet, and is waited for.
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise OSError(ETIMEDOUT, f"it is a pipe whose end has not come in {PATIENCE:g} seconds")
        more = os.read(descriptor, 65_536)
        if not more:
            break
        data += more
    return data


def _bounded(data: bytes, most: int) -> bytes:
    if len(data) > most:
        raise OSError(EFBIG, os.strerror(EFBIG))
    return data

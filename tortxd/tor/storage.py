"""What is wrong with the data directory while a daemon runs: a full disk, one that has become
read-only, a folder that is gone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

LEAST_FREE = 1024 * 1024
"""Bytes: with less room a disk counts as full."""
FULL = "The disk of the data directory is full."
_GONE = "The data directory is gone."
_PAGE = bytes(4096)
_NOT_THE_DISKS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)
"""Of the process, or for the moment."""
_NO_NAMELESS_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
"""What file systems say that have none (open(2), O_TMPFILE)."""


def storage_trouble(folder: Path) -> str | None:
    """A sentence on why Tor cannot keep its files there; None: it can.

    That a disk has room says nothing of quotas, of permissions, or of one that has become read-only
    after an error. So a page is written, to a file that has no name and goes with its descriptor.
    """
    try:
        if _free_bytes(folder) < LEAST_FREE:
            return FULL
        _write(folder)
    except OSError as e:
        return _sentence(e)
    return None


def _free_bytes(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def _write(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as e:
        if e.errno not in _NO_NAMELESS_FILES:
            raise
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        return
    try:
        left = len(_PAGE)
        while left:
            left -= os.write(descriptor, _PAGE[:left])
    finally:
        os.close(descriptor)


def _sentence(error: OSError) -> str | None:
    if error.errno in _NOT_THE_DISKS:
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FULL
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return _GONE
    return f"The data directory cannot be written ({error.strerror})."

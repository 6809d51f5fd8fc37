"""One daemon per data directory, and waiting for a Tor that an earlier daemon left behind.

The lock is flock(2) on ``<data-dir>/lock``: it goes when its holder dies, however that dies. Tor
does not inherit it (descriptors of Python are close-on-exec), so a daemon that was killed can be
followed by another at once, even while its Tor still lives: Tor notices its controller's death
within 15 s. Until then that Tor holds flock on its own ``lock`` in its DataDirectory, which
:func:`tor_lives_in` looks at.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tortxd.errors import SetupError

LOCK_NAME = "lock"


class DataDirLock:
    """Holds a data directory from :meth:`acquire` to :meth:`release`, or to the process's end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, data_dir: Path) -> DataDirLock:
        """Take the lock, at once or not at all.

        :raises SetupError: another tortxd holds it, or the file cannot be made.
        """
        path = data_dir / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise SetupError(f"The lock {path} cannot be made ({e.strerror}).") from e
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(descriptor)
            raise SetupError(
                f"Another tortxd already runs in {data_dir}; stop it, or choose another `data_dir`."
            ) from e
        return cls(descriptor)

    def release(self) -> None:
        """Give the directory up. A second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def tor_lives_in(tor_dir: Path) -> bool:
    """Whether some Tor holds this DataDirectory now."""
    try:
        descriptor = os.open(tor_dir / LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)

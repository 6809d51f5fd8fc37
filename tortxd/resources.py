"""What this process uses of the machine, as Linux tells it (proc(5))."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from tortxd.files import read_whole


def memory() -> int:
    """Bytes of memory that it holds (its resident set); 0 where that is not known."""
    try:
        pages = int(read_whole(Path("/proc/self/statm")).split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()


def open_descriptors() -> int:
    """How many file descriptors it has; 0 where that is not known."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0

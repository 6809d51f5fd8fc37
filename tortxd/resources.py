"""What this process, or another of its user, uses of the machine, as Linux tells it (proc(5))."""

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


def cpu_seconds(pid: int) -> float | None:
    """Seconds of a processor's time that a process has had, in its own code and in the kernel; None
    where that is not known."""
    try:
        # The second field is a name in brackets, which may hold anything.
        fields = read_whole(Path(f"/proc/{pid}/stat")).rpartition(b") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def open_descriptors() -> int:
    """How many file descriptors it has; 0 where that is not known."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0

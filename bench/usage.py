"""What a process and those that it has started have used, as the kernel counts it (proc(5))."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

_TICKS = os.sysconf("SC_CLK_TCK")


@frozen
class Cpu:
    """Seconds of CPU."""

    user: float = 0.0
    system: float = 0.0

    @property
    def total(self) -> float:
        """Both parts."""
        return self.user + self.system

    def __sub__(self, earlier: Cpu) -> Cpu:
        return Cpu(self.user - earlier.user, self.system - earlier.system)

    def __add__(self, other: Cpu) -> Cpu:
        return Cpu(self.user + other.user, self.system + other.system)


def tree(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they live."""
    return [pid, *(further for child in _children(pid) for further in tree(child))]


def cpu(pid: int) -> Cpu:
    """What the processes have used that :func:`tree` finds, and their threads."""
    return cpu_of(tree(pid))


def cpu_of(pids: Iterable[int]) -> Cpu:
    """What these processes have used, and their threads."""
    return sum((_cpu_of_one(one) for one in pids), Cpu())


def rss(pid: int) -> int:
    """How many bytes of memory those processes have now."""
    return sum(_rss_of_one(one) for one in tree(pid))


def _children(pid: int) -> Iterator[int]:
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            yield from map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return


def _cpu_of_one(pid: int) -> Cpu:
    # The command's name stands in parentheses, and may hold any character.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    if not fields:
        return Cpu()
    system = int(fields[12]) / _TICKS
    try:
        # The clock of another process (clock_getcpuclockid(3)): it counts finer than in ticks.
        total = time.clock_gettime(~pid << 3 | 2)
    except OSError:
        total = int(fields[11]) / _TICKS + system
    system = min(system, total)
    return Cpu(total - system, system)


def _rss_of_one(pid: int) -> int:
    for line in _read(pid, "status").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(pid: int, file: str) -> str:
    try:
        return Path(f"/proc/{pid}/{file}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""

"""Which process has the other end of a connection, as Linux's /proc says (see proc(5))."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterable
from pathlib import Path

Address = tuple[str, int]


def owner(ours: Address | None, theirs: Address, pids: Iterable[int]) -> int | None:
    """The process among ``pids`` whose end of a connection is ``theirs``.

    ``ours`` is this side of the same connection. Without it, a process that uses the same port for
    a connection to somewhere else would be taken as well.
    """
    links = {f"socket:[{inode}]" for inode in _inodes(_text(theirs), ours and _text(ours))}
    return next((pid for pid in pids if links and not links.isdisjoint(_open(pid))), None)


def _text(address: Address) -> str:
    host, port = address
    # The kernel prints the address as the number that it has in memory.
    number = int.from_bytes(ipaddress.IPv4Address(host).packed, sys.byteorder)
    return f"{number:08X}:{port:04X}"


def _inodes(local: str, remote: str | None) -> Iterable[str]:
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1] == local and remote in (None, fields[2]):
            yield fields[9]


def _open(pid: int) -> Iterable[str]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(f"{folder}/{name}")
        except OSError:
            continue  # closed meanwhile

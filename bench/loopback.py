"""A loopback for the run alone, on which Tor can be spared what no other network does to it.

Linux delays acknowledgements on loopback, and each relay of Tor waits for them before it sends the
rest of what it has (Nagle's algorithm): that takes a request through three of them up to 40 ms more
than all the work does, and halves how many there can be. Where this process has a network namespace
of its own, its routes can ask for acknowledgements at once.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_PREFIXES = ("127.0.0.0/8", "127.0.0.1")


def make_own() -> bool:
    """Give this process, and all that it will start, a loopback of its own and nothing else.

    The result is whether that could be done.
    """
    user, group = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNET if user == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    if not _has_ip() or ctypes.CDLL(None).unshare(flags) != 0:
        return False
    if user != 0:
        # In the namespace it is root, who may set routes.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _ip("link set lo up")
    return True


@contextmanager
def acknowledging_at_once() -> Iterator[None]:
    """Ask for acknowledgements at once on this process's own loopback."""
    _set_routes("quickack 1")
    try:
        yield
    finally:
        _set_routes("")


def _set_routes(metrics: str) -> None:
    for prefix in _PREFIXES:
        route = f"local {prefix} dev lo table local proto kernel scope host src 127.0.0.1"
        _ip(f"route replace {route} {metrics}")


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


def _has_ip() -> bool:
    try:
        return subprocess.run(["ip", "-V"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False

"""Clears up after a network whose owner was killed.

Run as a program of its own with the network's directory as argument. Its standard input is a pipe
from the owner: pids of the tor processes, one a line. When the pipe closes, because the owner
stopped the network or because it is dead, what is left of those processes and of the directory
goes.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable


def belongs(pid: int, directory: str) -> bool:
    """Whether the process with this pid is (still) one that was started with ``directory``."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as arguments:
            return os.fsencode(directory) in arguments.read()
    except OSError:
        return False


def sweep(directory: str, pids: Iterable[int]) -> None:
    """Kill the processes and remove the directory."""
    for pid in pids:
        if belongs(pid, directory):
            os.kill(pid, signal.SIGKILL)
    for _ in range(50):
        shutil.rmtree(directory, ignore_errors=True)
        if not os.path.exists(directory):
            break
        time.sleep(0.1)


def main() -> None:
    """Wait for the owner's end, then sweep."""
    # Ctrl-C reaches the whole process group; what is left must be swept all the same.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    directory = sys.argv[1]
    sweep(directory, [int(line) for line in sys.stdin])


if __name__ == "__main__":
    main()

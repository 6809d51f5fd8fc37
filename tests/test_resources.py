"""What processes use of the machine, as the kernel tells it."""

from __future__ import annotations

import os
import subprocess
import sys

from tortxd.resources import cpu_seconds


def test_processor_time_of_a_process() -> None:
    spend = "while sum(__import__('os').times()[:2]) < 0.2: pass\nprint(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", spend], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = cpu_seconds(process.pid)
        process.communicate("\n")
    assert used is not None and used >= 0.19


def test_names_of_processes_hide_nothing() -> None:
    """``) R 1`` in a name would be taken for the fields behind it."""
    copy = "import ctypes; ctypes.CDLL(None).prctl(15, b') S 9 9 9 9', 0, 0, 0); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{copy}; input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = cpu_seconds(process.pid)
        process.communicate("\n")
    assert used is not None and used < 10


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert cpu_seconds(process.pid) is None
    assert cpu_seconds(os.getpid()) is not None

"""What the kernel says that a process has used."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.usage import Cpu, cpu, rss, tree

PARENT = """
import subprocess, sys, time
sleep = "print(0, flush=True); import time; time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", sleep])
time.sleep(60)
"""


def test_the_cpu_of_this_process_is_what_it_says_itself() -> None:
    before, said = cpu(os.getpid()), time.process_time()
    while time.process_time() < said + 0.2:
        pass
    spent = (cpu(os.getpid()) - before).total
    assert 0.2 <= spent < 0.2 + 0.5 * (time.process_time() - said)


def test_what_a_process_has_started_counts_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        found, child = tree(parent.pid)
        assert found == parent.pid
        assert rss(parent.pid) > rss(child) > 1_000_000
        assert cpu(parent.pid).total > cpu(child).total > 0
        os.kill(child, 9)
        parent.kill()


def test_what_is_gone_has_used_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert cpu(gone.pid) == Cpu() and rss(gone.pid) == 0

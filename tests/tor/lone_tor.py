"""Real tor processes without a network: their directory authority is a closed loopback port."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tortxd.addresses import SocksAddress
from tortxd.tor.process import find_tor

NOWHERE = (
    "TestingTorNetwork 1",
    "DirAuthority nowhere orport=1 no-v2 v3ident=" + "A" * 40 + " 127.0.0.1:2 " + "A" * 40,
)
"""Lines that keep a tor on loopback, and let it start fast."""


_PORTS = iter(random.SystemRandom().sample(range(20_000, 32_000), 12_000))
"""Below the range from which Linux takes the ports of outgoing connections: one of those could be
gone by the time that something listens."""


def free_port() -> int:
    """A loopback port where nothing listens yet, another at each call."""
    for port in _PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("There is no port left.")


def free_socks() -> SocksAddress:
    return SocksAddress(port=free_port())


def state_of(pid: int) -> str | None:
    """The letter that stands for a process's state (proc(5), /proc/pid/stat); None: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    return state_of(pid) not in (None, "Z")


def until_gone(pid: int, seconds: float) -> bool:
    """Wait for a process that is not our child."""
    end = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def pause(seconds: float) -> Deferred[None]:
    return deferLater(installed, seconds)


def hashed(password: str) -> str:
    """The value of HashedControlPassword for it."""
    said = subprocess.run(
        [find_tor(None), "--quiet", "--hash-password", password],
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout.split()[-1]


@contextmanager
def bare_tor(folder: Path, *lines: str) -> Iterator[int]:
    """A tor that is not ours, to attach to; gives its process id when it is up."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    torrc = folder / "bare-torrc"
    torrc.write_text(
        "\n".join(
            (*NOWHERE, f'DataDirectory "{folder}"', "Log notice stdout", "ClientOnly 1", *lines)
        )
        + "\n"
    )
    empty = folder / "empty"
    empty.touch()
    process = subprocess.Popen(
        [find_tor(None), "-f", str(torrc), "--defaults-torrc", str(empty)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "Bootstrapped 0%" in line:
                break
        else:
            raise AssertionError("tor did not start:\n" + "".join(said))
        yield process.pid
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

"""What is measured: tortxd, and what else carries HTTP to a SOCKS port."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from shutil import which

from attrs import frozen

from bench.load import Target
from bench.processes import free_port, running
from bench.settings import Behind
from bench.ways import Way
from tortxd import __version__

_SBIN = "/usr/sbin"


@frozen
class Peer:
    """One that is measured."""

    key: str
    title: str
    ways: tuple[Way, ...]
    """How it can be asked; what is best for it comes first."""
    start: Callable[[Behind], AbstractContextManager[Target]]
    """Runs it as long as the block lasts."""
    version: Callable[[], str | None]
    """None: it is not there."""


# --- tortxd ---------------------------------------------------------------------------------------


@contextmanager
def _tortxd(behind: Behind) -> Iterator[Target]:
    port = free_port()
    module = ("-m", "bench.gateways.over_socks", str(port), str(behind.socks_port))
    environ = {"SSL_CERT_FILE": str(behind.ca_file)}
    with running("tortxd", (sys.executable, *module), environ=environ) as program:
        program.wait_for_port(port)
        yield Target("127.0.0.1", port, program.pid)


TORTXD = Peer("tortxd", "tortxd", (Way.URL, Way.PROXY, Way.CONNECT), _tortxd, lambda: __version__)

# --- Privoxy --------------------------------------------------------------------------------------

_PRIVOXY = """\
listen-address 127.0.0.1:{port}
forward-socks5t / {host}:{socks_port} .
toggle 0
keep-alive-timeout 300
default-server-timeout 60
connection-sharing 1
socket-timeout 300
max-client-connections 20000
"""


def _privoxy_program() -> str | None:
    return which("privoxy") or which("privoxy", path=_SBIN)


@contextmanager
def _privoxy(behind: Behind) -> Iterator[Target]:
    port = free_port()
    with tempfile.NamedTemporaryFile("w", prefix="tortxd-bench-privoxy-") as config:
        config.write(
            _PRIVOXY.format(port=port, host=behind.socks_host, socks_port=behind.socks_port)
        )
        config.flush()
        command = (_privoxy_program() or "privoxy", "--no-daemon", config.name)
        with running("privoxy", command) as program:
            program.wait_for_port(port)
            yield Target("127.0.0.1", port, program.pid)


def _privoxy_version() -> str | None:
    program = _privoxy_program()
    return None if program is None else _number_in(program, "--version")


PRIVOXY = Peer("privoxy", "Privoxy", (Way.PROXY, Way.CONNECT), _privoxy, _privoxy_version)

PEERS = (PRIVOXY,)


def _number_in(*command: str | Path) -> str | None:
    """The version that a program says it is."""
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return None if found is None else found[0]

"""tortxd: the daemon where there is a control port to attach it to, else its gateway alone."""

from __future__ import annotations

import compileall
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tortxd
from bench.load import Target
from bench.peers.model import Peer, free_port, listening
from bench.settings import Behind
from bench.ways import Way
from tortxd import __version__

TWISTD = Path(sys.executable).with_name("twistd")


@contextmanager
def _start(behind: Behind) -> Iterator[Target]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tortxd-bench-") as directory:
        command = _gateway(port, behind.socks_port)
        if behind.control is not None:
            command = daemon(port, directory, "--control", behind.control)
        environ = {"SSL_CERT_FILE": str(behind.ca_file)}
        with listening("tortxd", port, command, environ) as target:
            yield target


def _gateway(port: int, socks_port: int) -> tuple[str, ...]:
    module = ("-m", "bench.gateways.over_socks")
    return (sys.executable, *module, str(port), str(socks_port))


def daemon(port: int, directory: str, *options: str) -> tuple[str, ...]:
    """The command that runs the daemon."""
    listen = f"tcp:{port}:interface=127.0.0.1"
    own = ("--http", listen, "--data-dir", directory, *options)
    return (str(TWISTD), "-n", "--pidfile=", "tortxd", *own)


def _prepare() -> str:
    """As packages are that pip installs: else each start would compile all of a checkout that was
    never run, where Python may not write what it compiled."""
    compileall.compile_dir(Path(tortxd.__file__).parent, quiet=2)
    return __version__


TORTXD = Peer("tortxd", "tortxd", (Way.URL, Way.PROXY, Way.CONNECT), _start, _prepare)

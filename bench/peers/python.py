"""Gateways of a few lines of Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from bench.build import MADE, BuildError, run
from bench.load import Target
from bench.peers.model import Missing, Peer, free_port, listening
from bench.settings import Behind
from bench.ways import Way

_GATEWAYS = Path(__file__).parents[1] / "gateways"
_REQUIREMENTS = _GATEWAYS / "requirements.txt"
_FOLDER = MADE / "aiohttp"
_PYTHON = _FOLDER / "bin" / "python"


def _prepare_aiohttp() -> str:
    installed = _FOLDER / _REQUIREMENTS.name
    wanted = _REQUIREMENTS.read_text()
    if not installed.exists() or installed.read_text() != wanted:
        install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
        try:
            run(sys.executable, "-m", "venv", "--clear", str(_FOLDER))
            run(str(_PYTHON), *install, "--requirement", str(_REQUIREMENTS))
        except BuildError as error:
            raise Missing(str(error)) from None
        installed.write_text(wanted)
    pins = dict(line.split("==") for line in wanted.splitlines() if "==" in line)
    return f"{pins['aiohttp']}, aiohttp-socks {pins['aiohttp-socks']}"


@contextmanager
def _start_aiohttp(behind: Behind) -> Iterator[Target]:
    port = free_port()
    socks = f"socks5://{behind.socks_host}:{behind.socks_port}"
    command = (_PYTHON, _GATEWAYS / "over_aiohttp.py", str(port), socks)
    environ = {"SSL_CERT_FILE": str(behind.ca_file)}
    with listening("aiohttp", port, command, environ) as target:
        yield target


@contextmanager
def _start_treq(behind: Behind) -> Iterator[Target]:
    port = free_port()
    module = ("-m", "bench.gateways.over_treq", str(port))
    command = (sys.executable, *module, behind.socks_host, str(behind.socks_port))
    environ = {"SSL_CERT_FILE": str(behind.ca_file)}
    with listening("klein", port, command, environ) as target:
        yield target


def _treq_version() -> str:
    others = ", ".join(f"{package} {version(package)}" for package in ("treq", "txtorcon"))
    return f"{version('klein')}, {others}, Twisted {version('twisted')}"


AIOHTTP = Peer(
    "aiohttp", "aiohttp with aiohttp-socks", (Way.URL,), _start_aiohttp, _prepare_aiohttp
)
TREQ = Peer("klein", "klein with treq", (Way.URL,), _start_treq, _treq_version)

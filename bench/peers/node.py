"""A Node.js gateway as the one was that tortxd replaces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.build import MADE, BuildError, run
from bench.load import Target
from bench.peers.model import Missing, Peer, found, free_port, listening, number_in
from bench.settings import Behind
from bench.ways import Way

_SOURCE = Path(__file__).parents[1] / "gateways" / "node"
_FOLDER = MADE / "node"
_PACKAGES = ("express", "socks-proxy-agent", "axios")


def _prepare() -> str:
    node, npm = found("node"), found("npm")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    lock = _FOLDER / "package-lock.json"
    is_new = not lock.exists() or lock.read_bytes() != (_SOURCE / lock.name).read_bytes()
    if is_new or not (_FOLDER / "node_modules").exists():
        shutil.copy(_SOURCE / "package.json", _FOLDER)
        shutil.copy(_SOURCE / lock.name, _FOLDER)
        try:
            run(npm, "ci", "--no-audit", "--no-fund", folder=_FOLDER)
        except BuildError as error:
            lock.unlink()
            raise Missing(str(error)) from None
    shutil.copy(_SOURCE / "gateway.js", _FOLDER)
    versions = ", ".join(f"{package} {_version(package)}" for package in _PACKAGES)
    return f"{number_in(node, '--version')}, {versions}"


def _version(package: str) -> str:
    described = json.loads((_FOLDER / "node_modules" / package / "package.json").read_text())
    return str(described["version"])


def _starter(life: str) -> Callable[[Behind], AbstractContextManager[Target]]:
    @contextmanager
    def start(behind: Behind) -> Iterator[Target]:
        port = free_port()
        socks = f"socks5h://{behind.socks_host}:{behind.socks_port}"
        command = (found("node"), _FOLDER / "gateway.js", str(port), socks, life)
        environ = {"NODE_EXTRA_CA_CERTS": str(behind.ca_file), "NODE_ENV": "production"}
        with listening("node", port, command, environ) as target:
            yield target

    return start


NODE_ONCE = Peer("node-once", "Node.js, an agent a request", (Way.URL,), _starter("once"), _prepare)
NODE_KEPT = Peer("node-kept", "Node.js, one agent", (Way.URL,), _starter("kept"), _prepare)

"""How long it takes from the start of a program until it listens, and until it has served.

What tortxd is compared with, since it starts a Tor, is that Tor alone.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.cases.model import Case, Measure
from bench.cases.requests import SMALL
from bench.load import Target, load
from bench.metrics import Figures, Metric
from bench.peers import TORTXD, Peer
from bench.peers.bare import TOR
from bench.peers.model import found
from bench.peers.tortxd import daemon
from bench.processes import ProcessError, free_port, running
from bench.ways import Asked, Way
from bench.world import World

_PATIENCE = 60.0
_POLL = 0.001

FIRST_RESPONSE = Metric("first", "first response, s")
LISTENING = Metric("listening", "listens, s", is_compared=False)


def fresh(seconds: float) -> Case:
    """The first start, with an empty directory."""

    def measure(world: World, peer: Peer, way: Way) -> Figures:
        with tempfile.TemporaryDirectory(prefix="tortxd-bench-") as directory:
            return _start(world, peer, way, Path(directory))

    return _case("start-fresh", "start with an empty directory", measure, seconds)


def cached(seconds: float) -> Case:
    """A further start, with what an earlier one has left."""

    def measure(world: World, peer: Peer, way: Way) -> Figures:
        with tempfile.TemporaryDirectory(prefix="tortxd-bench-") as directory:
            _start(world, peer, way, Path(directory))
            return _start(world, peer, way, Path(directory))

    return _case("start-cached", "start with a cached directory", measure, seconds)


def _case(key: str, title: str, measure: Measure, seconds: float) -> Case:
    ways = frozenset((Way.PROXY, Way.SOCKS))
    return Case(key, title, (FIRST_RESPONSE, LISTENING), ways, measure, seconds, peers=(TOR,))


def _start(world: World, peer: Peer, way: Way, directory: Path) -> Figures:
    asked = Asked(world.behind.url(SMALL))
    port = free_port()
    command = _daemon(world, port, directory) if peer is TORTXD else _tor(world, port, directory)
    began = time.monotonic()
    with running(peer.key, command) as program:
        _wait_for(port, began)
        listening = time.monotonic() - began
        load(Target("127.0.0.1", port, 0), way, asked, clients=1, seconds=_PATIENCE, requests=1)
        first = time.monotonic() - began
        if program.process.poll() is not None:
            raise program.failure("it ended")
    return {FIRST_RESPONSE.key: first, LISTENING.key: listening}


def _daemon(world: World, port: int, directory: Path) -> Sequence[str]:
    own = ("--torrc", str(world.behind.torrc), "--socks", str(free_port()))
    return daemon(port, str(directory), *own)


def _tor(world: World, port: int, directory: Path) -> Sequence[str]:
    own = ("--DataDirectory", str(directory), "--SocksPort", str(port))
    return (found("tor"), "-f", str(world.behind.torrc), *own)


def _wait_for(port: int, began: float) -> None:
    while time.monotonic() < began + _PATIENCE:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(_POLL)
    raise ProcessError(f"Nothing listened within {_PATIENCE:g} s")

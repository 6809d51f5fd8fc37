"""What clients cost who do nothing: who do not read what they asked for, or ask for nothing."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench.cases.model import Case
from bench.cases.requests import SMALL
from bench.load import Target
from bench.metrics import Figures, Metric
from bench.peers import LASTING, Peer
from bench.processes import ProcessError
from bench.usage import rss
from bench.ways import Asked, Way, message
from bench.world import World

_PATIENCE = 60.0
_STEADY_FOR = 1.0
_STEADY = 0.005
"""What counts as no change."""
_LARGE = 200_000_000

RSS = Metric("rss", "RSS, MB", 1e-6)
AT_START = Metric("start", "without clients, MB", 1e-6, is_compared=False)
EACH = Metric("each", "a client, KB", 1e-3)

_WAYS = frozenset((Way.URL, Way.PROXY))


def stalled(clients: int, seconds: float) -> Case:
    """Downloads that nobody reads."""

    def measure(world: World, peer: Peer, way: Way) -> Figures:
        with world.anew(peer) as target, ExitStack() as stack:
            _fetch_one(world, target, way)
            before = rss(target.pid)
            request = message(way, Asked(world.behind.url(_LARGE)))
            sockets = [stack.enter_context(_connected(target)) for _ in range(clients)]
            for one in sockets:
                one.sendall(request)
            _wait_for_data(sockets)
            return _figures(before, _when_steady(target), clients)

    title = f"{clients} downloads that nobody reads"
    return Case("stalled", title, (RSS, EACH, AT_START), _WAYS, measure, seconds, LASTING)


def idle(clients: int, seconds: float) -> Case:
    """Connections that have been served and wait."""

    def measure(world: World, peer: Peer, way: Way) -> Figures:
        with world.anew(peer) as target, ExitStack() as stack:
            _fetch_one(world, target, way)
            before = rss(target.pid)
            for _ in range(clients):
                _fetch(stack.enter_context(_connected(target)), world, way)
            return _figures(before, _when_steady(target), clients)

    title = f"{clients} connections that wait"
    return Case("idle", title, (EACH, RSS, AT_START), _WAYS, measure, seconds, LASTING)


def _figures(before: int, after: int, clients: int) -> Figures:
    return {RSS.key: after, AT_START.key: before, EACH.key: (after - before) / clients}


@contextmanager
def _connected(target: Target) -> Iterator[socket.socket]:
    with socket.create_connection((target.host, target.port), _PATIENCE) as made:
        yield made


def _fetch_one(world: World, target: Target, way: Way) -> None:
    with _connected(target) as one:
        _fetch(one, world, way)


def _fetch(over: socket.socket, world: World, way: Way) -> None:
    """Have a small response, whose body is all of one sign."""
    over.sendall(message(way, Asked(world.behind.url(SMALL))))
    missing = SMALL
    while missing > 0:
        data = over.recv(65536)
        if not data:
            raise ProcessError("A connection was closed that was to be kept")
        missing -= data.count(b"~")


def _wait_for_data(sockets: Sequence[socket.socket]) -> None:
    """Wait until something has come for each."""
    deadline = time.monotonic() + _PATIENCE
    poll = select.poll()
    for one in sockets:
        poll.register(one, select.POLLIN)
    waiting = len(sockets)
    while waiting:
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1e3)
        if not ready:
            raise ProcessError(f"{waiting} requests were not answered within {_PATIENCE:g} s")
        for descriptor, _ in ready:
            poll.unregister(descriptor)
        waiting -= len(ready)


def _when_steady(target: Target) -> int:
    """The memory of the process when it does not change any more."""
    deadline = time.monotonic() + _PATIENCE
    last, since = rss(target.pid), time.monotonic()
    while time.monotonic() < min(deadline, since + _STEADY_FOR):
        time.sleep(0.1)
        now = rss(target.pid)
        if abs(now - last) > _STEADY * last:
            last, since = now, time.monotonic()
    return rss(target.pid)

"""Small requests: as many as there can be, or one that comes to a destination first."""

from __future__ import annotations

from itertools import count

from bench.cases.model import Case
from bench.load import Answered, load
from bench.metrics import Figures, Metric
from bench.peers import Peer
from bench.settings import ROUND_TRIP
from bench.ways import Asked, Way
from bench.world import World

SMALL = 1024
"""Bytes of a small response."""

_STARTING = 0.6
"""Seconds that a measurement takes beyond the time that is measured."""
_PATIENCE = 30.0

RATE = Metric("rate", "requests/s")
CPU = Metric("cpu", "CPU, ms/request", 1e3)
SYSTEM = Metric("system", "of it in the kernel", 1e3, is_compared=False)
P50 = Metric("p50", "median, ms", 1e3, is_compared=False)
P99 = Metric("p99", "99 % within, ms", 1e3, is_compared=False)
ROUND_TRIPS = Metric("round_trips", "round trips")

_numbers = count()


def small(clients: int, seconds: float, *, tls: bool = False) -> Case:
    """Requests side by side, each over a connection that is kept.

    :param tls: the destination is one of https, and the gateway speaks TLS with it.
    """

    def measure(world: World, peer: Peer, way: Way) -> Figures:
        asked = Asked(world.behind.url(SMALL, tls=tls))
        return _figures(load(world.kept(peer), way, asked, clients=clients, seconds=seconds))

    number = f"{clients} client{'s' if clients > 1 else ''}"
    return Case(
        f"{'https' if tls else 'small'}-{clients}",
        f"1 KB over {'https' if tls else 'http'}, {number}",
        (RATE, CPU, SYSTEM, P50, P99),
        frozenset((Way.URL,) if tls else Way),
        measure,
        seconds + _STARTING,
    )


def _figures(said: Answered) -> Figures:
    return {
        RATE.key: said.requests / said.seconds,
        CPU.key: said.cpu.total / said.requests,
        SYSTEM.key: said.cpu.system / said.requests,
        P50.key: said.p50,
        P99.key: said.p99,
    }


def cold() -> Case:
    """The first request to a destination that is far away."""

    def measure(world: World, peer: Peer, way: Way) -> Figures:
        url = world.behind.url(SMALL, host=f"cold{next(_numbers)}.test.example")
        target = world.kept(peer)
        said = load(target, way, Asked(url), clients=1, seconds=_PATIENCE, requests=1)
        return {ROUND_TRIPS.key: said.seconds / (ROUND_TRIP / 1e3)}

    return Case("cold", "first request over http", (ROUND_TRIPS,), frozenset(Way), measure, 0.5)

"""What is asked of the gateways, and which figures come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

from bench.load import Target, load
from bench.settings import Behind
from bench.ways import Asked, Way

Figures = Mapping[str, float]
"""By the metric's key."""

SMALL = 1024


@frozen
class Metric:
    """One of the figures."""

    key: str
    title: str
    scale: float = 1.0
    """What it is multiplied with where it is shown."""


RATE = Metric("rate", "requests/s")
CPU = Metric("cpu", "CPU, ms a request", 1e3)
SYSTEM = Metric("system", "of it in the kernel", 1e3)
P50 = Metric("p50", "median, ms", 1e3)
P99 = Metric("p99", "99 %, ms", 1e3)


@frozen
class Case:
    """One thing that is asked."""

    key: str
    title: str
    metrics: tuple[Metric, ...]
    """The first one is what the case is about."""
    ways: frozenset[Way]
    """In which of the ways it can be asked."""
    measure: Callable[[Behind, Target, Way], Figures]
    seconds: float
    """How long a measurement takes, more or less."""


def small(clients: int, seconds: float) -> Case:
    """As many requests for 1 KB as there can be, over connections that are kept."""

    def measure(behind: Behind, target: Target, way: Way) -> Figures:
        asked = Asked(behind.url(SMALL))
        said = load(target, way, asked, clients=clients, seconds=seconds)
        return {
            RATE.key: said.requests / said.seconds,
            CPU.key: said.cpu.total / said.requests,
            SYSTEM.key: said.cpu.system / said.requests,
            P50.key: said.p50,
            P99.key: said.p99,
        }

    title = f"1 KB, {clients} client{'s' if clients > 1 else ''}"
    metrics = (RATE, CPU, SYSTEM, P50, P99)
    return Case(f"small-{clients}", title, metrics, frozenset(Way), measure, seconds + 0.6)

"""Results that nobody has measured."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from bench.metrics import Metric
from bench.results import Grown, Pair, Point, Report, Result

RATE = Metric("rate", "requests/s")
CPU = Metric("cpu", "CPU, ms/request", 1e3)
P50 = Metric("p50", "median, ms", 1e3, is_compared=False)
METRICS = (RATE, CPU, P50)


def figures(rate: float) -> dict[str, float]:
    return {"rate": rate, "cpu": 1 / rate, "p50": 2 / rate}


def result(
    peer: str,
    rates: Sequence[tuple[float, float]],
    *,
    own_way: str = "as an HTTP proxy",
    setting: str = "near",
    case: str = "small-50",
    problem: str | None = None,
) -> Result:
    pairs = [Pair(figures(own), figures(other)) for own, other in rates]
    return Result(
        setting,
        case,
        peer,
        "a plain SOCKS server",
        "1 KB, 50 clients",
        peer.title(),
        own_way,
        METRICS,
        pairs,
        problem,
    )


def report(*results: Result) -> Report:
    machine = {"processor": "Abacus 3000", "cores": "2"}
    versions = {"tortxd": "1.2", "Privoxy": "3.4", "the SOCKS port itself": ""}
    missing = {"Node.js": "npm is not installed"}
    return Report("2026-01-02", 10, machine, versions, missing, results)


def curve(*points: tuple[int, Sequence[float]], problem: str | None = None) -> Grown:
    """For each count, the rates of all turns."""
    found = [Point(count, [figures(rate) for rate in rates]) for count, rates in points]
    return Grown(
        "clients", "More clients", "clients", "a plain SOCKS server", METRICS, found, problem
    )


def curves(*grown: Grown) -> Report:
    return evolve(report(), curves=grown)

"""What came of a run, to be kept as JSON and shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from attrs import asdict, frozen

from bench.metrics import Figures, Metric
from bench.spread import Spread, ratios


@frozen
class Pair:
    """What came of one turn."""

    tortxd: Figures
    peer: Figures


@frozen
class Result:
    """What came of all turns with one peer in one case."""

    setting: str
    case: str
    peer: str
    setting_title: str
    case_title: str
    peer_title: str
    own_way: str
    """How tortxd was asked."""
    metrics: Sequence[Metric]
    """The first one is what the case is about."""
    pairs: Sequence[Pair]
    problem: str | None = None
    """Why there are no more pairs."""

    def ratio(self, metric: Metric) -> Spread | None:
        """tortxd's by the peer's."""
        return ratios([(pair.tortxd[metric.key], pair.peer[metric.key]) for pair in self.pairs])

    def of_peer(self, metric: Metric) -> Spread | None:
        """What the peer came to; None where nothing is known of it."""
        return _known([pair.peer[metric.key] for pair in self.pairs])


@frozen
class Point:
    """What came of all turns with one count of what a curve is about."""

    count: int
    turns: Sequence[Figures]

    def spread(self, metric: Metric) -> Spread | None:
        """Of one figure; None where nothing is known of it."""
        values = [figures[metric.key] for figures in self.turns]
        return Spread.of(values) if values else None


@frozen
class Grown:
    """What came of a curve."""

    key: str
    title: str
    axis: str
    """What there was more of."""
    setting_title: str
    metrics: Sequence[Metric]
    points: Sequence[Point]
    problem: str | None = None
    """Why there are no more figures."""


@frozen
class Report:
    """A whole run."""

    date: str
    turns: int
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    missing: Mapping[str, str]
    """Who could not be measured, and why."""
    results: Sequence[Result]
    curves: Sequence[Grown] = ()

    def cases(self) -> list[list[Result]]:
        """The results of one case in one setting after the other."""
        grouped = groupby(self.results, lambda result: (result.setting, result.case))
        return [list(results) for _, results in grouped]

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """What :meth:`to_json` has written."""
        read = json.loads(text)
        results = [_result(each) for each in read["results"]]
        curves = [_grown(each) for each in read.get("curves", ())]
        return cls(**{**read, "results": results, "curves": curves})


def of_tortxd(results: Sequence[Result], metric: Metric) -> Spread | None:
    """What tortxd came to beside all of these peers."""
    return _known([pair.tortxd[metric.key] for result in results for pair in result.pairs])


def _known(values: Sequence[float]) -> Spread | None:
    return Spread.of(values) if any(values) else None


def _result(read: dict[str, Any]) -> Result:
    metrics = [Metric(**each) for each in read["metrics"]]
    pairs = [Pair(**each) for each in read["pairs"]]
    return Result(**{**read, "metrics": metrics, "pairs": pairs})


def _grown(read: dict[str, Any]) -> Grown:
    metrics = [Metric(**each) for each in read["metrics"]]
    points = [Point(**each) for each in read["points"]]
    return Grown(**{**read, "metrics": metrics, "points": points})

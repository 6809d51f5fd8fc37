"""What tortxd aims at, and how far a run shows it."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from bench.metrics import Metric
from bench.results import Report, Result, of_tortxd
from bench.spread import Spread


@frozen
class Goal:
    """A figure of one case, or tortxd's by a peer's, that is to be at least or at most so much."""

    setting: str
    case: str
    metric: str
    bound: float
    peer: str | None = None
    """None: tortxd's own figure, as it is shown."""
    at_least: bool = False

    def of(self, report: Report) -> Outcome | None:
        """What came of it; None where the run did not measure it."""
        results = [
            result
            for result in report.results
            if (result.setting, result.case) == (self.setting, self.case)
            and self.peer in (None, result.peer)
        ]
        if not results:
            return None
        metric = next(one for one in results[0].metrics if one.key == self.metric)
        spread = self._spread(results, metric)
        return None if spread is None else Outcome(self, metric, results[0], spread)

    def _spread(self, results: list[Result], metric: Metric) -> Spread | None:
        if self.peer is not None:
            return results[0].ratio(metric)
        own = of_tortxd(results, metric)
        return None if own is None else own.scaled(metric.scale)


@frozen
class Outcome:
    """What a run says of a goal."""

    goal: Goal
    metric: Metric
    result: Result
    """One of those that it is about."""
    spread: Spread

    @property
    def missed_by(self) -> float:
        """By which part of what was aimed at; nothing or less where it was reached."""
        over = self.spread.median / self.goal.bound - 1
        return -over if self.goal.at_least else over


def outcomes(report: Report) -> Iterator[Outcome]:
    """What a run says of all goals that it measured."""
    for goal in GOALS:
        outcome = goal.of(report)
        if outcome is not None:
            yield outcome


GOALS = (
    Goal("near", "small-50", "cpu", 1.2, "privoxy"),
    Goal("near", "small-50", "rate", 0.8, "privoxy", at_least=True),
    Goal("near", "small-200", "rate", 1.0, "privoxy", at_least=True),
    Goal("near", "small-50", "rate", 5.0, "node-kept", at_least=True),
    Goal("tor", "small-50", "rate", 1.0, "privoxy", at_least=True),
    Goal("tor", "small-200", "rate", 1.0, "privoxy", at_least=True),
    Goal("near", "down", "cpu", 0.5, "privoxy"),
    Goal("near", "down-https", "cpu", 0.5, "node-kept"),
    Goal("near", "https-50", "cpu", 0.2, "node-kept"),
    Goal("far", "cold", "round_trips", 1.02),
    Goal("near", "connect", "speed", 0.75, "socks", at_least=True),
    Goal("near", "stalled", "rss", 110.0),
    Goal("tor", "stalled", "each", 40.0),
    Goal("near", "idle", "start", 50.0),
    Goal("near", "idle", "each", 2.0),
    Goal("tor", "start-cached", "listening", 0.25),
    Goal("tor", "start-cached", "first", 0.6),
)

"""What a run says of what was aimed at."""

from __future__ import annotations

import pytest

from bench import tables
from bench.goals import GOALS, Goal, outcomes
from bench.options import Options
from bench.peers import PEERS
from bench.peers.bare import TOR
from bench.plan import parts
from tests.bench.made_up import report, result

RATE = Goal("near", "small-50", "rate", 0.8, "privoxy", at_least=True)
CPU = Goal("near", "small-50", "cpu", 1.2, "privoxy")
OWN = Goal("near", "small-50", "p50", 10.0)


@pytest.mark.parametrize("goal", GOALS)
def test_each_is_about_something_that_a_whole_run_measures(goal: Goal) -> None:
    measured = [
        comparison
        for part in parts(Options(), [*PEERS, TOR])
        if part.setting.key == goal.setting
        for case in part.comparisons
        for comparison in case
        if comparison.case.key == goal.case and goal.peer in (None, comparison.peer.key)
    ]
    assert measured
    assert goal.metric in {metric.key for metric in measured[0].case.metrics}


@pytest.mark.parametrize(
    ("goal", "rates", "median", "missed_by"),
    [
        (RATE, [(60, 100), (60, 100), (90, 100)], 0.6, 0.25),
        (RATE, [(88, 100)], 0.88, -0.1),
        (CPU, [(100, 150)], 1.5, 0.25),
        (CPU, [(100, 90)], 0.9, -0.25),
    ],
)
def test_the_median_counts(
    goal: Goal, rates: list[tuple[float, float]], median: float, missed_by: float
) -> None:
    outcome = goal.of(report(result("node", [(1, 1)]), result("privoxy", rates)))
    assert outcome is not None
    assert outcome.spread.median == pytest.approx(median)
    assert outcome.missed_by == pytest.approx(missed_by)


def test_a_figure_of_its_own_is_taken_beside_all_peers_in_the_unit_that_is_shown() -> None:
    outcome = OWN.of(report(result("node", [(100, 1)]), result("privoxy", [(400, 1), (200, 1)])))
    assert outcome is not None
    assert outcome.spread.median == pytest.approx(10.0)


def test_what_was_not_measured_is_not_spoken_of() -> None:
    assert not list(outcomes(report(result("node", [(1, 1)], case="other"))))
    assert RATE.of(report(result("node", [(1, 1)]))) is None
    assert RATE.of(report(result("privoxy", []))) is None


def test_the_table_says_by_how_much_one_is_missed() -> None:
    rows = tables.of_goals(report(result("privoxy", [(60, 100)]))).splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert cells[0] == ["", "wanted", "measured", "missed by"]
    assert [row[1:] for row in cells[2:]] == [
        ["at most 1.2", "1.67 [1.67 - 1.67]", "39 %"],
        ["at least 0.8", "0.60 [0.60 - 0.60]", "25 %"],
    ]
    assert cells[2][0] == "1 KB, 50 clients, over a plain SOCKS server: CPU by Privoxy's"

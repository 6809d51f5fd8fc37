"""Results as tables of Markdown, which read well in a terminal, too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bench.goals import outcomes
from bench.metrics import Metric
from bench.results import Grown, Report, Result, of_tortxd
from bench.spread import Spread

_NOTHING = ""


def number(value: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ratio(spread: Spread | None) -> str:
    """A median with its quartiles."""
    if spread is None:
        return _NOTHING
    return f"{spread.median:.2f} [{spread.low:.2f} - {spread.high:.2f}]"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head; all columns but the first are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *body = (_line(row, widths) for row in rows)
    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:]), ""])
    return "\n".join([head, rule, *body])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f"| {' | '.join(cells)} |"


def of_case(results: Sequence[Result]) -> str:
    """All figures of one case in one setting: medians, and tortxd's ratios to each peer's."""
    metrics = results[0].metrics
    compared = [metric for metric in metrics if metric.is_compared]
    rows = [
        ["", *(metric.title for metric in metrics), *(f"ratio: {one.title}" for one in compared)]
    ]
    for own_way, group in groupby(sorted(results, key=_own_way), _own_way):
        beside = list(group)
        own = [_median(of_tortxd(beside, metric), metric) for metric in metrics]
        rows.append([f"**tortxd**, {own_way}", *own, *([_NOTHING] * len(compared))])
        for result in beside:
            theirs = [_median(result.of_peer(metric), metric) for metric in metrics]
            rows.append([_name(result), *theirs, *(ratio(result.ratio(one)) for one in compared)])
    return table(rows)


def of_setting(cases: Sequence[Sequence[Result]]) -> str:
    """What each case is about, as tortxd's ratios to each peer's."""
    peers = list(dict.fromkeys(result.peer_title for case in cases for result in case))
    rows = [["tortxd by each", "", *peers]]
    for case in cases:
        by_peer = {result.peer_title: result for result in case}
        metric = case[0].metrics[0]
        cells = [
            ratio(by_peer[peer].ratio(metric)) if peer in by_peer else _NOTHING for peer in peers
        ]
        rows.append([case[0].case_title, metric.title, *cells])
    return table(rows)


def of_goals(report: Report) -> str:
    """What tortxd aims at beside what came of it."""
    rows = [["", "wanted", "measured", "missed by"]]
    for outcome in outcomes(report):
        goal, result, metric = outcome.goal, outcome.result, outcome.metric
        title = metric.title if goal.peer is None else _without_unit(metric)
        what = f"{result.case_title}, over {result.setting_title}: {title}"
        if goal.peer is not None:
            what += f" by {result.peer_title}'s"
        bound = f"{'at least' if goal.at_least else 'at most'} {goal.bound:g}"
        missed = f"{outcome.missed_by:.0%}".replace("%", " %") if outcome.missed_by > 0 else ""
        rows.append([what, bound, ratio(outcome.spread), missed])
    return table(rows)


def _without_unit(metric: Metric) -> str:
    return metric.title.partition(",")[0]


def of_curve(curve: Grown) -> str:
    """The medians at each count."""
    rows = [[curve.axis, *(metric.title for metric in curve.metrics)]]
    for point in curve.points:
        medians = [_median(point.spread(metric), metric) for metric in curve.metrics]
        rows.append([f"{point.count:,}", *medians])
    problem = "" if curve.problem is None else f"\n\n{curve.problem}"
    return f"{table(rows)}{problem}"


def of_curves(report: Report) -> str:
    """When the curves were measured, and on what."""
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    turns = max(len(point.turns) for curve in report.curves for point in curve.points)
    return f"Measured on {report.date}, medians of {turns}: {machine}."


def of_report(report: Report) -> str:
    """All that was compared, as sections of Markdown."""
    sections = [_about(report)]
    if any(outcomes(report)):
        sections.append(f"### What is aimed at\n\n{of_goals(report)}")
    for _, group in groupby(report.cases(), lambda case: case[0].setting):
        cases = list(group)
        sections.append(f"### Over {cases[0][0].setting_title}\n\n{of_setting(cases)}")
        sections += [f"#### {case[0].case_title}\n\n{of_case(case)}" for case in cases]
    return "\n\n".join(sections)


def _about(report: Report) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    lines = [f"Measured on {report.date}, {report.turns} pairs of each: {machine}.", ""]
    lines += [f"- {title}: {version}" for title, version in report.versions.items() if version]
    lines += [f"- {title}: missing, since {why}" for title, why in report.missing.items()]
    return "\n".join(lines)


def _own_way(result: Result) -> str:
    return result.own_way


def _name(result: Result) -> str:
    if result.problem is None:
        return result.peer_title
    return f"{result.peer_title} ({result.problem})"


def _median(spread: Spread | None, metric: Metric) -> str:
    return _NOTHING if spread is None else number(spread.median * metric.scale)

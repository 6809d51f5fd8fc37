"""The section of docs/fleet.md that shows what was measured, and what is computed from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.build import ROOT
from bench.cases.requests import P50, RATE, SMALL
from bench.document import fill
from bench.fleet.cases import DIRECT, PARTS, SPEED, Case, Measured, Part, cpu
from bench.fleet.paper import Capacity, Costs, capacity, members_fed
from bench.fleet.world import BALANCER, MEMBERS, RELAYS, TORS
from bench.metrics import Figures, Metric
from bench.spread import Spread, ratios
from bench.tables import number, ratio, table

PAGE = ROOT / "docs" / "fleet.md"
BEGIN = "<!-- what follows is written by bench.fleet -->"
END = "<!-- what precedes is written by bench.fleet -->"
SIZES = (3, 10, 100)
"""Fleets on paper."""

Results = Mapping[str, Sequence[Measured]]
"""By the part's key."""


def write(results: Results, about: str, page: Path = PAGE) -> None:
    """Put all tables that there are figures for into the documentation."""
    sections = [about]
    for part in PARTS:
        if part.key in results:
            sections += [of_case(case, part, results[part.key]) for case in part.cases]
    if all(part.key in results for part in PARTS):
        sections.append(
            on_paper({one.case: one for part in results.values() for one in part if one.way == 1})
        )
    fill(page, BEGIN, END, sections)


def of_case(case: Case, part: Part, measured: Sequence[Measured]) -> str:
    """One table: a row for each way to ask."""
    found = {one.way: one.turns for one in measured if one.case == case.key}
    parties = [BALANCER, MEMBERS, *([TORS, RELAYS] if part.setting.is_tor else [])]
    speed = [SPEED] if case.is_bulk else [RATE, P50]
    metrics = [*speed, *(cpu(party, bulk=case.is_bulk) for party in parties)]
    beside = f"{speed[0].title} by the direct way's"
    added = ["HAProxy adds, ms"] if case.clients == 1 else []
    rows = [["", *(metric.title for metric in metrics), beside, *added]]
    for way, turns in found.items():
        cells = [spread_of([one[metric.key] for one in turns], metric) for metric in metrics]
        rows.append([title(way), *cells, *_compared(turns, found[DIRECT], speed[0], added, way)])
    return f"**{case.title}, over {part.setting.title}**\n\n{table(rows)}"


def _compared(
    turns: Sequence[Figures], direct: Sequence[Figures], by: Metric, added: Sequence[str], way: int
) -> list[str]:
    if way == DIRECT:
        return ["", *("" for _ in added)]
    pairs = list(zip(turns, direct, strict=True))
    cells = [ratio(ratios([(one[by.key], other[by.key]) for one, other in pairs]))]
    if added:
        cells.append(spread_of([one[P50.key] - other[P50.key] for one, other in pairs], P50))
    return cells


def title(way: int) -> str:
    """What a way is called."""
    if way == DIRECT:
        return "a member itself"
    return f"HAProxy, {way} member{'s' if way > 1 else ''}"


def spread_of(values: Sequence[float], metric: Metric) -> str:
    """The median with its quartiles; nothing where all is 0."""
    if not any(values):
        return ""
    spread = Spread.of(values).scaled(metric.scale)
    return f"{number(spread.median)} [{number(spread.low)} - {number(spread.high)}]"


def on_paper(behind_one: Mapping[str, Measured]) -> str:
    """Larger fleets, by what was measured with one member."""
    small = _costs(behind_one["tor-50"], behind_one["socks-50"], SMALL)
    closed = _costs(behind_one["tor-50"], behind_one["socks-closed"], SMALL)
    bulk = _costs(behind_one["tor-bulk"], behind_one["socks-bulk"], 1)
    fed = (
        f"One core of HAProxy feeds {members_fed(small):.1f} busy members with requests of 1 KB "
        f"({members_fed(closed):.1f} where each comes over a connection of its own), "
        f"and {members_fed(bulk):.1f} with large bodies."
    )
    return "\n\n".join(
        [
            "### On paper",
            fed,
            _sizes("1 KB: requests/s", small, 1),
            _sizes("Large bodies: MB/s", bulk, 1e-6),
        ]
    )


def _costs(through_tor: Measured, past_tor: Measured, carried: float) -> Costs:
    """HAProxy's cost where it is busiest, without Tor; the others' behind a real one."""

    def of(measured: Measured, party: str) -> float:
        return median(one[party] for one in measured.turns)

    return Costs(of(past_tor, BALANCER), of(through_tor, MEMBERS), of(through_tor, TORS), carried)


def _sizes(unit: str, costs: Costs, scale: float) -> str:
    rows = [["members", unit, "busy first in a member", "HAProxy's cores", "Gbit/s", "the bound"]]
    rows += [_row(capacity(costs, members), scale) for members in SIZES]
    return table(rows)


def _row(one: Capacity, scale: float) -> list[str]:
    return [
        str(one.members),
        number(one.units * scale),
        one.member_bound,
        number(one.balancer_cores),
        number(one.bits / 1e9),
        one.bound,
    ]

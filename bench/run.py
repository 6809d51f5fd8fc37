"""A run: all that is planned, by turns."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from bench import loopback, tables
from bench.build import native
from bench.curves import Curve
from bench.machine import describe, today
from bench.metrics import Figures
from bench.options import Options
from bench.pairs import Comparison
from bench.peers import PEERS, TORTXD, Missing
from bench.peers.bare import TOR
from bench.plan import Part, curve_seconds, curve_turns, curves_of, names, parts
from bench.processes import ProcessError
from bench.progress import Progress, minutes
from bench.results import Grown, Pair, Point, Report, Result
from bench.settings import Setting
from bench.world import World

_AT_ONCE = "acknowledges at once in the Tor network"
_DELAYED = "delays acknowledgements in the Tor network, too"

_TRIES = 3
"""After so many failures a peer is not asked any more."""


def run(options: Options) -> Report:
    """Measure what is wanted, and say meanwhile how far that is."""
    versions, missing = _prepare(options)
    is_own = loopback.make_own()  # from here on, nothing can be fetched
    peers = [peer for peer in (*PEERS, TOR) if peer.title in versions]
    planned = parts(options, peers)
    curves = curves_of(options)
    if not planned and not curves:
        raise ProcessError(f"that leaves nothing to measure. There are {names(peers)}")
    seconds = sum(part.seconds(options.turns) for part in planned)
    progress = Progress(seconds + sum(curve_seconds(curve, options) for curve in curves))
    print(f"This takes {minutes(progress.planned)}.", flush=True)
    results: list[Result] = []
    for part in planned:
        with _loopback(part.setting, is_own=is_own):
            results += _measure(part, options.turns, progress)
    grown: list[Grown] = []
    for curve in curves:
        with _loopback(curve.setting, is_own=is_own):
            grown.append(_measure_curve(curve, curve_turns(options), progress))
    progress.clear()
    machine = {**describe(), "loopback": _AT_ONCE if is_own else _DELAYED}
    return Report(today(), options.turns, machine, versions, missing, results, grown)


def _prepare(options: Options) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Make all that is needed; the result is which versions there are, and what is missing."""
    for program in ("socks", "load"):
        native(program)
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for peer in (TORTXD, *PEERS, TOR):
        if peer is not TORTXD and (options.curves or not options.wants_peer(peer.key)):
            continue
        try:
            versions[peer.title] = peer.prepare()
        except Missing as error:
            missing[peer.title] = str(error)
            print(f"{peer.title} is not measured: {error}.", file=sys.stderr)
    return versions, missing


def _loopback(setting: Setting, *, is_own: bool) -> AbstractContextManager[None]:
    return loopback.acknowledging_at_once() if is_own and setting.is_tor else nullcontext()


def _measure(part: Part, turns: int, progress: Progress) -> list[Result]:
    results: list[Result] = []
    with part.setting.open() as behind, World(behind) as world:
        for comparisons in part.comparisons:
            of_case = _measure_case(world, part.setting, comparisons, turns, progress)
            progress.clear()
            title = f"{of_case[0].case_title}, over {part.setting.title}"
            print(f"\n{title}\n\n{tables.of_case(of_case)}", flush=True)
            results += of_case
    return results


def _measure_case(
    world: World,
    setting: Setting,
    comparisons: Sequence[Comparison],
    turns: int,
    progress: Progress,
) -> list[Result]:
    pairs: dict[Comparison, list[Pair]] = {one: [] for one in comparisons}
    problems: dict[Comparison, list[str]] = {one: [] for one in comparisons}
    for turn in range(turns):
        for one in comparisons:
            progress.show(f"{one.case.title}: {one.peer.title}, {turn + 1} of {turns}")
            if len(problems[one]) < _TRIES:
                try:
                    pairs[one].append(one.measure(world, turn))
                except ProcessError as error:
                    problems[one].append(str(error))
            progress.advance(2 * one.case.seconds)
    return [_result(setting, one, pairs[one], problems[one]) for one in comparisons]


def _result(
    setting: Setting, one: Comparison, pairs: Sequence[Pair], problems: Sequence[str]
) -> Result:
    return Result(
        setting.key,
        one.case.key,
        one.peer.key,
        setting.title,
        one.case.title,
        one.peer.title,
        one.own_way.value,
        one.case.metrics,
        pairs,
        f"{len(problems)} turns failed: {problems[-1]}" if problems else None,
    )


def _measure_curve(curve: Curve, turns: int, progress: Progress) -> Grown:
    found: dict[int, list[Figures]] = {count: [] for count in curve.counts}
    problems: list[str] = []
    with curve.setting.open() as behind, curve.open(behind) as measure:
        progress.advance(curve.preparing)
        for count in curve.order(turns):
            progress.show(f"{curve.title}: {count:,} {curve.axis}")
            if len(problems) < _TRIES:
                try:
                    found[count].append(measure(count))
                except ProcessError as error:
                    problems.append(f"{count:,} {curve.axis}: {error}")
            progress.advance(curve.seconds)
    points = [Point(count, figures) for count, figures in found.items() if figures]
    problem = f"{len(problems)} measurements failed; {problems[-1]}" if problems else None
    grown = Grown(
        curve.key, curve.title, curve.axis, curve.setting.title, curve.metrics, points, problem
    )
    progress.clear()
    print(f"\n{curve.title}, over {curve.setting.title}\n\n{tables.of_curve(grown)}", flush=True)
    return grown

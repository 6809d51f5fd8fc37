"""A run: all that is planned, by turns, with its progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

from attrs import define, field

from bench import tables
from bench.machine import describe, today
from bench.options import Options
from bench.pairs import Comparison
from bench.peers import PEERS, TORTXD, Missing
from bench.peers.bare import TOR
from bench.plan import Part, parts
from bench.processes import ProcessError
from bench.results import Pair, Report, Result
from bench.settings import Setting
from bench.world import World

_TRIES = 3
"""After so many failures a peer is not asked any more."""


def run(options: Options) -> Report:
    """Measure what is wanted, and say meanwhile how far that is."""
    versions, missing = _prepare(options)
    peers = [peer for peer in (*PEERS, TOR) if peer.title in versions]
    planned = parts(options, peers)
    progress = Progress(sum(part.seconds(options.turns) for part in planned))
    print(f"This takes about {_minutes(progress.planned)}.", flush=True)
    results: list[Result] = []
    for part in planned:
        results += _measure(part, options.turns, progress)
    progress.clear()
    return Report(today(), options.turns, describe(), versions, missing, results)


def _prepare(options: Options) -> tuple[Mapping[str, str], Mapping[str, str]]:
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for peer in (TORTXD, *PEERS, TOR):
        if options.peers and peer.key not in options.peers and peer is not TORTXD:
            continue
        try:
            versions[peer.title] = peer.prepare()
        except Missing as error:
            missing[peer.title] = str(error)
            print(f"{peer.title} is not measured: {error}.", file=sys.stderr)
    return versions, missing


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
    pairs: dict[str, list[Pair]] = {one.peer.key: [] for one in comparisons}
    problems: dict[str, list[str]] = {one.peer.key: [] for one in comparisons}
    for turn in range(turns):
        for one in comparisons:
            progress.show(f"{one.case.title}: {one.peer.title}, {turn + 1} of {turns}")
            if len(problems[one.peer.key]) < _TRIES:
                try:
                    pairs[one.peer.key].append(one.measure(world, turn))
                except ProcessError as error:
                    problems[one.peer.key].append(str(error))
            progress.advance(2 * one.case.seconds)
    return [
        _result(setting, one, pairs[one.peer.key], problems[one.peer.key]) for one in comparisons
    ]


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


@define
class Progress:
    """Says how far a run is: in a terminal all the time, elsewhere once a minute."""

    planned: float
    """Seconds that all is expected to take."""
    _done: float = 0.0
    _began: float = field(factory=time.monotonic)
    _shown: float = -60.0

    def advance(self, seconds: float) -> None:
        """So much of what was planned is done."""
        self._done += seconds

    def show(self, what: str) -> None:
        """Say what is measured now."""
        passed = time.monotonic() - self._began
        share = self._done / self.planned
        # What was planned is an estimate; what has passed corrects it.
        pace = passed / self._done if self._done > 0.05 * self.planned else 1.0
        left = _minutes((self.planned - self._done) * pace)
        line = f"{share:4.0%}, {left} left. {what}"
        if sys.stdout.isatty():
            print(f"\r\033[K{line}", end="", flush=True)
        elif passed - self._shown >= 60:
            self._shown = passed
            print(line, flush=True)

    def clear(self) -> None:
        """Make room for what is to stay."""
        if sys.stdout.isatty():
            print("\r\033[K", end="")


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return "less than a minute" if minutes < 1 else f"{minutes} minute{'s' * (minutes > 1)}"

"""What the command line says."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from bench.build import MADE

_TURNS, _QUICK_TURNS = 10, 3


@frozen
class Options:
    """How much is measured, and where it is written."""

    quick: bool = False
    turns: int = _TURNS
    """How often each pair is measured."""
    only: tuple[str, ...] = ()
    """Cases (``small-50``), settings (``near``) or both (``near/small-50``); none: all."""
    peers: tuple[str, ...] = ()
    """None: all."""
    json: Path = MADE / "results.json"
    curves: bool = False
    """Whether nothing but the curves is measured."""
    report: Path | None = None
    """Results of an earlier run, of which the documentation is made anew."""

    @property
    def is_whole(self) -> bool:
        """Whether all is measured (or all curves), as it is shown in the documentation."""
        return not (self.quick or self.only or self.peers)

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Options:
        """Read them. Raises SystemExit with a sentence where they cannot be read."""
        parser = argparse.ArgumentParser(
            prog="make bench", usage='make bench ARGS="[options]"', description=__doc__
        )
        parser.add_argument("--quick", action="store_true", help="the most important, in 3 minutes")
        parser.add_argument(
            "--turns", type=int, help=f"of each pair [{_TURNS}; quick: {_QUICK_TURNS}]"
        )
        parser.add_argument(
            "--only", action="append", default=[], help="near, far, tor, a case, or near/small-50"
        )
        parser.add_argument("--peers", action="append", default=[], help="as privoxy or node-kept")
        parser.add_argument(
            "--json", type=Path, help="where results go [.bench/results.json, or curves.json]"
        )
        parser.add_argument(
            "--curves",
            action="store_true",
            help="nothing but what it costs as there is more: clients, keys, circuits, readers",
        )
        parser.add_argument(
            "--report", type=Path, help="measure nothing; write the documentation of these results"
        )
        parsed = parser.parse_args(arguments)
        turns = parsed.turns or (_QUICK_TURNS if parsed.quick else _TURNS)
        return cls(
            parsed.quick,
            turns,
            tuple(parsed.only),
            tuple(parsed.peers),
            parsed.json or MADE / ("curves.json" if parsed.curves else "results.json"),
            parsed.curves,
            parsed.report,
        )

    def wants_peer(self, key: str) -> bool:
        """Whether tortxd is to be compared with this one."""
        return not self.peers or key in self.peers

    def wants(self, setting: str, case: str) -> bool:
        """Whether this case is to be measured there."""
        return not self.only or bool({setting, case, f"{setting}/{case}"}.intersection(self.only))

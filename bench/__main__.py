"""``python -m bench``: measure, and say what came of it."""

from __future__ import annotations

from bench.cases import small
from bench.pairs import Comparison, Pair, Result
from bench.peers import PEERS, TORTXD
from bench.settings import NEAR
from bench.spread import Spread

import argparse


def _show(spread: Spread | None, scale: float = 1.0) -> str:
    if spread is None:
        return "-"
    return f"{spread.median * scale:.4g} [{spread.low * scale:.4g}-{spread.high * scale:.4g}]"


def main() -> None:
    """Do so."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args()
    seconds, turns = (1.0, 3) if options.quick else (2.0, options.pairs)
    with NEAR.open() as behind, TORTXD.start(behind) as own, PEERS[0].start(behind) as other:
        for clients in (1, 50, 200):
            case = small(clients, seconds)
            comparison = Comparison.of(case, PEERS[0], TORTXD.ways)
            assert comparison is not None
            pairs: list[Pair] = []
            for turn in range(turns):
                def ask_own():
                    return case.measure(behind, own, comparison.own_way)
                def ask_other():
                    return case.measure(behind, other, comparison.way)
                if turn % 2:
                    theirs = ask_other(); ours = ask_own()
                else:
                    ours = ask_own(); theirs = ask_other()
                pairs.append(Pair(ours, theirs))
            result = Result("near", comparison, pairs)
            print(f"{case.title}, tortxd and {comparison.peer.title} {comparison.peer.version()}")
            for metric in case.metrics:
                print(f"  {metric.title:24} {_show(result.tortxd(metric.key), metric.scale):32} {_show(result.peer(metric.key), metric.scale):32} ratio {_show(result.ratio(metric.key))}", flush=True)


main()

"""Which cases are measured in which setting, at full length or quickly."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, frozen

from bench import curves
from bench.cases import Case, bulk, coldstart, memory, requests
from bench.curves import CURVES, Curve
from bench.options import Options
from bench.pairs import Comparison
from bench.peers import TORTXD, Peer
from bench.settings import FAR, NEAR, TOR, Setting

_MB = 1_000_000
_STARTING = {NEAR.key: 6.0, FAR.key: 6.0, TOR.key: 20.0}
"""Seconds until what lies behind and the gateways are up."""


@frozen
class Part:
    """What is measured in one setting."""

    setting: Setting
    comparisons: Sequence[Sequence[Comparison]]
    """Of one case after the other."""

    def seconds(self, turns: int) -> float:
        """How long it takes, more or less."""
        once = sum(2 * one.case.seconds for case in self.comparisons for one in case)
        return _STARTING[self.setting.key] + turns * once


def parts(options: Options, peers: Sequence[Peer]) -> list[Part]:
    """All that is wanted, with those peers that are there."""
    if options.curves:
        return []
    cases = _quick() if options.quick else _full()
    made = [_part(setting, of_setting, options, peers) for setting, of_setting in cases]
    return [part for part in made if part.comparisons]


def curves_of(options: Options) -> list[Curve]:
    """The curves that are wanted: none where a part of the rest is chosen."""
    if not (options.curves or options.is_whole):
        return []
    return [curve for curve in CURVES if options.wants(curve.setting.key, curve.key)]


def curve_turns(options: Options) -> int:
    """How often each count is measured."""
    return curves.QUICK_TURNS if options.quick else curves.TURNS


def curve_seconds(curve: Curve, options: Options) -> float:
    """How long one takes, more or less."""
    return _STARTING[curve.setting.key] + curve.expected(curve_turns(options))


def names(peers: Sequence[Peer]) -> str:
    """By which names a part of it can be chosen."""
    cases = [f"{setting.key}/{case.key}" for setting, cases in _full() for case in cases]
    with_curves = ", ".join(curve.key for curve in CURVES)
    keys = ", ".join(peer.key for peer in peers)
    return f"{', '.join(cases)}; peers: {keys}; with --curves: {with_curves}."


def _part(setting: Setting, cases: Sequence[Case], options: Options, peers: Sequence[Peer]) -> Part:
    wanted = [case for case in cases if options.wants(setting.key, case.key)]
    compared = [
        [
            comparison
            for peer in case.peers
            if peer in peers and (setting.is_tor or not peer.needs_tunnel)
            if (comparison := Comparison.of(case, peer, TORTXD.ways)) is not None
        ]
        for case in wanted
    ]
    return Part(setting, [comparisons for comparisons in compared if comparisons])


def _full() -> list[tuple[Setting, list[Case]]]:
    near = [
        *(requests.small(clients, 0.7) for clients in (1, 50, 200)),
        requests.small(50, 0.7, tls=True),
        bulk.download(200 * _MB, 0.5),
        bulk.upload(100 * _MB, 0.3),
        bulk.parallel(50, 4 * _MB, 0.5),
        bulk.download_https(200 * _MB, 0.7),
        bulk.tunnel(200 * _MB, 0.4),
        _beside(memory.stalled(500, 5.0), "privoxy", "node-kept"),
        _beside(memory.idle(5000, 6.0), "privoxy", "node-kept"),
    ]
    # Tor itself is what takes long: there, large bodies are for those that come nearest.
    nearest = ("privoxy", "node-kept", "socks", "tunnel")
    tor = [
        *(requests.small(clients, 0.7) for clients in (1, 50, 200)),
        requests.small(50, 0.7, tls=True),
        _beside(bulk.download(25 * _MB, 2.0), *nearest),
        _beside(bulk.upload(25 * _MB, 3.0), *nearest),
        _beside(bulk.parallel(50, _MB // 2, 2.0), *nearest),
        _beside(bulk.download_https(25 * _MB, 2.0), *nearest),
        bulk.tunnel(25 * _MB, 2.0),
        _beside(memory.stalled(500, 6.0), "privoxy", "node-kept"),
        coldstart.fresh(5.0),
        coldstart.cached(7.0),
    ]
    return [(NEAR, near), (FAR, [requests.cold()]), (TOR, tor)]


def _quick() -> list[tuple[Setting, list[Case]]]:
    near = [
        requests.small(50, 0.7),
        _beside(requests.small(200, 0.7), "privoxy"),
        _beside(requests.small(50, 0.7, tls=True), "node-kept", "aiohttp"),
        _beside(bulk.download(200 * _MB, 0.6), "privoxy", "node-kept"),
        bulk.tunnel(200 * _MB, 0.6),
    ]
    tor = [_beside(requests.small(50, 0.7), "privoxy", "socks")]
    return [(NEAR, near), (FAR, [requests.cold()]), (TOR, tor)]


def _beside(case: Case, *peers: str) -> Case:
    """The same with these peers alone."""
    return evolve(case, peers=tuple(peer for peer in case.peers if peer.key in peers))

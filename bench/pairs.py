"""tortxd and a peer, measured one after the other, in turn the one and the other first."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from bench.cases import Case, Figures
from bench.peers import Peer
from bench.spread import Spread, ratios
from bench.ways import Way


@frozen
class Pair:
    """What came of one turn."""

    tortxd: Figures
    peer: Figures


@frozen
class Comparison:
    """A peer that can be asked what a case is about, and how it and tortxd are asked."""

    case: Case
    peer: Peer
    way: Way
    own_way: Way
    """tortxd's."""

    @classmethod
    def of(cls, case: Case, peer: Peer, own_ways: Sequence[Way]) -> Comparison | None:
        """None where the peer cannot do that. tortxd is asked as the peer is; where that is not a
        way of its own, as an HTTP proxy, which is nearest to it."""
        way = next((one for one in peer.ways if one in case.ways), None)
        if way is None:
            return None
        nearest = (way, Way.PROXY, Way.CONNECT)
        own_way = next(one for one in nearest if one in own_ways and one in case.ways)
        return cls(case, peer, way, own_way)


@frozen
class Result:
    """What came of all turns of one comparison in one setting."""

    setting: str
    comparison: Comparison
    pairs: Sequence[Pair]

    def ratio(self, metric: str) -> Spread | None:
        """tortxd's by the peer's."""
        return ratios([(pair.tortxd[metric], pair.peer[metric]) for pair in self.pairs])

    def tortxd(self, metric: str) -> Spread:
        """tortxd's own."""
        return Spread.of([pair.tortxd[metric] for pair in self.pairs])

    def peer(self, metric: str) -> Spread:
        """The peer's."""
        return Spread.of([pair.peer[metric] for pair in self.pairs])

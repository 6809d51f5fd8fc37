"""tortxd and a peer, measured one after the other, in turn the one and the other first."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from bench.cases import Case
from bench.peers import TORTXD, Peer
from bench.results import Pair
from bench.ways import Way
from bench.world import World


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

    def measure(self, world: World, turn: int) -> Pair:
        """Measure both. Raises ProcessError."""
        if turn % 2:
            peer = self.case.measure(world, self.peer, self.way)
            return Pair(self.case.measure(world, TORTXD, self.own_way), peer)
        own = self.case.measure(world, TORTXD, self.own_way)
        return Pair(own, self.case.measure(world, self.peer, self.way))

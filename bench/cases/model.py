"""What a case is made of."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from bench.metrics import Figures, Metric
from bench.peers import PEERS, Peer
from bench.ways import Way
from bench.world import World

Measure = Callable[[World, Peer, Way], Figures]
"""Measures one who is asked in that way. Raises ProcessError."""


@frozen
class Case:
    """One thing that is asked."""

    key: str
    title: str
    metrics: tuple[Metric, ...]
    """The first one is what the case is about."""
    ways: frozenset[Way]
    """In which of the ways it can be asked."""
    measure: Measure
    seconds: float
    """How long a measurement takes, more or less."""
    peers: tuple[Peer, ...] = PEERS
    """Who is asked beside tortxd, if it can be."""

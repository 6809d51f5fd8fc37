"""What is measured: tortxd, and what else carries HTTP to a SOCKS port."""

from __future__ import annotations

from bench.peers.bare import RAW_SOCKS, TUNNEL
from bench.peers.model import Missing, Peer
from bench.peers.node import NODE_KEPT, NODE_ONCE
from bench.peers.privoxy import PRIVOXY
from bench.peers.python import AIOHTTP, TREQ
from bench.peers.tortxd import TORTXD

__all__ = ["LASTING", "PEERS", "TORTXD", "Missing", "Peer"]

PEERS = (PRIVOXY, NODE_ONCE, NODE_KEPT, AIOHTTP, TREQ, RAW_SOCKS, TUNNEL)
"""What tortxd is compared with."""

LASTING = tuple(peer for peer in PEERS if peer is not NODE_ONCE)
"""The same, where an agent for each request makes no difference."""

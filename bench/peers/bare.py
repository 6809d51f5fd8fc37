"""No gateway at all: the SOCKS port itself, and the HTTP tunnels that Tor offers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.load import Target
from bench.peers.model import Peer, found, number_in
from bench.settings import Behind
from bench.ways import Way


@contextmanager
def _socks(behind: Behind) -> Iterator[Target]:
    yield Target(behind.socks_host, behind.socks_port, 0)


@contextmanager
def _tunnel(behind: Behind) -> Iterator[Target]:
    assert behind.tunnel is not None
    yield Target(*behind.tunnel, 0)


def _tor_version() -> str:
    return number_in(found("tor"), "--version")


RAW_SOCKS = Peer("socks", "the SOCKS port itself", (Way.SOCKS,), _socks, lambda: "")
TUNNEL = Peer(
    "tunnel",
    "Tor's HTTPTunnelPort",
    (Way.CONNECT,),
    _tunnel,
    _tor_version,
    needs_tunnel=True,
)
TOR = Peer("tor", "Tor alone", (Way.SOCKS,), _socks, _tor_version)
"""Where a case is about how programs start."""

"""A private Tor network with a client of it that gateways use.

usage: ``python -m bench.gateways.network NAME TUNNEL_PORT``

NAME becomes the destination on loopback; TUNNEL_PORT is that of the client's HTTP tunnels. When
both are up, it prints a line of JSON. It goes when a signal comes, or when its standard input ends.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.python.failure import Failure

from tortxd.testing import PrivateNetwork


class _Owner(Protocol):
    """Tells when whoever started this is gone."""

    def __init__(self, gone: Deferred[None]) -> None:
        self._gone = gone

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._gone.called:
            self._gone.callback(None)


async def main(reactor: Any, name: str, tunnel_port: str) -> None:
    """Be there until it is over."""
    gone: Deferred[None] = Deferred()
    network = PrivateNetwork(reactor, origins={name: "127.0.0.1"})
    reactor.addSystemEventTrigger("before", "shutdown", network_stopper(network))
    await network.start()
    client = await network.start_client(further=(f"HTTPTunnelPort 127.0.0.1:{tunnel_port}",))
    control = f"tcp:{client.control[0]}:{client.control[1]}"
    torrc = str(network.write_client_torrc())
    said = {"socks": client.socks, "control": control, "torrc": torrc}
    print(json.dumps(said), flush=True)
    StandardIO(_Owner(gone), reactor=reactor)
    await gone


def network_stopper(network: PrivateNetwork) -> Any:
    """What ends it."""
    return lambda: Deferred.fromCoroutine(network.stop())


if __name__ == "__main__":
    react(main, sys.argv[1:])

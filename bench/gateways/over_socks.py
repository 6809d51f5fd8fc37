"""tortxd's gateway over a SOCKS port of which nothing else is known, since no Tor is behind it.

usage: ``python -m bench.gateways.over_socks PORT SOCKS_PORT [CLIENTS REQUESTS] [ENDPOINT...]``,
where CLIENTS and REQUESTS are how many of each there may be. It serves at these ``haproxy:``
endpoints, too.

All of its policies are in force. The daemon's process is made as ``twistd tortxd`` makes it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet.endpoints import serverFromString
from twisted.python import log

from tortxd import process
from tortxd.config import SocksAddress
from tortxd.endpoints import BEHIND_BALANCER
from tortxd.gateway.admission.policy import GatewayPolicy
from tortxd.gateway.control.app import Api
from tortxd.gateway.front.listener import FrontFactory
from tortxd.gateway.front.proxy_protocol import Introductions
from tortxd.gateway.gateway import Gateway
from tortxd.gateway.limits import Limits, descriptors_here
from tortxd.policy.access import AccessPolicy
from tortxd.policy.headers import UserAgent
from tortxd.policy.target import TargetPolicy
from tortxd.relay.direct import SocksLink
from tortxd.tor.changes import C
from tortxd.tor.link import TorView
from tortxd.tor.status import Status

_NOT_ASKED = "http://check.test.example/"


class _Link(SocksLink):
    """What a gateway watches beside what its requests need: nothing changes here."""

    since = 0.0

    def on_status(self, observer: Callable[[Status], None]) -> Callable[[], None]:
        """See :class:`tortxd.tor.link.TorView`."""
        return lambda: None

    def listen(self, kind: type[C], listener: Callable[[C], object]) -> Callable[[], None]:
        """See :class:`tortxd.tor.link.TorView`."""
        return lambda: None


def make(reactor: Any, port: int, socks_port: int, limits: Limits) -> FrontFactory:
    """What serves on ``port``."""
    # Requests and the gateway itself ask no more of it; operators, who do, are not here.
    link = cast(TorView, _Link(SocksAddress("127.0.0.1", socks_port)))
    policy = GatewayPolicy(
        AccessPolicy(), TargetPolicy(own_ports=frozenset({port})), UserAgent.of("auto")
    )
    gateway = Gateway(reactor, link, policy, limits=limits)
    return FrontFactory(gateway, lambda: Api(gateway, _NOT_ASKED, _NOT_ASKED))


def main(
    port: int,
    socks_port: int,
    clients: int | None = None,
    requests: int | None = None,
    *,
    endpoints: Sequence[str] = (),
) -> None:
    """Serve until a signal comes."""
    reactor: Any = installed
    log.startLogging(sys.stderr)
    process.set_up(reactor, None)
    share = 0.75 if clients is None else 1.0
    limits = Limits.of(descriptors_here(), clients=clients, requests=requests, share=share)
    factory = make(reactor, port, socks_port, limits)
    factory.listens_on(reactor.listenTCP(port, factory, interface="127.0.0.1"))
    for endpoint in endpoints:
        behind = serverFromString(reactor, endpoint.removeprefix(BEHIND_BALANCER))
        behind.listen(Introductions(reactor, factory)).addCallback(factory.listens_on)
    reactor.callLater(0, factory.gateway.prepare)
    reactor.callLater(0, factory.prepare)
    reactor.run()


if __name__ == "__main__":
    words = sys.argv[1:]
    main(
        *(int(word) for word in words if word.isdecimal()),
        endpoints=[word for word in words if not word.isdecimal()],
    )

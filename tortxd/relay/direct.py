"""The relay over a Tor of which nothing is known but where its SOCKS port is.

There is no control port to ask. What the relay does without it:

- fresh circuits have no budget, and what has failed is tried again whenever it is asked for;
- which circuit carries a stream, and why Tor refused one, is not known beyond the SOCKS reply;
- over plain http, a body that ends with the connection is whole when the connection was closed, and
  broken off when it was reset, though Tor closes the stream just so when its circuit dies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tortxd._types import Reactor
from tortxd.errors import NotServed
from tortxd.policy.steering import Choice
from tortxd.relay.exchange import Exchange
from tortxd.relay.failures import Failures
from tortxd.relay.interfaces import Stoppable
from tortxd.relay.journal import Uncounted
from tortxd.relay.placement import Placements
from tortxd.relay.timeouts import Timeouts
from tortxd.relay.upstream import Pool, Upstream
from tortxd.tor.isolation import Credentials, IsolationKeys
from tortxd.tor.link import Circuit, ExitLead, SocksAddress, TorLink
from tortxd.tor.socks import open_stream
from tortxd.tor.status import Ready, Status
from tortxd.tor.tls import ClientTls
from tortxd.wire.http1 import Headers

_NO_CONTROL = "That takes Tor's control port, which this program does not have."

KEPT = 100
"""Connections that wait for further requests, at most."""


class SocksLink:
    """A Tor known by its SOCKS address alone; provides :class:`tortxd.tor.link.TorLink`."""

    network = "unknown"
    status: Status = Ready()
    """Nothing says otherwise until it is asked for a stream."""

    def __init__(self, address: SocksAddress) -> None:
        self.socks_address = address

    def when_usable(self) -> Deferred[SocksAddress]:
        """Fire at once."""
        return succeed(self.socks_address)

    def circuit_of(self, source: tuple[str, int]) -> Circuit | None:
        """None: it is not known."""
        return None

    def close_reason(self, source: tuple[str, int], timeout: float) -> Deferred[str | None]:
        """Fire with None: nobody tells."""
        return succeed(None)

    def close_abandoned(self, source: tuple[str, int], username: bytes) -> None:
        """Nobody can be told."""

    def admit(self, credentials: Credentials, within: float) -> None:
        """Let it go: whose Tor that is sees to what it takes."""

    def opened(self, credentials: Credentials, *, reached: bool | None) -> None:
        """Nobody counts."""

    def exits_carry(self, host: str, port: int) -> Deferred[bool | None]:
        """Fire with None: it is not known."""
        return succeed(None)

    def choose_exit(
        self, choice: Choice, host: str, port: int, avoiding: Collection[str] = ()
    ) -> Deferred[str]:
        """Fail: that takes a control port."""
        return fail(NotServed(_NO_CONTROL))

    def has_exit(self, fingerprint: str, port: int, username: bytes) -> Deferred[bool]:
        """Fail: that takes a control port."""
        return fail(NotServed(_NO_CONTROL))

    def lead_to_exit(
        self,
        host: str,
        fingerprint: str,
        username: bytes,
        unreachable: Callable[[], object],
        *,
        anew: bool = False,
    ) -> Deferred[ExitLead]:
        """Fail: that takes a control port."""
        return fail(NotServed(_NO_CONTROL))

    def new_identity(self) -> Deferred[None]:
        """Fail: that takes a control port."""
        return fail(NotServed(_NO_CONTROL))


class DirectCarrier:
    """Carries requests through the Tor at ``address``; provides
    :class:`tortxd.relay.interfaces.Carrier`."""

    def __init__(
        self, reactor: Reactor, address: SocksAddress, tls: ClientTls, keys: IsolationKeys
    ) -> None:
        self._reactor = reactor
        self._tls = tls
        self.link: TorLink = SocksLink(address)
        self.placements = Placements(reactor, self.link, keys)
        self.timeouts = Timeouts(reactor)
        self.pool = Pool(self.timeouts, KEPT)
        self.failures = Failures(reactor, free=math.inf)
        self.journal = Uncounted()
        self.under_way: set[Stoppable] = set()

    def connect(
        self, address: SocksAddress, upstream: Upstream, *, early: bool, timeout: float
    ) -> Deferred[Upstream]:
        """See :class:`tortxd.relay.interfaces.Carrier`."""
        return connect_upstream(
            self._reactor, self._tls, address, upstream, early=early, timeout=timeout
        )

    def annotate(self, upstream: Upstream) -> Headers:
        """See :class:`tortxd.relay.interfaces.Carrier`; nothing is known."""
        return []


class DirectExchange(Exchange):
    """An exchange where nobody tells how a stream ended."""

    def _closed(self, upstream: Upstream, reason: Failure) -> None:
        self._end_at_close(reason.check(ConnectionDone) is not None)


def connect_upstream(
    reactor: Reactor,
    tls: ClientTls,
    address: SocksAddress,
    upstream: Upstream,
    *,
    early: bool,
    timeout: float,
) -> Deferred[Upstream]:
    """Connect ``upstream`` to its destination, through the Tor at ``address``."""
    pool_key = upstream.pool_key
    return open_stream(
        reactor,
        address,
        pool_key.host,
        pool_key.port,
        pool_key.credentials,
        upstream,
        early=early,
        tls=tls if pool_key.scheme == "https" else None,
        timeout=timeout,
        reached=upstream.reached,
        name=upstream.name,
    )

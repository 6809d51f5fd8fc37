"""The gateway behind every way in: a Tor, the connections through it, and who may use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress

from tortxd._types import Reactor
from tortxd.gateway.admission.admission import Admission
from tortxd.gateway.admission.policy import GatewayPolicy
from tortxd.gateway.disconnects import DisconnectWatch
from tortxd.gateway.health import Health
from tortxd.gateway.journal import RequestJournal
from tortxd.gateway.limits import Limits
from tortxd.gateway.load import Load
from tortxd.policy.access import Caller
from tortxd.policy.site import public_suffixes
from tortxd.relay.direct import connect_upstream
from tortxd.relay.failures import Failures
from tortxd.relay.interfaces import Stoppable
from tortxd.relay.journal import Way
from tortxd.relay.placement import Placements
from tortxd.relay.timeouts import Timeouts
from tortxd.relay.upstream import Pool, Upstream
from tortxd.tor.isolation import Isolation, IsolationKeys
from tortxd.tor.link import SocksAddress, Stream, TorView
from tortxd.tor.tls import ClientTls
from tortxd.wire.http1 import Headers


@frozen
class Renewal:
    """What a new identity was made of."""

    keys: int
    """Isolation keys, and sites that stand for one, whose next requests have other circuits."""
    connections: int
    """Connections that take no further request: those that waited are closed, the others when what
    they carry has ended."""


class Gateway:
    """Carries what :attr:`admission` lets pass; provides
    :class:`~tortxd.relay.interfaces.Carrier`."""

    def __init__(
        self,
        reactor: Reactor,
        link: TorView,
        policy: GatewayPolicy,
        keys: IsolationKeys | None = None,
        tls: ClientTls | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.reactor = reactor
        self.link = link
        self.keys = keys or IsolationKeys()
        self.placements = Placements(reactor, link, self.keys)
        self.admission = Admission(policy, self.keys, self.placements)
        self.tls = tls or ClientTls()
        self.timeouts = Timeouts(reactor)
        self.disconnects = DisconnectWatch(self.timeouts)
        self.limits = limits or Limits()
        self.pool = Pool(self.timeouts, self.limits.idle)
        self.failures = Failures(reactor)
        self.under_way: set[Stoppable] = set()
        self.health = Health(reactor, link)
        self.load = Load(lambda: self.limits, self.health.is_full)
        self.journal = RequestJournal(reactor, link, self.health)
        self.endpoints: tuple[str, ...] = ()
        """Where it listens, as URLs or paths of unix sockets, if it has ports of its own."""
        self.has_ended = False
        """Whether requests are refused, since it stops. Set by :meth:`end` and :meth:`begin`."""
        self.clients: Callable[[], int] = lambda: 0
        """How many connections of clients there are, where the gateway has a port of its own."""

    @property
    def policy(self) -> GatewayPolicy:
        """Whom it serves, with what; another one counts from the next request on."""
        return self.admission.policy

    @policy.setter
    def policy(self, policy: GatewayPolicy) -> None:
        self.admission.policy = policy

    def begin(self) -> None:
        """Serve, as at first, after :meth:`stop`."""
        self.has_ended = False
        self.health.begin()

    def prepare(self) -> None:
        """Load what the first request would have to wait for, 0.1 s of work, while Tor starts."""
        public_suffixes()
        _ = self.tls.context

    def stop(self) -> None:
        """End what is under way, and let go of waiting connections and of timers."""
        self.end_under_way()
        self.disconnects.stop()
        self.health.close()
        self.pool.clear()
        self.timeouts.stop()

    def end(self) -> None:
        """End what is under way, and let nothing further begin: it stops."""
        self.has_ended = True
        self.end_under_way()

    def end_under_way(self) -> None:
        """End each request that is on its way, with an answer where none has begun."""
        while self.under_way:  # what ends may let a request begin that waited behind it
            self.under_way.pop().stop()

    # --- new identities --------------------------------------------------------------------------

    def renew_key(self, key: bytes, caller: Caller, peer: bytes) -> Renewal:
        """New circuits and new connections for a caller's isolation key; nobody else notices."""
        return self.renew(self.admission.isolation(caller, key, peer))

    def renew_user(self, username: str) -> Renewal | None:
        """The same for the isolation whose streams have this SOCKS username; None where it is none
        of this gateway's."""
        isolation = self.keys.isolation(username)
        return None if isolation is None else self.renew(isolation)

    def renew(self, isolation: Isolation) -> Renewal:
        """The same for an isolation."""
        connections = self.pool.retire(self.keys.credentials(isolation))
        self.keys.renew(isolation)
        self.placements.forget(isolation)
        self.failures.forget(isolation.caller)
        return Renewal(1, connections)

    def renew_all(self) -> Deferred[Renewal]:
        """New circuits (NEWNYM) and new connections for everyone. Fires when Tor has done its
        part, which it does once in 10 s; fails as :meth:`TorLink.new_identity` does."""
        renewal = Renewal(self.keys.renew_all(), self.pool.retire_all())
        self.placements.forget_all()
        self.failures.forget_all()
        return self.link.new_identity().addCallback(lambda _: renewal)

    # --- who is who ------------------------------------------------------------------------------

    def way_of(self, stream: Stream) -> Way | Literal["socks"] | None:
        """How the request came for which a stream is; ``socks``: from another program, which speaks
        to Tor's SOCKS port itself. None for a stream of Tor's own, or where that is not known."""
        if not (stream.username or "").startswith(self.keys.username_prefix):
            return "socks" if stream.purpose == "USER" else None
        if stream.source is None:
            return None
        return self.pool.way_of(stream.source) or "library"  # of an endpoint

    # --- what an exchange needs ------------------------------------------------------------------

    def connect(
        self, address: SocksAddress, upstream: Upstream, *, early: bool, timeout: float
    ) -> Deferred[Upstream]:
        """See :class:`~tortxd.relay.interfaces.Carrier`."""
        return connect_upstream(
            self.reactor, self.tls, address, upstream, early=early, timeout=timeout
        )

    def annotate(self, upstream: Upstream) -> Headers:
        """The headers that name the circuit and the exit, as far as the control port shows them."""
        if upstream.annotation is not None:
            return upstream.annotation
        circuit = None if upstream.source is None else self.link.circuit_of(upstream.source)
        if circuit is None:
            return []
        headers = [(b"Tortxd-Circuit", circuit.id.encode())]
        exit_relay = circuit.exit
        if exit_relay is None:
            return headers
        headers.append((b"Tortxd-Exit", exit_relay.fingerprint.encode()))
        if exit_relay.address is not None:
            headers.append((b"Tortxd-Exit-Address", exit_relay.address.encode()))
        if exit_relay.country is not None:
            headers.append((b"Tortxd-Exit-Country", exit_relay.country.encode()))
            upstream.annotation = headers
        return headers


def peer_name(address: IAddress) -> bytes:
    """What tells callers apart by where they come from: the host, or ``unix``."""
    host = getattr(address, "host", None)
    return b"unix" if host is None else host.encode()

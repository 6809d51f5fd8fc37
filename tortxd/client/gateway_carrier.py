"""The relay through a daemon's gateway, for what takes its control port: choosing exits.

Each connection is a CONNECT of its own, so that TLS ends at the destination. What the gateway is
told with it is what connections are pooled by; what it says of the tunnel is what is known of the
way.
"""

from __future__ import annotations

import re
from base64 import b64encode
from secrets import token_bytes

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from tortxd._types import Reactor
from tortxd.addresses import SocksAddress
from tortxd.policy.steering import (
    LONGEST_STICKY,
    Choice,
    Steering,
    Sticky,
    as_parameters,
    header_of,
)
from tortxd.relay.direct import DirectCarrier, DirectExchange
from tortxd.relay.placement import Place, Placements, Steered
from tortxd.relay.tries import Tries
from tortxd.relay.upstream import LIFETIME, Upstream
from tortxd.tor.isolation import Credentials, IsolationKeys
from tortxd.tor.socks import open_by
from tortxd.tor.tls import ClientTls
from tortxd.wire.connect import ConnectHandshake
from tortxd.wire.http1 import Headers

ANSWER_MARGIN = 0.25
"""Seconds by which the gateway is to answer before our own time is over: it knows why."""
_LONGEST = 86_400.0
"""Seconds that the gateway is asked to take, at most; it has a limit of its own."""
_WAY = (b"tortxd-circuit", b"tortxd-exit", b"tortxd-exit-address", b"tortxd-exit-country")
_ATTEMPTS, _CHANGED = b"tortxd-attempts", b"tortxd-exit-changed"
_NUMBER = re.compile(rb"[0-9]{1,3}")


@frozen(cache_hash=True)
class GatewayKey(Credentials):
    """What a gateway is told about who asks, in place of the credentials that Tor would get."""

    fields: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    span: int = 0
    """When, so far as a connection must not be used later."""

    @classmethod
    def of(cls, key: bytes, steering: Steering, span: int = 0) -> GatewayKey:
        """For an isolation key."""
        # So it may be any bytes; a header's value may not.
        login = b"Basic " + b64encode(b"tor-iso:" + key)
        steers = tuple(
            (header_of(name).encode("ascii"), value)
            for name, value in as_parameters(steering).items()
        )
        return cls(key, b"", fields=((b"Proxy-Authorization", login), *steers), span=span)


class _ByTheGateway(Placements):
    """The gateway decides where requests leave Tor, so what is made here is what it is told."""

    def place(
        self,
        steered: Steered,
        host: str,
        port: int,
        *,
        tried: frozenset[str] = frozenset(),
        fresh: bool = False,
    ) -> Deferred[Place]:
        """See :class:`tortxd.relay.placement.Placements`. A key that nobody else has is what gets a
        fresh circuit at the gateway."""
        key, steering = steered.isolation.name, evolve(steered.steering, retry=0)
        if fresh and (steering.sticky is None or tried):
            key, steering = token_bytes(16), _for_a_further_try(steering, tried)
        if steering.sticky is None:
            return succeed(Place(GatewayKey.of(key, steering)))
        spare = _spare(steering.sticky)
        span = int(self._clock.seconds() / spare)
        return succeed(Place(GatewayKey.of(key, _kept_longer(steering, spare), span)))


class GatewayCarrier(DirectCarrier):
    """Carries requests through the gateway at ``address``, by :class:`GatewayExchange`. All of
    them are steered, and have an isolation key.

    :param token: what the gateway asks its clients for, if it does.
    """

    def __init__(
        self,
        reactor: Reactor,
        address: SocksAddress,
        tls: ClientTls,
        keys: IsolationKeys,
        token: str | None = None,
    ) -> None:
        super().__init__(reactor, address, tls, keys)
        self.placements = _ByTheGateway(reactor, self.link, keys)
        self._token = [] if token is None else [(b"Tortxd-Token", token.encode("ascii"))]

    def connect(
        self, address: SocksAddress, upstream: Upstream, *, early: bool, timeout: float
    ) -> Deferred[Upstream]:
        """See :class:`tortxd.relay.interfaces.Carrier`. Nothing goes early: it would have to wait
        at the gateway."""
        exchange, pool_key = upstream.exchange, upstream.pool_key
        assert isinstance(exchange, GatewayExchange)
        assert isinstance(pool_key.credentials, GatewayKey)
        seconds = min(max(timeout - ANSWER_MARGIN, timeout / 2), _LONGEST)
        fields = [
            *pool_key.credentials.fields,
            *self._token,
            (b"Tortxd-Timeout", b"%.3f" % seconds),
        ]
        if exchange.retries_left:
            fields.append((b"Tortxd-Retry", b"%d" % exchange.retries_left))
        handshake = ConnectHandshake(pool_key.host, pool_key.port, fields)
        opening = open_by(
            handshake,
            self._reactor,
            address,
            pool_key.host,
            upstream,
            tls=self._tls if pool_key.scheme == "https" else None,
            timeout=timeout,
            reached=upstream.reached,
        )

        def answered(result: Upstream | Failure) -> Upstream | Failure:
            exchange.answered(upstream, handshake.headers)
            return result

        return opening.addBoth(answered)

    def annotate(self, upstream: Upstream) -> Headers:
        """See :class:`tortxd.relay.interfaces.Carrier`: what the gateway has said."""
        return upstream.annotation or []


def _for_a_further_try(steering: Steering, tried: frozenset[str]) -> Steering:
    """How a further try is steered, under a key of its own, where these exits were tried."""
    choice = steering.choice
    if steering.sticky is not None:
        return Steering(Choice(fingerprints=tried))  # the key's own exit
    left = choice.fingerprints - tried
    return evolve(steering, choice=evolve(choice, fingerprints=left or choice.fingerprints))


def _spare(sticky: Sticky) -> int:
    """Seconds for which a connection may carry further requests of a sticky key. The gateway hears
    of none of these, and would not prolong for them."""
    return max(1, min(sticky.seconds // 10, int(LIFETIME)))


def _kept_longer(steering: Steering, spare: int) -> Steering:
    """The same, with the exit kept as long as is asked for by whatever a connection carries."""
    assert steering.sticky is not None
    seconds = min(steering.sticky.seconds + spare, LONGEST_STICKY)
    return evolve(steering, sticky=Sticky(seconds, steering.sticky.strict))


class GatewayExchange(DirectExchange):
    """An exchange whose connections a gateway opens. It tries again by itself as often as that is
    allowed and the gateway has not."""

    unclear = ()
    _changed: tuple[tuple[bytes, bytes], ...] = ()
    """What the gateway has said where the key has another exit."""

    @property
    def retries_left(self) -> int:
        """Further tries that are left."""
        return 0 if self._tries is None else self._tries.left

    def answered(self, upstream: Upstream, headers: Headers) -> None:
        """The gateway has said this of ``upstream``, whatever came of it; nothing, where it has
        said nothing."""
        upstream.annotation = [field for field in headers if field[0].lower() in _WAY]
        told = {name.lower(): value for name, value in headers}
        if _NUMBER.fullmatch(told.get(_ATTEMPTS, b"")):
            # One was counted when the gateway was asked.
            further = int(told[_ATTEMPTS]) - 1
            self._attempts += further
            if self._tries is not None:
                self._tries.left = max(0, self._tries.left - max(0, further))
        changed = tuple(field for field in headers if field[0].lower() == _CHANGED)
        self._changed = self._changed or changed

    def _shares(self) -> int:
        return 1  # the gateway shares the time out among its tries

    def _exit_tried(self, tries: Tries) -> str | None:
        named = {name.lower(): value for name, value in self._last_way()}
        exit = named.get(b"tortxd-exit")
        return None if exit is None else exit.decode("latin-1")

    def _last_way(self) -> Headers:
        return [] if self._last is None else self._carrier.annotate(self._last)

    def _own_headers(self) -> Headers:
        return [*super()._own_headers(), *self._changed]

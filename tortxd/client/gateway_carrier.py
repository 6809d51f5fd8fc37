"""The relay through a daemon's gateway, for what takes its control port: choosing exits.

Each connection is a CONNECT of its own, so that TLS ends at the destination. What the gateway says
of the tunnel is what is known of the way.
"""

from __future__ import annotations

import re
from base64 import b64encode

from twisted.internet.defer import Deferred

from tortxd._types import Reactor
from tortxd.policy.steering import UNSTEERED, Steering
from tortxd.relay.direct import DirectCarrier
from tortxd.relay.placement import Steered
from tortxd.relay.upstream import Upstream
from tortxd.tor.isolation import Isolation, IsolationKeys
from tortxd.tor.link import SocksAddress
from tortxd.tor.socks import open_by
from tortxd.tor.tls import ClientTls
from tortxd.wire.connect import ConnectHandshake, connect_request
from tortxd.wire.http1 import Headers

_OF_TOR = re.compile(
    rb"Tortxd-(?:Circuit|Exit(?:-Address|-Country|-Changed)?|Attempts)", re.IGNORECASE
)
_OF_THE_FIRST = frozenset((b"tortxd-attempts", b"tortxd-exit-changed"))
"""What is said of a tunnel when it is opened, and not of later requests on it."""


class GatewayCarrier(DirectCarrier):
    """Carries requests through the gateway at ``address``.

    :param key: the isolation key of all that it carries.
    :param steering: how all of it is steered.
    :param token: what the gateway asks its clients for, if it does.
    """

    def __init__(
        self,
        reactor: Reactor,
        address: SocksAddress,
        tls: ClientTls,
        keys: IsolationKeys,
        *,
        key: bytes,
        steering: Steering,
        token: str | None = None,
    ) -> None:
        super().__init__(reactor, address, tls, keys)
        # By its name a key may be any bytes; a header's value may not.
        login = b"Basic " + b64encode(b"tor-iso:" + key)
        self._headers: Headers = [(b"Proxy-Authorization", login), *_fields(steering)]
        if token is not None:
            self._headers.append((b"Tortxd-Token", token.encode("utf-8")))

    def steered(self, isolation: Isolation, steering: Steering) -> Steered | None:
        """None: the gateway steers, and tries again."""
        return None

    def connect(
        self, address: SocksAddress, upstream: Upstream, *, early: bool, timeout: float
    ) -> Deferred[Upstream]:
        """See :class:`tortxd.relay.interfaces.Carrier`. Nothing goes early: a tunnel is open when
        the gateway says so."""
        key, handshake = upstream.pool_key, ConnectHandshake()
        limit = (b"Tortxd-Timeout", b"%.3f" % timeout)

        def opened(result: Upstream) -> Upstream:
            result.annotation = [
                (name, value) for name, value in handshake.headers if _OF_TOR.fullmatch(name)
            ]
            return result

        return open_by(
            handshake,
            connect_request(key.host, key.port, [*self._headers, limit]),
            self._reactor,
            address,
            key.host,
            upstream,
            tls=self._tls if key.scheme == "https" else None,
            timeout=timeout,
            reached=upstream.reached,
            called="The gateway of tortxd",
        ).addCallback(opened)

    def annotate(self, upstream: Upstream) -> Headers:
        """See :class:`tortxd.relay.interfaces.Carrier`."""
        said = upstream.annotation or []
        if upstream.requests > 1:
            said = [one for one in said if one[0].lower() not in _OF_THE_FIRST]
        return list(said)


def _fields(steering: Steering) -> Headers:
    """The header fields that say the same."""
    fields: Headers = []
    if steering is UNSTEERED:
        return fields
    choice, sticky = steering.choice, steering.sticky
    if choice.countries:
        fields.append((b"Tortxd-Exit-Country", ", ".join(sorted(choice.countries)).encode()))
    if choice.fingerprints:
        fields.append((b"Tortxd-Exit", ", ".join(sorted(choice.fingerprints)).encode()))
    if sticky is not None:
        strict = ", strict" if sticky.strict else ""
        fields.append((b"Tortxd-Sticky", f"{sticky.seconds}{strict}".encode()))
    if steering.retry:
        fields.append((b"Tortxd-Retry", b"%d" % steering.retry))
    return fields

"""Streams through Tor whose exit is chosen, as endpoints of Twisted."""

from __future__ import annotations

from collections.abc import Callable

from attrs import field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from tortxd._types import Reactor
from tortxd.errors import TorTimeout, TortxdError
from tortxd.relay.attempt import ExitUnreachable
from tortxd.relay.interfaces import Carrier
from tortxd.relay.outbound import may_fare_better
from tortxd.relay.placement import Place, Steered
from tortxd.tor.isolation import Credentials
from tortxd.tor.link import SocksAddress
from tortxd.tor.socks import TorEndpoint
from tortxd.tor.tls import ClientTls

Admit = Callable[[Credentials], Deferred[SocksAddress]]
"""Says where Tor's SOCKS port is, once a stream with these credentials may go to it."""


@implementer(IStreamClientEndpoint)
@frozen
class SteeredEndpoint:
    """A destination, reached through Tor as ``steered`` says; nothing is sent before it is.

    The other fields are as those of :class:`~tortxd.tor.socks.TorEndpoint`.
    """

    reactor: Reactor
    carrier: Carrier
    admit: Admit
    steered: Steered
    host: str = field(repr=False)
    port: int = field(repr=False)
    tls: ClientTls | None = None
    timeout: float = 60.0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Build a protocol and connect it.

        :return: fires with the protocol when the stream is open. Fails as
            :func:`~tortxd.tor.socks.open_stream` does, and with ExitUnavailable where no exit is
            there that was asked for.
        """
        connecting = Deferred.fromCoroutine(self._connect(protocolFactory))

        def too_late(_: object, __: float) -> IProtocol:
            raise TorTimeout

        return connecting.addTimeout(self.timeout, self.reactor, too_late)

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        expires = self.reactor.seconds() + self.timeout
        retries, tried, fresh = self.steered.steering.retry, frozenset[str](), False
        while True:
            place = await self.carrier.place(
                self.steered, self.host, self.port, tried=tried, fresh=fresh
            )
            left = expires - self.reactor.seconds()
            try:
                return await self._try(factory, place, left / (retries + 1))
            except ExitUnreachable:
                continue  # the next place is by another one, or there is none
            except TortxdError as error:
                if not retries or not may_fare_better(error):
                    raise
            retries, fresh = retries - 1, True
            if place.exit is not None:
                tried |= {place.exit}

    async def _try(self, factory: IProtocolFactory, place: Place, seconds: float) -> IProtocol:
        address = await self.admit(place.credentials)
        if place.exit is None:
            return await self._endpoint(address, place, None, seconds).connect(factory)
        connecting: list[Deferred[IProtocol]] = []
        is_lost = False

        def unreachable() -> None:
            nonlocal is_lost
            is_lost = True
            connecting[0].cancel()

        lead = await self.carrier.link.lead_to_exit(
            self.host, place.exit, place.credentials.username, unreachable
        )
        try:
            connecting.append(self._endpoint(address, place, lead.name, seconds).connect(factory))
            return await connecting[0]
        except CancelledError:
            if is_lost:
                raise ExitUnreachable from None
            raise
        finally:
            lead.release()

    def _endpoint(
        self, address: SocksAddress, place: Place, name: str | None, seconds: float
    ) -> TorEndpoint:
        return TorEndpoint(
            self.reactor,
            address,
            self.host,
            self.port,
            place.credentials,
            tls=self.tls,
            timeout=seconds,
            name=name,
        )

"""What listens on the gateway's own port, and how it stops."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tortxd.errors import Overloaded
from tortxd.gateway.front.connection import Front
from tortxd.gateway.front.connections import Connections
from tortxd.gateway.front.dispatch import ControlPlane, Dispatch
from tortxd.gateway.front.foreign import ForeignProtocol, recognise
from tortxd.gateway.front.ports import Ports
from tortxd.gateway.gateway import Gateway
from tortxd.relay.timeouts import Timeout
from tortxd.tor.repeats import Repeats

if TYPE_CHECKING:
    from twisted.web.server import Site

log = Logger()


def _warn(text: str) -> None:
    log.warn("{text}", text=text)


class FrontFactory(Factory):
    """Makes a :class:`~tortxd.gateway.front.connection.Front` for each client connection.

    :param make_control: makes the control plane, once, when it is first needed: the port should
        listen before all that is loaded.
    """

    noisy = False

    def __init__(self, gateway: Gateway, make_control: Callable[[], ControlPlane]) -> None:
        self.gateway = gateway
        self._make_control = make_control
        self.dispatch = Dispatch(gateway, lambda: self.control)
        self._ports = Ports(lambda: self.connections.room, gateway.timeouts, gateway.pool.clear)
        self.connections: Connections[Front] = Connections(
            gateway.timeouts, lambda: gateway.limits, gateway.load, self._ports.go_on
        )
        gateway.clients = lambda: len(self.connections)
        self._repeats = Repeats(gateway.reactor)
        self._drained: Timeout | None = None
        """Ends the draining."""
        self._close_ports: Callable[[], Deferred[None] | None] = lambda: None
        gateway.load.refused = lambda sentence: self._repeats.say(_warn, sentence)

    @cached_property
    def control(self) -> ControlPlane:
        """The control plane."""
        return self._make_control()

    @cached_property
    def site(self) -> Site:
        """Its routes."""
        return self.control.site()

    def listens_on(self, port: IListeningPort) -> None:
        """Have ``port``, which has just begun to listen with this factory, accept no more
        connections than there is room for, from its first one on."""
        self._ports.learn(port)

    def prepare(self) -> None:
        """Load what the first request would have to wait for."""
        _ = self.site

    def logPrefix(self) -> str:
        """What the log calls it."""
        return "Gateway"

    def buildProtocol(self, addr: IAddress | None) -> Front | None:
        # A port that was not named is known by its first connection. What it accepts along with
        # that may be too much.
        if self.connections.overrun:
            return None  # Twisted closes the connection
        return Front(self)

    def doStop(self) -> None:
        """A port was closed; the connections that it accepted go on."""

    def connected(self, front: Front) -> Overloaded | None:
        """Take in ``front``, which has just connected. Where it is one too many: why."""
        too_many = self.connections.admit(front, no_descriptor=self._ports.refuses)
        self._ports.learn_from(front.transport)
        return too_many

    def recognise(self, first: bytes) -> ForeignProtocol | None:
        """What a client speaks whose first bytes are no request, where that is known; the log says
        it at most once a minute."""
        gateway = self.gateway
        # Without a token, where one is set, /health does not tell the address either.
        address = gateway.link.socks_address if gateway.policy.access.token is None else None
        foreign = recognise(first, None if address is None else address.url)
        if foreign is not None:
            self._repeats.say(_warn, foreign.in_log)
        return foreign

    def drain(
        self, seconds: float, close_ports: Callable[[], Deferred[None] | None] = lambda: None
    ) -> Deferred[None]:
        """Close idle connections now, busy ones when their request is served; after ``seconds``,
        every one, with an answer that says why. Fires when none is left.

        Meanwhile ``/health`` says that the gateway stops. Until nobody is being served, further
        clients are: those who send them here need a moment to notice. The ports are closed then.

        :param close_ports: closes them; fires when that is done. A second call does nothing.
        """
        self._repeats.flush()
        self.gateway.health.stop()
        self._drained = self.gateway.timeouts.start(seconds, self._end_all)
        self._close_ports = close_ports
        if "control" in vars(self):
            self.control.wind_down()
        return Deferred.fromCoroutine(self._drain())

    def hurry(self) -> None:
        """End the draining now."""
        if self._drained is not None:
            self._drained.cancel()
            self._end_all()

    async def _drain(self) -> None:
        await self.connections.close()
        closing = self._shut()
        if closing is not None:
            await closing
        await deferLater(self.gateway.reactor, 0)  # who was accepted last has asked already
        await self.connections.empty()

    def _shut(self) -> Deferred[None] | None:
        self._ports.accept_last()
        return self._close_ports()

    def _end_all(self) -> None:
        self._drained = None
        self._shut()
        self.gateway.end()
        if "control" in vars(self):
            self.control.stop()
        self.connections.end()

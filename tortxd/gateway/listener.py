"""What listens on the gateway's own port: who is connected, how many may be, and how it stops."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.web.server import Site

from tortxd.gateway.answers import Answer
from tortxd.gateway.flow import socket_of
from tortxd.gateway.foreign import ForeignProtocol, recognise
from tortxd.gateway.front import Front
from tortxd.gateway.limits import REFUSALS
from tortxd.gateway.plane import DataPlane
from tortxd.tor.repeats import Repeats
from tortxd.wire.http1 import RequestHead

LAST_WORDS = 0.3
"""Seconds in which clients can take the answer that there will be none, at a stop."""
LONG_IDLE = 5.0
"""Seconds without a request, or a byte, after which a connection may have to make room."""

log = Logger()


class ControlPlane(Protocol):
    """What serves all that is not relayed."""

    def site(self) -> Site:
        """A ``Site`` of its routes."""

    def answer_to_head(self, head: RequestHead) -> Answer | None:
        """The answer to a request whose head alone decides it; None if there is more to see."""

    def stop(self) -> None:
        """Answer what is being served, now."""


class Ports:
    """The ports that connections come from. While there is no room for any more, nothing is
    accepted there: whoever has been accepted must get an answer.

    :param room: how many more there is room for.
    """

    def __init__(self, room: Callable[[], int]) -> None:
        self._room = room
        self._known: set[Port] = set()
        self._paused = False

    def learn(self, port: object) -> None:
        """Remember ``port``, where it is one of Twisted's own, of TCP or of unix sockets: the
        endpoints ``tcp``, ``tcp6``, ``ssl``, ``unix`` and ``systemd`` all make such ports.
        """
        if port in self._known or not isinstance(port, Port):
            return
        self._known = {known for known in self._known if known.connected} | {port}
        accept: Callable[[], object] = port.doRead

        def accept_some() -> None:
            room = self._room()
            if room > 0:
                port.numberAccepts = min(port.numberAccepts, room)
                accept()
            if self._room() <= 0:
                self._pause()

        # A ``Port`` accepts as many connections as there are, up to ``numberAccepts`` (100 at
        # first, and then what the last time suggests), before it reads any, and it asks nobody
        # between two of them: ``pauseProducing`` within ``buildProtocol`` comes too late for the
        # others. Endpoints make their ports themselves, so that there is no class to derive from.
        port.doRead = accept_some  # type: ignore[method-assign]

    def learn_from(self, transport: Any) -> None:
        """Remember the port that has accepted ``transport``, with or without TLS. What it accepts
        along with its first connection may be more than there is room for."""
        self.learn(getattr(socket_of(transport), "server", None))

    def _pause(self) -> None:
        self._paused = True
        for port in self._known:
            port.stopReading()

    def go_on(self) -> None:
        """Accept again, if there is room."""
        if not self._paused or self._room() <= 0:
            return
        self._paused = False
        for port in self._known:
            if port.connected and not port.disconnecting:
                port.startReading()


def _warn(text: str) -> None:
    log.warn("{text}", text=text)


class FrontFactory(Factory):
    """Makes a :class:`Front` for each client connection, and knows those that are open.

    Where there are as many as there may be, the one that has been idle longest makes room; where
    none is idle, the new one is told to try again. Where as many are being told so as there is room
    for, no more are accepted: they wait in the kernel's queue.

    :param make_control: makes the control plane, once, when it is first needed: the port should
        listen before all that is loaded.
    """

    noisy = False

    def __init__(self, plane: DataPlane, make_control: Callable[[], ControlPlane]) -> None:
        self.plane = plane
        self._make_control = make_control
        self.connections: set[Front] = set()
        self.idle: dict[Front, float] = {}
        """Those between two requests, or in a tunnel whose client says no more, and since when; the
        one that has waited longest first."""
        self.closing = False
        self._refused: set[Front] = set()
        self._ports = Ports(self._room)
        self._emptied: Deferred[None] | None = None
        self._repeats = Repeats(plane.reactor)

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
        if self._room() <= -REFUSALS:
            return None  # Twisted closes the connection
        return Front(self)

    def _room(self) -> int:
        """How many more connections may be accepted, each to be served or to be refused."""
        refused = len(self._refused)
        served = len(self.connections) - refused
        return max(self.plane.limits.clients - served, 0) + REFUSALS - refused

    def doStop(self) -> None:
        """A port was closed; the connections that it accepted go on."""

    def admits(self, front: Front) -> bool:
        """Take in ``front``, which has just connected; or say that it is one too many."""
        self.connections.add(front)
        self._ports.learn_from(front.transport)
        if len(self.connections) - len(self._refused) <= self.plane.limits.clients:
            return True
        for waiting, since in self.idle.items():
            # Who has only just connected is about to ask.
            if self.plane.reactor.seconds() - since < LONG_IDLE:
                break
            waiting.make_room()
            return True
        self._refused.add(front)
        return False

    def gone(self, front: Front) -> None:
        """``front`` is no longer connected."""
        self.connections.discard(front)
        self._refused.discard(front)
        self.idle.pop(front, None)
        if not self.closing:
            self._ports.go_on()
        self._check_empty()

    def recognise(self, first: bytes) -> ForeignProtocol | None:
        """What a client speaks whose first bytes are no request, where that is known; the log says
        it at most once a minute."""
        plane = self.plane
        # Without a token, where one is set, /health does not tell the address either.
        address = plane.link.socks_address if plane.policy.access.token is None else None
        foreign = recognise(first, None if address is None else address.url)
        if foreign is not None:
            self._repeats.say(_warn, foreign.in_log)
        return foreign

    def drain(self, seconds: float) -> Deferred[None]:
        """Close idle connections now, busy ones when their request is served; after ``seconds``,
        every one, with an answer that says why. Fires when none is left."""
        self.closing = True
        done = self._emptied = Deferred()
        self._repeats.flush()
        for front in list(self.connections):
            if not front.busy:
                front.leave()
        self.plane.timeouts.start(seconds, self._end_all)
        self._check_empty()
        return done

    def _end_all(self) -> None:
        self.plane.end_under_way()
        if "control" in vars(self):
            self.control.stop()
        for front in list(self.connections):
            front.give_up()
        self.plane.timeouts.start(LAST_WORDS, self._abort_all)

    def _check_empty(self) -> None:
        if self._emptied is not None and not self.connections:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def _abort_all(self) -> None:
        for front in list(self.connections):
            front.transport.abortConnection()

"""What listens on the gateway's own port: who is connected, how many may be, and how it stops."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.web.server import Site

from tortxd.gateway.answers import Answer
from tortxd.gateway.foreign import ForeignProtocol, recognise
from tortxd.gateway.front import Front
from tortxd.gateway.limits import REFUSALS
from tortxd.gateway.plane import DataPlane
from tortxd.tor.repeats import Repeats
from tortxd.wire.http1 import RequestHead


class ControlPlane(Protocol):
    """What serves all that is not relayed."""

    def site(self) -> Site:
        """A ``Site`` of its routes."""

    def answer_to_head(self, head: RequestHead) -> Answer | None:
        """The answer to a request whose head alone decides it; None if there is more to see."""

    def stop(self) -> None:
        """Answer what is being served, now."""


LAST_WORDS = 0.3
"""Seconds in which clients can take the answer that there will be none, at a stop."""
LONG_IDLE = 5.0
"""Seconds without a request, or a byte, after which a connection may have to make room."""


log = Logger()


def _warn(text: str) -> None:
    log.warn("{text}", text=text)


class FrontFactory(Factory):
    """Makes a :class:`Front` for each client connection, and knows those that are open.

    Where there are as many as there may be, the one that has been idle longest makes room; where
    none is idle, the new one is told to try again.

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

    def prepare(self) -> None:
        """Load what the first request would have to wait for."""
        _ = self.site

    def logPrefix(self) -> str:
        """What the log calls it."""
        return "Gateway"

    def buildProtocol(self, addr: IAddress | None) -> Front | None:
        if len(self._refused) >= REFUSALS:
            return None  # Twisted closes the connection
        return Front(self)

    def doStop(self) -> None:
        """A port was closed; the connections that it accepted go on."""

    def admits(self, front: Front) -> bool:
        """Take in ``front``, which has just connected; or say that it is one too many."""
        self.connections.add(front)
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

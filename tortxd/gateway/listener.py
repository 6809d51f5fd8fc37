"""What listens on the gateway's own port, and how it stops."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.web.server import Site

from tortxd.gateway.front import Front
from tortxd.gateway.plane import DataPlane


class FrontFactory(Factory):
    """Makes a :class:`Front` for each client connection, and knows those that are open."""

    noisy = False

    def __init__(self, plane: DataPlane, site: Site) -> None:
        self.plane = plane
        self.site = site
        self.connections: set[Front] = set()
        self.closing = False
        self._emptied: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Front:
        return Front(self)

    def doStop(self) -> None:
        """A port was closed; the connections that it accepted go on."""

    def gone(self, front: Front) -> None:
        """``front`` is no longer connected."""
        self.connections.discard(front)
        self._check_empty()

    def drain(self, seconds: float) -> Deferred[None]:
        """Close idle connections now, busy ones when their request is served; after ``seconds``,
        every one. Fires when none is left."""
        self.closing = True
        done = self._emptied = Deferred()
        for front in list(self.connections):
            if not front.busy:
                front.leave()
        self.plane.timeouts.start(seconds, self._abort_all)
        self._check_empty()
        return done

    def _check_empty(self) -> None:
        if self._emptied is not None and not self.connections:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def _abort_all(self) -> None:
        for front in list(self.connections):
            front.transport.abortConnection()

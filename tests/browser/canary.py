"""A listener that nobody may reach but by mistake: it counts connections, and requests on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import TimeoutError, maybeDeferred
from twisted.internet.protocol import Factory, Protocol

from tests.browser.watching import Watch
from tests.daemon.process import installed, soon

_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n"
    b"Access-Control-Allow-Origin: *\r\nContent-Type: text/css\r\n\r\n"
)

PATIENCE = 60.0
"""Seconds in which a page must have reached it."""


class Canary(Factory):
    """On a free loopback port."""

    noisy = False

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        """How many came; a preconnect is one that asks for nothing."""
        self.asked: set[str] = set()
        """The paths that were asked for, without their slash."""
        self._listening: Any = None
        self._watch = Watch()

    def start(self) -> Canary:
        """Listen."""
        self._listening = installed().listenTCP(0, self, interface="127.0.0.1")
        self.port = self._listening.getHost().port
        return self

    async def stop(self) -> None:
        """Listen no more."""
        await maybeDeferred(self._listening.stopListening)

    def buildProtocol(self, addr: Any) -> Protocol:
        self.connections += 1
        self.changed()
        return _Visitor(self)

    def changed(self) -> None:
        """Somebody came, or asked for something."""
        self._watch.look()

    async def when_reached(self, names: Iterable[str]) -> None:
        """Wait until somebody has connected, and asked for all of these."""
        wanted = set(names)
        reached = self._watch.when(lambda: self.connections > 0 and wanted <= self.asked)
        try:
            await soon(reached, PATIENCE)
        except TimeoutError:
            missing = sorted(wanted - self.asked)
            raise AssertionError(f"Not asked for: {missing}; {self.connections} came") from None


class _Visitor(Protocol):
    transport: Any

    def __init__(self, canary: Canary) -> None:
        self._canary = canary
        self._head = b""

    def dataReceived(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._canary.asked.add(self._head.split(b" ", 2)[1].decode("latin-1").strip("/"))
            self._canary.changed()
            self.transport.write(_ANSWER)
            self.transport.loseConnection()

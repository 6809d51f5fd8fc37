"""A wire tap between a browser and a gateway: it passes bytes on as they are, and remembers them.

What a page says that it could do is one thing; what the browser did is another, and is seen here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyServer

from tests.browser.watching import Watch
from tests.daemon.process import installed, soon

_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n((?:[^\r\n]+\r\n)*)\r\n")
_RESPONSE = re.compile(rb"HTTP/1\.1 ([0-9]{3})[^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


@frozen
class Exchange:
    """A request that the browser made, and what the gateway answered."""

    method: str
    target: str
    asked: dict[str, str]
    """The request's headers, by their names in lower case."""
    status: int | None
    """None: nothing yet."""
    answered: dict[str, str]

    @property
    def error(self) -> str | None:
        """The code of the gateway's own error, if it was one."""
        return self.answered.get("tortxd-error")


@define(eq=False)
class _Talk:
    sent: bytearray = field(factory=bytearray)
    got: bytearray = field(factory=bytearray)

    def exchanges(self) -> list[Exchange]:
        answers = [(int(m[1]), _headers(m[2])) for m in _RESPONSE.finditer(self.got)]
        asked = list(_REQUEST.finditer(self.sent))
        none: list[tuple[int | None, dict[str, str]]] = [(None, {})] * len(asked)
        return [
            Exchange(m[1].decode(), m[2].decode("latin-1"), _headers(m[3]), status, headers)
            for m, (status, headers) in zip(asked, [*answers, *none], strict=False)
        ]


def _headers(lines: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines.decode("latin-1").splitlines())
    return {name.lower(): value.strip() for name, _, value in pairs}


class Tap:
    """Listens on a loopback port and connects to another one."""

    def __init__(self, to: int) -> None:
        self.port = 0
        self.talks: list[_Talk] = []
        """Every connection, in the order in which they came."""
        self._to = to
        self._listening: Any = None
        self._watch = Watch()
        self._open: set[_Server] = set()

    async def start(self) -> None:
        """Listen."""
        self._listening = installed().listenTCP(0, _Taps(self), interface="127.0.0.1")
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Listen no more, and end what is open."""
        await maybeDeferred(self._listening.stopListening)
        for server in list(self._open):
            server.transport.abortConnection()

    def clear(self) -> None:
        """Forget what has passed. Connections stay: Chromium goes on using them."""
        for talk in self.talks:
            talk.sent.clear()
            talk.got.clear()

    @property
    def exchanges(self) -> list[Exchange]:
        """All that was asked; connections that carried no request are not in it."""
        return [one for talk in self.talks for one in talk.exchanges()]

    def of(self, mark: str) -> list[Exchange]:
        """The exchanges that have ``mark`` in their target."""
        return [one for one in self.exchanges if mark in one.target]

    async def when_answered(self, *marks: str) -> None:
        """Wait until of each mark there is an exchange that was answered."""

        def answered() -> bool:
            seen = [one.target for one in self.exchanges if one.status is not None]
            return all(any(mark in target for target in seen) for mark in marks)

        await soon(self.when(answered))

    def when(self, true: Callable[[], bool]) -> Deferred[None]:
        """Fire when this is true, which is asked whenever bytes have passed."""
        return self._watch.when(true)

    def passed(self) -> None:
        """Bytes have passed."""
        self._watch.look()


class _Client(ProxyClient):
    def dataReceived(self, data: bytes) -> None:
        peer: Any = self.peer
        if peer is None:
            return  # the browser has closed
        peer.talk.got += data
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        peer.factory.tap.passed()


class _ClientFactory(ProxyClientFactory):
    protocol = _Client


class _Server(ProxyServer):
    clientProtocolFactory = _ClientFactory
    factory: Any
    transport: Any

    def connectionMade(self) -> None:
        self.talk = _Talk()
        self.factory.tap.talks.append(self.talk)
        self.factory.tap._open.add(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        self.talk.sent += data
        if self.peer is None:
            return  # the gateway has closed
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.tap._open.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class _Taps(Factory):
    protocol = _Server
    noisy = False

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.host, self.port = "127.0.0.1", tap._to

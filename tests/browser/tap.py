"""A wire tap between a browser and a gateway: it passes bytes on as they are, and remembers them.

What a page says that it could do is one thing; what the browser did is another, and is seen here.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyServer

from tests.browser.watching import Watch
from tests.daemon.process import installed, soon

_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n((?:[^\r\n]+\r\n)*)\r\n")
_RESPONSE = re.compile(rb"HTTP/1\.1 ([0-9]{3})[^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


_LONGEST_HEAD = 65536


@define(eq=False)
class Exchange:
    """A request that the browser made, and what the gateway answered."""

    method: str
    target: str
    asked: dict[str, str]
    """The request's headers, by their names in lower case."""
    status: int | None = None
    """None: nothing yet."""
    answered: dict[str, str] = field(factory=dict)

    @property
    def error(self) -> str | None:
        """The code of the gateway's own error, if it was one."""
        return self.answered.get("tortxd-error")


@define(eq=False)
class _Talk:
    """One connection; it holds what may become a head."""

    unanswered: deque[Exchange] = field(factory=deque)
    _sent: bytearray = field(factory=bytearray)
    _got: bytearray = field(factory=bytearray)

    def send(self, data: bytes) -> list[Exchange]:
        """The requests that ``data`` completes."""
        asked = [
            Exchange(head[1].decode(), head[2].decode("latin-1"), _headers(head[3]))
            for head in _heads(_REQUEST, self._sent, data)
        ]
        self.unanswered += asked
        return asked

    def get(self, data: bytes) -> None:
        """Note the answers that ``data`` completes."""
        for head in _heads(_RESPONSE, self._got, data):
            status = int(head[1])
            if self.unanswered and (status >= 200 or status == 101):
                exchange = self.unanswered.popleft()
                exchange.status, exchange.answered = status, _headers(head[2])


def _heads(kind: re.Pattern[bytes], before: bytearray, data: bytes) -> list[re.Match[bytes]]:
    """The heads that end in ``data``; what follows the last one stays in ``before``."""
    before += data
    found = list(kind.finditer(bytes(before)))
    del before[: found[-1].end() if found else max(0, len(before) - _LONGEST_HEAD)]
    return found


def _headers(lines: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines.decode("latin-1").splitlines())
    return {name.lower(): value.strip() for name, _, value in pairs}


class Tap:
    """Listens on a loopback port and connects to another one."""

    def __init__(self, to: int) -> None:
        self.port = 0
        self.exchanges: list[Exchange] = []
        """What was asked, in that order. A browser asks for things of its own as well: a test looks
        for what it has caused."""
        self.pages: dict[bytes, bytes] = {}
        """Pages of an application that shares the gateway's origin: HTML by its target."""
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
        """Forget what has passed, and what is under way. Chromium goes on using its connections."""
        self.exchanges.clear()

    def of(self, mark: str) -> list[Exchange]:
        """The exchanges that have ``mark`` in their target."""
        return [one for one in self.exchanges if mark in one.target]

    def to(self, target: str) -> list[Exchange]:
        """The exchanges that have just this target."""
        return [one for one in self.exchanges if one.target == target]

    async def when_answered(self, *marks: str) -> None:
        """Wait until of each mark there is an exchange that was answered."""

        def answered() -> bool:
            seen = [one.target for one in self.exchanges if one.status is not None]
            return all(any(mark in target for target in seen) for mark in marks)

        await soon(self.when(answered))

    async def when_answered_to(self, target: str) -> Exchange:
        """Wait until there is an exchange with just this target, and an answer; return it."""
        await soon(self.when(lambda: any(one.status is not None for one in self.to(target))))
        (one,) = self.to(target)
        return one

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
        peer.talk.get(data)
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
        self.factory.tap._open.add(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        page = self.factory.tap.pages.get(data.split(b" ", 2)[1]) if data[:5] == b"GET /" else None
        if page is not None:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
            self.transport.write(head % len(page) + page)
            return
        self.factory.tap.exchanges += self.talk.send(data)
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

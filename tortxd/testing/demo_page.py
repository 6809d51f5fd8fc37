"""The manual's example page, served on loopback for browsers to try on the demonstration."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tortxd.manual import manual

_NAME = "examples/browser.html"
_GATEWAY = "http://localhost:3080"


def example_page(port: int) -> bytes | None:
    """The page, for a gateway on this port; None where the manual was not installed."""
    file = manual(_NAME)
    if file is None:
        return None
    return file.read_text("utf-8").replace(_GATEWAY, f"http://localhost:{port}").encode()


class _Page(Resource):
    def __init__(self, page: bytes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._page = page

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"Content-Type", b"text/html; charset=utf-8")
        return self._page


class PageServer:
    """Serves one page on a free port of 127.0.0.1: an origin that the gateway trusts."""

    def __init__(self, reactor: Any, page: bytes) -> None:
        root = Resource()
        root.putChild(b"", _Page(page))
        self._site = Site(root)
        self._site.noisy = False
        self._reactor = reactor
        self._listening: IListeningPort | None = None

    def start(self) -> str:
        """Listen; return the page's URL."""
        listening = self._reactor.listenTCP(0, self._site, interface="127.0.0.1")
        self._listening = listening
        where = listening.getHost()
        assert isinstance(where, IPv4Address)
        return f"http://{where.host}:{where.port}/"

    async def stop(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            await maybeDeferred(self._listening.stopListening)

"""The same as short as klein and treq let one write it, through txtorcon's SOCKS client.

usage: ``python -m bench.gateways.over_treq PORT SOCKS_HOST SOCKS_PORT``

Like any klein route it has a request's body as a whole before it begins.
"""

from __future__ import annotations

import sys
from typing import Any

from klein import Klein
from treq.client import HTTPClient
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.server import Site
from txtorcon.web import tor_agent

_DROPPED = frozenset((b"host", b"connection", b"content-length", b"transfer-encoding"))
_KEPT = 1000
"""Connections to one destination that wait for their next request."""


def _kept(headers: Headers) -> Headers:
    pairs = headers.getAllRawHeaders()
    return Headers({name: values for name, values in pairs if name.lower() not in _DROPPED})


class _Body(Protocol):
    """Passes a response's body on, no faster than the client takes it."""

    transport: Any

    def __init__(self, request: Any) -> None:
        self._request = request
        self.over: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._request.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self._request.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._request.unregisterProducer()
        self.over.callback(None)


def application(reactor: Any, socks_host: str, socks_port: int) -> Klein:
    """``/proxy?url=`` through a SOCKS server."""
    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = _KEPT
    client = HTTPClient(
        tor_agent(reactor, HostnameEndpoint(reactor, socks_host, socks_port), pool=pool)
    )
    app = Klein()

    @app.route("/proxy", methods=["GET", "POST"])
    async def proxy(request: Any) -> None:
        upload = request.content.read()
        answer = await client.request(
            request.method.decode(),
            request.args[b"url"][0].decode(),
            headers=_kept(request.requestHeaders),
            data=upload or None,
            allow_redirects=False,
            unbuffered=True,
        )
        request.setResponseCode(answer.code)
        request.responseHeaders = _kept(answer.headers)
        if isinstance(answer.length, int):
            request.setHeader(b"Content-Length", b"%d" % answer.length)
        body = _Body(request)
        answer.original.deliverBody(body)
        await body.over

    return app


def main(port: int, socks_host: str, socks_port: int) -> None:
    """Serve until a signal comes."""
    reactor: Any = installed
    site = Site(application(reactor, socks_host, socks_port).resource())
    reactor.listenTCP(port, site, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

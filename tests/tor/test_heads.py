"""The limit to heads, where the answer comes before the request has gone."""

from __future__ import annotations

from typing import Any

from pytest_twisted import ensureDeferred
from treq import content
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.web._newclient import Request
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from tortxd.tor.heads import CappedHeads


@implementer(IBodyProducer)
class Upload:
    """Goes on until the test ends it."""

    length = 9

    def __init__(self) -> None:
        self.sent: Deferred[None] = Deferred()

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(b"x" * 9)
        return self.sent

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


@ensureDeferred
async def test_a_body_that_comes_during_the_upload_is_no_head() -> None:
    transport, upload = StringTransport(), Upload()
    connection: Any = CappedHeads(lambda _: None)  # type: ignore[no-untyped-call]
    connection.makeConnection(transport)
    request: Any = Request(b"POST", b"/", Headers({b"host": [b"h"]}), upload, persistent=False)
    answered = connection.request(request)
    connection.dataReceived(b"HTTP/1.1 100 Continue\r\n\r\n")
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 200001\r\n\r\n"
    connection.dataReceived(head + b"x" * 200_000)
    assert not transport.disconnecting
    upload.sent.callback(None)
    reading = content(await answered)
    connection.dataReceived(b"y")
    assert await reading == b"x" * 200_000 + b"y"

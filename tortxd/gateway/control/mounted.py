"""The data plane behind a twisted.web request, for a gateway that is mounted in a ``Site``.

Such a request has been read by the ``Site`` before it comes here, its body too: twisted.web keeps
bodies over 100 kB in a temporary file. The gateway's own port (:mod:`tortxd.gateway.front`) streams
them, and is the way to go where that matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request
from zope.interface import implementer

from tortxd.errors import Overloaded, TortxdError
from tortxd.gateway.admission.admission import way_of
from tortxd.gateway.answers import Answer, NotTaken, StreamedAnswer
from tortxd.gateway.disconnects import DisconnectWatch
from tortxd.gateway.front.endings import Broken, InOrder, LastBytes
from tortxd.gateway.front.flow import ClientUpload
from tortxd.gateway.gateway import Gateway, peer_name
from tortxd.gateway.load import client_name
from tortxd.gateway.transports import ClientTransport
from tortxd.relay.exchange import Exchange, UpstreamRequest
from tortxd.relay.interfaces import Interim, Start, UploadProducer
from tortxd.wire.http1 import RequestHead, head_bytes

PIECE = 64 * 1024


def relay(gateway: Gateway, request: Request) -> None:
    """Serve ``request`` for ``/proxy``; it is answered or aborted in the end."""
    head = head_of(request)
    path = request.uri.partition(b"?")[0]
    client = RequestClient(gateway, request, head)
    try:
        decision = gateway.admission.decide(head, peer_name(request.getClientAddress()), path)
    except TortxdError as error:
        gateway.journal.refused(way_of(head), error)
        client.fail(error)
        return
    if isinstance(decision, Answer):
        send(request, decision)
        return
    assert isinstance(decision, UpstreamRequest)  # no path is an authority
    try:
        _count(gateway, request)
    except Overloaded as error:
        gateway.journal.refused(way_of(head), error)
        client.fail(error)
        return
    client.start(Exchange(gateway, decision, client))


def _count(gateway: Gateway, request: Request) -> None:
    """Count ``request`` among those that are carried, until it is over.

    :raises Overloaded: it is one too many.
    """
    load = gateway.load
    counted = load.client(client_name(request.getClientAddress()))

    def over(_: object) -> None:
        load.end(counted)
        load.forget(counted)

    try:
        load.begin(counted)
    except Overloaded:
        load.forget(counted)
        raise
    request.notifyFinish().addBoth(over)


def head_of(request: Request) -> RequestHead:
    """The head of a twisted.web request, as the policies read it."""
    headers = [
        (name, value)
        for name, values in request.requestHeaders.getAllRawHeaders()
        for value in values
    ]
    content = content_of(request)
    size = content.seek(0, 2)
    content.seek(0)
    fields = {name.lower(): value for name, value in headers}
    described = size or b"content-length" in fields
    return RequestHead(
        request.method,
        request.uri,
        1 if request.clientproto == b"HTTP/1.1" else 0,
        headers,
        fields,
        tuple(request.requestHeaders.getRawHeaders(b"host", ())),
        size if described else None,
        chunked=False,
        keep_alive=True,
    )


def content_of(request: Request) -> IO[bytes]:
    """The body of a request, which a ``Site`` has read."""
    content: IO[bytes] | None = request.content
    assert content is not None
    return content


def _transport_of(request: Request) -> ClientTransport:
    """The transport of the client itself, below twisted.web's own."""
    return cast(ClientTransport, request.channel.transport)


def send(request: Request, answer: Answer) -> None:
    """Answer ``request`` with an answer of the gateway's own."""
    request.setResponseCode(answer.status)
    set_headers(request, answer.headers)
    if answer.status != 204:
        request.setHeader(b"Content-Length", b"%d" % len(answer.body))
        request.write(answer.body)
    request.finish()


async def stream(request: Request, answer: StreamedAnswer) -> None:
    """Answer ``request`` with an answer of the gateway's own, bit by bit."""
    request.setResponseCode(answer.status)
    set_headers(request, answer.headers)
    request.write(b"")  # the head goes out now
    if request.method != b"HEAD":
        try:
            await answer.feed(request)
        except NotTaken:
            # What waits for it in the kernel may be megabytes.
            await _end(request, _transport_of(request).abortConnection)
            return
    request.finish()


async def break_off(request: Request) -> None:
    """End the connection behind a response that is not whole, so that it does not look so: whoever
    has called us would finish it."""
    await _end(request, request.channel.loseConnection)


async def _end(request: Request, end: Callable[[], object]) -> None:
    gone: Deferred[None] = Deferred()
    request.notifyFinish().addBoth(lambda _: gone.callback(None))
    end()
    await gone


def set_headers(request: Request, headers: list[tuple[bytes, bytes]]) -> None:
    """Give the response these headers and no others: neither twisted.web's Server nor its default
    Content-Type."""
    request.defaultContentType = None
    request.responseHeaders.removeHeader(b"server")
    for name in {name.lower() for name, _ in headers}:
        request.responseHeaders.removeHeader(name)
    for name, value in headers:
        request.responseHeaders.addRawHeader(name, value)


class RequestClient:
    """A twisted.web request as the client of an exchange."""

    wire = None

    def __init__(self, gateway: Gateway, request: Request, head: RequestHead) -> None:
        self._gateway = gateway
        self._request = request
        self._head = head
        self._drawing = False
        self._delimited = False
        self._exchange: Exchange | None = None
        self._switched: Switched | None = None
        self._stored = StoredBody(content_of(request))
        self.upload_producer: UploadProducer = self._stored

    def start(self, exchange: Exchange) -> None:
        """Go on with ``exchange``."""
        self._exchange = exchange
        self._request.notifyFinish().addErrback(lambda _: exchange.client_gone())
        if self._head.has_body:
            self._stored.exchange = exchange
        exchange.start()

    def proceed(self) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; twisted.web has asked already."""

    def interim(self, interim: Interim) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; twisted.web has no way to say it."""
        channel = self._request.channel
        if self._head.minor == 1 and isinstance(channel, HTTPChannel):
            line = b"HTTP/1.1 %d %b" % (interim.status, interim.reason)
            _transport_of(self._request).write(head_bytes(line, interim.headers))

    def respond(self, start: Start, data: bytes) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        request = self._request
        if start.switches:
            assert self._exchange is not None
            self._switched = Switched(request, self._exchange, self._gateway.disconnects)
            self.upload_producer = ClientUpload(self._switched)
            line = b"HTTP/1.1 %d %b" % (start.status, start.reason)
            self._switched.transport.write(head_bytes(line, start.headers) + data)
            return
        request.setResponseCode(start.status, start.reason or None)
        set_headers(request, start.headers)
        length = start.content_length
        if length is not None:
            request.setHeader(b"Content-Length", b"%d" % length)
        self._delimited = start.delimited or self._head.minor == 1
        request.write(data)

    def write(self, data: bytes) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        (self._switched.transport if self._switched else self._request).write(data)

    def finish(self) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        if self._switched is not None:
            transport, gateway = self._switched.transport, self._gateway
            patience = gateway.limits.idle_time
            self._switched.see_off(InOrder(transport, gateway.timeouts, patience=patience))
        else:
            self._request.finish()

    def truncate(self, error: TortxdError) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        if self._switched is not None:
            self._switched.see_off(Broken(self._switched.transport, self._gateway.timeouts))
            return
        channel = self._request.channel
        if self._delimited:
            # What there is still reaches the client, which sees that the rest is missing.
            channel.loseConnection()
        else:
            Broken(_transport_of(self._request), self._gateway.timeouts).start()

    def fail(self, error: TortxdError) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        send(self._request, self._gateway.admission.refusal(error, self._head))

    def draw_from(self, producer: IPushProducer | None) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        consumer = self._switched.transport if self._switched else self._request
        if producer is not None:
            consumer.registerProducer(producer, True)
        elif self._drawing and self._request.channel is not None:  # else the client has left
            consumer.unregisterProducer()
        self._drawing = producer is not None


class Switched(Protocol):
    """The connection of a request that became a WebSocket, taken out of twisted.web's hands."""

    transport: ClientTransport

    def __init__(self, request: Request, exchange: Exchange, disconnects: DisconnectWatch) -> None:
        self._request = request
        self._exchange = exchange
        self._disconnects = disconnects
        self._last: LastBytes | None = None
        channel = request.channel
        transport = _transport_of(request)
        channel.setTimeout(None)
        # twisted.web has itself told when to pause, and reads nothing while a request is served.
        transport.unregisterProducer()
        transport.protocol = self
        self.transport = transport
        self.connected = 1
        transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        self._exchange.upload(data)

    def see_off(self, last: LastBytes) -> None:
        """Nothing more is written."""
        self._last = last
        self._disconnects.forget(self)
        last.start()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._disconnects.forget(self)
        if self._last is not None:
            self._last.cancel()
        self._exchange.client_gone()
        self._request.connectionLost(reason)

    def upload_paused(self) -> None:
        """See :class:`tortxd.gateway.front.flow.Reader`."""
        gone = self.transport.abortConnection
        self._disconnects.watch(self, self.transport, gone, half_closed=False)

    def upload_resumed(self) -> None:
        """See :class:`tortxd.gateway.front.flow.Reader`."""
        self._disconnects.forget(self)

    def set_congested(self, congested: bool) -> None:
        """The destination's connection is told by the transport itself."""


@implementer(UploadProducer)
class StoredBody:
    """Feeds a body that a ``Site`` has stored to an exchange, no faster than it is taken."""

    def __init__(self, content: IO[bytes]) -> None:
        self.exchange: Exchange | None = None
        self._content = content
        self.paused = False
        self._feeding = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        if self._feeding or self.exchange is None:
            return
        self._feeding = True
        while not self.paused:
            piece = self._content.read(PIECE)
            if not piece:
                exchange, self.exchange = self.exchange, None
                exchange.upload_done()
                break
            self.exchange.upload(piece)
        self._feeding = False

    def stopProducing(self) -> None:
        self.exchange = None

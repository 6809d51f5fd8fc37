"""One request of a client, from its head to the end of its answer.

Everything that belongs to a request and not to the connection that it came on is here, so that the
connection lets go of it in one assignment.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IPushProducer

from tortxd.errors import TorDown, TortxdError
from tortxd.gateway.admission import proxy_mode
from tortxd.gateway.admission.admission import PROXY, Admission
from tortxd.gateway.answers import Answer
from tortxd.gateway.front.framing import Framing
from tortxd.gateway.front.handover import Handover
from tortxd.gateway.load import Client
from tortxd.gateway.transports import ClientTransport
from tortxd.relay.exchange import Exchange, UpstreamRequest
from tortxd.relay.interfaces import Carrier, Interim, Start, UploadProducer, Wire
from tortxd.relay.outbound import STOPPING
from tortxd.relay.tunnel import Tunnel, TunnelRequest
from tortxd.wire.http1 import CONTINUE, LAST_CHUNK, BodyReader, RequestHead, chunk, head_bytes


class ClientConnection(Protocol):
    """What a request needs of the connection that it came on."""

    transport: ClientTransport
    client: Client
    upload_producer: UploadProducer
    congested: bool
    """Whether the client takes no more for now."""

    @property
    def closing(self) -> bool:
        """Whether it is to end with this request: the gateway stops."""

    def limit_time(self) -> None:
        """What of the request is still to come must be there soon."""

    def hold(self, data: bytes) -> None:
        """Keep what is sent ahead of its turn."""

    def take_pipelined(self) -> bytes:
        """What was kept so: it belongs to this request after all."""

    def rest(self) -> None:
        """As far as others need its place, nothing is asked for from now on."""

    def passed(self) -> None:
        """Some of the response has gone."""

    def may_half_close(self) -> None:
        """From now on, that the client has no more to say does not mean that it has left."""

    def refuse(self, error: TortxdError) -> None:
        """Answer with ``error``, and end the connection."""

    def fail(self, error: TortxdError) -> None:
        """Answer with ``error``, and go on to the next request."""

    def answer(self, answer: Answer) -> None:
        """Answer with that, and go on to the next request."""

    def done(self, *, unread: bool) -> None:
        """The response is on its way. ``unread``: the client may still be sending what nobody
        reads."""

    def break_off(self) -> None:
        """End the connection so that the client sees that the response is not whole."""

    def hand_over(self, request: bytes) -> None:
        """Give ``request`` to the control plane, and step aside."""


class ClientRequest:
    """Any of them. Its body is read, whether somebody wants it or not."""

    carried = False
    """Whether it counts among those that the gateway carries."""

    def __init__(self, connection: ClientConnection, head: RequestHead, body: BodyReader) -> None:
        self.head = head
        self.keep = head.keep_alive
        """Whether the connection goes on afterwards."""
        self._connection = connection
        self._body = body

    def start(self, rest: bytes) -> None:
        """Begin to serve it; ``rest`` came behind its head.

        :raises TortxdError: it is refused after all.
        """
        raise NotImplementedError

    @property
    def is_unread(self) -> bool:
        """Whether there is more of its body to come."""
        return not self._body.done

    def take(self, data: bytes) -> None:
        """Bytes while it is being served: its body, then what is ahead of its turn."""
        body = self._body
        if not body.done and data:
            try:
                piece = body.feed(data)
            except TortxdError as error:
                self._malformed(error)
                return
            data = body.rest
            self._uploaded(piece)
        if body.done and data:
            self._connection.hold(data)

    def _uploaded(self, piece: bytes) -> None:
        """Some of its body has come."""

    def _malformed(self, error: TortxdError) -> None:
        """Its body is."""
        self._connection.refuse(error)

    def set_congested(self, congested: bool) -> None:
        """The client takes no more for now, or takes it again."""

    def give_up(self) -> None:
        """The gateway stops, and this is not answered in time."""

    def client_gone(self) -> None:
        """The client has left."""


class AnsweredRequest(ClientRequest):
    """One that the gateway answers at once.

    :param answer: with what.
    """

    def __init__(
        self, connection: ClientConnection, head: RequestHead, body: BodyReader, answer: Answer
    ) -> None:
        super().__init__(connection, head, body)
        self._answer: Answer | None = answer

    def start(self, rest: bytes) -> None:
        self.take(rest)
        if self._answer is not None:
            self._connection.answer(self._answer)

    def _malformed(self, error: TortxdError) -> None:
        self._answer = None
        super()._malformed(error)


class RelayedRequest(ClientRequest):
    """One that goes to a destination; provides :class:`~tortxd.relay.interfaces.ResponseSink`."""

    carried = True

    def __init__(
        self,
        connection: ClientConnection,
        head: RequestHead,
        body: BodyReader,
        carrier: Carrier,
        request: UpstreamRequest | TunnelRequest,
    ) -> None:
        super().__init__(connection, head, body)
        self.upload_producer = connection.upload_producer
        self._source: IPushProducer | None = None
        """Whatever gives the response."""
        self._framing: Framing | None = None
        self._raw = isinstance(request, TunnelRequest)
        """Whether what the client sends is no HTTP, and passes as it is."""
        self._refused = False
        self._exchange: Exchange | Tunnel
        if isinstance(request, TunnelRequest):
            self._exchange = Tunnel(carrier, request, self)
        else:
            self._exchange = Exchange(carrier, request, self)

    def start(self, rest: bytes) -> None:
        if rest:
            self.take(rest)
        if not self._refused:
            self._exchange.start()

    # --- what the client sends -------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        if self._raw:
            self._exchange.upload(data)
        else:
            super().take(data)

    def _uploaded(self, piece: bytes) -> None:
        if piece:
            self._exchange.upload(piece)
        if self._body.done:
            self._exchange.upload_done()

    def _malformed(self, error: TortxdError) -> None:
        responding, self._refused = self._exchange.responding, True
        self._exchange.client_gone(error)
        if responding:
            # There is a response already, which nothing may look part of.
            self._connection.break_off()
        else:
            self._connection.refuse(error)

    def set_congested(self, congested: bool) -> None:
        if self._source is None:
            return
        if congested:
            self._source.pauseProducing()
        else:
            self._source.resumeProducing()

    def client_gone(self) -> None:
        self._exchange.client_gone()

    # --- what it is answered: see ResponseSink ---------------------------------------------------

    def proceed(self) -> None:
        self._connection.transport.write(CONTINUE)

    def interim(self, interim: Interim) -> None:
        if self.head.minor == 1:  # RFC 9110, section 15.2
            line = b"HTTP/1.1 %d %b" % (interim.status, interim.reason)
            self._connection.transport.write(head_bytes(line, interim.headers))

    def respond(self, start: Start, data: bytes) -> None:
        line = b"HTTP/1.1 %d %b" % (start.status, start.reason)
        if start.switches:
            self._switch(head_bytes(line, start.headers) + data)
            return
        keep = self.keep and self._body.done and not self._connection.closing
        framing = self._framing = Framing.of(start, self.head, keep=keep)
        self.keep = framing.keep
        headers = start.headers + framing.headers(start, self.head)
        if framing.chunked and data:
            data = chunk(data)
        self._connection.transport.write(head_bytes(line, headers) + data)

    def _switch(self, head: bytes) -> None:
        """What follows is no HTTP, and the connection's last."""
        connection, exchange = self._connection, self._exchange
        self.keep = False
        connection.transport.write(head)
        self._raw = True
        pipelined = connection.take_pipelined()
        if pipelined:
            exchange.upload(pipelined)
        if isinstance(exchange, Tunnel):
            connection.may_half_close()

    def write(self, data: bytes) -> None:
        framing, connection = self._framing, self._connection
        if framing is not None and framing.chunked and data:
            data = chunk(data)
        connection.transport.write(data)
        connection.passed()

    def finish(self) -> None:
        if self._framing is not None and self._framing.chunked:
            self._connection.transport.write(LAST_CHUNK)
        self._connection.done(unread=self.is_unread)

    def truncate(self, error: TortxdError) -> None:
        if self._framing is not None and self._framing.delimited:
            # What there is still reaches the client, which sees that the rest is missing.
            self.keep = False
            self._connection.done(unread=self.is_unread)
        else:
            self._connection.break_off()

    def fail(self, error: TortxdError) -> None:
        self._connection.fail(error)

    @property
    def wire(self) -> Wire | None:
        is_chunked = self._framing is not None and self._framing.chunked
        return None if is_chunked else self._connection

    def draw_from(self, producer: IPushProducer | None) -> None:
        self._source = producer
        if producer is not None and self._connection.congested:
            producer.pauseProducing()


class ControlRequest(ClientRequest):
    """One for the control plane: it is read whole, and handed over."""

    def __init__(self, connection: ClientConnection, head: RequestHead, body: BodyReader) -> None:
        super().__init__(connection, head, body)
        self._handover: Handover | None = Handover(head, body)

    def start(self, rest: bytes) -> None:
        """See :class:`ClientRequest`.

        :raises TooLarge: its body is longer than the control plane takes, as its head says already.
        """
        assert self._handover is not None
        self._handover.check_length()
        self._connection.limit_time()
        if self.head.expects_continue and not rest:
            self._connection.transport.write(CONTINUE)
        self.take(rest)

    def take(self, data: bytes) -> None:
        """See :class:`ClientRequest`. Once it is handed over, what the client still sends is thrown
        away: it would only fill the site's buffer, past which that stops reading and would not
        notice that the client leaves."""
        if self._handover is None:
            return
        try:
            request = self._handover.feed(data)
        except TortxdError as error:
            self._connection.refuse(error)
            return
        if request is not None:
            self._handover = None
            self._connection.hand_over(request)

    def give_up(self) -> None:
        if self._handover is not None:
            self._connection.refuse(TorDown(STOPPING))


def refusal(error: TortxdError, head: RequestHead, admission: Admission) -> Answer:
    """The answer that ``error`` makes to a request with this head."""
    if proxy_mode.is_proxy_mode(head):
        return proxy_mode.refusal(error, head)
    answer = admission.refusal(error, head)
    if head.target.partition(b"?")[0] == PROXY:
        return answer
    return answer.readable_to(head)

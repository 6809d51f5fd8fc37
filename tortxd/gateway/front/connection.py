"""One client's connection to the gateway's own port: it reads each request's head, and sees who
serves it.

``/proxy`` and proxy mode are relayed here, on the data plane. Every other route is the control
plane's: the request, framed anew, is handed to a twisted.web ``Site`` that answers it and closes
the connection, so that a connection never has to come back.

A connection serves one request after the other. Bytes that a client sends ahead of its turn
(pipelining) are kept up to a limit, past which it is not read until its turn comes. While a client
does not take what it was answered, it is served no further.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITCPTransport
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from tortxd.errors import (
    BadRequest,
    InternalError,
    Overloaded,
    RequestTimeout,
    TorDown,
    TortxdError,
)
from tortxd.gateway.answers import Answer
from tortxd.gateway.front.connections import Connections
from tortxd.gateway.front.dispatch import Dispatch, is_about_load
from tortxd.gateway.front.endings import LINGER_TIME, Broken, InOrder, LastBytes
from tortxd.gateway.front.flow import ClientUpload, ClientWriting
from tortxd.gateway.front.foreign import ForeignProtocol
from tortxd.gateway.front.framing import answer_bytes
from tortxd.gateway.front.pipelined import Pipelined
from tortxd.gateway.front.requests import (
    ClientRequest,
    refusal,
)
from tortxd.gateway.gateway import Gateway, peer_name
from tortxd.gateway.limits import Limits
from tortxd.gateway.load import Client, client_name
from tortxd.gateway.transports import ClientTransport, socket_of
from tortxd.relay.interfaces import NoUpload, UploadProducer
from tortxd.relay.outbound import STOPPING
from tortxd.relay.timeouts import Timeout
from tortxd.wire.http1 import (
    NO_BODY,
    BodyReader,
    RequestHead,
    RequestReader,
    known_head,
)
from tortxd.writing import write_together

if TYPE_CHECKING:
    from twisted.web.server import Site

REFUSAL_TIME = 1.0
"""Seconds in which a client that is one too many can say what it wants, before it is refused."""
HURRIED_REFUSAL_TIME = HURRIED_LINGER_TIME = 0.1
"""The same, and seconds that it has to close its end, where many are being refused: those who say
nothing, and never leave, shall not keep others from being accepted."""

log = Logger()


class Surroundings(Protocol):
    """What a connection needs of whoever has made it."""

    gateway: Gateway
    connections: Connections[Front]
    dispatch: Dispatch

    @property
    def site(self) -> Site:
        """The control plane's."""

    def connected(self, front: Front) -> Overloaded | None:
        """Take in ``front``, which has just connected. Where it is one too many: why."""

    def recognise(self, first: bytes) -> ForeignProtocol | None:
        """What a client speaks whose first bytes are no request, where that is known."""


class State(Enum):
    """What a connection is doing; from each it may go straight to the last."""

    READING = auto()
    """It waits for a request, or is in the midst of its head."""
    SERVING = auto()
    """A request is being served."""
    REFUSING = auto()
    """It is one too many, and is told so when it asks."""
    ENDING = auto()
    """Nothing more is read or answered; its last bytes may be on their way."""


# By name, since Python 3.11 takes as long as for a call to look a member up in its class.
READING, SERVING, REFUSING, ENDING = State


class Front(TwistedProtocol):
    """One client connection; provides :class:`~tortxd.gateway.front.requests.ClientConnection`,
    and :class:`~tortxd.gateway.front.connections.Connection`.

    It is as long as it is because what Twisted, the request, the other connections and the clock
    tell it all comes to one state; what each of them has of its own is elsewhere.
    """

    transport: ClientTransport
    client: Client

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._gateway = surroundings.gateway
        self._connections = surroundings.connections
        self._state = READING
        self._reader: RequestReader | None = None
        """Of the head that is on its way."""
        self._request: ClientRequest | None = None
        """Everything about the request that is being served."""
        self._site: _Site | None = None
        """What has answered the last request, where that was the control plane's."""
        self._pipelined = Pipelined()
        self._last: LastBytes | None = None
        """What sees its last bytes off."""
        self._timeout: Timeout | None = None
        self._idle_timeout: Timeout | None = None
        """One for all its requests: it is asked when it fires how long there has been none."""
        self._idle_since = 0.0
        self._too_many: Overloaded | None = None
        """Why it is refused, where it is."""
        self._may_half_close = False
        self._peer = b""
        self.congested = False
        self.half_closed = False
        self.upload_producer: UploadProducer = ClientUpload(self)

    # --- the connection --------------------------------------------------------------------------

    def connectionMade(self) -> None:
        peer = self.transport.getPeer()
        self._peer = peer_name(peer)
        self.client = self._gateway.load.client(client_name(peer))
        self._too_many = self._surroundings.connected(self)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        write_together(socket_of(self.transport))
        self.transport.registerProducer(ClientWriting(self), True)
        if self._too_many is None:
            self._await_request()
        else:
            self._state = REFUSING
            patience = HURRIED_REFUSAL_TIME if self._connections.hurried else REFUSAL_TIME
            self._wait(patience, lambda: self._turn_away(b""))

    def dataReceived(self, data: bytes) -> None:
        state = self._state
        if state is SERVING:
            assert self._request is not None
            self._request.take(data)
        elif state is READING:
            if self.congested:
                self.hold(data)
            else:
                self._read_head(data)
        elif state is REFUSING:
            self._turn_away(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._state = ENDING
        self._wait(0, None)
        if self._idle_timeout is not None:
            self._idle_timeout.cancel()
        if self._last is not None:
            self._last.cancel()
        self._gateway.disconnects.forget(self)
        request = self._let_go_of_request()
        site, self._site = self._site, None
        # So that nothing of it leads back to it: it is freed at once.
        self._idle_timeout = self._reader = None
        self.upload_producer = NoUpload()
        try:
            if request is not None:
                request.client_gone()
            if site is not None:
                site.connectionLost(reason)
        finally:
            # Last: where it was what a stop waited for, the stop goes on from here.
            self._connections.gone(self)

    def readConnectionLost(self) -> None:
        """The client has no more to say, in a tunnel or behind its last request; it may still
        listen, or may have left."""
        self.half_closed = True
        if self._last is not None:
            self._last.client_done()
            return
        self.rest()
        self._watch(half_closed=True)

    def writeConnectionLost(self) -> None:
        """We have no more to say; the client may not be done."""

    def _wait(self, seconds: float, then: Callable[[], object] | None) -> None:
        """Replace the connection's timer."""
        if self._timeout is not None:
            self._timeout.cancel()
        self._timeout = None if then is None else self._gateway.timeouts.start(seconds, then)

    def _turn_away(self, data: bytes) -> None:
        """There are too many connections already: whatever it asks for, or if it does not ask; but
        those who ask whether the daemon lives, or what its load is, are answered."""
        assert self._too_many is not None
        self._wait(0, None)
        reader = self._reader = RequestReader()
        head = None
        with suppress(TortxdError):
            head = reader.feed(data)  # the answer to a HEAD has no body
        if head is not None and not reader.rest and is_about_load(head):
            self._begin(head, reader.body(head), b"")
        else:
            self.refuse(self._too_many)

    # --- as one of many: see Connection ----------------------------------------------------------

    @property
    def busy(self) -> bool:
        return self._request is not None or self._reader is not None or self._last is not None

    def rest(self) -> None:
        """Nothing is asked for from now on, as far as others need its place; not while it has an
        answer to take."""
        if self.congested:
            self._connections.is_busy(self)
        else:
            self._connections.is_idle(self)

    def make_room(self) -> None:
        self._connections.is_busy(self)
        self.abort()

    def leave(self) -> None:
        self._close(sending=False)

    def give_up(self) -> None:
        if self._reader is not None:
            self.refuse(TorDown(STOPPING))
        elif self._request is not None:
            self._request.give_up()

    def abort(self) -> None:
        self._state = ENDING
        self.transport.abortConnection()

    # --- backpressure: see Reader ----------------------------------------------------------------

    def upload_paused(self) -> None:
        # In a tunnel, a client that has no more to say has not left.
        self._watch(half_closed=self._may_half_close)

    def upload_resumed(self) -> None:
        if self.half_closed:
            self._watch(half_closed=True)
        else:
            self._gateway.disconnects.forget(self)

    def _watch(self, *, half_closed: bool) -> None:
        self._gateway.disconnects.watch(self, self.transport, self.abort, half_closed=half_closed)

    def set_congested(self, congested: bool) -> None:
        self.congested = congested
        if self._request is not None:
            self._request.set_congested(congested)
        if not congested:
            if self._state is READING and self._reader is None:
                self.rest()
            self._serve_pipelined()

    # --- reading requests ------------------------------------------------------------------------

    def _await_request(self) -> None:
        self._state = READING
        self.rest()
        timeouts = self._gateway.timeouts
        self._idle_since = timeouts.clock.seconds()
        if self._idle_timeout is None:
            self._idle_timeout = timeouts.start(self._limits.idle_time, self._leave_if_idle)

    def _leave_if_idle(self) -> None:
        self._idle_timeout = None
        if self._state is not READING or self._reader is not None:
            return
        timeouts = self._gateway.timeouts
        left = self._idle_since + self._limits.idle_time - timeouts.clock.seconds()
        if left > 0:
            self._idle_timeout = timeouts.start(left, self._leave_if_idle)
        else:
            self.leave()

    def _read_head(self, data: bytes) -> None:
        try:
            if self._reader is None:
                head = known_head(data)
                if head is not None:
                    self._begin(head, NO_BODY, b"")
                    return
            self._read_head_closely(data)
        except TortxdError as error:
            self.refuse(error)
        except Exception:
            log.failure("A request could not be served.")
            self.refuse(InternalError())

    def _read_head_closely(self, data: bytes) -> None:
        begins = self._reader is None
        reader = self._reader = self._reader or RequestReader(self._limits.head_size)
        try:
            head = reader.feed(data)
        except TortxdError as error:
            foreign = self._surroundings.recognise(reader.first)
            raise error if foreign is None else BadRequest(foreign.sentence) from None
        if head is not None:
            self._begin(head, reader.body(head), reader.rest)
        elif not reader.begun:
            self._reader = None  # empty lines are nobody's request (RFC 9112, section 2.2)
        elif begins:
            self._connections.is_busy(self)
            self.limit_time()

    def _too_slow(self) -> None:
        self._timeout = None
        self.refuse(RequestTimeout())

    def _begin(self, head: RequestHead, body: BodyReader, rest: bytes) -> None:
        """Serve the request that begins with ``head``; ``rest`` came behind that."""
        if self._timeout is not None:
            self._wait(0, None)
        self._connections.is_busy(self)
        request = self._surroundings.dispatch.request(self, head, body, self._peer)
        self._state = SERVING
        self._reader = None
        self._request = request
        if self._too_many is not None:
            request.keep = False
        request.start(rest)

    def limit_time(self) -> None:
        self._wait(self._limits.head_time, self._too_slow)

    # --- what a request asks of it: see ClientConnection -----------------------------------------

    def passed(self) -> None:
        if self.half_closed:
            self.rest()

    def hold(self, data: bytes) -> None:
        self._pipelined.hold(data)
        if self._pipelined.is_full and not self.upload_producer.paused:
            self.upload_producer.pauseProducing()

    def take_pipelined(self) -> bytes:
        return self._pipelined.take()

    def _serve_pipelined(self) -> None:
        """Go on with what was sent ahead of its turn, one request after the other."""
        if self._pipelined:
            self._pipelined.serve(self.dataReceived, self._may_go_on)
        if not self._pipelined and self._request is None and self.upload_producer.paused:
            self.upload_producer.resumeProducing()

    def _may_go_on(self) -> bool:
        return self._request is None and not self.congested

    def _let_go_of_request(self) -> ClientRequest | None:
        """It is over, and does not count any more."""
        request, self._request = self._request, None
        if request is not None and request.carried:
            self._gateway.load.end(self.client)
        return request

    @property
    def _limits(self) -> Limits:
        return self._gateway.limits

    @property
    def closing(self) -> bool:
        return self._connections.closing

    def refuse(self, error: TortxdError) -> None:
        # Where a request was not understood to its end, nobody knows where the next one starts.
        if self._request is not None:
            self._request.keep = False
        self.fail(error)

    def fail(self, error: TortxdError) -> None:
        admission, request = self._gateway.admission, self._request
        if request is None:
            self._gateway.journal.refused("unknown", error)
            self.answer(admission.refusal(error, None))
        else:
            self.answer(refusal(error, request.head, admission))

    def answer(self, answer: Answer) -> None:
        request = self._request
        if request is None:
            unread, keep = True, False
            bodiless = self._reader is not None and self._reader.for_head
        else:
            # What follows a CONNECT was meant for the tunnel: it is nobody's request to us.
            unread = request.head.method == b"CONNECT" or request.is_unread
            keep = request.keep = request.keep and not unread and not self.closing
            bodiless = request.head.method == b"HEAD"
        self.transport.write(answer_bytes(answer, bodiless=bodiless, keep=keep))
        self.done(unread=unread)

    def done(self, *, unread: bool) -> None:
        request = self._let_go_of_request()
        self._reader = None
        if request is None or not request.keep or self._connections.closing:
            # It may also have gone on to its next request, which nobody will read, or be in a
            # tunnel.
            goes_on = request is None or request.head.keep_alive or bool(self._pipelined)
            self._close(sending=unread or goes_on)
            return
        self._await_request()
        if self.upload_producer.paused:  # by the exchange, or for what was sent ahead
            self.upload_producer.resumeProducing()
        self._serve_pipelined()

    def hand_over(self, request: bytes) -> None:
        self._wait(0, None)
        self.transport.unregisterProducer()
        protocol = self._surroundings.site.buildProtocol(self.transport.getPeer())
        assert protocol is not None
        self._site = _Site(protocol, self.transport, self._site_done)
        protocol.makeConnection(self._site)
        protocol.dataReceived(request)

    def _site_done(self) -> None:
        """The site has answered, and closes the connection."""
        if self._request is not None:
            self._request.keep = False
        self.done(unread=self._request is None or self._request.is_unread)

    # --- the end ---------------------------------------------------------------------------------

    def may_half_close(self) -> None:
        self._may_half_close = True
        alsoProvides(self, IHalfCloseableProtocol)

    def break_off(self) -> None:
        self._let_go_of_request()
        self._see_off(Broken(self.transport, self._gateway.timeouts, self._is_taking))

    def _close(self, *, sending: bool) -> None:
        """Close once everything is written. ``sending``: the client may still be sending."""
        if self._last is not None:
            return
        if sending:
            # That it says no more does not mean now that it has left.
            alsoProvides(self, IHalfCloseableProtocol)
        timeouts = self._gateway.timeouts
        patience, linger = self._limits.idle_time, LINGER_TIME
        if self._too_many is not None:
            patience = LINGER_TIME
            if self._connections.hurried:
                linger = HURRIED_LINGER_TIME
        self._see_off(
            InOrder(
                self.transport,
                timeouts,
                self._is_taking,
                sending=sending,
                patience=patience,
                linger=linger,
            )
        )

    def _see_off(self, last: LastBytes) -> None:
        """Nothing more is asked for, or answered, here."""
        self._last = last
        self._state = ENDING
        self._pipelined.take()
        self._wait(0, None)
        self._gateway.disconnects.forget(self)
        self._is_taking()
        last.start()

    def _is_taking(self) -> None:
        """At its end, the client has taken some bytes: it counts as idle only from now on. Who has
        taken none for longest is the first to make room for others."""
        self.congested = False
        self.rest()


class _Site:
    """The site's end of a client's connection: the transport as the site gets it, and what the site
    has made of it. The connection itself sees to a good end.

    It provides what the transport does.
    """

    def __init__(
        self, protocol: IProtocol, transport: ClientTransport, close: Callable[[], None]
    ) -> None:
        self._protocol = protocol
        self._transport = transport
        self.loseConnection = close

    def connectionLost(self, reason: Failure) -> None:
        # What the site makes of a request leads back to itself; the connection shall not be in it.
        self.loseConnection = lambda: None
        self._protocol.connectionLost(reason)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

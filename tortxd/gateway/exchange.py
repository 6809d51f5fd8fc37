"""One request on its way through Tor to its destination, and the response on its way back.

An exchange knows neither how the client speaks (the front's bytes, or a twisted.web request: both
are a :class:`Client`) nor why the request may pass (:mod:`tortxd.gateway.plane` has made an
:class:`Order` of it). It goes through these steps, and every step may end it:

    waiting for Tor's SOCKS port -> connecting -> sending -> reading the head -> relaying the body

It is written with callbacks rather than coroutines: this is the path of every byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure

from tortxd.errors import (
    Internal,
    OriginReset,
    OriginTimeout,
    TorDown,
    TorTimeout,
    TortxdError,
)
from tortxd.gateway.answers import is_down, not_ready
from tortxd.gateway.timeouts import Timeout, Timeouts
from tortxd.gateway.upstream import Pool, Route, Upstream
from tortxd.tor.link import SocksAddress, TorLink
from tortxd.tor.status import serves
from tortxd.wire.http1 import LAST_CHUNK, BodyReader, Headers, ResponseHead, ResponseReader, chunk

T = TypeVar("T")

HELD = 64 * 1024
"""Bytes of an upload that wait for the connection before the client is paused."""
AHEAD = 0.01
"""Seconds by which a connection attempt ends before the request's time is over."""
CLOSE_REASON_WAIT = 1.0
"""Seconds to wait for the control port's word on how a stream ended."""


@frozen
class Order:
    """A request that may pass, ready to be sent."""

    method: bytes
    head: bytes
    """What the destination is sent, up to and including the empty line."""
    route: Route
    timeout: float
    """Seconds until the response head."""
    idle_timeout: float
    """Seconds without a byte of a body either way."""
    has_body: bool
    chunked: bool
    expects_continue: bool
    filter: Callable[[ResponseHead], Headers]
    """Makes the response's headers fit for the client; framing is the client's affair."""

    @property
    def repeatable(self) -> bool:
        """Whether it may reach the destination twice (RFC 9110, section 9.2.1): only then does it
        go before the SOCKS reply, which makes Tor send it again when Tor retries the stream."""
        return not self.has_body and self.method in (b"GET", b"HEAD", b"OPTIONS")


@frozen
class Start:
    """The start of a response, as the client is to have it."""

    status: int
    reason: bytes
    headers: Headers
    content_length: int | None
    """The Content-Length to send; None if there is none."""
    delimited: bool
    """Whether the client knows where the body ends without further framing."""


class Client(Protocol):
    """Who asked."""

    @property
    def reading(self) -> IPushProducer:
        """Pauses and resumes what the client sends."""

    def proceed(self) -> None:
        """Ask for the body that the client holds back (100 Continue)."""

    def respond(self, start: Start, data: bytes) -> None:
        """Start the response, with the first bytes of its body."""

    def write(self, data: bytes) -> None:
        """Go on with the body."""

    def finish(self) -> None:
        """The response is whole."""

    def truncate(self) -> None:
        """The response broke off: make that plain to the client."""

    def fail(self, error: TortxdError) -> None:
        """No response has been started, and none will come."""

    def draw_from(self, producer: IPushProducer | None) -> None:
        """Pause ``producer`` while the client takes no more; None ends that."""


class Carrier(Protocol):
    """What an exchange needs of its surroundings (:class:`tortxd.gateway.plane.DataPlane`)."""

    link: TorLink
    pool: Pool
    timeouts: Timeouts

    def connect(
        self, address: SocksAddress, upstream: Upstream, *, early: bool, timeout: float
    ) -> Deferred[Upstream]:
        """Connect ``upstream`` through Tor; with ``early``, it may write before the SOCKS reply.
        Cancellable. Fails with one of our errors."""

    def annotate(self, upstream: Upstream) -> Headers:
        """The headers that say which circuit carries ``upstream``, as far as it is known."""


class Exchange:
    """See the module's description."""

    def __init__(self, carrier: Carrier, order: Order, client: Client) -> None:
        self.order = order
        self._carrier = carrier
        self._client = client
        self._upstream: Upstream | None = None
        self._pending: Deferred[Any] | None = None
        self._connected = False
        self._held: list[bytes] = []
        self._uploaded = not order.has_body
        self._reader: ResponseReader | None = None
        self._body: BodyReader | None = None
        self._head: ResponseHead | None = None
        self._over = False
        self._deadline = carrier.timeouts.clock.seconds() + order.timeout
        self._timeout: Timeout | None = carrier.timeouts.start(order.timeout, self._late)

    # --- getting there ---------------------------------------------------------------------------

    def start(self) -> None:
        """Find or make a connection, and send the request."""
        upstream = self._carrier.pool.take(self.order.route, self)
        if upstream is not None:
            self.upstream_open(upstream)
            self._established()
            return
        self._connect()

    def _connect(self) -> None:
        link = self._carrier.link
        address = link.socks_address
        if address is not None:
            self._open(address)
        elif is_down(link.status):
            self._fail(not_ready(link.status))
        else:
            self._await(link.when_usable(), self._open)

    def _open(self, address: SocksAddress) -> None:
        upstream = Upstream(self._carrier.pool, self.order.route, self)
        # The connection's own timer says best what was waited for: it is a little ahead of ours.
        left = self._deadline - self._carrier.timeouts.clock.seconds() - AHEAD
        connecting = self._carrier.connect(
            address, upstream, early=self.order.repeatable, timeout=max(left, AHEAD)
        )
        self._await(connecting, lambda _: self._established())

    def _await(self, pending: Deferred[T], then: Callable[[T], object]) -> None:
        """Go on with ``then``, unless the exchange ends before."""

        def arrived(result: T) -> None:
            self._pending = None
            if not self._over:
                then(result)

        def failed(failure: Failure) -> None:
            self._pending = None
            self._fail(as_error(failure))

        self._pending = pending
        pending.addCallback(arrived).addErrback(failed)

    def upstream_open(self, upstream: Upstream) -> None:
        """``upstream`` takes bytes now; the SOCKS reply may still be on its way."""
        self._upstream = upstream
        upstream.requests += 1
        self._reader = ResponseReader(self.order.method)
        upstream.transport.write(self.order.head)

    def _established(self) -> None:
        """The destination is reached."""
        self._connected = True
        if self._upstream is None or not self.order.has_body:
            return
        self._upstream.transport.registerProducer(self._client.reading, True)
        self._wait(self.order.idle_timeout)
        if self.order.expects_continue and not self._held:
            self._client.proceed()
        self._client.reading.resumeProducing()
        held, self._held = self._held, []
        for data in held:
            self._forward(data)
        if self._uploaded:
            self._end_upload()

    # --- the client's body -----------------------------------------------------------------------

    def upload(self, data: bytes) -> None:
        """More of the request's body."""
        if self._over:
            return
        if self._connected:
            self._forward(data)
            self._touch()
            return
        self._held.append(data)
        if sum(map(len, self._held)) > HELD:
            self._client.reading.pauseProducing()

    def upload_done(self) -> None:
        """The request's body is whole."""
        self._uploaded = True
        if self._connected and not self._over:
            self._end_upload()

    def _forward(self, data: bytes) -> None:
        if data and self._upstream is not None:
            self._upstream.transport.write(chunk(data) if self.order.chunked else data)

    def _end_upload(self) -> None:
        if self._upstream is not None:
            if self.order.chunked:
                self._upstream.transport.write(LAST_CHUNK)
            self._upstream.transport.unregisterProducer()
            # Whoever is not read cannot be seen to leave.
            self._client.reading.resumeProducing()
            if self._head is None:
                self._wait(self.order.timeout)

    # --- the response ----------------------------------------------------------------------------

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the destination."""
        try:
            if self._head is None:
                assert self._reader is not None
                head = self._reader.feed(data)
                if head is not None:
                    self._respond(head, self._reader)
                return
            assert self._body is not None
            body = self._body.feed(data)
        except TortxdError as error:
            self._fail(error)
            return
        if body:
            self._client.write(body)
        if self._body.done:
            self._complete()
        else:
            self._touch()

    def _respond(self, head: ResponseHead, reader: ResponseReader) -> None:
        upstream = self._upstream
        assert upstream is not None
        body = reader.body(head)
        first = body.feed(reader.rest) if reader.rest else b""
        headers = self.order.filter(head)
        headers += self._carrier.annotate(upstream)
        self._head, self._body = head, body
        delimited = head.length is not None
        length = head.declared_length if delimited else None
        start = Start(head.status, head.reason, headers, length, delimited)
        self._client.respond(start, first)
        if body.done:
            self._complete()
            return
        self._wait(self.order.idle_timeout)
        self._client.draw_from(upstream.transport)

    def _complete(self) -> None:
        """The response is whole."""
        upstream, self._upstream = self._upstream, None
        assert upstream is not None and self._head is not None and self._body is not None
        reusable = (
            self._head.keep_alive
            and self._uploaded
            and self._connected
            and not self._body.rest
            and not self._body.overrun
        )
        self._end()
        if reusable:
            # A slow client may have left it paused; nobody else would resume it.
            upstream.transport.resumeProducing()
            self._carrier.pool.give(upstream)
        else:
            upstream.abort()
        self._client.finish()

    def upstream_lost(self, reason: Failure) -> None:
        """The connection to the destination is gone."""
        upstream, self._upstream = self._upstream, None
        if self._over or upstream is None:
            return
        if self._head is None:
            if upstream.requests > 1 and self.order.repeatable and self._untouched():
                # It died while it waited in the pool: that says nothing of the destination.
                self._connected = False
                self._connect()
            elif isinstance(reason.value, TortxdError):
                self._fail(reason.value)
            else:
                self._ask_how_it_ended(upstream, lambda _: self._fail(self._why_lost()))
            return
        if not self._head.until_close:
            self._fail(OriginReset())
        elif upstream.route.scheme == "https":
            # TLS says by itself whether the end is the destination's (close_notify).
            self._end_at_close(reason.check(ConnectionDone) is not None)
        else:
            self._ask_how_it_ended(upstream, lambda how: self._end_at_close(how == "DONE"))

    def _untouched(self) -> bool:
        return self._reader is None or self._reader.size == 0

    def _ask_how_it_ended(self, upstream: Upstream, then: Callable[[str | None], object]) -> None:
        """A FIN looks the same whether the destination finished, the circuit died or Tor did; the
        control port tells them apart."""
        if upstream.source is None or self._carrier.link.socks_address is None:
            then(None)
        else:
            asking = self._carrier.link.close_reason(upstream.source, CLOSE_REASON_WAIT)
            self._await(asking, then)

    def _end_at_close(self, whole: bool) -> None:
        if whole:
            self._end()
            self._client.finish()
        else:
            self._fail(OriginReset())

    # --- the end ---------------------------------------------------------------------------------

    def client_gone(self) -> None:
        """The client has left: so does everything that was done for it."""
        if not self._over:
            self._end()

    def _wait(self, seconds: float) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        self._timeout = self._carrier.timeouts.start(seconds, self._late)

    def _touch(self) -> None:
        """A byte of a body has come: the idle time starts anew."""
        if self._timeout is not None:
            self._timeout.restart()

    def _late(self) -> None:
        self._timeout = None
        self._fail(self._why_late())

    def _why_late(self) -> TortxdError:
        if self._connected or self._head is not None:
            return OriginTimeout()
        return TorTimeout()

    def _why_lost(self) -> TortxdError:
        return TorDown() if self._carrier.link.socks_address is None else OriginReset()

    def _fail(self, error: TortxdError) -> None:
        if self._over:
            return
        started = self._head is not None
        self._end()
        status = self._carrier.link.status
        if started:
            self._client.truncate()
        elif isinstance(error, TorTimeout | TorDown) and not serves(status):
            self._client.fail(not_ready(status))
        else:
            self._client.fail(error)

    def _end(self) -> None:
        """Let go of everything but the client."""
        self._over = True
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        pending, self._pending = self._pending, None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        if pending is not None:
            pending.cancel()
        self._held.clear()
        self._client.draw_from(None)


def as_error(failure: Failure) -> TortxdError:
    """The error of ours behind ``failure``."""
    if isinstance(failure.value, TortxdError):
        return failure.value
    return Internal()

"""One request on its way through Tor to its destination, and the response on its way back.

An exchange knows neither how the client speaks (the front's bytes, a twisted.web request, a user of
the library: each is a :class:`~tortxd.relay.interfaces.ResponseSink`) nor why the request may pass
(whoever judged it has made an :class:`UpstreamRequest` of it). It goes through these steps, and
every step may end it:

    connecting, or taking a connection that waits -> sending -> reading the head -> relaying

Where the request was for a WebSocket and the destination takes it, what follows the response's head
is relayed both ways, like a body that ends with the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.python.failure import Failure

from tortxd.errors import OriginReset, RequestTimeout, TortxdError
from tortxd.relay.attempt import TIMER_MARGIN
from tortxd.relay.interfaces import Carrier, Interim, ResponseSink, Start
from tortxd.relay.journal import OK, Way
from tortxd.relay.outbound import AWAITING, OVER, RESPONDING, TUNNEL_IDLE_TIME, Outbound
from tortxd.relay.placement import Steered
from tortxd.relay.upstream import PoolKey, Upstream
from tortxd.splicing import splice
from tortxd.wire.http1 import LAST_CHUNK, BodyReader, Headers, ResponseHead, ResponseReader, chunk

LOOKED_AT = 64 * 1024
"""Bytes of a body's end that never go unseen: something may follow it."""


class UpstreamRequest(NamedTuple):
    """A request that may pass, ready to be sent."""

    method: bytes
    head: bytes
    """What the destination is sent, up to and including the empty line."""
    pool_key: PoolKey
    timeout: float
    """Seconds until the response head."""
    idle_timeout: float
    """Seconds without a byte of a body either way."""
    has_body: bool
    chunked: bool
    expects_continue: bool
    filter: Callable[[ResponseHead], Headers]
    """Makes the response's headers fit for the client; framing is the client's affair."""
    way: Way
    """How it came."""
    upgrade: bool = False
    """Whether it asks for a WebSocket."""
    keep: bool = True
    """Whether its connection may carry further requests."""
    steered: Steered | None = None
    """Where it is to leave Tor, and how often it may be tried again."""

    @property
    def repeatable(self) -> bool:
        """Whether it may reach the destination twice (RFC 9110, section 9.2.1): only then does it
        go before the SOCKS reply, which makes Tor send it again when Tor retries the stream."""
        return not self.has_body and self.method in (b"GET", b"HEAD", b"OPTIONS")


class Exchange(Outbound):
    """See the module's description."""

    def __init__(self, carrier: Carrier, request: UpstreamRequest, sink: ResponseSink) -> None:
        super().__init__(
            carrier, sink, request.pool_key, request.timeout, request.way, request.steered
        )
        self.request = request
        self.early = request.repeatable
        self._uploaded = not request.has_body
        self._left = request.timeout
        """Seconds for the response head after the upload, whose own time does not count."""
        self._reader: ResponseReader | None = None
        self._body: BodyReader | None = None
        self._head: ResponseHead | None = None
        self._drawn_from = False
        """Whether the client may have paused the destination."""
        self._has_spoken = False
        """Whether the client has had an interim response."""
        self._may_wait = False
        """Whether what comes may have to wait for the circuit's name: see :meth:`_waits`."""
        self._first: bytes | None = None
        """What waits for it."""

    # --- getting there ---------------------------------------------------------------------------

    def _begin(self) -> None:
        upstream = self._carrier.pool.take(self._pool_key, self, fresh=not self.request.repeatable)
        if upstream is not None:
            self._reused += 1
            self.upstream_open(upstream)
            self.reached()
            return
        self._try()

    def upstream_open(self, upstream: Upstream) -> None:
        """``upstream`` takes bytes now; the SOCKS reply may still be on its way."""
        self._upstream = self._last = upstream
        upstream.requests += 1
        self._may_wait, self._first = upstream.requests == 1, None
        self._reader = ResponseReader(self.request.method, upgrade=self.request.upgrade)
        upstream.transport.write(self.request.head)

    def _established(self) -> None:
        if self._upstream is None or not self.request.has_body:
            return
        self._left = max(TIMER_MARGIN, self._deadline - self._carrier.timeouts.clock.seconds())
        self._wait(self.request.idle_timeout)
        if self.request.expects_continue and not self._held:
            self._sink.proceed()
        whole = self._uploaded  # then all of it is held
        self._draw_from_client()
        if whole:
            self._end_upload()

    # --- the client's body -----------------------------------------------------------------------

    def upload_done(self) -> None:
        """The request's body is whole."""
        self._uploaded = True
        if self._phase in (AWAITING, RESPONDING):
            self._end_upload()

    def client_gone(self, error: TortxdError | None = None) -> None:
        """See :class:`~tortxd.relay.outbound.Outbound`. Of a WebSocket's client, what it said last
        still goes: that it has left does not make that less than whole."""
        upstream, head = self._upstream, self._head
        if upstream is not None and head is not None and head.status == 101:
            self._upstream = None
            upstream.leave(lambda: self._close_stream(upstream))
        super().client_gone(error)

    def _ends_with_client(self) -> bool:
        return self._head is not None and self._head.status == 101

    def _forward(self, data: bytes) -> None:
        if data and self._upstream is not None:
            self._upstream.transport.write(chunk(data) if self.request.chunked else data)

    def _end_upload(self) -> None:
        if self._upstream is not None:
            if self.request.chunked:
                self._upstream.transport.write(LAST_CHUNK)
            self._upstream.transport.unregisterProducer()
            # Whoever is not read cannot be seen to leave.
            self._sink.upload_producer.resumeProducing()
            if self._head is None:
                self._wait(self._left)

    # --- the response ----------------------------------------------------------------------------

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the destination."""
        if self._may_wait and self._waits(data):
            return
        self._received += len(data)
        try:
            if self._head is None:
                assert self._reader is not None
                head = self._reader.feed(data)
                if self._reader.interim:
                    self._pass_on_interim(self._reader)
                if head is not None and self._phase is not OVER:
                    self._respond(head, self._reader)
                return
            assert self._body is not None
            body = self._body.feed(data)
        except TortxdError as error:
            self._not_understood(error)
            return
        if body:
            self._sink.write(body)
        if self._phase is OVER:
            return
        if self._body.done:
            self._complete()
        else:
            self._touch()

    def _waits(self, data: bytes) -> bool:
        """Whether the first bytes of a connection have to wait for the name of its circuit. Tor
        gives it before it passes anything on, but it may be read after that: then it is asked for
        once more when all is read that there is."""
        if self._first is not None:
            self._first += data
            return True
        upstream = self._upstream
        if upstream is None or upstream.source is None or self._carrier.annotate(upstream):
            self._may_wait = False
            return False
        self._first = data
        upstream.transport.pauseProducing()
        self._carrier.timeouts.clock.callLater(0, self._go_on, upstream)
        return True

    def _go_on(self, upstream: Upstream) -> None:
        if self._upstream is upstream and self._first is not None:
            upstream.transport.resumeProducing()
            self._take_first()

    def _take_first(self) -> None:
        """Take what has waited, if anything has."""
        first, self._first = self._first, None
        if first is not None:
            self._may_wait = False
            self.upstream_data(first)

    def _pass_on_interim(self, reader: ResponseReader) -> None:
        """Hand on what the destination says ahead of its response (RFC 9110, section 15.2), but for
        100: the gateway asks the client for its body by itself."""
        interim, reader.interim = reader.interim, []
        for head in interim:
            if head.status != 100 and self._phase is not OVER:
                self._has_spoken = True
                self._sink.interim(Interim(head.status, head.reason, self.request.filter(head)))

    def _not_understood(self, error: TortxdError) -> None:
        """What came is no response, or none to this request: on a connection that was used before
        it may belong to the one before (a body after HEAD, 204 or 304 is a common fault)."""
        upstream, reader = self._upstream, self._reader
        assert upstream is not None and reader is not None
        if reader.is_http or upstream.requests == 1:
            self._attempt_failed(error)
            return
        self._carrier.pool.distrust(upstream.pool_key)
        self._attempt_failed(error, again=self._is_repeatable())

    def _respond(self, head: ResponseHead, reader: ResponseReader) -> None:
        upstream = self._upstream
        assert upstream is not None
        body = reader.body(head)
        rest = reader.take_rest()
        first = body.feed(rest) if rest else b""
        headers = self.request.filter(head)
        headers += self._carrier.annotate(upstream)
        headers += self._own_headers()
        self._head, self._body = head, body
        self._responds(head.status)
        switches = head.status == 101
        delimited = head.length is not None or switches
        length = head.declared_length if head.length is not None else None
        start = Start(head.status, head.reason, headers, length, delimited, switches)
        self._sink.respond(start, first)
        if self._phase is OVER:
            return
        if body.done:
            self._complete()
            return
        self._wait(TUNNEL_IDLE_TIME if switches else self.request.idle_timeout)
        self._drawn_from = True
        self._sink.draw_from(upstream.transport)
        if switches:
            self._draw_from_client()
        elif body.unframed > LOOKED_AT and self._sink.wire is not None:
            client = self._sink.wire.transport
            self._splice(splice(upstream.transport, client, self._may_pass, self._pass))

    def _may_pass(self) -> int:
        """How many bytes of the body may go to the client unseen."""
        assert self._body is not None
        return self._body.unframed - LOOKED_AT

    def _pass(self, size: int) -> None:
        assert self._body is not None
        self._body.skip(size)
        self._passed_down(size)

    def _complete(self) -> None:
        """The response is whole."""
        upstream, self._upstream = self._upstream, None
        assert upstream is not None and self._head is not None and self._body is not None
        if self._body.rest:
            self._carrier.pool.distrust(upstream.pool_key)
        reusable = (
            self.request.keep
            and self._head.keep_alive
            and self._uploaded
            and not self._body.rest
            and not (self._tries is not None and self._tries.is_fresh)
        )
        sink = self._end(OK)
        if reusable:
            if self._drawn_from:
                # A slow client may have left it paused; nobody else would resume it.
                upstream.transport.resumeProducing()
            self._carrier.pool.give(upstream)
        else:
            self._drop(upstream)
        sink.finish()

    def upstream_lost(self, reason: Failure) -> None:
        """The connection to the destination is gone."""
        self._take_first()
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            return
        if self._head is not None:
            if self._head.until_close:
                self._closed(upstream, reason)
            else:
                self._fail(OriginReset())
        elif upstream.requests > 1 and self._untouched() and self._is_repeatable():
            # It died while it waited in the pool: that says nothing of the destination.
            self._attempt_failed(OriginReset(), again=True)
        elif isinstance(reason.value, TortxdError):
            if self._attempt is None:
                self._attempt_failed(reason.value)
            # else the attempt fails with the same, once it is known why
        else:
            self._ask_how_it_ended(upstream, lambda _: self._attempt_failed(self._why_lost()))

    def _late(self) -> None:
        stands_still = not self._uploaded and not self._sink.upload_producer.paused
        if stands_still and self._phase is AWAITING:
            self._timeout = None
            # What of it has arrived may be at the destination: to repeat it is not for programs.
            sentence = "The body of the request took too long to arrive."
            self._fail(RequestTimeout(sentence, retryable=False))
        else:
            super()._late()

    def _is_repeatable(self) -> bool:
        return self.request.repeatable and self._phase is not RESPONDING and not self._has_spoken

    def _untouched(self) -> bool:
        return self._reader is None or self._reader.size == 0

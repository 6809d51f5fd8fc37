"""HTTP through Tor for users of Twisted: an ``IAgent`` over the relay's exchanges.

So there is one HTTP stack: what the gateway reads of a destination, the library reads too, and the
same limits, pools and rules of what may be sent twice hold for both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import (
    UNKNOWN_LENGTH,
    IAgent,
    IBodyProducer,
    IClientRequest,
)
from zope.interface import implementer

from tortxd.client.response import Body, TorResponse
from tortxd.client.tor_info import TorInfo
from tortxd.client.upload import Upload
from tortxd.errors import BadRequest, BadResponse, OriginTimeout, TortxdError
from tortxd.grammar import TOKEN
from tortxd.policy.headers import framed_anew
from tortxd.policy.steering import UNSTEERED, Steering
from tortxd.policy.target import Target, TargetPolicy
from tortxd.relay.exchange import Exchange, UpstreamRequest
from tortxd.relay.interfaces import Carrier, Interim, NoUpload, Start, UploadProducer
from tortxd.relay.timeouts import Timeout
from tortxd.relay.upstream import PoolKey
from tortxd.tor.isolation import IsolationKeys, isolation_of
from tortxd.wire.http1 import ResponseHead, head_bytes

_TOKEN = re.compile(TOKEN)
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_MEANT_FOR_BODIES = frozenset((b"POST", b"PUT", b"PATCH"))
"""Methods that say so when there is no body (RFC 9110, section 8.6)."""


@implementer(IClientRequest)
@frozen
class _ClientRequest:
    """What a response says of its request."""

    method: bytes
    absoluteURI: bytes
    headers: Headers


@implementer(IAgent)
class TorAgent:
    """Requests through Tor, each kept apart by the destination's site, or all by one key.

    Connections are kept for further requests of the same isolation. GET, HEAD and OPTIONS without a
    body may go before Tor's reply, and are repeated when a kept connection turns out to be dead;
    nothing else is sent twice.

    :param carrier: the Tor that is used, and the connections to it.
    :param keys: the source of SOCKS credentials.
    :param key: an isolation key, for all destinations alike; None: their sites.
    :param caller: on whose behalf the requests are made; keys of different callers differ.
    :param timeout: seconds for a whole exchange, the body too.
    :param exchange: the kind of exchange that suits ``carrier``.
    :param steering: where requests leave Tor, and how often they are tried.
    """

    def __init__(
        self,
        carrier: Carrier,
        keys: IsolationKeys,
        *,
        key: bytes | None = None,
        caller: bytes = b"",
        policy: TargetPolicy | None = None,
        timeout: float = 60.0,
        exchange: type[Exchange] = Exchange,
        steering: Steering = UNSTEERED,
    ) -> None:
        self.clock = carrier.timeouts.clock
        self.policy = policy or TargetPolicy()
        self.timeout = timeout
        self._carrier = carrier
        self._keys = keys
        self._key = key
        self._caller = caller
        self._exchange = exchange
        self._steering = steering

    def request(  # type: ignore[override] # an IResponse with one attribute more
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[TorResponse]:
        """Make a request; see :class:`twisted.web.iweb.IAgent`. The response has one attribute
        more, ``tor``: the way that it came.

        The Deferred fails with a :class:`~tortxd.errors.TortxdError`, and so does the body.
        Cancelling it ends the exchange. What goes wrong with ``bodyProducer`` itself comes as it
        is.
        """
        return Deferred.fromCoroutine(self._parse_and_ask(method, uri, headers, bodyProducer))

    async def _parse_and_ask(
        self, method: bytes, uri: bytes, headers: Headers | None, body: IBodyProducer | None
    ) -> TorResponse:
        expires = self.clock.seconds() + self.timeout
        return await self.ask(expires, method, self.policy.parse(uri), headers or Headers(), body)

    def ask(
        self,
        expires: float,
        method: bytes,
        target: Target,
        headers: Headers,
        body: IBodyProducer | None,
    ) -> Deferred[TorResponse]:
        """The same for a target that was parsed, with a time, on the reactor's clock, by which all
        of it must be over.

        :raises BadRequest: if the method or a header is malformed.
        :raises OriginTimeout: if there is no time left.
        """
        left = expires - self.clock.seconds()
        if left <= 0:
            raise OriginTimeout
        isolation = isolation_of(self._key, target.host, self._caller)
        credentials = self._keys.credentials(isolation)
        request = UpstreamRequest(
            method=method,
            head=request_head(method, target, headers, body),
            pool_key=PoolKey(credentials, target.scheme, target.host, target.port),
            timeout=left,
            idle_timeout=left,
            has_body=body is not None,
            chunked=body is not None and body.length == UNKNOWN_LENGTH,
            expects_continue=False,
            filter=lambda head: asking.fit(head),
            way="library",
            steered=self._carrier.placements.steered(isolation, self._steering),
        )
        described = _ClientRequest(method, target.url.encode("ascii"), headers)
        asking = _Asking(self._carrier, described, body)
        asking.start(self._exchange(self._carrier, request, asking), left)
        return asking.answer


def request_head(
    method: bytes, target: Target, headers: Headers, body: IBodyProducer | None
) -> bytes:
    """What a destination is sent before the body. Framing is ours, whatever ``headers`` say.

    :raises BadRequest: if the method or a header is malformed.
    """
    if not _TOKEN.fullmatch(method) or method == b"CONNECT":
        raise BadRequest("The request's method is malformed.")
    hosts = [target.authority]
    fields = []
    for name, values in headers.getAllRawHeaders():
        if not _TOKEN.fullmatch(name) or not all(map(_VALUE.fullmatch, values)):
            raise BadRequest("A header of the request is malformed.")
        if name.lower() == b"host":
            hosts = list(values)
        else:
            fields += [(name, value) for value in values]
    if len(hosts) != 1:
        raise BadRequest("A request has one Host.")
    fields = framed_anew(fields)
    if body is None:
        if method in _MEANT_FOR_BODIES:
            fields.append((b"Content-Length", b"0"))
    elif body.length == UNKNOWN_LENGTH:
        fields.append((b"Transfer-Encoding", b"chunked"))
    else:
        fields.append((b"Content-Length", b"%d" % body.length))
    line = b"%b %b HTTP/1.1" % (method, target.path)
    return head_bytes(line, [(b"Host", hosts[0]), *fields])


class _Asking:
    """The client of one exchange; ``answer`` fires with its response."""

    wire = None

    def __init__(
        self, carrier: Carrier, request: _ClientRequest, body: IBodyProducer | None
    ) -> None:
        self.answer: Deferred[TorResponse] = Deferred(lambda _: self._leave())
        self._request = request
        self._timeouts = carrier.timeouts
        self._timeout: Timeout | None = None
        self._exchange: Exchange | None = None
        self._upload = None if body is None else Upload(self._timeouts.clock, body, self.give_up)
        self.upload_producer: UploadProducer = self._upload or NoUpload()
        self._headers = Headers()
        self._body = Body(self._timeouts.clock, self._leave)

    def start(self, exchange: Exchange, seconds: float) -> None:
        """Go on with ``exchange``, which must be over in time."""
        self._exchange = exchange
        # Behind the exchange's own timer, which tells a silent Tor from a silent destination.
        self._timeout = self._timeouts.start(seconds, self._expire)
        if self._upload is not None:
            self._upload.exchange = exchange
        exchange.start()

    def fit(self, head: ResponseHead) -> list[tuple[bytes, bytes]]:
        """Take the destination's headers: all but those about the connection."""
        fields = framed_anew(head.headers)
        if self._request.method == b"HEAD" and head.declared_length is not None:
            fields.append((b"Content-Length", b"%d" % head.declared_length))
        self._headers = Headers()  # not those of an interim response
        try:
            for name, value in fields:
                self._headers.addRawHeader(name, value)
        except ValueError:  # InvalidHeaderName
            raise BadResponse from None
        return []

    # --- what the exchange says -------------------------------------------------------------------

    def proceed(self) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; no body is held back."""

    def interim(self, interim: Interim) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; interim responses are passed over."""

    def respond(self, start: Start, data: bytes) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        bodiless = self._request.method == b"HEAD" or start.status in (204, 304)
        length = 0 if bodiless else start.content_length
        response = TorResponse(
            code=start.status,
            phrase=start.reason,
            headers=self._headers,
            length=UNKNOWN_LENGTH if length is None else length,
            request=self._request,
            body=self._body,
            tor=TorInfo.of(start.headers),
        )
        self._body.write(data)
        self._soon(lambda: self.answer.callback(response))

    def write(self, data: bytes) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        self._body.write(data)

    def finish(self) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        self._stop()
        self._body.end(Failure(ResponseDone()))

    def truncate(self, error: TortxdError) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        self._stop()
        self._body.end(Failure(error))

    def fail(self, error: TortxdError) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        self._stop()
        self._soon(lambda: self.answer.errback(error))

    def draw_from(self, producer: IPushProducer | None) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        self._body.draw_from(producer)

    # --- the end ----------------------------------------------------------------------------------

    def give_up(self, reason: Failure) -> None:
        """End the exchange; ``reason`` says why."""
        self._leave()
        if not self.answer.called:
            self.answer.errback(reason)
        elif reason.check(TortxdError):
            self._body.end(reason)
        else:
            self._body.end(Failure(BadRequest("The body of the request could not be read.")))

    def _expire(self) -> None:
        self._timeout = None
        self.give_up(Failure(OriginTimeout()))

    def _soon(self, answer: Callable[[], object]) -> None:
        """Answer, but not in the middle of the relay's own work: a response that is whole by then
        has given its connection back, and whoever asks again at once finds it."""
        self._timeouts.clock.callLater(0, lambda: self.answer.called or answer())

    def _leave(self) -> None:
        self._stop()
        if self._exchange is not None:
            self._exchange.client_gone()

    def _stop(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        if self._upload is not None:
            self._upload.stop()


def abandon(response: Any) -> None:
    """Let go of a response of a :class:`TorAgent` of which nobody will read more."""
    response.body.abandon()

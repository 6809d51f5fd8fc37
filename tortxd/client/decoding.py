"""Responses as they were before a content coding (RFC 9110, section 8.4), for users of treq.

It stands between treq and the agent. treq's own decoder finds nothing left to do: it reads one
member of a gzip body, and takes what is cut for whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from tortxd.client.codings import OFFERED, Decoder, decoder_for
from tortxd.client.response import NOT_READ
from tortxd.errors import OriginReset, OriginTimeout, TortxdError

TURN = 1024 * 1024
"""Bytes that a body expands to in one turn of the reactor, about; others get theirs then."""

_TREQS_OWN = b"gzip"
"""What treq adds to the Accept-Encoding of every request."""


@implementer(IAgent)
@frozen
class DecodingAgent:
    """An agent for treq that asks for the codings it knows, and undoes them.

    Where the caller named codings in Accept-Encoding, those are asked for instead.

    :param expires: the time by which a body must have been decoded.
    """

    agent: IAgent
    clock: IReactorTime
    expires: float

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Make a request; see :class:`twisted.web.iweb.IAgent`."""
        headers = Headers() if headers is None else headers.copy()
        wanted = list(headers.getRawHeaders(b"accept-encoding", []))
        if wanted[-1:] == [_TREQS_OWN]:
            wanted.pop()
        headers.setRawHeaders(b"accept-encoding", wanted or [OFFERED])
        asking = self.agent.request(method, uri, headers, bodyProducer)
        return asking.addCallback(self._decoded)

    def _decoded(self, response: IResponse) -> IResponse:
        values = response.headers.getRawHeaders(b"content-encoding", [])
        decoder, left = decoder_for(values)
        if left:
            response.headers.setRawHeaders(b"content-encoding", [b", ".join(left)])
        else:
            response.headers.removeHeader(b"content-encoding")
        if decoder is None or response.length == 0:
            return response
        decoded: Any = _DecodedResponse(response)
        decoded.decode_with(decoder, self.clock, self.expires)
        return decoded  # type: ignore[no-any-return]


class _DecodedResponse(proxyForInterface(IResponse)):  # type: ignore[misc]
    """A response whose body is decoded on its way to who reads it."""

    original: Any
    length = UNKNOWN_LENGTH

    def decode_with(self, decoder: Decoder, clock: IReactorTime, expires: float) -> None:
        self._make = lambda reader: _Decoding(reader, decoder, clock, expires)

    def deliverBody(self, protocol: IProtocol) -> None:
        make: Callable[[IProtocol], _Decoding] = self._make
        self.original.deliverBody(make(protocol))


@implementer(IPushProducer)
class _Decoding(Protocol):
    """Reads the encoded body, and is the transport of who reads the decoded one."""

    transport: Any
    disconnecting = False

    def __init__(
        self, reader: IProtocol, decoder: Decoder, clock: IReactorTime, expires: float
    ) -> None:
        self._reader: IProtocol | None = reader
        self._decoder = decoder
        self._clock = clock
        self._expires = expires
        self._paused = False
        self._left = False
        """Whether the reader wants no more."""
        self._holds = False
        """Whether the encoded body is paused."""
        self._waits = False
        """Whether the next turn of the reactor goes on."""
        self._flowing = False
        self._reason: Failure | None = None
        """How the encoded body ended."""

    # --- what comes -------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        assert self._reader is not None
        self._reader.makeConnection(self)  # type: ignore[arg-type]

    def dataReceived(self, data: bytes) -> None:
        self._decoder.feed(data)
        self._flow()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone):
            self._reason = reason
            self._flow()
        else:
            self._end(reason)

    # --- who reads --------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self._paused = True
        self._hold()

    def resumeProducing(self) -> None:
        self._paused = False
        self._flow()

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        self._left = True
        if self._reason is None:
            self.transport.loseConnection()
        else:  # nobody else says so
            self._clock.callLater(0, self._end, Failure(OriginReset(NOT_READ)))

    abortConnection = loseConnection

    # --- decoding ---------------------------------------------------------------------------------

    def _flow(self) -> None:
        """Pass on what there is, until the reader pauses or it is others' turn."""
        if self._flowing or self._waits:
            return
        self._flowing = True
        try:
            self._pass_on()
        except TortxdError as error:
            self._end(Failure(error))
            self.transport.loseConnection()
        finally:
            self._flowing = False

    def _pass_on(self) -> None:
        passed = 0
        while self._reader is not None and not self._paused and not self._left:
            piece = self._decoder.read()
            if not piece and not self._decoder.busy:
                self._drained()
                return
            if piece:
                self._reader.dataReceived(piece)
            passed += len(piece)
            if passed >= TURN or self._decoder.busy:
                self._waits = True
                self._hold()
                self._clock.callLater(0, self._go_on)
                return

    def _drained(self) -> None:
        """What has come is decoded."""
        if self._reason is not None:
            self._decoder.end()
            self._end(self._reason)
        elif self._holds:
            self._holds = False
            self.transport.resumeProducing()

    def _hold(self) -> None:
        if not self._holds and self._reason is None:
            self._holds = True
            self.transport.pauseProducing()

    def _go_on(self) -> None:
        self._waits = False
        if self._clock.seconds() >= self._expires:
            self._end(Failure(OriginTimeout()))
            self.transport.loseConnection()
        else:
            self._flow()

    def _end(self, reason: Failure) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.connectionLost(reason)

"""A response of the library's own agent, and its body on the way to who reads it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IProtocol, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IClientRequest, IResponse
from zope.interface import implementer

from tortxd.client.tor_info import TorInfo
from tortxd.errors import OriginReset

NOT_READ = "The response was not read to its end."


@implementer(IPushProducer)
class Body:
    """The body of one response: the transport of the protocol that reads it.

    While there is no such protocol, or it has paused, the destination is not read.

    :param leave: ends the exchange.
    """

    disconnecting = False

    def __init__(self, clock: IReactorTime, leave: Callable[[], object]) -> None:
        self._clock = clock
        self._leave = leave
        self._reader: IProtocol | None = None
        self._delivered = False
        """Whether there was a reader."""
        self._paused = True
        self._flowing = False
        self._source: IPushProducer | None = None
        self._pieces: deque[bytes] = deque()
        self._reason: Failure | None = None
        """How it ended."""

    # --- what comes -------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """More of it."""
        if data:
            self._pieces.append(data)
            self._flow()

    def end(self, reason: Failure) -> None:
        """No more will come, for ``reason``: ResponseDone if it is whole."""
        if self._reason is None:
            self._reason = reason
            self._flow()

    def draw_from(self, source: IPushProducer | None) -> None:
        """Pause ``source`` while nobody takes more; None ends that."""
        self._source = source
        if source is not None and self._paused:
            source.pauseProducing()

    # --- who reads --------------------------------------------------------------------------------

    def deliver(self, reader: IProtocol) -> None:
        """Connect ``reader`` to it.

        :raises RuntimeError: if there was one before.
        """
        if self._delivered:
            raise RuntimeError("The body of this response has a reader already.")
        self._delivered = True
        self._reader = reader
        self._paused = False
        reader.makeConnection(self)  # type: ignore[arg-type]
        self._flow()
        self._resume_source()

    def pauseProducing(self) -> None:
        """The reader takes no more for now."""
        self._paused = True
        if self._source is not None:
            self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """It takes more."""
        self._paused = False
        self._flow()
        self._resume_source()

    def stopProducing(self) -> None:
        """It will take no more: the exchange ends, unless it is over."""
        self.loseConnection()

    def loseConnection(self) -> None:
        """The same."""
        if self._reader is None:
            return
        self.abandon()
        if self._pieces:
            self._pieces.clear()
            self._reason = _not_read()
        if not self._flowing:
            # Not now, as with any transport: the reader may be in the middle of its work.
            self._clock.callLater(0, self._flow)

    abortConnection = loseConnection

    def abandon(self) -> None:
        """Nobody will read more of it. What had come whole can still be read."""
        if self._reason is None:
            self._leave()
            self._reason = _not_read()

    def _resume_source(self) -> None:
        if self._source is not None and not self._paused:
            self._source.resumeProducing()

    def _flow(self) -> None:
        if self._flowing:
            return
        self._flowing = True
        try:
            while self._pieces and self._reader is not None and not self._paused:
                self._reader.dataReceived(self._pieces.popleft())
        finally:
            self._flowing = False
        self._conclude()

    def _conclude(self) -> None:
        reason, reader = self._reason, self._reader
        if reason is None or reader is None:
            return
        if self._pieces and reason.check(ResponseDone):
            return  # the reader has paused
        self._pieces.clear()
        self._reader = None
        reader.connectionLost(reason)


def _not_read() -> Failure:
    return Failure(OriginReset(NOT_READ))


@implementer(IResponse)
@define(eq=False)
class TorResponse:
    """See :class:`twisted.web.iweb.IResponse`. The body fails with a
    :class:`~tortxd.errors.TortxdError`."""

    code: int
    phrase: bytes
    headers: Headers
    length: Any
    """Bytes, or UNKNOWN_LENGTH."""
    request: IClientRequest
    body: Body
    tor: TorInfo = field(factory=TorInfo)
    """The way that it came."""
    version: tuple[bytes, int, int] = (b"HTTP", 1, 1)
    previousResponse: IResponse | None = None

    def deliverBody(self, protocol: IProtocol) -> None:
        """Have ``protocol`` read the body."""
        self.body.deliver(protocol)

    def setPreviousResponse(self, response: IResponse) -> None:
        """Say from which response a redirect led to this one."""
        self.previousResponse = response

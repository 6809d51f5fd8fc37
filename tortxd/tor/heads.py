"""A limit to what twisted.web's HTTP client takes for a response's head.

It has none of its own: a destination that goes on sending fields would fill the memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol
from twisted.web.client import _HTTP11ClientFactory
from twisted.web.iweb import IResponse

from tortxd.errors import BadResponse
from tortxd.wire.http1 import MAX_FIELDS, MAX_HEAD


class CappedHeads(HTTP11ClientProtocol):
    """A connection whose responses have heads of no more than :data:`MAX_HEAD` bytes and
    :data:`MAX_FIELDS` fields (besides those that are about the connection); else the request fails
    with BadResponse."""

    transport: Any
    _awaited: int | None = None
    """Bytes that have come since the request, until the head is whole."""
    _given_up = False

    def request(self, request: Any) -> Deferred[IResponse]:
        self._awaited = 0
        asking = super().request(request)
        if self._parser is not None:
            self._parser.MAX_LENGTH = MAX_HEAD  # of a line
        return asking.addBoth(self._answered)

    def _answered(self, result: Any) -> Any:
        self._awaited = None
        if isinstance(result, Failure):
            return result
        if sum(len(values) for _, values in result.headers.getAllRawHeaders()) > MAX_FIELDS:
            return self._give_up()
        return result

    def _reads_head(self) -> bool:
        """Whether the head is not whole yet. The answer to a request that is still being sent is
        held back, though its body may come already."""
        return self._parser is not None and self._parser.state not in ("BODY", "DONE")

    def dataReceived(self, data: bytes) -> None:
        if self._given_up:
            return
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self._awaited is None or not self._reads_head():
            return
        self._awaited += len(data)
        if self._awaited > MAX_HEAD:
            self._give_up()

    def _give_up(self) -> Failure:
        reason = Failure(BadResponse("The destination's header section is too large."))
        self.connectionLost(reason)
        self._given_up = True
        self.transport.abortConnection()
        return reason

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._given_up:
            super().connectionLost(reason)  # type: ignore[no-untyped-call]


class CappedFactory(_HTTP11ClientFactory):
    """Makes such connections for a twisted.web ``HTTPConnectionPool``."""

    def buildProtocol(self, addr: IAddress | None) -> CappedHeads:
        return CappedHeads(self._quiescentCallback)  # type: ignore[no-untyped-call]

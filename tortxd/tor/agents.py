"""HTTP through Tor for users of Twisted: an ``IAgent`` over the SOCKS endpoints.

Foreign errors become ours here, and nowhere else in the library.
"""

from __future__ import annotations

from typing import Any, cast

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.error import InfiniteRedirection, PageRedirect, RedirectWithNoLocation
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from tortxd.addresses import SocksAddress
from tortxd.errors import (
    BadRequest,
    BadResponse,
    OriginReset,
    OriginTimeout,
    RedirectForbidden,
    TortxdError,
)
from tortxd.policy.site import site_of
from tortxd.policy.target import Target, TargetPolicy
from tortxd.tor.heads import CappedFactory
from tortxd.tor.isolation import Isolation, IsolationKeys
from tortxd.tor.socks import Locate, TorEndpoint
from tortxd.tor.tls import ClientTls

IDLE = 60.0
"""Seconds that a connection waits for its next request."""
LIFETIME = 600.0
"""Seconds after which a connection carries no further request, like Tor's own dirty circuits."""

_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_WRAPPERS = (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)


def translated(error: BaseException) -> BaseException:
    """Ours for what twisted.web, its transports and its redirects fail with.

    What is not theirs (a cancellation, a fault of the caller's own) comes back as it is.
    """
    if isinstance(error, _WRAPPERS):
        reasons = [translated(reason.value) for reason in cast(Any, error).reasons]
        for kind in (CancelledError, TortxdError):
            for reason in reasons:
                if isinstance(reason, kind):
                    return reason
        if isinstance(error, RequestGenerationFailed) and reasons:
            return reasons[0]
        return BadResponse()
    if isinstance(error, ConnectionClosed | SSL.Error):
        return OriginReset()
    if isinstance(error, InfiniteRedirection):
        return BadResponse("The destination redirects in circles.")
    if isinstance(error, RedirectWithNoLocation):
        return BadResponse("The destination redirects to nowhere.")
    if isinstance(error, PageRedirect):
        return RedirectForbidden("A redirect is not followed with this method.")
    return error


@implementer(IAgent)
class TorAgent:
    """Requests through Tor, each kept apart by the destination's site, or all by one key.

    Connections are kept for further requests of the same isolation. GET, HEAD and OPTIONS without a
    body may go before Tor's reply, and are repeated when a kept connection turns out to be dead;
    nothing else is sent twice.

    :param address: Tor's SOCKS port, or a callable that says where it is.
    :param keys: the source of SOCKS credentials.
    :param key: an isolation key, for all destinations alike; None: their sites.
    :param caller: on whose behalf the requests are made; keys of different callers differ.
    :param timeout: seconds for a whole exchange, the body too.
    """

    def __init__(
        self,
        reactor: Any,
        address: SocksAddress | Locate,
        keys: IsolationKeys,
        *,
        key: bytes | None = None,
        caller: bytes = b"",
        tls: ClientTls | None = None,
        policy: TargetPolicy | None = None,
        timeout: float = 60.0,
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._keys = keys
        self._key = key
        self._caller = caller
        self._tls = tls or ClientTls()
        self._policy = policy or TargetPolicy()
        self._timeout = timeout
        self._pools: tuple[HTTPConnectionPool, HTTPConnectionPool] | None = None
        self._pools_end = 0.0

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Make a request; see :class:`twisted.web.iweb.IAgent`.

        The Deferred fails with a :class:`~tortxd.errors.TortxdError`, and so does the body.
        """
        return self.request_until(
            self._reactor.seconds() + self._timeout, method, uri, headers, bodyProducer
        )

    def request_until(
        self,
        expires: float,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        body: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """The same with a time, on the reactor's clock, by which all of it must be over."""
        return Deferred.fromCoroutine(self._request(expires, method, uri, headers, body))

    async def _request(
        self,
        expires: float,
        method: bytes,
        uri: bytes,
        headers: Headers | None,
        body: IBodyProducer | None,
    ) -> IResponse:
        target = self._policy.parse(uri)
        left = expires - self._reactor.seconds()
        if left <= 0:
            raise OriginTimeout
        repeatable = method in _SAFE and body is None
        endpoint = _Always(self._endpoint(target, left, early=repeatable))
        agent: IAgent = cast(Any, Agent).usingEndpointFactory(
            self._reactor, endpoint, self._pool(repeatable)
        )
        deadline = _Deadline(self._reactor)
        try:
            asking = agent.request(method, target.url.encode("ascii"), headers, body)
        except ValueError:
            raise BadRequest("The request's method is malformed.") from None
        # After the endpoint's own timer, so that a silent Tor is told from a silent destination.
        deadline.start(left, asking.cancel)
        try:
            response = await asking
        except BaseException as error:
            deadline.stop()
            raise (OriginTimeout() if deadline.passed else translated(error)) from None
        bounded = _BoundedResponse(response)
        bounded.bind(deadline)
        return cast(IResponse, bounded)

    def _endpoint(self, target: Target, timeout: float, *, early: bool) -> TorEndpoint:
        if self._key is not None:
            isolation = Isolation("key", self._key, self._caller)
        else:
            isolation = Isolation("site", site_of(target.host).encode("ascii"), self._caller)
        return TorEndpoint(
            self._reactor,
            self._address,
            target.host,
            target.port,
            self._keys.credentials(isolation),
            self._tls if target.scheme == "https" else None,
            early,
            timeout,
        )

    def _pool(self, repeatable: bool) -> HTTPConnectionPool:
        """Two pools, because Twisted's pool would repeat a DELETE just as it does a GET."""
        if self._pools is None or self._reactor.seconds() >= self._pools_end:
            self.drop_connections()
            self._pools_end = self._reactor.seconds() + LIFETIME - IDLE
            self._pools = self._new_pool(repeats=False), self._new_pool(repeats=True)
        return self._pools[repeatable]

    def _new_pool(self, *, repeats: bool) -> HTTPConnectionPool:
        pool: Any = cast(Any, HTTPConnectionPool)(self._reactor)
        pool.cachedConnectionTimeout = IDLE
        pool.maxPersistentPerHost = 6
        pool.retryAutomatically = repeats
        pool._factory = CappedFactory
        return cast(HTTPConnectionPool, pool)

    def drop_connections(self) -> Deferred[None]:
        """Close what waits for further requests, so that the next one opens a new stream."""
        pools, self._pools = self._pools or (), None
        return Deferred.fromCoroutine(_close(pools))


async def _close(pools: tuple[HTTPConnectionPool, ...]) -> None:
    for closing in [cast(Any, pool).closeCachedConnections() for pool in pools]:
        await closing


@implementer(IAgentEndpointFactory)
@frozen
class _Always:
    """The one endpoint of one request."""

    endpoint: TorEndpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self.endpoint


class _Deadline:
    """The end of one exchange's time."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._timer: Any = None
        self.passed = False
        self.end: Any = None
        """What is called when time is up."""

    def start(self, seconds: float, end: Any) -> None:
        self.end = end
        self._timer = self._reactor.callLater(seconds, self._pass)

    def stop(self) -> None:
        if self._timer.active():
            self._timer.cancel()

    def _pass(self) -> None:
        self.passed = True
        self.end()


class _BoundedResponse(proxyForInterface(IResponse)):  # type: ignore[misc]
    """A response whose body comes in time, or fails with our errors."""

    original: Any

    def bind(self, deadline: _Deadline) -> None:
        """Let the deadline that the request had bound the body, too."""
        self._deadline = deadline
        if self.original.length == 0:
            deadline.stop()
        deadline.end = lambda: self.original.deliverBody(_Body(_Nobody(), deadline))

    def deliverBody(self, protocol: IProtocol) -> None:
        if self._deadline.passed:
            _Body(protocol, self._deadline).expire()
        else:
            self.original.deliverBody(_Body(protocol, self._deadline))


class _Nobody(Protocol):
    """Reads a body that came too late for anyone."""


class _Body(Protocol):
    """Passes a body on to who reads it."""

    transport: Any

    def __init__(self, reader: IProtocol, deadline: _Deadline) -> None:
        self._reader: IProtocol | None = reader
        self._deadline = deadline

    def connectionMade(self) -> None:
        assert self._reader is not None
        self._reader.makeConnection(self.transport)
        self._deadline.end = self.expire
        if self._deadline.passed:
            self.expire()

    def dataReceived(self, data: bytes) -> None:
        if self._reader is not None:
            self._reader.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.stop()
        error = translated(cast(BaseException, reason.value))
        if error is not reason.value:
            reason = Failure(error)
        self._end(reason)

    def expire(self) -> None:
        """Time is up: fail, and close the connection."""
        self._end(Failure(OriginTimeout()))
        if self.transport is not None:
            self.transport.loseConnection()

    def _end(self, reason: Failure) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.connectionLost(reason)

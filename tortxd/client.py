"""The library's clients: HTTP and plain streams through a Tor that runs already.

>>> client = TorHttpClient(Config(socks_addr="127.0.0.1:9050"))
>>> response = await client.get("https://example.com/")

Everything that takes time returns a Deferred, which starts at once and can be awaited.
"""

from __future__ import annotations

import json
from io import IOBase
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionDone, DNSLookupError
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from tortxd.config import Config
from tortxd.errors import BadResponse, BadUrl, OriginReset, OriginTimeout, TortxdError
from tortxd.policy.addresses import public_host
from tortxd.policy.site import site_of
from tortxd.tor.isolation import Isolation, IsolationKeys
from tortxd.tor.socks import TorEndpoint
from tortxd.tor.tls import ClientTls
from tortxd.wire.socks5 import GREETING, METHOD_ACCEPTED

if TYPE_CHECKING:
    from treq.response import _Response as Response
    from twisted.web.http_headers import Headers

    from tortxd.tor.agents import TorAgent

T = TypeVar("T")

MAX_ANSWER = 64 * 1024
"""Bytes of a service's answer, of ``config.check_url`` or ``config.ip_url``."""

MAX_REPLY = 64 * 1024 * 1024
"""Bytes that :meth:`SocksClient.send_receive` takes, unless told otherwise."""


def _installed(reactor: Any) -> Any:
    if reactor is None:
        from twisted.internet import reactor
    return reactor


def tor_client(socks_addr: str = "127.0.0.1:9050", **config: Any) -> TorHttpClient:
    """A :class:`TorHttpClient`; ``config`` takes the other fields of
    :class:`~tortxd.config.Config`."""
    return TorHttpClient(Config(socks_addr, **config))


class TorHttpClient:
    """HTTP through Tor.

    Requests to different sites never share a circuit, nor do those of two clients. Responses are
    treq's. Redirects are followed as browsers do, up to 20, without credentials where the origin
    changes; cookies live no longer than one call.

    Everything fails with a :class:`~tortxd.errors.TortxdError`, the body of a response too, and is
    over within ``config.timeout`` seconds.

    :param reactor: None means the installed one.
    :param keys: where isolation comes from; None: nobody shares it.
    :param key: an isolation key for all requests; None: the destinations' sites.
    """

    def __init__(
        self,
        config: Config | None = None,
        reactor: Any = None,
        *,
        keys: IsolationKeys | None = None,
        key: bytes | None = None,
        tls: ClientTls | None = None,
    ) -> None:
        from tortxd.tor.agents import TorAgent

        self.config = config or Config()
        self._reactor = _installed(reactor)
        self._keys = keys or IsolationKeys()
        self._tls = tls or ClientTls(verify=self.config.verify_tls)
        self._agent = TorAgent(
            self._reactor,
            self.config.socks,
            self._keys,
            key=key,
            tls=self._tls,
            timeout=self.config.timeout,
        )

    def isolated(self, key: str | bytes) -> TorHttpClient:
        """A client all of whose requests use the isolation key ``key``: they may share circuits
        with one another, and never with anyone else's."""
        name = key.encode() if isinstance(key, str) else key
        return TorHttpClient(self.config, self._reactor, keys=self._keys, key=name, tls=self._tls)

    def request(self, method: str, url: str, **options: Any) -> Deferred[Response]:
        """Make a request.

        :param options: those of ``treq.request``: headers, params, data, json, files, auth,
            cookies, allow_redirects, unbuffered; and timeout, in seconds.
        """
        return Deferred.fromCoroutine(self._request(method, url, options))

    def get(self, url: str, **options: Any) -> Deferred[Response]:
        """Make a GET request."""
        return self.request("GET", url, **options)

    def head(self, url: str, **options: Any) -> Deferred[Response]:
        """Make a HEAD request."""
        return self.request("HEAD", url, **options)

    def delete(self, url: str, **options: Any) -> Deferred[Response]:
        """Make a DELETE request."""
        return self.request("DELETE", url, **options)

    def post(self, url: str, body: Any = None, **options: Any) -> Deferred[Response]:
        """Make a POST request: bytes and files are sent as they are, everything else as JSON."""
        return self.request("POST", url, **_with_body(body, options))

    def put(self, url: str, body: Any = None, **options: Any) -> Deferred[Response]:
        """Make a PUT request, with a body as for :meth:`post`."""
        return self.request("PUT", url, **_with_body(body, options))

    def patch(self, url: str, body: Any = None, **options: Any) -> Deferred[Response]:
        """Make a PATCH request, with a body as for :meth:`post`."""
        return self.request("PATCH", url, **_with_body(body, options))

    def get_json(self, url: str, **options: Any) -> Deferred[Any]:
        """GET, and the response's JSON, whatever its status; BadResponse where it is none."""
        return Deferred.fromCoroutine(_json(self.get(url, **options)))

    def post_json(self, url: str, body: Any = None, **options: Any) -> Deferred[Any]:
        """POST, and the response's JSON as with :meth:`get_json`."""
        return Deferred.fromCoroutine(_json(self.post(url, body, **options)))

    def verify_tor_connection(self) -> Deferred[bool]:
        """Whether ``config.check_url`` says that our requests come from Tor.

        False only if it says so; that it cannot be asked is an error.
        """
        return Deferred.fromCoroutine(self._ask(self.config.check_url, "IsTor", bool))

    def get_exit_ip(self) -> Deferred[str]:
        """The address from which destinations see us, as ``config.ip_url`` says."""
        return Deferred.fromCoroutine(self._ask(self.config.ip_url, "ip", str))

    async def _request(self, method: str, url: str, options: dict[str, Any]) -> Response:
        from hyperlink import EncodedURL
        from treq.client import HTTPClient

        from tortxd.tor.agents import translated

        timeout = options.pop("timeout", None) or self.config.timeout
        options.setdefault("browser_like_redirects", True)
        try:
            parsed = EncodedURL.from_text(url).to_uri()
        except ValueError:
            raise BadUrl from None
        # A client for each call, so that no cookie outlives it.
        client = HTTPClient(_Until(self._agent, self._reactor.seconds() + timeout))
        try:
            return await client.request(method, parsed, reactor=self._reactor, **options)
        except Exception as error:
            raise translated(error) from None

    async def _ask(self, url: str, name: str, kind: type[T]) -> T:
        response = await self.get(url, unbuffered=True)
        body = _ShortBody()
        response.original.deliverBody(body)
        try:
            answer = json.loads(await body.whole)
        except (ValueError, RecursionError):
            raise _not_json() from None
        value = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(value, kind):
            raise BadResponse(f"The service that was asked did not say {name}.")
        return value


def _with_body(body: Any, options: dict[str, Any]) -> dict[str, Any]:
    if body is None:
        return options
    return {("data" if isinstance(body, bytes | IOBase) else "json"): body, **options}


async def _json(asking: Deferred[Response]) -> Any:
    response = await asking
    try:
        return await response.json()
    except (ValueError, RecursionError):
        raise _not_json() from None


def _not_json() -> BadResponse:
    return BadResponse("The destination's answer is not JSON.")


class _ShortBody(Protocol):
    """Keeps the body of a service's answer."""

    transport: Any

    def __init__(self) -> None:
        self._data = b""
        self.whole: Deferred[bytes] = Deferred(lambda _: self.transport.loseConnection())

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > MAX_ANSWER and not self.whole.called:
            self.whole.errback(BadResponse("The service that was asked said too much."))
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        if reason.check(TortxdError):
            self.whole.errback(reason)
        else:
            self.whole.callback(self._data)


@implementer(IAgent)
@frozen
class _Until:
    """An agent all of whose requests, redirected ones too, must be over at one time."""

    agent: TorAgent
    expires: float

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        return self.agent.request_until(self.expires, method, uri, headers, bodyProducer)


class SocksClient:
    """Plain streams through Tor, kept apart by the destination's site.

    Everything fails with a :class:`~tortxd.errors.TortxdError`.

    :param reactor: None means the installed one.
    """

    def __init__(self, config: Config | None = None, reactor: Any = None) -> None:
        self.config = config or Config()
        self._reactor = _installed(reactor)
        self._keys = IsolationKeys()

    def connect(self, host: str, port: int, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of ``factory`` to ``host`` and ``port``; fires with the protocol."""
        return Deferred.fromCoroutine(self._connect(host, port, factory))

    def send_receive(
        self, host: str, port: int, data: bytes, *, max_size: int = MAX_REPLY
    ) -> Deferred[bytes]:
        """Send ``data``, and fire with all that comes back until the destination closes.

        Fails with :class:`~tortxd.errors.OriginTimeout` when that is not within ``config.timeout``
        seconds, and with :class:`~tortxd.errors.BadResponse` when it is more than ``max_size``
        bytes.
        """
        return Deferred.fromCoroutine(self._send_receive(host, port, data, max_size))

    def check_connection(self) -> Deferred[bool]:
        """Whether a SOCKS5 server that takes credentials answers at ``config.socks_addr``.

        It is asked for nothing, so this says nothing about the Tor network. Never fails.
        """
        return Deferred.fromCoroutine(self._check())

    async def _connect(self, host: str, port: int, factory: IProtocolFactory) -> IProtocol:
        name = public_host(host)
        credentials = self._keys.credentials(Isolation("site", site_of(name).encode("ascii")))
        endpoint = TorEndpoint(
            self._reactor,
            self.config.socks,
            name,
            port,
            credentials,
            timeout=self.config.timeout,
        )
        return await endpoint.connect(factory)

    async def _send_receive(self, host: str, port: int, data: bytes, max_size: int) -> bytes:
        expires = self._reactor.seconds() + self.config.timeout
        receiver = _Receiver(max_size)
        factory = Factory.forProtocol(lambda: receiver)
        factory.noisy = False
        await self._connect(host, port, factory)
        receiver.transport.write(data)
        try:
            left = max(0, expires - self._reactor.seconds())
            return await receiver.received.addTimeout(left, self._reactor)
        except DeferredTimeout:
            raise OriginTimeout from None

    async def _check(self) -> bool:
        address, timeout = self.config.socks, self.config.timeout
        probe = _Probe()
        try:
            endpoint: Any
            if address.path is not None:
                endpoint = UNIXClientEndpoint(self._reactor, address.path, timeout)
            else:
                endpoint = TCP4ClientEndpoint(self._reactor, address.host, address.port, timeout)
            await connectProtocol(endpoint, probe)
            return await probe.answer.addTimeout(timeout, self._reactor)
        except (ConnectError, DNSLookupError, DeferredTimeout):
            return False


class _Receiver(Protocol):
    """Keeps what comes, until the other side closes."""

    transport: Any

    def __init__(self, max_size: int) -> None:
        self._data = bytearray()
        self._max_size = max_size
        self.received: Deferred[bytes] = Deferred(lambda _: self.transport.abortConnection())

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > self._max_size and not self.received.called:
            self.received.errback(BadResponse("The destination sent more than was asked for."))
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.received.called:
            return
        if isinstance(reason.value, ConnectionDone):
            self.received.callback(bytes(self._data))
        else:
            self.received.errback(OriginReset())


class _Probe(Protocol):
    """Greets a SOCKS server, and hangs up on its answer."""

    transport: Any

    def __init__(self) -> None:
        self._data = b""
        self.answer: Deferred[bool] = Deferred(lambda _: self.transport.abortConnection())

    def connectionMade(self) -> None:
        self.transport.write(GREETING)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) >= len(METHOD_ACCEPTED):
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.callback(self._data == METHOD_ACCEPTED)

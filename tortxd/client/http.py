"""HTTP through Tor, for programs that have a Tor running."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from io import IOBase
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred

from tortxd._types import Reactor
from tortxd.addresses import SocksAddress
from tortxd.client.gateway_carrier import GatewayCarrier, GatewayExchange
from tortxd.client.installed import installed
from tortxd.config import Config
from tortxd.errors import BadResponse
from tortxd.policy.directives import isolation_key
from tortxd.policy.steering import UNSTEERED, Steering, steering_for
from tortxd.relay.direct import DirectCarrier, DirectExchange
from tortxd.tor.isolation import IsolationKeys
from tortxd.tor.tls import ClientTls

if TYPE_CHECKING:
    from tortxd.client.treq_response import Response

T = TypeVar("T")


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
    :param ways: the connections, where others share them.
    :param steering: where requests leave Tor, and how often they are tried. To choose or keep an
        exit takes a key.
    """

    def __init__(
        self,
        config: Config | None = None,
        reactor: Reactor | None = None,
        *,
        keys: IsolationKeys | None = None,
        key: bytes | None = None,
        tls: ClientTls | None = None,
        ways: _Ways | None = None,
        steering: Steering = UNSTEERED,
    ) -> None:
        # treq takes long to import: not before it is needed.
        from tortxd.client.agent import TorAgent
        from tortxd.client.treq_client import TreqClient

        self.config = config or Config()
        self._reactor = installed(reactor)
        self._keys = keys or IsolationKeys()
        self._ways = ways or _Ways(
            self.config,
            self._reactor,
            self._keys,
            tls or ClientTls(verify=self.config.verify_tls),
        )
        by_gateway = not steering.choice.is_any or steering.sticky is not None
        self._treq = TreqClient(
            TorAgent(
                self._ways.by_gateway if by_gateway else self._ways.direct,
                self._keys,
                key=key,
                timeout=self.config.timeout,
                exchange=GatewayExchange if by_gateway else DirectExchange,
                steering=steering,
            )
        )

    def isolated(
        self,
        key: str | bytes,
        *,
        exit_country: str | Iterable[str] | None = None,
        exit: str | Iterable[str] | None = None,
        sticky: int | None = None,
        strict: bool = False,
        retry: int = 0,
    ) -> TorHttpClient:
        """A client all of whose requests use the isolation key ``key``: they may share circuits
        with one another, and never with anyone else's.

        To choose an exit takes Tor's control port. So where one is chosen or kept, the requests go
        through the daemon's gateway (``config.http_gateway_addr``), by CONNECT, and the key is one
        of this machine's clients; TLS ends at the destination all the same.

        :param key: 1 to 256 bytes, as UTF-8.
        :param exit_country: see :meth:`tortxd.TorService.agent`, as for the others.
        :raises BadRequest: the key, or one of them, is malformed.
        """
        return TorHttpClient(
            self.config,
            self._reactor,
            keys=self._keys,
            key=isolation_key(key),
            ways=self._ways,
            steering=steering_for(
                exit_country=exit_country, exit=exit, sticky=sticky, strict=strict, retry=retry
            ),
        )

    def request(self, method: str, url: str, **options: Any) -> Deferred[Response]:
        """Make a request.

        :param options: those of ``treq.request``: headers, params, data, json, files, auth,
            cookies, allow_redirects, unbuffered; and timeout, in seconds.
        """
        return self._treq.request(method, url, **options)

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

    async def _ask(self, url: str, name: str, kind: type[T]) -> T:
        response = await self.get(url, unbuffered=True)
        answer = await response.short_json()
        value = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(value, kind):
            raise BadResponse(f"The service that was asked did not say {name}.")
        return value


class _Ways:
    """The connections of a client, and of all those that it has isolated."""

    def __init__(
        self, config: Config, reactor: Reactor, keys: IsolationKeys, tls: ClientTls
    ) -> None:
        self.tls = tls
        self._config = config
        self._reactor = reactor
        self._keys = keys

    @cached_property
    def direct(self) -> DirectCarrier:
        """Those to Tor's SOCKS port."""
        return DirectCarrier(self._reactor, self._config.socks, self.tls, self._keys)

    @cached_property
    def by_gateway(self) -> GatewayCarrier:
        """Those through the gateway."""
        address = SocksAddress(*self._config.gateway)
        return GatewayCarrier(self._reactor, address, self.tls, self._keys, self._config.token)


def _with_body(body: Any, options: dict[str, Any]) -> dict[str, Any]:
    if body is None:
        return options
    return {("data" if isinstance(body, bytes | IOBase) else "json"): body, **options}


async def _json(asking: Deferred[Response]) -> Any:
    return await (await asking).json()

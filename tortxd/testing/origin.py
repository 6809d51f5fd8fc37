"""A small web server for the private network's clients to reach, which shows what reached it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import ServerFactory

from tortxd.testing import origin_routes
from tortxd.testing.certificates import issue
from tortxd.testing.model import INetworkReactor, Relay
from tortxd.testing.origin_http import Body, Canned, Connection, Reply, Request
from tortxd.testing.sockets import Address


class ExitOf(Protocol):
    """Says which exit relay made the connection that comes from a peer, or None."""

    def __call__(self, peer_host: str, peer_port: int, *, local: Address) -> Relay | None: ...


def _no_exit(peer_host: str, peer_port: int, *, local: Address) -> None:
    """Where there is no Tor network, no connection comes from one of its exits."""


class Origin:
    """An HTTP/1.1 server, plain and over TLS, on a loopback address.

    ===================  =======================================================================
    ``/``                a small page
    ``/echo``            JSON: method, target, headers, body (base64), its length and sha256
    ``/upload``          JSON: the body's length and sha256, of a body of any size, never stored
    ``/bytes/N``         N bytes of :func:`~tortxd.testing.origin_http.pattern`, with Content-Length
    ``/chunked/N``       the same, chunked
    ``/close/N``         the same, ended by the end of the connection
    ``/reset``           a body that breaks off with a TCP reset
    ``/status/CODE``     that status
    ``/redirect?to=X``   302, or ``&status=``, with that Location
    ``/head``            the request's head as it came
    ``/hang``            no answer at all
    ``/gzip``            the small page, gzipped
    ``/respond``         ``?status=``, ``&header=Name: value`` (repeated), ``&body=``
    ``/raw?...``         the percent-decoded query as the whole response, and the connection's end
    ``/ip``              ``{"ip": ...}``, as api.ipify.org says it
    ``/api/ip``          ``{"IsTor": ..., "IP": ...}``, as check.torproject.org says it
    ===================  =======================================================================

    The three bodies of size N take ``?cut=K``: K bytes are sent, then ``&ending=`` ``close`` (a
    FIN), ``abort`` (a reset) or ``hang``. ``canned`` holds whole responses by request target.

    Parameters: ``directory`` is where the CA's certificate is written; ``names`` are those that the
    certificate is for; ``exit_of`` says which exit made a connection
    (:meth:`~tortxd.testing.network.PrivateNetwork.exit_of`), so that the check service tells the
    truth; ``sites`` gives some names other routes than these.
    """

    def __init__(
        self,
        reactor: INetworkReactor,
        directory: Path,
        *,
        names: Sequence[str] = ("origin.test.example",),
        address: str = "127.0.0.1",
        exit_of: ExitOf = _no_exit,
        sites: Mapping[str, origin_routes.Routes] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.address = address
        self.ca_file = directory / "origin-ca.pem"
        """The CA that signed the certificate, for clients to trust; there once it is started."""
        self.http_port = 0
        self.https_port = 0
        self.canned: dict[bytes, Canned] = {}
        self.requests: list[Request] = []
        """Every request head that came, oldest first; clear it as you like."""
        self.connections: dict[int, Connection] = {}
        """Every connection that came, by its number, from 1."""
        self._reactor = reactor
        self._exit_of = exit_of
        self._sites = dict(sites or {})
        self._ports: list[IListeningPort] = []
        self._waiters: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def http(self) -> str:
        """The URL of the plain server, without a slash at the end."""
        return f"http://{self.names[0]}:{self.http_port}"

    @property
    def https(self) -> str:
        """The URL of the server over TLS, without a slash at the end."""
        return f"https://{self.names[0]}:{self.https_port}"

    async def start(self) -> None:
        """Listen. Raises CannotListenError when the address is not there."""
        issued = issue((*self.names, *self._sites, self.address), self.ca_file)
        plain = self._reactor.listenTCP(0, _Clients(self, tls=False), interface=self.address)
        self._ports.append(plain)
        secure = self._reactor.listenSSL(
            0, _Clients(self, tls=True), issued.context, interface=self.address
        )
        self._ports.append(secure)
        self.http_port, self.https_port = _port(plain), _port(secure)

    async def stop(self) -> None:
        """Stop listening, abort what is open, and wait until it is closed."""
        ports, self._ports = self._ports, []
        await gatherResults([maybeDeferred(port.stopListening) for port in ports])
        for connection in self.connections.values():
            if connection.open:
                connection.wire.abortConnection()
        for number in list(self.connections):
            await self.when_closed(number)
        self.ca_file.unlink(missing_ok=True)

    @property
    def open_connections(self) -> list[Connection]:
        """The connections that are open now."""
        return [one for one in self.connections.values() if one.open]

    def when_closed(self, number: int) -> Deferred[None]:
        """Fire when the connection with this number is closed."""
        return self._when(lambda: not self.connections[number].open)

    def when_requested(self, count: int) -> Deferred[None]:
        """Fire when ``requests`` holds at least so many."""
        return self._when(lambda: len(self.requests) >= count)

    def _when(self, true: Callable[[], bool]) -> Deferred[None]:
        if true():
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiters.append((true, waiter))
        return waiter

    def accept(self, tls: bool) -> Connection:
        """Make the protocol of a new connection."""
        number = len(self.connections) + 1
        connection = Connection(number, tls, self._answer, self._changed)
        self.connections[number] = connection
        return connection

    def _changed(self, request: Request | None) -> None:
        if request is not None:
            self.requests.append(request)
        waiting, self._waiters = self._waiters, []
        for true, waiter in waiting:
            if waiter.called:
                continue  # cancelled
            if true():
                waiter.callback(None)
            else:
                self._waiters.append((true, waiter))

    def _answer(self, connection: Connection, request: Request, body: Body) -> Reply | Canned:
        if request.target in self.canned:
            return self.canned[request.target]
        host = (request.header(b"host") or b"").decode("latin-1").partition(":")[0]
        routes = self._sites.get(host.lower())
        route, arguments, query = origin_routes.find(request.target, routes)

        def exit_of() -> Relay | None:
            return self._exit_of(*connection.peer, local=connection.local)

        asked = origin_routes.Asked(connection, request, body, arguments, query, exit_of)
        return route(asked)


class _Clients(ServerFactory):
    noisy = False

    def __init__(self, origin: Origin, *, tls: bool) -> None:
        self._origin = origin
        self._tls = tls

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        return self._origin.accept(self._tls)


def _port(listening: IListeningPort) -> int:
    where = listening.getHost()
    assert isinstance(where, IPv4Address)
    return where.port

"""A gateway over a SOCKS server of the tests' own, both ways in: no Tor is needed here."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
import pytest_twisted
from attrs import define, field, frozen
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from tests.socks_server import Served, SocksServer
from tests.web_client import Reply, Wire, ask, connect
from tortxd.config import SocksAddress
from tortxd.errors import ExitUnavailable, NotFound, TorTimeout
from tortxd.gateway.admission.policy import GatewayPolicy
from tortxd.gateway.front.listener import FrontFactory
from tortxd.gateway.gateway import Gateway as Core
from tortxd.policy.access import AccessPolicy
from tortxd.policy.headers import UserAgent
from tortxd.policy.steering import Choice
from tortxd.policy.target import TargetPolicy
from tortxd.testing import Origin
from tortxd.tor.budget import CircuitBudget
from tortxd.tor.changes import Bandwidth, C, CircuitChanged, Listeners
from tortxd.tor.figures import Figures
from tortxd.tor.isolation import Credentials
from tortxd.tor.link import Circuit, ExitLead, Relay, Stream
from tortxd.tor.records import Records
from tortxd.tor.status import Ready, Status
from tortxd.tor.tls import ClientTls

ORIGIN = "http://origin.test.example"
OPERATOR = b"the-operators-own-token"
EXIT = Relay("C" * 40, "exitnode", "192.0.2.7", "de")
CIRCUIT = Circuit("7", "BUILT", (Relay("A" * 40), Relay("B" * 40), EXIT), "GENERAL", 0.0, ("1",))


@define(eq=False)
class Lead:
    """A name that stands for a host by a certain exit."""

    host: str
    exit: str
    username: bytes
    unreachable: Callable[[], object]
    name: str
    anew: bool = False
    released: bool = False

    def release(self) -> None:
        self.released = True


@define
class FakeLink:
    """A Tor of which the test says how it is; it provides :class:`tortxd.tor.link.TorView`."""

    status: Status = field(factory=Ready)
    socks_address: SocksAddress | None = None
    network: str = "private"
    only_circuit: Circuit | None = CIRCUIT
    """The one that carries everything."""
    reason: str | None = "DONE"
    waiting: list[Deferred[SocksAddress]] = field(factory=list)
    carried: bool | None = None
    """What it says of IPv6 addresses."""
    renewed: int = 0
    renewing: Deferred[None] | None = None
    """When Tor has done its part of a new identity; None: at once."""
    budget: CircuitBudget | None = None
    """Of fresh circuits; nothing of them is known."""
    abandoned: list[tuple[str, int]] = field(factory=list)
    changes: Listeners = field(factory=Listeners)
    """Who listens to changes, which the test tells."""
    observers: list[Callable[[Status], None]] = field(factory=list)
    closed: list[str] = field(factory=list)
    """What was asked to be closed."""
    seconds: list[Bandwidth] = field(factory=list)
    said: Figures | None = field(factory=Figures)
    """What it says of itself; None: it does not answer."""
    pid: int | None = None
    runs: int = 1
    since: float = 0.0
    next_new_identity: float | None = 0.0
    exits: dict[str, str] = field(factory=dict)
    """The fingerprints of those that can be chosen, and the country of each."""
    leads: list[Lead] = field(factory=list)
    leading: Deferred[Any] | None = None
    """What it waits for before it leads anywhere."""

    def choose_exit(
        self, choice: Choice, host: str, port: int, avoiding: Collection[str] = ()
    ) -> Deferred[str]:
        found = [
            exit
            for exit, country in self.exits.items()
            if country in (choice.countries or (country,))
            and exit in (choice.fingerprints or (exit,))
        ]
        found.sort(key=lambda exit: exit in avoiding)
        return succeed(found[0]) if found else fail(ExitUnavailable())

    def has_exit(self, fingerprint: str, port: int, username: bytes) -> Deferred[bool]:
        return succeed(fingerprint in self.exits)

    def lead_to_exit(
        self,
        host: str,
        fingerprint: str,
        username: bytes,
        unreachable: Callable[[], object],
        *,
        anew: bool = False,
    ) -> Deferred[ExitLead]:
        lead = Lead(host, fingerprint, username, unreachable, f"lead{len(self.leads)}.onion", anew)
        self.leads.append(lead)
        if self.leading is None:
            return succeed(cast(ExitLead, lead))
        return self.leading.addCallback(lambda _: lead)

    def become(self, status: Status) -> None:
        """Have another status, and tell those who watch."""
        self.status = status
        for observer in list(self.observers):
            observer(status)

    def on_status(self, observer: Callable[[Status], None]) -> Callable[[], None]:
        self.observers.append(observer)
        return lambda: self.observers.remove(observer)

    def listen(self, kind: type[C], listener: Callable[[C], object]) -> Callable[[], None]:
        return self.changes.listen(kind, listener)

    def bandwidth(self) -> Sequence[Bandwidth]:
        return self.seconds

    def figures(self) -> Deferred[Figures]:
        return fail(TorTimeout()) if self.said is None else succeed(self.said)

    def circuit(self, id: str) -> Circuit | None:
        return next((one for one in self.circuits() if one.id == id), None)

    def owner(self, circuit: str) -> str | None:
        found = self.circuit(circuit)
        return None if found is None else found.username

    def describe(self, circuit: CircuitChanged) -> Circuit:
        return Records().describe(circuit)

    def stream(self, id: str) -> Stream | None:
        return next((one for one in self.streams() if one.id == id), None)

    def close_circuit(self, id: str) -> Deferred[None]:
        return self._close(id, known=self.circuit(id) is not None)

    def close_stream(self, id: str) -> Deferred[None]:
        return self._close(id, known=self.stream(id) is not None)

    def _close(self, id: str, *, known: bool) -> Deferred[None]:
        if not known:
            return fail(NotFound())
        self.closed.append(id)
        return succeed(None)

    def when_usable(self) -> Deferred[SocksAddress]:
        if self.socks_address is not None:
            return succeed(self.socks_address)
        waiting: Deferred[SocksAddress] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def circuits(self) -> Sequence[Circuit]:
        return [] if self.only_circuit is None else [self.only_circuit]

    def streams(self) -> Sequence[Stream]:
        return [Stream("1", "SUCCEEDED", "7", "a.example:80", None, 0.0)]

    def circuit_of(self, source: tuple[str, int]) -> Circuit | None:
        return self.only_circuit

    def close_reason(self, source: tuple[str, int], timeout: float) -> Deferred[str | None]:
        return succeed(self.reason)

    def close_abandoned(self, source: tuple[str, int], username: bytes) -> None:
        self.abandoned.append(source)

    def exits_carry(self, host: str, port: int) -> Deferred[bool | None]:
        return succeed(self.carried)

    def admit(self, credentials: Credentials, within: float) -> Deferred[None] | None:
        if self.budget is None:
            return None
        return self.budget.admit(credentials, lambda _: None, within)

    def opened(self, credentials: Credentials, *, reached: bool | None) -> None:
        if self.budget is not None:
            self.budget.opened(credentials, reached=reached)

    def new_identity(self) -> Deferred[None]:
        self.renewed += 1
        return self.renewing or succeed(None)


@define
class Gateway:
    """Everything around one gateway."""

    reactor: Any
    link: FakeLink
    origin: Origin
    socks: SocksServer
    core: Core
    factory: FrontFactory
    ports: dict[str, int]
    way: str = "front"

    @property
    def port(self) -> int:
        """Where the way in listens."""
        return self.ports[self.way]

    def path(self, target: str) -> str:
        """The path of ``/proxy`` for a path of the origin, or for a whole URL."""
        url = target if target.startswith("http") else f"http://origin.test.example{target}"
        return "/proxy?url=" + quote(url, safe="")

    async def fetch(self, target: str, *headers: str, **options: Any) -> Reply:
        """Ask for a target through ``/proxy``."""
        return await self.ask(self.path(target), *headers, **options)

    async def ask(self, path: str, *headers: str, **options: Any) -> Reply:
        """Ask the gateway itself."""
        return await ask(self.reactor, self.port, path, *headers, **options)

    async def heard(self, served: Served, number: int = 1) -> None:
        """Wait until a destination that the SOCKS server plays has had this many requests' heads,
        and so its answer may follow."""
        await deferLater(self.reactor, 0)  # first, it answers itself
        while served.received.count(b"\r\n\r\n") < number:
            await deferLater(self.reactor, 0)

    async def connect(self, source: str | None = None) -> Wire:
        """A connection to send raw bytes on, from this address."""
        return await connect(self.reactor, self.port, source)


def port_of(listening: Any) -> int:
    """The port number of a listening port."""
    number: int = listening.getHost().port
    return number


@implementer(ILogObserver)
@define
class Failures:
    """Collects what was logged as a failure."""

    failures: list[str] = field(factory=list)

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            self.failures.append(event["log_failure"].getTraceback())


@implementer(ILogObserver)
@define
class Warnings:
    """Collects what the gateway's port warns of."""

    lines: list[str] = field(factory=list)

    def __call__(self, event: LogEvent) -> None:
        if event["log_namespace"] == "tortxd.gateway.front.listener":
            assert event["log_level"].name == "warn"
            self.lines.append(event["text"])


@pytest.fixture
def warnings() -> Iterator[Warnings]:
    warnings = Warnings()
    globalLogPublisher.addObserver(warnings)
    yield warnings
    globalLogPublisher.removeObserver(warnings)


Policy = Callable[..., GatewayPolicy]


def policy(**changes: Any) -> GatewayPolicy:
    """The gateway's policy, as it is by default but for ``changes``."""
    access = changes.pop("access", AccessPolicy(operator_token=OPERATOR))
    return GatewayPolicy(access, TargetPolicy(), UserAgent.of("auto"), **changes)


@pytest.fixture
def make_policy() -> Policy:
    return policy


@pytest_twisted.async_yield_fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose front and whose klein site listen on ports of their own."""
    from twisted.internet import reactor as installed

    from tortxd.gateway.control.app import Api

    gc.freeze()  # what there is already need not be looked through at the end
    logged = Failures()
    globalLogPublisher.addObserver(logged)
    reactor: Any = installed
    origin = Origin(reactor, tmp_path)
    await origin.start()
    socks = SocksServer(reactor, origin.http_port)
    socks_port = reactor.listenTCP(0, socks, interface="127.0.0.1")
    link = FakeLink(socks_address=SocksAddress("127.0.0.1", port_of(socks_port)))
    core = Core(reactor, link, policy(timeout=5.0))
    api = Api(core, "http://origin.test.example/api/ip", "http://origin.test.example/ip")
    factory = FrontFactory(core, lambda: api)
    front_port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    site = api.site()
    site_port = reactor.listenTCP(0, site, interface="127.0.0.1")
    ports = {"front": port_of(front_port), "site": port_of(site_port)}
    yield Gateway(reactor, link, origin, socks, core, factory, ports)
    for port in (front_port, site_port, socks_port):
        await maybeDeferred(port.stopListening)
    for front in list(factory.connections):
        front.transport.abortConnection()
    core.stop()
    await origin.stop()
    # A failure that was only logged is one all the same.
    gc.collect()
    assert not logged.failures
    globalLogPublisher.removeObserver(logged)


@pytest.fixture(params=["front", "site"])
def either(request: pytest.FixtureRequest, gateway: Gateway) -> Gateway:
    """The gateway by one way in, then by the other."""
    gateway.way = request.param
    return gateway


@frozen
class Way:
    """One way to have the gateway ask for a URL."""

    gateway: Gateway
    absolute: bool

    async def send(
        self, method: str, url: str, *headers: str, body: bytes = b"", version: str = "1.1"
    ) -> Wire:
        """Send a request for ``url``, of which neither is encoded further than it is."""
        target = url if self.absolute else "/proxy?url=" + url
        lines = [f"{method} {target} HTTP/{version}", "Host: localhost", *headers, "", ""]
        wire = await self.gateway.connect()
        wire.send("\r\n".join(lines).encode() + body)
        return wire

    async def ask(self, method: str, path: str, *headers: str, body: bytes = b"") -> Reply:
        """The answer to a request for ``path`` of the origin."""
        url = ORIGIN + path
        wire = await self.send(
            method, url if self.absolute else quote(url, safe=""), *headers, body=body
        )
        return await wire.reply(method.encode())


@pytest.fixture(params=["front", "site", "absolute"])
def way(request: pytest.FixtureRequest, gateway: Gateway) -> Way:
    """``/proxy`` on the gateway's own port and in a Site, then absolute-form."""
    gateway.way = "site" if request.param == "site" else "front"
    return Way(gateway, request.param == "absolute")


@pytest.fixture
def secure(either: Gateway) -> Gateway:
    """The gateway, before an origin over TLS whose authority it trusts."""
    either.socks.origin = either.origin.https_port
    either.core.tls = ClientTls()
    either.core.tls.context.load_verify_locations(str(either.origin.ca_file))
    return either

"""How much is served at once, and for whom: connections, requests that are carried, and the part
of both that one client may have."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from attrs import define, evolve, field
from pytest_twisted import ensureDeferred
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.internet.threads import deferToThread

from tests.gateway.asking import in_memory
from tests.gateway.conftest import OPERATOR, Gateway, Warnings, port_of
from tests.gateway.handshakes import handshake
from tests.web_client import Reply, Wire, connect_to
from tortxd.gateway.front import connection
from tortxd.gateway.front.connections import LONG_IDLE, Connections
from tortxd.gateway.front.proxy_protocol import Introductions
from tortxd.gateway.limits import Limits
from tortxd.gateway.load import Client, Load, client_name
from tortxd.relay.timeouts import Timeouts
from tortxd.tor.status import Launching

ALICE, BOB, CAROL = "127.0.0.2", "127.0.0.3", "127.0.0.4"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
PLACES = 100


# --- how many one client may have -----------------------------------------------------------------


def as_many_as_may_be(limits: Limits, clients: int, places: int = PLACES) -> list[int]:
    """What so many clients get that take turns until none may have another."""
    own = [0] * clients
    while True:
        before = sum(own)
        for one in range(clients):
            own[one] += limits.may_have_one_more(places, sum(own), own[one])
        if sum(own) == before:
            return own


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("clients", [1, 2, 3, 5])
def test_who_is_alone_has_its_share_and_others_always_find_a_place(
    share: float, clients: int
) -> None:
    own = as_many_as_may_be(Limits(share=share), clients)
    if clients == 1:
        assert own == [PLACES * share]
    assert max(own) - min(own) <= 1
    assert Limits(share=share).may_have_one_more(PLACES, sum(own), 0)


def test_many_who_want_little_have_all_places() -> None:
    limits = Limits(share=0.75)
    assert as_many_as_may_be(limits, PLACES) == [1] * PLACES
    assert sum(as_many_as_may_be(limits, PLACES // 2)) == PLACES


def test_a_share_of_1_is_all() -> None:
    assert as_many_as_may_be(Limits(share=1.0), 1) == [PLACES]


@pytest.mark.parametrize("places", [1, 2])
def test_of_very_few_places_one_client_may_have_all(places: int) -> None:
    assert as_many_as_may_be(Limits(), 1, places) == [places]


def ipv6(host: str) -> IPv6Address:
    return IPv6Address("TCP", host, 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (IPv4Address("TCP", ALICE, 1), IPv4Address("TCP", ALICE, 2), True),
        (IPv4Address("TCP", ALICE, 1), IPv4Address("TCP", BOB, 1), False),
        (IPv4Address("TCP", "127.0.0.1", 1), ipv6("::1"), False),
        (ipv6("2001:db8::1"), ipv6("2001:db8::ffff:1"), True),
        (ipv6("2001:db8::1"), ipv6("2001:db8:0:1::1"), False),
        (ipv6("fe80::1%eth0"), ipv6("fe80::2%eth0"), True),
        (ipv6("::ffff:192.0.2.1"), IPv4Address("TCP", "192.0.2.1", 1), True),
        (ipv6("::ffff:192.0.2.1"), ipv6("::ffff:192.0.2.2"), False),
        (UNIXAddress(None), UNIXAddress("/run/client"), True),
    ],
)
def test_who_is_one_client(one: IAddress, other: IAddress, same: bool) -> None:
    assert (client_name(one) == client_name(other)) is same


# --- connections, in memory -----------------------------------------------------------------------


@define(eq=False)
class Connection:
    """A connection of some client's."""

    client: Client
    others: list[Connections[Any]]
    busy: bool = False
    left: bool = False

    def make_room(self) -> None:
        self.left = True
        self.others[0].gone(self)

    leave = give_up = abort = make_room


@define
class Port:
    """What clients connect to."""

    limits: Limits = field(factory=lambda: Limits(clients=8))
    clock: Clock = field(factory=Clock)
    full: list[bool] = field(factory=list)
    """Each time that there was no place for anybody."""
    load: Load = field(init=False)
    connections: Connections[Connection] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.load = Load(lambda: self.limits, lambda: self.full.append(True))
        timeouts = Timeouts(self.clock)
        self.connections = Connections(timeouts, lambda: self.limits, self.load, lambda: None)

    def connects(self, name: str, *, idle: bool = False) -> Connection | None:
        """A connection of this client's; None: refused, and it has left."""
        one = Connection(self.load.client(name.encode()), [self.connections])
        if self.connections.admit(one) is not None:
            self.connections.gone(one)
            return None
        if idle:
            self.connections.is_idle(one)
        return one

    def all_of(self, name: str, number: int, *, idle: bool = False) -> list[Connection]:
        """So many, none of which is refused."""
        opened = [self.connects(name, idle=idle) for _ in range(number)]
        assert None not in opened
        return [one for one in opened if one is not None]


@pytest.fixture
def port() -> Port:
    return Port()


def test_one_client_has_its_share_of_connections_and_no_more(port: Port) -> None:
    own = port.all_of("alice", 6)
    assert port.connects("alice") is None
    assert port.connects("bob") is not None
    port.connections.gone(own[0])
    port.connections.gone(own[1])
    assert port.connects("alice") is not None


def test_a_share_that_is_used_up_does_not_make_it_full(port: Port) -> None:
    port.all_of("alice", 6)
    assert port.connects("alice") is None
    assert not port.full
    for name in ("bob", "carol"):
        port.all_of(name, 1)
    assert port.connects("dave") is None
    assert port.full


def test_nothing_is_kept_of_who_has_left(port: Port) -> None:
    for name in ("alice", "alice", "bob"):
        one = port.connects(name)
        assert one is not None
        port.connections.gone(one)
    own = port.all_of("carol", 6)
    assert port.connects("carol") is None
    assert len(port.load) == 1
    for one in own:
        port.connections.gone(one)
    assert len(port.load) == port.load.connections == 0


def test_who_is_over_its_share_loses_one_of_its_own_that_has_long_been_idle(port: Port) -> None:
    theirs = port.all_of("bob", 1, idle=True)
    own = port.all_of("alice", 6, idle=True)
    assert port.connects("alice") is None, "it has only just come"
    port.clock.advance(LONG_IDLE)
    assert port.connects("alice") is not None
    assert [one.left for one in own] == [True] + [False] * 5
    assert not theirs[0].left, "it has less"


def test_who_has_less_takes_the_place_of_who_has_been_idle_longest(port: Port) -> None:
    own = port.all_of("alice", 1, idle=True)
    for name in "bcdefgh":
        port.all_of(name, 1)
    port.clock.advance(LONG_IDLE)
    assert port.connects("late") is not None
    assert own[0].left


def front_from(gateway: Gateway, address: IAddress) -> StringTransportWithDisconnection:
    """A connection from there, in memory."""
    front = gateway.factory.buildProtocol(None)
    assert front is not None
    transport = StringTransportWithDisconnection(peerAddress=address)
    transport.protocol = front
    front.makeConnection(transport)  # type: ignore[no-untyped-call]
    return transport


@ensureDeferred
async def test_peers_are_told_apart_where_they_connect(gateway: Gateway) -> None:
    gateway.core.limits = Limits(clients=4)
    alice, bob, carol = (
        IPv4Address("TCP", "127.0.0.1", 1),
        IPv4Address("TCP", "127.0.0.2", 1),
        ipv6("::1"),
    )
    transports = [front_from(gateway, alice) for _ in range(4)]
    transports[3].protocol.dataReceived(HEALTH)
    assert transports[3].value().startswith(b"HTTP/1.1 503 ")
    assert b"from this address" in transports[3].value()
    # One place is left: for one of the two that come now.
    transports += [front_from(gateway, bob), front_from(gateway, carol)]
    for transport, name in zip(transports[4:], (b"127.0.0.2", b"::1"), strict=True):
        transport.protocol.dataReceived(HEALTH)
        assert (b"503" in transport.value()) is (name == b"::1")
    for transport in transports:
        if transport.connected:
            transport.loseConnection()
    assert gateway.core.load.connections == len(gateway.core.load) == 0


# --- requests -------------------------------------------------------------------------------------

TARGET = "http://origin.test.example/hang"
WAYS = ["proxy", "absolute-form", "connect", "websocket"]


def request(gateway: Gateway, way: str) -> bytes:
    """One that goes on until its client leaves."""
    if way == "connect":
        return connect_to("origin.test.example:80")
    if way == "websocket":
        return handshake("ws://origin.test.example/hang")
    target = gateway.path(TARGET) if way == "proxy" else TARGET
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def carried(gateway: Gateway, way: str, source: str | None = None) -> Wire:
    """A client whose request is under way."""
    wire = await gateway.connect(source)
    number = len(gateway.socks.served) + 1
    wire.send(request(gateway, way))
    await gateway.socks.asked(number)
    return wire


async def refused(gateway: Gateway, way: str, source: str | None = None) -> Reply:
    """The answer to one that is too many."""
    wire = await gateway.connect(source)
    wire.send(request(gateway, way))
    reply = await wire.reply()
    wire.transport.abortConnection()
    await wire.lost
    assert (reply.status, reply.json["code"]) == (503, "overloaded")
    assert reply["Tortxd-Error"] == "overloaded"
    assert reply["Retry-After"] == "5"
    assert reply["Proxy-Status"].startswith("tortxd; error=connection_limit_reached")
    return reply


async def leave(gateway: Gateway, *wires: Wire) -> None:
    """The gateway has noticed when it is done."""
    left = gateway.core.load.requests - len(wires)
    for wire in wires:
        wire.transport.abortConnection()
    await count_of(gateway, left)


async def count_of(gateway: Gateway, requests: int) -> None:
    """Wait until so many requests are being carried."""
    deadline = gateway.reactor.seconds() + 20.0
    while gateway.core.load.requests != requests:
        assert gateway.reactor.seconds() < deadline
        await deferLater(gateway.reactor, 0)


@pytest.fixture
def unanswering(gateway: Gateway) -> Gateway:
    """A gateway whose destinations never answer, for two requests at once."""
    gateway.socks.origin = None
    gateway.core.limits = Limits(requests=2, share=1.0)
    return gateway


@pytest.mark.parametrize("way", WAYS)
@ensureDeferred
async def test_requests_past_the_limit_are_refused_and_then_served_again(
    unanswering: Gateway, way: str
) -> None:
    gateway = unanswering
    first, second = await carried(gateway, way), await carried(gateway, "connect")
    reply = await refused(gateway, way)
    assert "as many requests as it can" in reply.json["error"]
    # Those that go nowhere are answered meanwhile.
    assert (await gateway.ask("/health")).status == 200
    counted: Any = "proxy" if way == "websocket" else way
    assert gateway.core.journal.counts[counted, "overloaded"] == 1
    await leave(gateway, first)
    third = await carried(gateway, way)
    await leave(gateway, second, third)
    assert gateway.core.load.requests == 0


@ensureDeferred
async def test_a_connection_goes_on_after_a_request_that_was_too_many(gateway: Gateway) -> None:
    gateway.core.limits = Limits(requests=1)
    busy = await carried(gateway, "proxy")
    wire = await gateway.connect()
    ask = f"GET {gateway.path('/bytes/5')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    wire.send(ask)
    assert (await wire.reply()).status == 503
    await leave(gateway, busy)
    for _ in range(3):
        wire.send(ask)
        assert (await wire.reply()).status == 200
    assert gateway.core.load.requests == 0


@pytest.mark.parametrize("way", ["proxy", "connect"])
@ensureDeferred
async def test_one_client_has_its_share_of_requests(unanswering: Gateway, way: str) -> None:
    gateway = unanswering
    gateway.core.limits = Limits(requests=4, share=0.75)
    wires = [await carried(gateway, way, ALICE) for _ in range(3)]
    reply = await refused(gateway, way, ALICE)
    assert "one client" in reply.json["error"]
    wires.append(await carried(gateway, way, BOB))
    await refused(gateway, way, CAROL)
    await leave(gateway, *wires[:2])
    await carried(gateway, way, ALICE)


@ensureDeferred
async def test_requests_in_a_site_count_too(unanswering: Gateway) -> None:
    gateway = unanswering
    gateway.way = "site"
    wires = [await carried(gateway, "proxy"), await carried(gateway, "websocket")]
    await refused(gateway, "proxy")
    await leave(gateway, wires[0])
    wires[0] = await carried(gateway, "proxy")
    await leave(gateway, *wires)
    assert len(gateway.core.load) == 0


@ensureDeferred
async def test_requests_that_wait_for_tor_have_their_places(unanswering: Gateway) -> None:
    """So what waits is bounded; and each waits no longer than its time."""
    gateway = unanswering
    address, gateway.link.socks_address = gateway.link.socks_address, None
    gateway.link.status = Launching()
    ask = f"GET {gateway.path(TARGET)} HTTP/1.1\r\nHost: localhost\r\nTortxd-Timeout: "
    wires = []
    for seconds in ("0.2", "5"):
        wires.append(await gateway.connect())
        wires[-1].send(f"{ask}{seconds}\r\n\r\n".encode())
    await count_of(gateway, 2)
    await refused(gateway, "proxy")
    reply = await wires[0].reply()
    assert (reply.status, reply.json["code"]) == (503, "tor_not_ready")
    assert gateway.core.load.requests == 1
    gateway.link.socks_address = address
    await leave(gateway, wires[1])


# --- told even where there is no room -------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@ensureDeferred
async def test_who_is_one_too_many_still_hears_that_the_daemon_lives(
    gateway: Gateway, method: str
) -> None:
    """Else an orchestrator would restart it for being busy."""
    gateway.core.limits = Limits(clients=0)
    wire = await gateway.connect()
    wire.send(f"{method} /health?live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    reply = await wire.reply(method.encode())
    assert (reply.status, reply["Connection"]) == (200, "close")
    await wire.lost
    assert (await gateway.ask("/health")).status == 503


@ensureDeferred
async def test_operators_get_metrics_where_there_is_no_room(gateway: Gateway) -> None:
    gateway.core.limits = Limits(clients=0)
    reply = await gateway.ask("/metrics", f"Tortxd-Token: {OPERATOR.decode()}")
    assert reply.status == 200
    assert (await gateway.ask("/metrics")).status == 401
    assert (await gateway.ask("/health?live", method="POST", body=b"x")).status == 503


# --- clients that ask for nothing -----------------------------------------------------------------


@ensureDeferred
async def test_clients_that_ask_for_nothing_keep_no_other_out(gateway: Gateway) -> None:
    """They come faster than they are refused, and stay as long as they may."""
    gateway.core.limits = Limits(clients=40)
    silent: list[socket.socket] = []

    def crowd(number: int) -> None:
        for _ in range(number):
            client = socket.socket()
            client.bind((ALICE, 0))
            client.connect(("127.0.0.1", gateway.port))
            silent.append(client)

    for _ in range(3):
        await deferToThread(crowd, 50)
        asking = Deferred.fromCoroutine(gateway.fetch("/bytes/5", source=BOB))
        assert (await asking.addTimeout(20.0, gateway.reactor)).status == 200
    assert gateway.core.load.client(client_name(IPv4Address("TCP", ALICE, 1))).connections == 30
    for client in silent:
        client.close()


@ensureDeferred
async def test_refusals_are_hurried_where_there_are_many(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.core.limits = Limits(clients=0)
    _, clock, first = in_memory(gateway)
    others = [front_from(gateway, IPv4Address("TCP", ALICE, 1)) for _ in range(20)]
    clock.advance(connection.HURRIED_REFUSAL_TIME)
    assert not first.value()
    assert [bool(one.value()) for one in others] == [False] * 15 + [True] * 5
    clock.advance(connection.REFUSAL_TIME)
    assert all(one.value().startswith(b"HTTP/1.1 503 ") for one in (first, *others))


# --- behind a proxy -------------------------------------------------------------------------------


@ensureDeferred
async def test_a_proxy_that_says_who_connects_is_no_client(gateway: Gateway) -> None:
    """The PROXY protocol: each of its clients has a share of its own, and is a caller."""
    gateway.core.limits = Limits(clients=4)
    factory = Introductions(gateway.reactor, gateway.factory)
    port = gateway.reactor.listenTCP(0, factory, interface="127.0.0.1")
    gateway.ports["haproxy"] = port_of(port)
    gateway.way = "haproxy"

    async def ask(source: str, path: str = gateway.path("/bytes/5")) -> Reply:
        wire = await gateway.connect()
        wires.append(wire)
        wire.send(f"PROXY TCP4 {source} 192.0.2.9 1 2\r\n".encode())
        wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return await wire.reply()

    wires: list[Wire] = []
    assert [(await ask("192.0.2.1")).status for _ in range(3)] == [200] * 3
    reply = await ask("192.0.2.1")
    assert (reply.status, reply.json["code"]) == (503, "overloaded")
    assert (await ask("192.0.2.2")).status == 200
    assert gateway.socks.served[0].username != gateway.socks.served[-1].username
    await wires[3].lost
    for wire in wires:
        wire.transport.abortConnection()
    await gatherResults([wire.lost for wire in wires])
    await port.stopListening()


# --- sizes and times ------------------------------------------------------------------------------


@ensureDeferred
async def test_heads_are_bounded_as_it_was_set(gateway: Gateway) -> None:
    gateway.core.limits = evolve(gateway.core.limits, head_size=8192)
    assert (await gateway.ask("/health", "A: " + "a" * 7000)).status == 200
    reply = await gateway.ask("/health", "A: " + "a" * 8192)
    assert (reply.status, reply.json["code"]) == (431, "too_large")
    assert (await gateway.ask("/health?" + "a" * 4200)).status == 414


@ensureDeferred
async def test_times_are_as_they_were_set(gateway: Gateway) -> None:
    gateway.core.limits = evolve(gateway.core.limits, head_time=3.0, idle_time=20.0)
    _, clock, transport = in_memory(gateway)
    clock.advance(19.9)
    transport.protocol.dataReceived(b"GET / HT")
    clock.advance(2.9)
    assert not transport.value()
    clock.advance(0.1)
    assert transport.value().startswith(b"HTTP/1.1 408 ")
    _, clock, idle = in_memory(gateway)
    clock.advance(19.9)
    assert idle.connected
    clock.advance(0.1)
    assert not idle.connected


# --- what the log says ----------------------------------------------------------------------------


@ensureDeferred
async def test_the_log_says_it_once_a_minute_and_names_nobody(
    gateway: Gateway, warnings: Warnings
) -> None:
    gateway.core.limits = Limits(clients=4, requests=1)
    wires = [await carried(gateway, "proxy", ALICE)]
    for _ in range(3):
        await refused(gateway, "proxy", BOB)
    for _ in range(2):
        wires.append(await gateway.connect(ALICE))
    await refused(gateway, "proxy", ALICE)
    await refused(gateway, "proxy", ALICE)
    wires.append(await gateway.connect(BOB))
    await refused(gateway, "proxy", CAROL)
    assert warnings.lines == [
        "Requests are refused (503 overloaded): as many are under way as may be.",
        "Connections are refused (503 overloaded) to a client that has its share.",
        "Connections are refused (503 overloaded): as many are open as may be.",
    ]
    for wire in wires:
        wire.transport.abortConnection()
    gateway.factory._repeats.flush()

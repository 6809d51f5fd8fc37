"""Connections that a balancer introduces, by the PROXY protocol."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from attrs import define
from pytest_twisted import ensureDeferred
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from tests.gateway.asking import in_memory
from tests.gateway.conftest import ORIGIN, Gateway, port_of
from tests.web_client import Reply, Wire, connect_to
from tortxd.errors import BadRequest
from tortxd.gateway.front.proxy_protocol import (
    HEADER_TIME,
    Introduction,
    Introductions,
    read_header,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ADDED = b"\x04\x00\x03abc"
"""A field that may follow the addresses (section 2.2.7, PP2_TYPE_NOOP)."""


def v2(command: int, family: int, said: bytes) -> bytes:
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack("!H", len(said)) + said


def inet(source: str, port: int = 4000) -> bytes:
    packed = socket.inet_aton(source) + socket.inet_aton("192.0.2.9")
    return packed + struct.pack("!HH", port, 80)


def inet6(source: str, port: int = 4000) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6, source) + bytes(16)
    return packed + struct.pack("!HH", port, 80)


HEADERS: list[tuple[bytes, IAddress | None]] = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 4000 80\r\n", IPv4Address("TCP", "192.0.2.1", 4000)),
    (b"PROXY TCP6 2001:DB8::1 ::1 4000 80\r\n", IPv6Address("TCP", "2001:db8::1", 4000)),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 4000 80\r\n", IPv4Address("TCP", "192.0.2.1", 4000)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff anything 65535\r\n", None),
    (v2(1, 0x11, inet("192.0.2.1")), IPv4Address("TCP", "192.0.2.1", 4000)),
    (v2(1, 0x11, inet("192.0.2.1") + ADDED), IPv4Address("TCP", "192.0.2.1", 4000)),
    (v2(1, 0x21, inet6("2001:db8::1")), IPv6Address("TCP", "2001:db8::1", 4000)),
    (v2(1, 0x21, inet6("::ffff:192.0.2.1")), IPv4Address("TCP", "192.0.2.1", 4000)),
    (v2(1, 0x31, bytes(216)), UNIXAddress(None)),
    (v2(1, 0x00, b""), None),
    (v2(0, 0x00, b""), None),
    (v2(0, 0x11, inet("192.0.2.1")), None),
]


@pytest.mark.parametrize(("data", "source"), HEADERS)
def test_what_a_balancer_says_is_understood(data: bytes, source: IAddress | None) -> None:
    for size in range(len(data)):
        assert read_header(data[:size]) is None
    header = read_header(data + b"GET /")
    assert header is not None
    assert (header.size, header.source) == (len(data), source)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4000 80\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4000 80 \r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 x 80\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 123456 80\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 70000 80\r\n",
        b"PROXY TCP4 192.0.2 192.0.2.9 4000 80\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 4000 80\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.9 4000 80\r\n",
        b"PROXY TCP4 canary.example 192.0.2.9 4000 80\r\n",
        b"PROXY TCP4 \xff 192.0.2.9 4000 80\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.9 4000 80\r\n",
        b"PROXY UNKNOWN " + b"x" * 120,
        v2(2, 0x11, inet("192.0.2.1")),
        v2(1, 0x11, inet("192.0.2.1")[:8]),
        v2(1, 0x21, inet("192.0.2.1")),
        v2(1, 0x41, bytes(300)),
        v2(1, 0x31, bytes(100)),
        SIGNATURE + b"\x31\x11" + struct.pack("!H", 12) + inet("192.0.2.1"),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        read_header(data)
    assert "canary" not in str(caught.value)


# --- over a gateway -------------------------------------------------------------------------------


@define
class Behind:
    """A gateway's port for a balancer."""

    gateway: Gateway
    wires: list[Wire]

    async def connect(self, header: bytes) -> Wire:
        wire = await self.gateway.connect()
        self.wires.append(wire)
        wire.send(header)
        return wire

    async def ask(self, header: bytes, path: str, *headers: str) -> Reply:
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
        wire = await self.connect(header + "\r\n".join(lines).encode())
        return await wire.reply()


@pytest_twisted.async_yield_fixture
async def behind(gateway: Gateway) -> AsyncIterator[Behind]:
    factory = Introductions(gateway.reactor, gateway.factory)
    port = gateway.reactor.listenTCP(0, factory, interface="127.0.0.1")
    gateway.ports["balancer"] = port_of(port)
    gateway.way = "balancer"
    one = Behind(gateway, [])
    yield one
    for wire in one.wires:
        wire.transport.abortConnection()
        await wire.lost
    await port.stopListening()
    assert factory.waiting == 0


def of(source: str) -> bytes:
    return f"PROXY TCP4 {source} 192.0.2.9 4000 80\r\n".encode()


@ensureDeferred
async def test_isolation_goes_by_who_the_balancer_says(behind: Behind) -> None:
    path = behind.gateway.path("/bytes/5")
    for header in (of("192.0.2.1"), of("192.0.2.2"), v2(1, 0x11, inet("192.0.2.1"))):
        assert (await behind.ask(header, path, "Tor-Stream-Isolation: k")).status == 200
    first, second = (one.username for one in behind.gateway.socks.served)
    assert first != second  # and the third was served on the first one's connection


@ensureDeferred
async def test_the_control_plane_goes_by_it_too(behind: Behind) -> None:
    """New circuits for a key are for that caller's own."""
    path = behind.gateway.path("/bytes/5")
    for source in ("192.0.2.1", "192.0.2.2"):
        await behind.ask(of(source), path, "Tor-Stream-Isolation: k")
    body = b'{"isolation": "k"}'
    head = f"POST /identity/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    wire = await behind.connect(of("192.0.2.1") + head.encode() + body)
    assert (await wire.reply()).status == 200
    served = behind.gateway.socks.served
    assert len(served) == 2
    await behind.ask(of("192.0.2.2"), path, "Tor-Stream-Isolation: k")
    assert len(served) == 2
    await behind.ask(of("192.0.2.1"), path, "Tor-Stream-Isolation: k")
    assert len(served) == 3
    assert served[2].username not in (served[0].username, served[1].username)


@ensureDeferred
async def test_the_balancer_asks_for_itself(behind: Behind) -> None:
    for header in (v2(0, 0x00, b""), b"PROXY UNKNOWN\r\n"):
        assert (await behind.ask(header, "/health")).status == 200


@ensureDeferred
async def test_who_comes_without_a_balancer_is_told_so(behind: Behind) -> None:
    """Rule 30."""
    reply = await behind.ask(b"", "/health")
    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    assert "PROXY protocol" in reply.json["error"]


@ensureDeferred
async def test_nobody_can_say_who_he_is_where_that_is_not_asked_for(gateway: Gateway) -> None:
    for header in (of("192.0.2.1"), v2(1, 0x11, inet("192.0.2.1"))):
        wire = await gateway.connect()
        wire.send(header + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reply = await wire.reply()
        wire.transport.abortConnection()
        assert reply.status == 400
    path = gateway.path("/bytes/5")
    for claim in ("X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.2", "X-Real-IP: 192.0.2.3"):
        await gateway.ask(path, claim, "Tor-Stream-Isolation: k")
    assert len(gateway.socks.served) == 1


@ensureDeferred
async def test_a_second_header_is_no_request(behind: Behind) -> None:
    reply = await behind.ask(of("192.0.2.1") + of("192.0.2.2"), "/health")
    assert reply.status == 400


@ensureDeferred
async def test_a_client_that_has_no_more_to_say_in_a_tunnel_has_not_left(behind: Behind) -> None:
    """Rule 18."""
    wire = await behind.connect(
        of("192.0.2.1") + connect_to(ORIGIN.removeprefix("http://") + ":80")
    )
    await wire.when_came(b"\r\n\r\n")
    wire.send(b"GET /bytes/300000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    wire.transport.loseWriteConnection()
    await wire.lost
    assert len(wire.raw) > 300_000


def introduced(
    gateway: Gateway, most: int = 1000
) -> tuple[Introductions, Clock, StringTransportWithDisconnection]:
    """A connection in memory that is not introduced yet."""
    front, clock, _ = in_memory(gateway)
    factory = Introductions(clock, front, most)
    transport = StringTransportWithDisconnection()
    protocol = factory.buildProtocol(None)
    assert isinstance(protocol, Introduction)
    transport.protocol = protocol
    protocol.makeConnection(transport)  # type: ignore[no-untyped-call]
    return factory, clock, transport


@ensureDeferred
async def test_a_header_must_come_in_time(gateway: Gateway) -> None:
    factory, clock, transport = introduced(gateway)
    transport.protocol.dataReceived(b"PROXY TCP4 ")
    clock.advance(HEADER_TIME - 0.1)
    assert (transport.value(), factory.waiting) == (b"", 1)
    clock.advance(0.1)
    assert transport.value().startswith(b"HTTP/1.1 408 ")
    assert factory.waiting == 0


@ensureDeferred
async def test_a_header_may_come_in_pieces(gateway: Gateway) -> None:
    factory, _, transport = introduced(gateway)
    for byte in of("192.0.2.1") + b"GET / HTTP/1.1\r\n\r\n":
        transport.protocol.dataReceived(bytes([byte]))
    assert transport.value().startswith(b"HTTP/1.1 400 ")
    assert b"Host" in transport.value()
    assert factory.waiting == 0


@ensureDeferred
async def test_no_more_may_wait_than_that(gateway: Gateway) -> None:
    factory, _, transport = introduced(gateway, most=1)
    assert factory.buildProtocol(None) is None
    transport.loseConnection()
    assert factory.waiting == 0
    assert factory.buildProtocol(None) is not None

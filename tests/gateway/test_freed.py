"""What is over is freed at once. What led back to itself would stay in memory until Python's
collector of cycles comes, whose work grows with all that is in memory: with each connection and key
that waits, every request would cost more."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from httptools import HttpRequestParser
from pytest_twisted import ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.tcp import Client

from tests.gateway.conftest import Gateway
from tests.tor.lone_tor import free_port
from tests.web_client import connect_to
from tortxd.gateway.front.connection import Front
from tortxd.gateway.front.requests import RelayedRequest
from tortxd.relay.attempt import Attempt
from tortxd.relay.exchange import Exchange
from tortxd.relay.tunnel import Tunnel
from tortxd.relay.upstream import Upstream
from tortxd.tor.link import SocksAddress
from tortxd.tor.socks import _Leg, _Opening
from tortxd.tor.tls import ClientTls, _Handshaking, _Tls
from tortxd.wire.http1 import RequestReader

REQUEST = (RelayedRequest, Exchange, Tunnel, Attempt)
CLIENT = (Front, RequestReader, HttpRequestParser)
CONNECTION = (Upstream, _Opening, _Leg, _Tls, _Handshaking)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive(*kinds: type) -> list[str]:
    """The names of what there is of these kinds."""
    return [type(one).__name__ for one in gc.get_objects() if type(one) in kinds]


def transports() -> list[object]:
    """The transports that there are of streams through Tor."""
    return [one for one in gc.get_objects() if type(one) is Client and hasattr(one, "source")]


@ensureDeferred
async def test_a_request_that_was_answered(gateway: Gateway) -> None:
    for _ in range(2):  # over a new connection, and over one that has waited
        await gateway.fetch("/bytes/1")
    assert len(gateway.socks.served) == 1
    assert alive(*REQUEST) == []


@pytest.mark.parametrize(
    "path",
    [
        "/respond?header=Connection: close&body=x",
        "/close/5",  # how it ended is asked of the control port
    ],
)
@ensureDeferred
async def test_a_connection_that_was_closed(gateway: Gateway, path: str) -> None:
    await gateway.fetch(path)
    await gateway.socks.served[0].lost
    assert alive(*REQUEST, *CONNECTION) == []
    assert transports() == []


@ensureDeferred
async def test_a_stream_that_is_not_opened(gateway: Gateway) -> None:
    gateway.socks.code = 5
    assert (await gateway.fetch("/bytes/1")).status == 502
    await gateway.socks.served[0].lost
    assert alive(*REQUEST, *CONNECTION) == []


@ensureDeferred
async def test_a_tunnel_whose_client_has_left(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(connect_to("origin.test.example:80"))
    await wire.when_came(b"\r\n\r\n")
    wire.transport.abortConnection()
    await gateway.socks.served[0].lost
    assert alive(*REQUEST, *CONNECTION) == []
    assert transports() == []


def asking(*headers: str, path: str = "/proxy?url=http://origin.test.example/bytes/1") -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: localhost:3080", *headers, "", "")).encode()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /proxy HTTP/1.1\r\nHost: localh",
        b"\x05\x01\x00",
        b"GET / HTTP/1.1\r\nno field\r\n\r\n",
        asking(),
        asking("Connection: close"),
        asking(path="/proxy?url=http://origin.test.example/close/5"),
        asking(path="/proxy?url=nonsense"),
        asking(path="/nowhere"),
    ],
)
@ensureDeferred
async def test_a_client_that_has_left(gateway: Gateway, sent: bytes) -> None:
    wire = await gateway.connect()
    wire.send(sent)
    if sent and not sent.endswith(b"localh"):
        await wire.when_came(b"\r\n\r\n")
    wire.transport.abortConnection()
    while gateway.factory.connections:
        await deferLater(gateway.reactor, 0)
    assert alive(*REQUEST, *CLIENT) == []


@pytest.mark.parametrize("path", ["/respond?header=Connection: close&body=x", "/close/5"])
@ensureDeferred
async def test_a_connection_over_tls_that_was_closed(secure: Gateway, path: str) -> None:
    await secure.fetch(f"https://origin.test.example{path}")
    await secure.socks.served[0].lost
    assert alive(*REQUEST, *CONNECTION) == []
    assert transports() == []


@pytest.mark.parametrize("code", [0, 5])
@ensureDeferred
async def test_a_connection_over_tls_that_is_not_opened(secure: Gateway, code: int) -> None:
    secure.socks.code = code
    secure.core.tls = ClientTls()  # which does not trust the destination
    assert (await secure.fetch("https://origin.test.example/bytes/1")).status == 502
    await secure.socks.served[0].lost
    assert alive(*REQUEST, *CONNECTION) == []
    assert transports() == []


@ensureDeferred
async def test_a_connection_over_tls_where_nobody_listens(secure: Gateway) -> None:
    secure.link.socks_address = SocksAddress("127.0.0.1", free_port())
    assert (await secure.fetch("https://origin.test.example/bytes/1")).status == 503
    assert alive(*REQUEST, *CONNECTION) == []

"""The client for plain streams, through a scripted SOCKS server."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.client_world import world
from tortxd.client.socks import SocksClient
from tortxd.config import Config
from tortxd.errors import (
    BadResponse,
    BadUrl,
    ConnectRefused,
    OriginTimeout,
    TargetForbidden,
)


class Greeter(Protocol):
    """Says goodbye to whatever it hears."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data + b", bye")
        self.transport.loseConnection()


class Silent(Protocol):
    """Says nothing."""


class Listener(Protocol):
    """Keeps what it hears."""

    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


def speaking(protocol: type[Protocol]) -> Callable[[Any], Any]:
    def wrap(_: Any) -> Any:
        factory: Any = Factory.forProtocol(protocol)
        factory.noisy = False
        return factory

    return wrap


@ensureDeferred
async def test_send_receive() -> None:
    async with world(lambda _: None, speaking(Greeter)) as here:
        socks = SocksClient(here.config, here.reactor)
        assert await socks.send_receive("Example.COM", 7, b"hi") == b"hi, bye"
        assert here.targets == [("example.com", 7)]
        assert here.socks.served[0].early == b""
        with pytest.raises(BadResponse):
            await socks.send_receive("example.com", 7, b"hi", max_size=3)
        for host in ("2606:4700:4700::1111", "[2606:4700:4700::1111]"):
            assert await socks.send_receive(host, 7, b"hi") == b"hi, bye"
            assert here.targets[-1] == ("2606:4700:4700::1111", 7)
        for host in ("localhost", "::1", "[::1]", "fe80::1%lo"):
            with pytest.raises(TargetForbidden):
                await socks.send_receive(host, 7, b"hi")
        for host in ("a:b", "\ud800", "", "2606:4700:4700::1111]"):
            with pytest.raises(BadUrl):
                await socks.send_receive(host, 7, b"hi")
        with pytest.raises(BadUrl):
            await socks.send_receive("example.com", 0, b"hi")


@ensureDeferred
async def test_send_receive_in_time() -> None:
    async with world(lambda _: None, speaking(Silent)) as here:
        socks = SocksClient(evolve(here.config, timeout=0.2), here.reactor)
        with pytest.raises(OriginTimeout):
            await socks.send_receive("example.com", 7, b"hi")
        await here.socks.served[0].lost


@ensureDeferred
async def test_connect() -> None:
    async with world(lambda _: None, speaking(Greeter)) as here:
        socks = SocksClient(here.config, here.reactor)
        factory: Any = Factory.forProtocol(Listener)
        factory.noisy = False
        listener: Any = await socks.connect("example.com", 7, factory)
        listener.transport.write(b"hello")
        await listener.lost
        assert listener.heard == b"hello, bye"
        here.socks.code = 5
        with pytest.raises(ConnectRefused):
            await socks.connect("example.com", 7, factory)


@ensureDeferred
async def test_check_connection() -> None:
    async with world(lambda _: None) as here:
        assert await SocksClient(here.config, here.reactor).check_connection() is True
        origin = Config(f"127.0.0.1:{here.socks.origin}", timeout=0.2)
        assert await SocksClient(origin, here.reactor).check_connection() is False


@ensureDeferred
async def test_check_connection_to_a_name_that_nobody_knows() -> None:
    class Nobody:
        """A reactor that resolves no name."""

        def connectTCP(self, host: str, port: int, factory: Any, **_: Any) -> None:
            factory.clientConnectionFailed(None, Failure(DNSLookupError()))

    assert (
        await SocksClient(Config("nobody.invalid:9050"), cast(Any, Nobody())).check_connection()
        is False
    )

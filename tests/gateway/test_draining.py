"""A gateway that stops: who is served to the end, who is told, and who comes meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from attrs import define
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater

from tests.gateway.conftest import OPERATOR, Gateway, port_of
from tests.socks_server import Served
from tests.web_client import Wire, connect
from tortxd.testing import pattern


@define
class Stopping:
    """A gateway that stops, with one request under way, and a port that is then closed."""

    gateway: Gateway
    port: Any
    busy: Wire
    served: Served
    drained: Deferred[None]
    closed: list[int]

    async def connect(self) -> Wire:
        return await connect(self.gateway.reactor, port_of(self.port))


def get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


@pytest_twisted.async_yield_fixture
async def stopping(gateway: Gateway) -> AsyncIterator[Stopping]:
    port: Any = gateway.reactor.listenTCP(0, gateway.factory, interface="127.0.0.1")
    gateway.factory.listens_on(port)
    gateway.socks.held = True
    busy = await connect(gateway.reactor, port_of(port))
    busy.send(get(gateway.path("/bytes/10")))
    served = await gateway.socks.asked()
    gateway.socks.held = False
    closed: list[int] = []

    def close() -> Deferred[None] | None:
        if closed:
            return None
        closed.append(len(gateway.factory.connections))
        return maybeDeferred(port.stopListening)

    drained = gateway.factory.drain(30.0, close)
    yield Stopping(gateway, port, busy, served, drained, closed)
    await maybeDeferred(port.stopListening)


@ensureDeferred
async def test_a_request_that_comes_meanwhile_is_served(stopping: Stopping) -> None:
    wire = await stopping.connect()
    wire.send(get(stopping.gateway.path("/bytes/20")) * 2)
    reply = await wire.reply()
    assert reply.status == 200
    assert reply.body == pattern(20)
    assert reply["Connection"] == "close"
    await wire.lost
    assert not stopping.closed


@ensureDeferred
async def test_health_says_so_meanwhile(stopping: Stopping) -> None:
    wire = await stopping.connect()
    wire.send(get("/health"))
    reply = await wire.reply()
    assert (reply.status, reply.json["status"]) == (503, "stopping")
    stopping.served.answer()
    assert (await stopping.busy.reply()).body == pattern(10)
    await stopping.drained


@ensureDeferred
async def test_when_nobody_is_served_any_more_the_port_is_closed(stopping: Stopping) -> None:
    silent = await stopping.connect()
    assert not stopping.closed
    stopping.served.answer()
    await stopping.drained
    await silent.lost
    assert len(stopping.closed) == 1
    assert not stopping.port.connected


@ensureDeferred
async def test_who_has_connected_before_it_is_closed_is_served(
    stopping: Stopping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not find out that there is nobody from a reset."""
    stopping.port.stopReading()  # as if the reactor had not come to it
    late = await stopping.connect()
    late.send(get(stopping.gateway.path("/bytes/30")))
    stopping.served.answer()
    assert (await late.reply()).body == pattern(30)
    await stopping.drained


@ensureDeferred
async def test_one_that_is_in_a_hurry_ends_it(stopping: Stopping) -> None:
    stopping.gateway.factory.hurry()
    reply = await stopping.busy.reply()
    assert (reply.status, reply.json["code"]) == (503, "tor_down")
    await stopping.drained
    stopping.gateway.factory.hurry()


@ensureDeferred
async def test_who_comes_when_the_time_is_over_is_told(stopping: Stopping) -> None:
    """Rule 30."""
    wire = await stopping.connect()
    await deferLater(stopping.gateway.reactor, 0)
    stopping.gateway.factory.hurry()
    wire.send(get(stopping.gateway.path("/bytes/20")))
    reply = await wire.reply()
    assert (reply.status, reply.json["code"]) == (503, "tor_down")
    assert len(stopping.gateway.socks.served) == 1
    await stopping.drained


@ensureDeferred
async def test_readers_of_events_are_told_and_sent_away(gateway: Gateway) -> None:
    token = f"Tortxd-Token: {OPERATOR.decode()}\r\n"
    wire = await gateway.connect()
    wire.send(get("/events", token))
    await wire.when_came(b"event: snapshot")
    gateway.socks.held = True
    busy = await gateway.connect()
    busy.send(get(gateway.path("/bytes/10")))
    served = await gateway.socks.asked()
    drained = gateway.factory.drain(30.0)
    await wire.lost
    assert b'data: {"status":"stopping"' in bytes(wire.raw)
    again = await gateway.connect()
    again.send(get("/events", token))
    reply = await again.reply()
    assert (reply.status, reply.json["code"]) == (503, "tor_down")
    served.answer()
    await drained


@ensureDeferred
async def test_a_gateway_that_serves_again_says_so(gateway: Gateway) -> None:
    gateway.core.health.stop()
    gateway.core.end()
    gateway.core.begin()
    assert (await gateway.ask("/health")).json["status"] == "ok"
    assert (await gateway.fetch("/bytes/3")).status == 200

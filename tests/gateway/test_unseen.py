"""Bytes that the gateway passes on without looking at them."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.gateway.conftest import Gateway
from tests.gateway.tunnels import far_end_has
from tests.web_client import connect_to
from tortxd.relay.exchange import LOOKED_AT, Exchange
from tortxd.relay.journal import Summary
from tortxd.relay.tunnel import Tunnel
from tortxd.testing import Canned, pattern

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
BODY = pattern(1_000_000)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much was looked at, each time."""
    sizes: list[int] = []
    for kind in (Exchange, Tunnel):
        look = kind.upstream_data

        def upstream_data(self: object, data: bytes, look: object = look) -> None:
            sizes.append(len(data))
            look(self, data)  # type: ignore[operator]

        monkeypatch.setattr(kind, "upstream_data", upstream_data)
    return sizes


@ensureDeferred
async def test_a_tunnels_bytes_are_only_counted(gateway: Gateway, seen: list[int]) -> None:
    told: list[Summary] = []
    gateway.core.journal.listen(told.append)
    gateway.socks.origin = None
    wire = await gateway.connect()
    wire.send(connect_to("a.example:7000"))
    served = await gateway.socks.asked()
    await wire.when_came(b"\r\n\r\n")
    head = len(wire.raw)
    wire.send(BODY)
    await far_end_has(gateway, served, BODY)
    served.transport.write(BODY[::-1])
    served.transport.loseConnection()
    await wire.lost
    assert bytes(wire.raw[head:]) == BODY[::-1]
    (one,) = told
    assert one.outcome == "ok"
    assert (one.sent, one.received) == (len(BODY), len(BODY))
    assert not seen


@ensureDeferred
async def test_of_a_long_body_the_two_ends_are_looked_at(gateway: Gateway, seen: list[int]) -> None:
    """The connections go on behind it."""
    told: list[Summary] = []
    gateway.core.journal.listen(told.append)
    gateway.origin.canned[b"/long"] = Canned(OK % len(BODY) + BODY, "keep")
    wire = await gateway.connect()
    for _ in range(3):
        wire.send(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % gateway.path("/long").encode())
        reply = await wire.reply()
        assert reply.whole
        assert reply.body == BODY
    assert len(gateway.socks.served) == 1
    for one in told:
        assert one.received == len(OK % len(BODY)) + len(BODY)
    assert LOOKED_AT <= sum(seen) / 3 < len(BODY) / 2


@ensureDeferred
async def test_what_follows_a_long_body_is_nobodys(gateway: Gateway) -> None:
    gateway.origin.canned[b"/long"] = Canned(OK % len(BODY) + BODY + OK % 3 + b"bad", "keep")
    wire = await gateway.connect()
    for number in range(1, 4):
        wire.send(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % gateway.path("/long").encode())
        assert (await wire.reply()).body == BODY
        assert len(gateway.socks.served) == number


@ensureDeferred
async def test_a_long_body_that_breaks_off_shows_it(gateway: Gateway) -> None:
    gateway.origin.canned[b"/long"] = Canned(OK % (2 * len(BODY)) + BODY, "close")
    reply = await gateway.fetch("/long")
    assert not reply.whole
    assert reply.body == BODY


@ensureDeferred
async def test_a_long_body_without_a_length_is_framed(gateway: Gateway) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    gateway.origin.canned[b"/long"] = Canned(head + BODY, "close")
    reply = await gateway.fetch("/long")
    assert reply.whole
    assert reply["Transfer-Encoding"] == "chunked"
    assert reply.body == BODY
    wire = await gateway.connect()
    wire.send(b"GET %b HTTP/1.0\r\nHost: localhost\r\n\r\n" % gateway.path("/long").encode())
    reply = await wire.reply()
    assert reply.body == BODY

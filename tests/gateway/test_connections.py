"""Which connection a request uses: isolation, keeping, repeating (rules 9 and 28)."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from tests.gateway.conftest import Gateway
from tortxd.relay.upstream import FRESH, LIFETIME
from tortxd.testing import Canned, pattern


async def together(*asking: Any) -> Any:
    return await gatherResults([Deferred.fromCoroutine(one) for one in asking])


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (("/", ()), ("/", ()), True),
        (("/", ()), ("http://www.test.example/", ()), False),
        (("http://a.test.example/", ()), ("http://b.test.example/", ()), True),
        (("/", ("Tor-Stream-Isolation: a",)), ("/", ("Tor-Stream-Isolation: a",)), True),
        (("/", ("Tor-Stream-Isolation: a",)), ("/", ("X-Tor-Stream-Isolation: a",)), True),
        (("/", ("Tor-Stream-Isolation: a",)), ("/", ("Tor-Stream-Isolation: b",)), False),
        (("/", ("Tor-Stream-Isolation: test.example",)), ("/", ()), False),
        (("/", ("Origin: http://localhost:1",)), ("/", ("Origin: http://localhost:2",)), False),
        (("/", ("Origin: http://localhost:1",)), ("/", ()), False),
    ],
)
@ensureDeferred
async def test_who_shares_credentials(
    either: Gateway,
    first: tuple[str, tuple[str, ...]],
    second: tuple[str, tuple[str, ...]],
    shared: bool,
) -> None:
    """Rule 9; sites are registrable domains (www.test.example and origin.test.example are two
    names of one, a.example another)."""
    if second[0] == "http://www.test.example/":
        second = ("http://www.other.example/", ())
    gateway = either
    gateway.socks.held = True
    asking = together(gateway.fetch(first[0], *first[1]), gateway.fetch(second[0], *second[1]))
    running = Deferred.fromCoroutine(asking)
    one = await gateway.socks.asked(1)
    two = await gateway.socks.asked(2)
    same = (one.username, one.password) == (two.username, two.password)
    assert same is shared
    one.answer()
    two.answer()
    for reply in await running:
        assert reply.status == 200


@ensureDeferred
async def test_a_kept_connection_serves_its_own_route_only(either: Gateway) -> None:
    await either.fetch("/bytes/1", "Tor-Stream-Isolation: a")
    await either.fetch("/bytes/1", "Tor-Stream-Isolation: a")
    assert len(either.socks.served) == 1
    await either.fetch("/bytes/1", "Tor-Stream-Isolation: b")
    assert len(either.socks.served) == 2
    await either.fetch("http://origin.test.example:81/bytes/1", "Tor-Stream-Isolation: a")
    assert len(either.socks.served) == 3


@ensureDeferred
async def test_a_connection_that_the_destination_closes_is_forgotten(either: Gateway) -> None:
    await either.fetch("/bytes/1")
    assert len(either.core.pool) == 1
    either.origin.connections[1].wire.loseConnection()
    await either.socks.served[0].lost
    await either.fetch("/bytes/1", "Tor-Stream-Isolation: other")
    assert len(either.core.pool) == 1


@pytest.mark.parametrize("path", ["/close/5", "/respond?header=Connection: close&body=x"])
@ensureDeferred
async def test_a_connection_that_ends_is_not_kept(either: Gateway, path: str) -> None:
    assert (await either.fetch(path)).whole
    assert len(either.core.pool) == 0


@ensureDeferred
async def test_bytes_behind_a_response_end_the_connection(either: Gateway) -> None:
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n"
    either.origin.canned[b"/more"] = Canned(wire, "keep")
    assert (await either.fetch("/more")).body == b"ok"
    assert len(either.core.pool) == 0


@ensureDeferred
async def test_an_old_connection_is_not_kept(either: Gateway) -> None:
    """Rule 9: 10 minutes."""
    await either.fetch("/bytes/1")
    (upstream,) = either.core.pool._waiting
    upstream.born -= LIFETIME
    await either.fetch("/bytes/1")
    assert len(either.socks.served) == 2
    (young,) = either.core.pool._waiting
    assert young is not upstream
    await either.socks.served[0].lost


@pytest.mark.parametrize(("method", "connections"), [("GET", 1), ("POST", 2)])
@ensureDeferred
async def test_what_may_not_be_repeated_takes_no_stale_connection(
    either: Gateway, method: str, connections: int
) -> None:
    """Servers close connections that have been idle for some seconds."""
    await either.fetch("/upload", method="POST", body=b"1")
    await either.fetch("/upload", method="POST", body=b"2")
    assert len(either.socks.served) == 1
    (upstream,) = either.core.pool._waiting
    upstream.waiting_since -= FRESH
    reply = await either.fetch("/upload", method=method, body=b"3" if method == "POST" else None)
    assert reply.status == 200
    assert len(either.socks.served) == connections


def close_at_next_request(gateway: Gateway) -> None:
    """The destination hangs up as soon as it reads a second request on its first connection."""
    served = gateway.socks.served[0]
    served.dataReceived = lambda data: served.transport.loseConnection()  # type: ignore[method-assign]


@ensureDeferred
async def test_a_dead_kept_connection_is_replaced_for_safe_methods(either: Gateway) -> None:
    """Rule 28."""
    await either.fetch("/bytes/1")
    close_at_next_request(either)
    reply = await either.fetch("/bytes/7")
    assert reply.body == pattern(7)
    assert len(either.socks.served) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@ensureDeferred
async def test_other_methods_are_never_sent_twice(either: Gateway, method: str) -> None:
    """Rule 28."""
    await either.fetch("/bytes/1")
    close_at_next_request(either)
    reply = await either.fetch("/upload", method=method, body=b"once")
    assert reply.status == 502
    assert reply.json["code"] == "origin_reset"
    assert len(either.socks.served) == 1


@pytest.mark.parametrize(
    ("method", "body", "early"),
    [
        ("GET", None, True),
        ("HEAD", None, True),
        ("OPTIONS", None, True),
        ("GET", b"x", False),
        ("POST", b"x", False),
        ("POST", None, False),
        ("DELETE", None, False),
    ],
)
@ensureDeferred
async def test_what_goes_before_the_socks_reply(
    either: Gateway, method: str, body: bytes | None, early: bool
) -> None:
    """Rule 28: Tor may send early data twice."""
    either.socks.held = True
    asking = Deferred.fromCoroutine(either.fetch("/upload", method=method, body=body))
    served = await either.socks.asked()
    # What the gateway writes early is written in the same turn as the SOCKS request.
    turn: Deferred[None] = Deferred()
    either.reactor.callLater(0.05, turn.callback, None)
    await turn
    served.answer()
    await asking
    assert bool(served.early) is early


@ensureDeferred
async def test_a_destination_that_was_paused_at_its_end_serves_the_next_request(
    gateway: Gateway,
) -> None:
    """Its client takes nothing more just as the last bytes are written to it."""
    gateway.socks.origin = None
    wire = await gateway.connect()
    (front,) = gateway.factory.connections
    request = f"GET {gateway.path('/')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    wire.send(request)
    served = await gateway.socks.asked()
    await gateway.heard(served)
    served.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
    await wire.when_came(b"\r\n\r\no")
    write = front.transport.write

    def fill(data: bytes) -> None:
        write(data)
        front.set_congested(True)

    front.transport.write = fill  # type: ignore[method-assign]
    served.transport.write(b"k")
    assert (await wire.reply()).body == b"ok"
    front.transport.write = write  # type: ignore[method-assign]
    front.set_congested(False)
    wire.send(request)
    await gateway.heard(served, 2)
    served.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain")
    reply = await wire.reply().addTimeout(5.0, gateway.reactor)
    assert reply.body == b"again"
    assert len(gateway.socks.served) == 1

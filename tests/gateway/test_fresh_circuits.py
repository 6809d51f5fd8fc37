"""Requests that would cost Tor fresh circuits, at the gateway."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.gateway.conftest import Gateway
from tortxd.rates import Rate
from tortxd.tor.budget import CircuitBudget

RESOLVE_FAILED = 4
"""Of SOCKS replies (RFC 1928, section 6): Tor's for a name that does not resolve."""


def limited(gateway: Gateway, caller: Rate) -> None:
    gateway.link.budget = CircuitBudget(gateway.reactor, None, caller)


@ensureDeferred
async def test_a_request_waits_for_its_turn(either: Gateway) -> None:
    limited(either, Rate(10.0, 1))
    began = either.reactor.seconds()
    for key in ("a", "b", "c"):
        reply = await either.fetch("/echo", f"Tor-Stream-Isolation: {key}")
        assert reply.status == 200
    assert either.reactor.seconds() - began > 0.15
    assert len({served.username for served in either.socks.served}) == 3


@ensureDeferred
async def test_past_the_budget_it_is_overloaded_and_says_when_to_try_again(
    either: Gateway,
) -> None:
    limited(either, Rate(0.01, 1))
    assert (await either.fetch("/echo", "Tor-Stream-Isolation: a")).status == 200
    reply = await either.fetch("/echo", "Tor-Stream-Isolation: b")
    assert (reply.status, reply.json["code"]) == (503, "overloaded")
    assert reply["Tortxd-Error"] == "overloaded"
    assert 95 <= int(reply["Retry-After"]) <= 100
    assert reply.json["retryable"] is True
    # What has a circuit goes on.
    assert (await either.fetch("/echo", "Tor-Stream-Isolation: a")).status == 200
    assert len(either.socks.served) <= 2


@ensureDeferred
async def test_tunnels_have_the_same_budget(gateway: Gateway) -> None:
    limited(gateway, Rate(0.01, 1))
    assert (await gateway.fetch("/echo", "Tor-Stream-Isolation: a")).status == 200
    wire = await gateway.connect()
    wire.send(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n")
    reply = await wire.reply(b"CONNECT")
    assert (reply.status, reply.json["code"]) == (503, "overloaded")


@ensureDeferred
async def test_a_client_that_leaves_while_it_waits_takes_nothing(either: Gateway) -> None:
    limited(either, Rate(2.0, 1))
    assert (await either.fetch("/echo", "Tor-Stream-Isolation: a")).status == 200
    leaving = await either.connect()
    path = either.path("/echo")
    leaving.send(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nTor-Stream-Isolation: b\r\n\r\n".encode()
    )
    while not either.core.under_way:
        await either.ask("/health")
    leaving.transport.abortConnection()
    reply = await either.fetch("/echo", "Tor-Stream-Isolation: c")
    assert reply.status == 200
    assert len({served.username for served in either.socks.served}) == 2
    assert not either.core.under_way


@pytest.mark.parametrize("way", ["/proxy", "absolute-form", "CONNECT"])
@ensureDeferred
async def test_what_failed_just_now_is_not_tried_on_and_on(gateway: Gateway, way: str) -> None:
    """By one caller; a new identity ends it."""
    gateway.socks.code = RESOLVE_FAILED
    request = {
        "/proxy": "GET /proxy?url=http://nowhere.example/",
        "absolute-form": "GET http://nowhere.example/",
        "CONNECT": "CONNECT nowhere.example:80",
    }[way].encode()
    method = request.partition(b" ")[0]

    async def ask() -> tuple[int, str, list[str]]:
        wire = await gateway.connect()
        wire.send(request + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reply = await wire.reply(method)
        wire.transport.abortConnection()
        return reply.status, reply.json["code"], reply.all("Retry-After")

    answers = [await ask() for _ in range(6)]
    assert answers == [(502, "resolve_failed", [])] * 3 + [(502, "resolve_failed", ["1"])] * 3
    assert len(gateway.socks.served) == 3
    other = await gateway.fetch("http://elsewhere.example/")
    assert (other.status, len(gateway.socks.served)) == (502, 4)
    await gateway.ask("/identity/new", method="POST", body=b'{"isolation": "key"}')
    await ask()
    assert len(gateway.socks.served) == 5


@ensureDeferred
async def test_a_stop_ends_who_waits(gateway: Gateway) -> None:
    limited(gateway, Rate(0.5, 1))
    assert (await gateway.fetch("/echo", "Tor-Stream-Isolation: a")).status == 200
    wire = await gateway.connect()
    wire.send(f"GET {gateway.path('/echo')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = wire.reply()
    while not gateway.core.under_way:
        await gateway.ask("/health")
    gateway.core.end_under_way()
    assert (await answer).json["code"] == "tor_down"
    assert gateway.link.budget is not None
    gateway.link.budget.stop()

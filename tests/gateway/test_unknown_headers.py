"""Who asks for something by a name that nobody knows is told, on every way in: nobody is to believe
that they are isolated while they are not (rule 9)."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.gateway.conftest import OPERATOR, Gateway, Policy
from tests.gateway.handshakes import handshake
from tests.web_client import Reply, connect_to
from tortxd.policy.access import AccessPolicy

UNKNOWN = "Tortxd-Isolation: canary-alice"
SAID = "Tortxd-Isolation is not a header that tortxd knows. Did you mean Tor-Stream-Isolation?"
PAGE = "Origin: http://localhost:8000"


def check(gateway: Gateway, reply: Reply) -> None:
    """Whether a request was refused for the header, before anything was done."""
    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    assert reply.json["error"] == SAID
    assert reply["Tortxd-Error"] == "bad_request"
    assert b"canary" not in reply.body
    assert not gateway.socks.served
    assert gateway.link.renewed == 0


@ensureDeferred
async def test_on_proxy(either: Gateway) -> None:
    for _ in range(2):  # its judgement of a header section is remembered
        check(either, await either.fetch("/", UNKNOWN))
    check(either, await either.fetch("/", UNKNOWN, method="POST", body=b"x"))
    check(either, await either.fetch("/", UNKNOWN, method="OPTIONS"))


@ensureDeferred
async def test_on_a_websocket(either: Gateway) -> None:
    wire = await either.connect()
    wire.send(handshake("wss://a.example/", UNKNOWN))
    check(either, await wire.reply())


@pytest.mark.parametrize(
    "target", ["GET http://origin.test.example/", "GET ws://a.example/", "OPTIONS *"]
)
@ensureDeferred
async def test_in_proxy_mode(gateway: Gateway, target: str) -> None:
    wire = await gateway.connect()
    wire.send(f"{target} HTTP/1.1\r\nHost: localhost\r\n{UNKNOWN}\r\n\r\n".encode())
    check(gateway, await wire.reply())


@ensureDeferred
async def test_in_a_websocket_as_a_proxy_is_asked_for_it(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(handshake("", UNKNOWN, target="ws://a.example/"))
    check(gateway, await wire.reply())


@ensureDeferred
async def test_on_connect(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(connect_to("a.example:443", UNKNOWN))
    check(gateway, await wire.reply())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("OPTIONS", "/health"),
        ("GET", "/ip"),
        ("GET", "/verify-tor"),
        ("POST", "/identity/new"),
        ("GET", "/circuits"),
        ("GET", "/no-such-route"),
    ],
)
@ensureDeferred
async def test_on_the_gateways_own_routes(either: Gateway, method: str, path: str) -> None:
    operator = f"Tortxd-Token: {OPERATOR.decode()}"
    body = b'{"isolation": "alice"}' if method == "POST" else None
    check(either, await either.ask(path, UNKNOWN, operator, method=method, body=body))


@ensureDeferred
async def test_with_a_value_that_is_long(either: Gateway) -> None:
    """The control plane is handed its name alone."""
    check(either, await either.ask("/ip", UNKNOWN + "x" * 10_000))


@ensureDeferred
async def test_a_page_may_read_it_once_its_preflight_has_passed(either: Gateway) -> None:
    preflight = await either.fetch(
        "/",
        PAGE,
        "Access-Control-Request-Method: GET",
        "Access-Control-Request-Headers: tortxd-isolation",
        method="OPTIONS",
    )
    assert preflight.status == 204
    assert preflight["Access-Control-Allow-Headers"] == "tortxd-isolation"
    reply = await either.fetch("/", PAGE, UNKNOWN)
    check(either, reply)
    assert reply["Access-Control-Allow-Origin"] == "http://localhost:8000"


@ensureDeferred
async def test_a_mistyped_token(gateway: Gateway, make_policy: Policy) -> None:
    gateway.core.policy = make_policy(access=AccessPolicy(token=b"clients"))
    wire = await gateway.connect()
    wire.send(connect_to("a.example:443", "Tortxd-Tokn: clients"))
    for reply in (await gateway.ask("/health", "Tortxd-Tokn: clients"), await wire.reply()):
        assert reply.status == 400
        assert reply.json["error"].endswith("Did you mean Tortxd-Token?")

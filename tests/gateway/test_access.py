"""Who may ask, by both ways in (rules 2 and 4)."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.gateway.conftest import OPERATOR, Gateway, Policy
from tortxd.policy.access import AccessPolicy

PAGE = "Origin: http://localhost:8000"
FOREIGN = "Origin: https://evil.example"


@pytest.mark.parametrize("path", ["/health", "/proxy?url=http%3A%2F%2Fa.example%2F", "/circuits"])
@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example"]
)
@ensureDeferred
async def test_rebinding(either: Gateway, path: str, host: str) -> None:
    reply = await either.ask(path, host=host)
    assert reply.status == 403
    assert reply["Tortxd-Error"] == "forbidden_host"
    assert not either.socks.served


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:3080", "127.0.0.1:1", "127.9.9.9", "[::1]:3080"]
)
@ensureDeferred
async def test_loopback_names_are_ours(either: Gateway, host: str) -> None:
    assert (await either.ask("/health", host=host)).status == 200


@pytest.mark.parametrize("path", ["/health", "/", "/proxy?url=http%3A%2F%2Fa.example%2F", "/nope"])
@ensureDeferred
async def test_a_host_that_is_not_ascii(either: Gateway, path: str) -> None:
    wire = await either.connect()
    wire.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\xa0\r\n\r\n".encode("latin-1"))
    reply = await wire.reply()
    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    assert "Server" not in reply


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", "xn--a\u0300.localhost", "[::1"])
@ensureDeferred
async def test_odd_hosts(either: Gateway, host: str) -> None:
    reply = await either.ask("/health", host=host)
    assert reply.status in (400, 403)
    assert "Tortxd-Error" in reply


@ensureDeferred
async def test_operators_errors_are_not_for_other_origins(either: Gateway) -> None:
    reply = await either.ask("/circuits", PAGE)
    assert reply.status == 403
    assert "Access-Control-Allow-Origin" not in reply


@pytest.mark.parametrize("path", ["/health", "/proxy?url=http%3A%2F%2Fa.example%2F"])
@pytest.mark.parametrize("hosts", ["", "Host: localhost\r\nHost: localhost\r\n"])
@ensureDeferred
async def test_a_missing_or_doubled_host(gateway: Gateway, path: str, hosts: str) -> None:
    wire = await gateway.connect()
    wire.send(f"GET {path} HTTP/1.1\r\n{hosts}\r\n".encode())
    assert (await wire.reply()).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        (FOREIGN,),
        ("Origin: null",),
        ("Origin: file://",),
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: same-site",),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/health", "/proxy?url=http%3A%2F%2Fa.example%2F", "/identity/new"]
)
@ensureDeferred
async def test_hostile_pages(either: Gateway, path: str, headers: tuple[str, ...]) -> None:
    for method in ("GET", "POST"):
        reply = await either.ask(path, *headers, method=method, body=b"")
        assert reply.status == 403
        assert reply["Tortxd-Error"] == "forbidden_origin"
        assert "Access-Control-Allow-Origin" not in reply
    assert not either.socks.served


@ensureDeferred
async def test_allowed_pages_can_read(either: Gateway) -> None:
    reply = await either.fetch("/", PAGE, "Sec-Fetch-Site: same-site")
    assert reply.status == 200
    assert reply["Access-Control-Allow-Origin"] == "http://localhost:8000"
    assert "Tortxd-Exit-Country" in reply["Access-Control-Expose-Headers"]
    assert "Origin" in reply.all("Vary")
    reply = await either.ask("/health", PAGE)
    assert reply["Access-Control-Allow-Origin"] == "http://localhost:8000"
    reply = await either.ask("/proxy", PAGE)
    assert reply.status == 400
    assert reply["Access-Control-Allow-Origin"] == "http://localhost:8000"


@pytest.mark.parametrize("path", ["/proxy?url=http%3A%2F%2Fa.example%2F", "/health"])
@ensureDeferred
async def test_preflights(either: Gateway, path: str) -> None:
    asked = (
        "Access-Control-Request-Method: PUT",
        "Access-Control-Request-Headers: x-a, tortxd-token",
    )
    reply = await either.ask(path, PAGE, *asked, method="OPTIONS")
    assert reply.status == 204
    assert reply["Access-Control-Allow-Origin"] == "http://localhost:8000"
    assert reply["Access-Control-Allow-Methods"] == "PUT"
    assert reply["Access-Control-Allow-Headers"] == "x-a, tortxd-token"
    assert (await either.ask(path, FOREIGN, *asked, method="OPTIONS")).status == 403
    assert not either.socks.served


@ensureDeferred
async def test_operator_routes_want_the_operators_token(either: Gateway) -> None:
    token = OPERATOR.decode()
    assert (await either.ask("/circuits")).status == 401
    assert (await either.ask("/circuits", "Tortxd-Token: wrong")).status == 401
    assert (await either.ask("/circuits", f"Tortxd-Token: {token}")).status == 200
    assert (await either.ask("/streams", f"Authorization: Bearer {token}")).status == 200
    reply = await either.ask("/circuits", f"Tortxd-Token: {token}", PAGE)
    assert reply.status == 403


@ensureDeferred
async def test_where_a_token_is_set_clients_present_it(
    either: Gateway, make_policy: Policy
) -> None:
    either.plane.policy = make_policy(access=AccessPolicy(token=b"clients-token"))
    for path in ("/health", either.path("/")):
        reply = await either.ask(path)
        assert reply.status == 401
        assert reply["Tortxd-Error"] == "unauthorized"
        assert (await either.ask(path, "Tortxd-Token: clients-token")).status == 200
    assert (await either.ask("/health", "Authorization: Bearer clients-token")).status == 200
    assert (await either.fetch("/", "Authorization: Bearer clients-token")).status == 401


@ensureDeferred
async def test_the_access_token_does_not_leave(either: Gateway, make_policy: Policy) -> None:
    either.plane.policy = make_policy(access=AccessPolicy(token=b"clients-token"))
    reply = await either.fetch("/echo", "Tortxd-Token: clients-token")
    assert "clients-token" not in reply.body.decode()


@ensureDeferred
async def test_what_is_remembered_of_a_head_is_of_its_method(either: Gateway) -> None:
    """The same header section is a preflight's with OPTIONS alone."""
    asked = (PAGE, "Access-Control-Request-Method: GET")
    methods = ("GET", "OPTIONS", "GET")
    replies = [await either.fetch("/bytes/1", *asked, method=method) for method in methods]
    assert [reply.status for reply in replies] == [200, 204, 200]


@ensureDeferred
async def test_what_is_remembered_of_a_head_goes_with_the_policy(
    either: Gateway, make_policy: Policy
) -> None:
    """The daemon learns its operator token after it listens."""
    assert (await either.fetch("/bytes/1", PAGE)).status == 200
    either.plane.policy = make_policy(access=AccessPolicy(token=b"canary"))
    assert (await either.fetch("/bytes/1", PAGE)).status == 401
    assert (await either.fetch("/bytes/1", PAGE, "Tortxd-Token: canary")).status == 200
    assert (await either.fetch("/bytes/1", PAGE)).status == 401

"""New identities, by both ways in (rule 10)."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import fail

from tests.gateway.asking import forward
from tests.gateway.conftest import OPERATOR, Gateway, Policy
from tests.gateway.tunnels import basic
from tests.web_client import Reply, connect_to
from tortxd.errors import TorNotReady
from tortxd.policy.access import AccessPolicy
from tortxd.relay import upstream

TOKEN = f"Tortxd-Token: {OPERATOR.decode()}"
PAGE = "Origin: http://localhost:8000"
JSON = "Content-Type: application/json"


async def renew(gateway: Gateway, key: object = None, *headers: str) -> Reply:
    """Ask for a new identity, of a key if there is one."""
    body = b"" if key is None else json.dumps({"isolation": key}).encode()
    return await gateway.ask("/identity/new", JSON, *headers, method="POST", body=body)


async def renew_proxy_user(gateway: Gateway, user: object, *headers: str) -> Reply:
    """Ask for a new identity of a user of the HTTP proxy."""
    body = json.dumps({"proxyUser": user}).encode()
    return await gateway.ask("/identity/new", JSON, *headers, method="POST", body=body)


def done(reply: Reply) -> tuple[str, int, int]:
    """What a new identity did: to whom, to how many keys and to how many connections."""
    assert reply.status == 200, reply
    value = reply.json
    return value["renewed"], value["keys"], value["connections"]


async def used(gateway: Gateway, *headers: str) -> tuple[bytes, int]:
    """The SOCKS username under which a request goes, and the number of its connection."""
    lines = [f"GET {gateway.path('/')} HTTP/1.1", "Host: localhost", *headers, "", ""]
    wire = await gateway.connect()
    wire.send("\r\n".join(lines).encode("latin-1"))
    assert (await wire.reply()).status == 200
    wire.transport.abortConnection()
    number = gateway.origin.requests[-1].connection
    return gateway.socks.served[number - 1].username, number


async def used_in_proxy_mode(gateway: Gateway, *headers: str) -> tuple[bytes, int]:
    """The same of a request in absolute-form."""
    assert (await forward(gateway, "/", *headers)).status == 200
    number = gateway.origin.requests[-1].connection
    return gateway.socks.served[number - 1].username, number


@ensureDeferred
async def test_a_key_gets_new_circuits_and_connections(either: Gateway) -> None:
    key = "Tor-Stream-Isolation: alice"
    other = "Tor-Stream-Isolation: bob"
    before, others = await used(either, key), await used(either, other)
    assert await used(either, key) == before
    reply = await renew(either, "alice")
    made = {"renewed": "key", "keys": 1, "connections": 1, "nextNewnym": 0.0}
    assert (reply.status, reply.json) == (200, made)
    # Its waiting connection is closed at once, and nobody else's.
    await either.origin.when_closed(before[1])
    (open_one,) = either.origin.open_connections
    assert open_one.number == others[1]
    after = await used(either, key)
    assert after[0] != before[0]
    assert await used(either, key) == after
    assert await used(either, other) == others
    assert either.link.renewed == 0


@ensureDeferred
async def test_a_request_under_way_leaves_no_connection_behind(gateway: Gateway) -> None:
    key = "Tor-Stream-Isolation: alice"
    wire = await gateway.connect()
    wire.send(
        f"POST {gateway.path('/upload')} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n"
        "Content-Length: 2\r\n\r\na".encode()
    )
    await gateway.origin.when_requested(1)
    await renew(gateway, "alice")
    wire.send(b"b")
    assert (await wire.reply()).status == 200
    await gateway.origin.when_closed(1)
    assert len(gateway.core.pool) == 0


@pytest.mark.parametrize(
    ("caller", "renewing"),
    [
        (("Tor-Stream-Isolation: k",), ("Tor-Stream-Isolation: k", PAGE)),
        (("Tor-Stream-Isolation: k", PAGE), ()),
        (("Tor-Stream-Isolation: k", "Tortxd-Token: clients"), (TOKEN,)),
    ],
)
@ensureDeferred
async def test_nobody_renews_anothers_key(
    either: Gateway, make_policy: Policy, caller: tuple[str, ...], renewing: tuple[str, ...]
) -> None:
    """Rule 9: keys of different callers are different keys."""
    if any("Token" in header for header in caller):
        access = AccessPolicy(token=b"clients", operator_token=OPERATOR)
        either.core.policy = make_policy(access=access)
    before = await used(either, *caller)
    assert (await renew(either, "k", *renewing)).status == 200
    assert await used(either, *caller) == before


@ensureDeferred
async def test_connections_in_use_count_as_retired(gateway: Gateway) -> None:
    wires = []
    for _ in range(2):
        wire = await gateway.connect()
        wire.send(
            f"GET {gateway.path('/hang')} HTTP/1.1\r\nHost: localhost\r\n"
            "Tor-Stream-Isolation: alice\r\n\r\n".encode()
        )
        wires.append(wire)
    await gateway.origin.when_requested(2)
    assert done(await renew(gateway, "alice")) == ("key", 1, 2)
    # They are retired already, though they go on.
    assert done(await renew(gateway, "alice")) == ("key", 1, 0)
    assert done(await renew(gateway, None, TOKEN)) == ("all", 0, 0)
    for wire in wires:
        wire.transport.abortConnection()


@ensureDeferred
async def test_tunnels_count_as_retired_while_they_last(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(connect_to("origin.test.example:80", "Tor-Stream-Isolation: tunnel"))
    await wire.when_came(b"\r\n\r\n")
    assert done(await renew(gateway, "tunnel")) == ("key", 1, 1)
    wire.transport.abortConnection()
    await gateway.socks.served[0].lost
    wire = await gateway.connect()
    wire.send(connect_to("origin.test.example:80", "Tor-Stream-Isolation: tunnel"))
    await wire.when_came(b"\r\n\r\n")
    wire.transport.abortConnection()
    await gateway.socks.served[1].lost
    assert done(await renew(gateway, "tunnel")) == ("key", 1, 0)


@ensureDeferred
async def test_what_was_renewed_is_counted_once(either: Gateway) -> None:
    for key in ("a", "b", "a", "c"):
        await used(either, f"Tor-Stream-Isolation: {key}")
    assert done(await renew(either, "c")) == ("key", 1, 1)
    assert done(await renew(either, "unused")) == ("key", 1, 0)
    assert done(await renew(either, None, TOKEN)) == ("all", 2, 2)
    assert done(await renew(either, None, TOKEN)) == ("all", 0, 0)
    await used(either, "Tor-Stream-Isolation: a")
    assert done(await renew(either, None, TOKEN)) == ("all", 1, 1)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0, 0.0), (9.99951, 10.0), (4.5678, 4.568), (None, None)]
)
@ensureDeferred
async def test_when_tor_makes_the_next_is_said(
    either: Gateway, seconds: float | None, shown: float | None
) -> None:
    either.link.next_new_identity = seconds
    for key, token in ((None, TOKEN), ("alice", JSON)):
        assert (await renew(either, key, token)).json["nextNewnym"] == shown


@pytest.mark.parametrize(
    ("user", "password", "named"),
    [
        ("bob", "pw", "bob:pw"),
        ("bob", "", "bob"),
        ("bob", "", "bob:"),
        ("bob", "a:b", "bob:a:b"),
        ("", "pw", ":pw"),
        ("zoë", "ü", "zoë:ü"),
        ("tor-iso", "alice", "tor-iso:alice"),
        ("tortxd+alice", "", "tortxd+alice"),
        ("tor-iso", "alice", "tortxd+alice"),
        ("tortxd+alice;retry=1", "", "tortxd+alice:whatever"),
        ("tortxd+alice", "", "tortxd+alice;retry=1;sticky=600,strict"),
    ],
)
@ensureDeferred
async def test_the_key_of_a_proxy_user_is_renewed_by_name(
    gateway: Gateway, user: str, password: str, named: str
) -> None:
    others = [("bob", "others"), ("tor-iso", "other"), ("tortxd", ""), ("alice", "pw")]
    before = await used_in_proxy_mode(gateway, basic(user, password))
    assert await used_in_proxy_mode(gateway, basic(user, password)) == before
    theirs = [await used_in_proxy_mode(gateway, basic(*other)) for other in others]
    assert done(await renew_proxy_user(gateway, named)) == ("key", 1, 1)
    assert (await used_in_proxy_mode(gateway, basic(user, password)))[0] != before[0]
    assert [await used_in_proxy_mode(gateway, basic(*other)) for other in others] == theirs
    assert gateway.link.renewed == 0


@pytest.mark.parametrize("login", ["tor-iso:" + "é" * 256, "tortxd+zoë", "bob:zoë"])
@ensureDeferred
async def test_a_proxy_user_in_latin_1(gateway: Gateway, login: str) -> None:
    header = "Proxy-Authorization: Basic " + b64encode(login.encode("latin-1")).decode()
    before = await used_in_proxy_mode(gateway, header)
    assert done(await renew_proxy_user(gateway, login)) == ("key", 1, 1)
    assert (await used_in_proxy_mode(gateway, header))[0] != before[0]


@pytest.mark.parametrize(
    "named",
    [
        "tortxd",
        "tortxd:token",
        "tortxd;retry=1",
        "tortxd+",
        "tortxd+k;canary=1",
        "tortxd+k;retry=many",
        "tor-iso",
        "tor-iso:",
        "tor-iso:" + "x" * 257,
        "",
        "\ud800",
        7,
        None,
    ],
)
@ensureDeferred
async def test_a_proxy_user_that_is_no_key_is_refused(either: Gateway, named: object) -> None:
    reply = await renew_proxy_user(either, named)
    assert (reply.status, reply.json["code"]) == (400, "bad_request")


@ensureDeferred
async def test_clients_with_a_token_renew_their_own_proxy_users(
    gateway: Gateway, make_policy: Policy
) -> None:
    access = AccessPolicy(token=b"clients", operator_token=OPERATOR)
    gateway.core.policy = make_policy(access=access)
    client = "Tortxd-Token: clients"
    for headers, named in (
        ((basic("bob", "pw"), client), "bob:pw"),
        ((basic("tortxd+k", "clients"),), "tortxd+k"),
    ):
        before = await used_in_proxy_mode(gateway, *headers)
        assert (await renew_proxy_user(gateway, named)).status == 401
        assert done(await renew_proxy_user(gateway, named, TOKEN)) == ("key", 1, 0)
        assert await used_in_proxy_mode(gateway, *headers) == before
        assert done(await renew_proxy_user(gateway, named, client)) == ("key", 1, 1)
        assert (await used_in_proxy_mode(gateway, *headers))[0] != before[0]


@ensureDeferred
async def test_pages_have_no_proxy_user(gateway: Gateway) -> None:
    """A page's keys are its own, and whether another's were in use is none of its business."""
    before = await used_in_proxy_mode(gateway, basic("tor-iso", "k"))
    reply = await renew_proxy_user(gateway, "tor-iso:k", PAGE)
    assert (reply.status, reply.json["code"]) == (403, "forbidden_origin")
    assert reply["Access-Control-Allow-Origin"] == PAGE.removeprefix("Origin: ")
    assert await used_in_proxy_mode(gateway, basic("tor-iso", "k")) == before


@ensureDeferred
async def test_a_key_that_is_not_ascii(either: Gateway) -> None:
    """Browsers write headers in Latin-1, programs in UTF-8."""
    names = ["zoë".encode(coding).decode("latin-1") for coding in ("utf-8", "latin-1")]
    before = [await used(either, f"Tor-Stream-Isolation: {name}") for name in names]
    assert done(await renew(either, "zoë")) == ("key", 1, 2)
    after = [await used(either, f"Tor-Stream-Isolation: {name}") for name in names]
    assert len({username for username, _ in before + after}) == 4


@ensureDeferred
async def test_operators_renew_everything(either: Gateway) -> None:
    callers = [("Tor-Stream-Isolation: k",), (), (PAGE,)]
    before = [await used(either, *caller) for caller in callers]
    either.link.next_new_identity = 7.125
    reply = await renew(either, None, TOKEN)
    made = {"renewed": "all", "keys": 3, "connections": 3, "nextNewnym": 7.125}
    assert (reply.status, reply.json) == (200, made)
    assert either.link.renewed == 1
    for _, number in before:
        await either.origin.when_closed(number)
    after = [await used(either, *caller) for caller in callers]
    assert not {name for name, _ in before} & {name for name, _ in after}


@ensureDeferred
async def test_everything_is_for_operators_alone(either: Gateway) -> None:
    for headers in ((), ("Tortxd-Token: wrong",)):
        assert (await renew(either, None, *headers)).status == 401
    assert (await renew(either, None, PAGE, TOKEN)).status == 403
    assert either.link.renewed == 0


@ensureDeferred
async def test_without_a_control_connection_tor_is_not_ready(
    either: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(either.link), "new_identity", lambda _: fail(TorNotReady("There is none."))
    )
    before = await used(either)
    reply = await renew(either, None, TOKEN)
    assert (reply.status, reply.json["code"]) == (503, "tor_not_ready")
    # What is ours to renew is renewed all the same.
    assert await used(either) != before


@pytest.mark.parametrize(
    "body",
    [
        b"alice",
        b"[]",
        b'"alice"',
        b'{"isolation": null}',
        b'{"isolation": 7}',
        b'{"isolation": ""}',
        b'{"isolation": "\\ud800"}',
        b'{"isolation": "' + b"x" * 257 + b'"}',
        b'{"key": "alice"}',
        b'{"isolation": "alice", "all": true}',
        b'{"isolation": "alice", "proxyUser": "bob"}',
        b"\xff",
        b"[" * 30_000,
    ],
)
@ensureDeferred
async def test_bad_bodies(either: Gateway, body: bytes) -> None:
    reply = await either.ask("/identity/new", TOKEN, method="POST", body=body)
    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    assert either.link.renewed == 0


@pytest.mark.parametrize("body", [None, b"", b"{}"])
@ensureDeferred
async def test_who_is_no_operator_is_told_what_either_kind_needs(
    either: Gateway, body: bytes | None
) -> None:
    for headers in ((), ("Tortxd-Token: wrong",)):
        reply = await either.ask("/identity/new", *headers, method="POST", body=body)
        assert (reply.status, reply.json["code"]) == (401, "unauthorized")
        assert reply["WWW-Authenticate"].startswith("Bearer")
        assert 'need the body {"isolation": "KEY"}' in reply.json["error"]
        assert "everyone are for operators" in reply.json["error"]
        assert "operator-token" in reply.json["error"]
    assert either.link.renewed == 0


@pytest.mark.parametrize("body", [b"isolation=canary", b"canary", b"isolation=canary&x=y", b"{"])
@pytest.mark.parametrize("headers", [(), (TOKEN,)])
@ensureDeferred
async def test_a_form_is_told_what_a_body_looks_like(
    either: Gateway, body: bytes, headers: tuple[str, ...]
) -> None:
    form = "Content-Type: application/x-www-form-urlencoded"
    reply = await either.ask("/identity/new", form, *headers, method="POST", body=body)
    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    assert "is not JSON" in reply.json["error"]
    assert """-d '{"isolation": "KEY"}'""" in reply.json["error"]
    assert "canary" not in reply.json["error"]
    assert either.link.renewed == 0


@ensureDeferred
async def test_a_body_that_is_too_long(either: Gateway) -> None:
    body = b" " * 70_000
    reply = await either.ask("/identity/new", TOKEN, method="POST", body=body)
    assert (reply.status, reply.json["code"]) == (413, "too_large")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@ensureDeferred
async def test_it_is_a_post(either: Gateway, method: str) -> None:
    """Rule 4: state changes are POST only."""
    reply = await either.ask("/identity/new", TOKEN, method=method)
    assert reply.status == 405
    assert reply["Allow"] == "POST, OPTIONS"
    assert either.link.renewed == 0


@ensureDeferred
async def test_what_is_remembered_of_renewals_is_bounded(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "REMEMBERED", 10)
    other = await used(gateway, "Tor-Stream-Isolation: other", PAGE)
    for number in range(30):
        assert (await renew(gateway, f"k{number}")).status == 200
    assert len(gateway.core.pool._retired) == 10
    assert await used(gateway, "Tor-Stream-Isolation: other", PAGE) == other

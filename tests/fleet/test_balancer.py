"""What the balancer does with requests, over members that stand in for daemons."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from urllib.parse import quote, quote_plus, urlsplit

import pytest
import pytest_twisted
from attrs import frozen
from pytest_twisted import ensureDeferred

from tests.daemon.process import installed, soon, until
from tests.fleet.balancer import CONFIGURATION, Balancer, StandIn, balancer, name_of
from tests.gateway.tunnels import basic, head_of
from tests.tor.lone_tor import free_port
from tests.web_client import Reply, ask, connect, connect_to
from tortxd import errors
from tortxd.gateway.control.endpoints import Endpoint
from tortxd.gateway.control.routes import ENDPOINTS
from tortxd.policy.access import Audience

KEYS = [
    "alice",
    "bob",
    "carol",
    "a key: of%20two+words",
    "a,b",
    "schl\N{LATIN SMALL LETTER U WITH DIAERESIS}ssel",
]
JSON_KIND = "Content-Type: application/json"


@frozen
class World:
    """Three members, and the balancer in front of them."""

    balancer: Balancer
    members: Sequence[StandIn]

    async def ask(self, path: str, *headers: str, **options: object) -> Reply:
        """Ask it, with the Host that belongs to the target."""
        host = urlsplit(path).netloc or "localhost:3080"
        return await self.balancer.ask(path, *headers, **{"host": host, **options})

    async def member_of(self, path: str, *headers: str, **options: object) -> int:
        """The number of the member that a request comes to."""
        reply = await self.ask(path, *headers, **options)
        assert reply.status == 200, reply
        number = int(reply.body.split()[0])
        assert reply["Tortxd-Member"] == name_of(number)
        return number

    async def tunnel_of(self, authority: str, *headers: str) -> int:
        """The number of the member that a tunnel goes through."""
        wire = await self.balancer.connect()
        wire.send(connect_to(authority, *headers))
        await soon(wire.when_came(b"\r\n\r\n"))
        wire.transport.abortConnection()
        status, *fields = head_of(wire)
        assert status.split()[1] == "200", status
        (member,) = [one for one in fields if one.lower().startswith("tortxd-member:")]
        return int(member.rpartition("-")[2])


@pytest_twisted.async_yield_fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    port = free_port()
    members = [StandIn(number, port) for number in (1, 2, 3)]
    for member in members:
        await member.start()
    one = balancer(tmp_path_factory.mktemp("balancer"), port)
    await one.when_up(1, 2, 3)
    yield World(one, members)
    await one.put_down()
    for member in members:
        await member.stop()


@pytest_twisted.async_yield_fixture
async def world(running: World) -> AsyncIterator[World]:
    """The same for each test, which may have members fail."""
    yield running
    for member in running.members:
        member.ready, member.overloaded, member.ends = True, False, 0
        member.requests.clear()
    await running.balancer.when_up(1, 2, 3)


def login(user: str, password: str = "token") -> str:
    return basic(user, password)


# --- where keys go --------------------------------------------------------------------------------


@ensureDeferred
async def test_a_key_has_one_member_however_it_is_given(world: World) -> None:
    found = Counter[int]()
    for key in KEYS:
        header = f"Tor-Stream-Isolation: {key}"
        site, url = quote("http://www.example.com/", safe=""), "http://www.example.com/"
        members = {
            await world.member_of(f"/proxy?url={site}", header),
            await world.member_of(f"/proxy?url={site}", f"X-Tor-Stream-Isolation: {key}"),
            await world.member_of(f"/proxy?isolation={quote_plus(key)}&url={site}"),
            await world.member_of(f"/proxy?url={site}&isolation={quote(key)}"),
            await world.member_of(f"/proxy?url={site}", login("tor-iso", key)),
            await world.member_of("/ip", header),
            await world.member_of(url, header),
            await world.member_of(url, header, login("tortxd")),
            await world.member_of(url, login("tor-iso", key)),
            await world.tunnel_of("www.example.com:443", header),
            await world.tunnel_of("www.example.com:443", login("tor-iso", key)),
            await world.member_of("/identity/new", **renewal(isolation=key)),
            await world.member_of("/identity/new", **renewal(proxyUser=f"tor-iso:{key}")),
        }
        if ":" not in key:  # no user has one in its name
            own = login(f"tortxd+{key};exit-country=de;sticky=600")
            members |= {
                await world.member_of(url, login(f"tortxd+{key}")),
                await world.member_of(url, own),
                await world.tunnel_of("www.example.com:443", own),
                await world.member_of("/identity/new", **renewal(proxyUser=f"tortxd+{key}:x")),
            }
        assert len(members) == 1, key
        found.update(members)
    assert len(found) > 1


def renewal(**body: str) -> dict[str, object]:
    return {"method": "POST", "body": json.dumps(body, ensure_ascii=False).encode()}


@ensureDeferred
async def test_other_users_of_a_proxy_are_keys(world: World) -> None:
    found = set()
    for user in ("ann", "ben", "tortxdx", "tor-isolation", "cy"):
        by = login(user, "secret")
        members = {
            await world.member_of("http://www.example.com/", by),
            await world.member_of("http://other.example.org/", by),
            await world.tunnel_of("www.example.com:443", by),
            await world.member_of("/identity/new", **renewal(proxyUser=f"{user}:secret")),
        }
        assert len(members) == 1, user
        found |= members
    assert len(found) > 1


@ensureDeferred
async def test_without_a_key_a_site_has_one_member(world: World) -> None:
    """However its hosts are written, and whoever asks as the gateway's own user."""
    found = set()
    for site in ("example.com", "example.org", "example.net", "a.test", "b.test"):
        members = {
            await world.member_of("/proxy?url=" + quote(f"https://www.{site}:8443/a?b#c", safe="")),
            await world.member_of(f"/proxy?url=http://{site}"),
            await world.member_of(f"/proxy?url=http://{site}?http://elsewhere.example/"),
            await world.member_of(f"/proxy?retry=1&url=HTTP://{site.upper()}/", login("tortxd")),
            await world.member_of(f"/proxy?url=http://{site}/", login("somebody")),
            await world.member_of(f"http://a.b.{site}:81/x?http://elsewhere.example/"),
            await world.member_of(f"http://{site}./"),
            await world.member_of(f"http://{site}/", login("tortxd;sticky=60")),
            await world.tunnel_of(f"{site}:443"),
            await world.tunnel_of(f"www.{site}:22", login("tortxd")),
        }
        assert len(members) == 1, site
        found |= members
    assert len(found) > 1


@ensureDeferred
async def test_what_has_no_key_and_no_site_goes_to_each_in_turn(world: World) -> None:
    assert {await world.member_of("/health") for _ in range(6)} == {1, 2, 3}


async def placed(world: World, keys: range) -> dict[int, int]:
    """Where these keys are now, asked on one connection."""
    wire, found = await world.balancer.connect(), {}
    for key in keys:
        wire.send(f"GET /ip HTTP/1.1\r\nHost: x\r\nTor-Stream-Isolation: k{key}\r\n\r\n".encode())
        reply = await soon(wire.reply())
        assert reply.status == 200, reply
        found[key] = int(reply.body.split()[0])
    wire.transport.abortConnection()
    return found


@ensureDeferred
async def test_keys_are_spread_and_only_those_of_a_lost_member_move(world: World) -> None:
    keys = range(600)
    before = await placed(world, keys)
    for number, count in Counter(before.values()).items():
        assert 120 < count < 300, f"{number} has {count} of 600"
    world.members[1].ready = False
    await world.balancer.when_up(1, 3)
    meanwhile = await placed(world, keys)
    moved = {key for key in keys if before[key] != meanwhile[key]}
    assert moved == {key for key in keys if before[key] == 2}
    assert {meanwhile[key] for key in moved} == {1, 3}
    world.members[1].ready = True
    await world.balancer.when_up(1, 2, 3)
    assert await placed(world, keys) == before


# --- who may ask what -----------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.path)
@ensureDeferred
async def test_clients_routes_are_passed_and_no_others(world: World, endpoint: Endpoint) -> None:
    path, method = endpoint.path, (endpoint.methods or (b"GET",))[0].decode()
    if method == "POST" and path == "/identity/new":
        assert await world.member_of(path, JSON_KIND, **renewal(isolation="key"))
        return
    passed = endpoint.audience is not Audience.OPERATOR
    for query in ("",) if path == "/" else ("", "?url=http://a.example/"):
        reply = await world.ask(re.sub("[{<]id[}>]", "7", path) + query, method=method)
        assert reply.status == (200 if passed else 404), path
        if not passed:
            assert (reply["Tortxd-Error"], reply.json["code"]) == ("not_found", "not_found")
    assert any(member.requests for member in world.members) is passed


@pytest.mark.parametrize(
    "path", ["//proxy?url=x", "/%70roxy?url=x", "/proxy/x", "/Proxy", "/x", "/?token=x"]
)
@ensureDeferred
async def test_what_only_looks_like_a_route_is_not_passed(world: World, path: str) -> None:
    assert (await world.ask(path)).status == 404


@ensureDeferred
async def test_http_2_is_not_spoken(world: World) -> None:
    """Its requests name their host, so that none would look like a route."""
    wire = await world.balancer.connect()
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    assert (await soon(wire.reply())).status == 400


@ensureDeferred
async def test_new_circuits_for_everyone_are_no_matter_of_one_member(world: World) -> None:
    named = "Tor-Stream-Isolation: alice"  # which says whose the request is, not what it renews
    for body in (b"", b"{}", b'{"circuit": "7"}', b"["):
        reply = await world.ask("/identity/new", JSON_KIND, named, method="POST", body=body)
        assert (reply.status, reply.json["code"]) == (404, "not_found")
        assert "tortxd --gateway" in reply.json["error"]
    assert not any(member.requests for member in world.members)


@ensureDeferred
async def test_keys_that_would_be_read_in_two_ways_are_refused(world: World) -> None:
    escaped = json.dumps({"isolation": KEYS[-1]}).encode()
    reply = await world.ask("/identity/new", JSON_KIND, method="POST", body=escaped)
    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    assert not any(member.requests for member in world.members)


@pytest.mark.parametrize("target", ["/proxy?url=http://a.example/", "http://a.example/"])
@ensureDeferred
async def test_responses_that_could_not_be_seen_to_break_off_are_not_relayed(
    world: World, target: str
) -> None:
    """Rule 14."""
    wire = await world.balancer.connect()
    wire.send(f"GET {target} HTTP/1.0\r\nHost: a.example\r\n\r\n".encode())
    reply = await soon(wire.reply())
    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    wire.transport.abortConnection()


# --- who the caller is ----------------------------------------------------------------------------


@ensureDeferred
async def test_members_are_told_who_asks(world: World) -> None:
    for source in ("127.0.0.1", "127.0.5.6"):
        reply = await ask(installed(), world.balancer.port, "/health", source=source)
        assert reply.body.split()[1].decode() == source


@ensureDeferred
async def test_clients_cannot_say_who_they_are(world: World) -> None:
    wire = await connect(installed(), world.balancer.port)
    wire.send(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    reply = await soon(wire.reply())
    assert reply.status == 400


@ensureDeferred
async def test_connections_to_members_are_not_shared_by_clients(world: World) -> None:
    """Each says whose it is at its beginning."""
    wires = [await connect(installed(), world.balancer.port, f"127.0.6.{n}") for n in (1, 2)]
    for _ in range(3):
        for number, wire in enumerate(wires, 1):
            wire.send(b"GET /ip HTTP/1.1\r\nHost: x\r\nTor-Stream-Isolation: same\r\n\r\n")
            reply = await soon(wire.reply())
            assert reply.body.split()[1].decode() == f"127.0.6.{number}"
    for wire in wires:
        wire.transport.abortConnection()


@ensureDeferred
async def test_what_follows_a_refused_tunnel_is_no_request(world: World) -> None:
    """It was for the tunnel, and may be anybody's."""
    wire = await world.balancer.connect()
    wire.send(connect_to("refused.example:443") + b"GET /ip HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await soon(wire.reply())).status == 403
    await soon(wire.lost)
    assert [line for one in world.members for line in one.requests] == [
        b"CONNECT refused.example:443 HTTP/1.1"
    ]


# --- members that fail ----------------------------------------------------------------------------


@ensureDeferred
async def test_what_is_safe_is_asked_of_the_next_member(world: World) -> None:
    for member in world.members:
        member.ends = 1
    reply = await world.ask("/ip", "Tor-Stream-Isolation: alice")
    assert reply.status == 200
    asked = [member.number for member in world.members if member.requests]
    assert len(asked) > 1


@ensureDeferred
async def test_nothing_else_is_sent_twice(world: World) -> None:
    """Rule 28."""
    for method, body in ((b"POST", b"once"), (b"DELETE", None), (b"GET", b"once")):
        for member in world.members:
            member.ends = 1
        reply = await world.ask("/proxy?url=http://a.example/", method=method.decode(), body=body)
        assert (reply.status, reply.json["code"]) == (502, "connect_failed")
        sent = [line for member in world.members for line in member.requests]
        assert len([line for line in sent if line.startswith(method)]) == 1


@ensureDeferred
async def test_a_member_with_too_much_to_do_keeps_its_keys(world: World) -> None:
    """Passed over, it would have the next one overloaded, and so on."""
    key = "Tor-Stream-Isolation: alice"
    home = await world.member_of("/ip", key)
    member = world.members[home - 1]
    member.overloaded = True
    checked = member.checks + 3  # two would be enough to pass it over
    await until(lambda: member.checks >= checked)
    reply = await world.ask("/ip", key)
    assert (reply.status, reply.json["code"]) == (503, "overloaded")
    assert await world.balancer.up() == {1, 2, 3}


@ensureDeferred
async def test_where_no_member_is_ready_it_says_so(world: World) -> None:
    for member in world.members:
        member.ready = False
    await world.balancer.when_up()
    reply = await world.ask("/proxy?url=http://a.example/")
    assert (reply.status, reply.json["code"], reply["Retry-After"]) == (503, "tor_not_ready", "5")
    wire = await world.balancer.connect()
    wire.send(connect_to("a.example:443"))
    assert (await soon(wire.reply())).status == 503


# --- bytes ----------------------------------------------------------------------------------------


@ensureDeferred
async def test_heads_that_daemons_take_are_taken(world: World) -> None:
    reply = await world.ask("/health", "A: " + "a" * 60_000)
    assert reply.status == 200
    reply = await world.ask("/health", *(f"A{n}: x" for n in range(240)))
    assert reply.status == 200


@ensureDeferred
async def test_a_request_target_is_not_touched(world: World) -> None:
    for path in (
        "/proxy?url=http%3A%2F%2Fa.example%2F%3Fa%3D%2520%26b=x",
        "http://A.example:81/x//y/../z?q=%2F",
    ):
        reply = await world.ask(path)
        assert f"GET {path} HTTP/1.1".encode() in reply.body


@ensureDeferred
async def test_it_adds_no_header(world: World) -> None:
    """What it would say of the client would be dropped, and of itself is nobody's business."""
    reply = await world.ask("/health", "X-Own: kept")
    _, _, *fields = reply.body.decode().lower().split("\r\n\r\n")[0].splitlines()
    assert [line for line in fields if line] == ["host: localhost:3080", "x-own: kept"]


# --- the file itself ------------------------------------------------------------------------------


def test_its_errors_are_those_of_the_gateway() -> None:
    known = {
        (kind.status, kind.code, kind.retryable)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TortxdError)
    }
    text = CONFIGURATION.read_text()
    told = re.findall(r"""status (\d+) .* string '(\{.*\})' hdr Tortxd-Error (\w+)""", text)
    assert len(told) > 6
    for status, body, code in told:
        value = json.loads(body)
        assert value["code"] == code
        assert (int(status), code, value["retryable"]) in known
        assert value["error"].endswith(".")


def test_nothing_logs_requests() -> None:
    text = CONFIGURATION.read_text()
    assert not re.search(r"^\s*(log|option httplog|option tcplog|log-format|capture)\b", text, re.M)


@ensureDeferred
async def test_it_says_by_itself_how_it_is(world: World) -> None:
    for path, status in (("/live", 200), ("/metrics", 200), ("/", 404)):
        assert (await ask(installed(), world.balancer.admin, path)).status == status

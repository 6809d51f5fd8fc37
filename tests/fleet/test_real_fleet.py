"""Three daemons, each with a Tor of its own on the private network, behind HAProxy."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted
from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from tests.daemon.process import GONE_WITHIN, STOPPED_WITHIN, Launcher, installed, soon, until
from tests.daemon.programs import run_program
from tests.daemon.websocket_client import speak
from tests.fleet.balancer import Balancer, Fleet, balancer, name_of
from tests.fleet.requests import Load
from tests.gateway.tunnels import basic
from tests.web_client import Reply, ask, connect
from tests.websocket_server import WebSocketServer
from tortxd.testing import Origin, PrivateNetwork
from tortxd.testing.origin_http import pattern

NUMBERS = (1, 2, 3)
SIZE = 2000
"""Bytes of each response under load."""
CLIENTS = 6
KEYS = 4
"""Of each client."""


@frozen
class World:
    """Members that serve, and the balancer in front of them."""

    fleet: Fleet
    balancer: Balancer
    origin: Origin

    async def fetch(self, *headers: str, source: str | None = None, path: str = "/") -> Reply:
        """Ask for a page of the origin through ``/proxy``."""
        target = "/proxy?url=" + quote(self.origin.http + path, safe="")
        return await soon(
            Deferred.fromCoroutine(
                ask(installed(), self.balancer.port, target, *headers, source=source)
            )
        )


@pytest_twisted.async_yield_fixture(scope="module")
async def world(
    tor_network: PrivateNetwork, tor_origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("fleet")
    fleet = Fleet(Launcher(tor_network, tor_origin, folder))
    for number in NUMBERS:
        fleet.start(number)
    one = balancer(folder, fleet.port)
    await one.when_up(*NUMBERS)
    yield World(fleet, one, tor_origin)
    await one.put_down()
    await fleet.launch.stop()


@ensureDeferred
async def test_a_key_keeps_its_member_and_its_circuit_by_every_way(world: World) -> None:
    port, url = world.balancer.port, world.origin.http + "/head"
    for key in ("alice", "bob"):
        first = await world.fetch(f"Tor-Stream-Isolation: {key}", path="/head")
        way = {name: first[name] for name in ("Tortxd-Member", "Tortxd-Circuit")}
        assert "isolation" not in first.body.decode().lower()
        again = await world.fetch(f"Tor-Stream-Isolation: {key}", path="/head")
        by_user = await ask(
            *(installed(), port, url, basic(f"tortxd+{key}", "")),
            host=world.origin.http.removeprefix("http://"),
        )
        for reply in (again, by_user):
            assert reply.status == 200, reply
            assert {name: reply[name] for name in way} == way
        host = world.origin.https.removeprefix("https://")
        told = await run_program(
            *("curl", "-q", "-sS", "-p", "-x", f"http://tortxd+{key}:x@127.0.0.1:{port}"),
            *("--cacert", str(world.origin.ca_file), "-o", "/dev/null", "-D", "-"),
            f"https://{host}/",
        )
        assert told.status == 0, told.err
        # A stream of its own: Tor may have made the key a second circuit meanwhile.
        assert f"tortxd-member: {way['Tortxd-Member']}" in told.out.decode().lower()


@ensureDeferred
async def test_websockets_pass_by_proxy_and_inside_connect(world: World, tmp_path: Path) -> None:
    port = world.balancer.port
    with WebSocketServer(tmp_path, greeting="server first", subprotocols=("chat",)) as server:
        url = quote(f"{server.ws}/x", safe="")
        names = await speak(server, f"ws://127.0.0.1:{port}/proxy?isolation=alice&url={url}")
        assert "tortxd-member" in names
        await speak(server, f"{server.ws}/x", f"http://127.0.0.1:{port}")


@ensureDeferred
async def test_callers_are_told_apart_by_their_own_addresses(world: World) -> None:
    """One key has one member, and each caller its own circuit there."""
    key = "Tor-Stream-Isolation: shared"
    one = await world.fetch(key, source="127.0.0.1")
    other = await world.fetch(key, "X-Forwarded-For: 127.0.0.1", source="127.0.4.4")
    again = await world.fetch(key, source="127.0.0.1")
    assert one["Tortxd-Member"] == other["Tortxd-Member"] == again["Tortxd-Member"]
    assert one["Tortxd-Circuit"] == again["Tortxd-Circuit"] != other["Tortxd-Circuit"]


@ensureDeferred
async def test_new_circuits_for_a_key_are_made_where_it_is(world: World) -> None:
    key = "Tor-Stream-Isolation: renewed"
    before = await world.fetch(key)
    renewed = await world.balancer.ask(
        "/identity/new", method="POST", body=json.dumps({"isolation": "renewed"}).encode()
    )
    assert renewed.status == 200, renewed
    assert renewed["Tortxd-Member"] == before["Tortxd-Member"]
    after = await world.fetch(key)
    assert after["Tortxd-Member"] == before["Tortxd-Member"]
    assert after["Tortxd-Circuit"] != before["Tortxd-Circuit"]


@ensureDeferred
async def test_what_breaks_off_is_seen_to_have_broken_off(world: World) -> None:
    """Rule 14, through the balancer."""
    for path in ("/bytes/200000", "/chunked/200000"):
        whole = await world.fetch(path=path)
        assert (whole.status, whole.whole, len(whole.body)) == (200, True, 200_000)
        cut = await world.fetch(path=f"{path}?cut=100000&ending=abort")
        assert (cut.status, cut.whole) == (200, False)


@ensureDeferred
async def test_a_client_that_leaves_ends_its_stream(world: World) -> None:
    """Rule 13, through the balancer."""
    wire = await connect(installed(), world.balancer.port)
    target = "/proxy?url=" + quote(world.origin.http + "/hang", safe="")
    before = len(world.origin.connections)
    wire.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await until(lambda: len(world.origin.connections) > before)
    (last,) = list(world.origin.connections.values())[before:]
    wire.transport.abortConnection()
    await until(lambda: not last.open, GONE_WITHIN)


@ensureDeferred
async def test_members_that_stop_and_die_under_load(world: World) -> None:
    """Drained, a member loses nothing; killed, what it was at and no more; and no keys move but
    its own."""
    fleet, front, now = world.fleet, world.balancer, installed().seconds
    load = Load(front.port, f"{world.origin.http}/bytes/{SIZE}", bytes(pattern(SIZE)))
    clients = [[f"load-{client}-{key}" for key in range(KEYS)] for client in range(CLIENTS)]
    keys = [key for client in clients for key in client]
    began = now()
    load.start(clients)
    await load.rounds(keys)
    home = {key: member for key, (member,) in load.members(began).items()}
    assert set(home.values()) == {name_of(number) for number in NUMBERS}

    def keys_of(number: int) -> set[str]:
        return {key for key, member in home.items() if member == name_of(number)}

    # One stops in order.
    stopped = now()
    fleet.members[2].kill(signal.SIGTERM)
    await fleet.members[2].when_ended(STOPPED_WITHIN)
    await front.when_up(1, 3)
    await load.rounds(keys)
    assert load.moved(home, stopped) == keys_of(2)
    lost = [one for one in load.since(began) if not one.whole]
    assert not lost, lost

    # It comes back, and its keys with it.
    await fleet.start(2).when_ready()
    await front.when_up(*NUMBERS)
    back = now()
    await load.rounds(keys)
    assert not load.moved(home, back)

    # Another one is killed.
    killed = now()
    fleet.members[3].kill()
    await fleet.members[3].when_ended()
    dead = now()
    await front.when_up(1, 2)
    await load.rounds(keys)
    await load.end()
    assert load.moved(home, killed) == keys_of(3)
    for one in load.since(began):
        in_flight = one.key in keys_of(3) and one.began <= dead and one.ended >= killed
        assert one.whole or in_flight, one

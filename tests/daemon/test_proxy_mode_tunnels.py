"""CONNECT on real circuits: bytes both ways, who may, and what is said when it fails."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import base64
from pathlib import Path

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.daemon.arrivals import arrived
from tests.daemon.onions import publish, unknown_onion
from tests.daemon.process import Daemon, Launcher, installed, soon
from tests.daemon.programs import curl
from tests.daemon.servers import HOST, FarEnd, destination
from tests.tor.lone_tor import free_port
from tests.web_client import Reply, Wire, connect_to
from tortxd.testing import Origin, PrivateNetwork, pattern

BIG = 3_000_000


async def tunnel(daemon: Daemon, authority: str, *headers: str) -> Wire:
    """A tunnel that stands."""
    wire = await daemon.connect()
    wire.send(connect_to(authority, *headers))
    await soon(wire.when_came(b"\r\n\r\n"))
    assert wire.raw.startswith(b"HTTP/1.1 200 "), wire.raw
    return wire


async def refused(daemon: Daemon, authority: str, *headers: str) -> Reply:
    """The answer to a CONNECT that fails."""
    wire = await daemon.connect()
    wire.send(connect_to(authority, *headers))
    reply = await soon(wire.reply())
    wire.transport.abortConnection()
    return reply


def tunnelled(wire: Wire) -> bytes:
    """What came out of the tunnel."""
    return bytes(wire.raw).partition(b"\r\n\r\n")[2]


# --- bytes ----------------------------------------------------------------------------------------


@ensureDeferred
async def test_bytes_go_both_ways(daemon: Daemon) -> None:
    async with destination() as server:
        wire = await tunnel(daemon, f"{HOST}:{server.port}")
        end: FarEnd = await soon(server.arrived.get())
        up, down = pattern(BIG) + b"\r\n\r\nend", pattern(BIG, 7) + b"\xff\x00end"
        wire.send(up)
        end.transport.write(down)
        await soon(end.when_came(b"\r\n\r\nend"))
        await soon(wire.when_came(b"\xff\x00end"))
        assert end.received == up
        assert tunnelled(wire) == down
        end.transport.loseConnection()
        await soon(wire.lost)
        assert wire.closed is not None
        assert "cleanly" in str(wire.closed)


@ensureDeferred
async def test_rule_18_what_the_destination_says_first_is_not_lost(daemon: Daemon) -> None:
    """It may come in one piece with the SOCKS reply, and the client says nothing at all."""
    async with destination(b"220 mail ready\r\n") as server:
        for _ in range(5):
            wire = await tunnel(daemon, f"{HOST}:{server.port}")
            await soon(wire.when_came(b"220 mail ready\r\n"))
            assert tunnelled(wire) == b"220 mail ready\r\n"
            wire.transport.abortConnection()


@ensureDeferred
async def test_rule_18_after_a_clients_fin_the_rest_still_arrives(daemon: Daemon) -> None:
    """The FIN is not passed on: Tor would end both directions. What the destination sends from then
    on reaches the client, and its end ends the tunnel."""
    async with destination() as server:
        wire = await tunnel(daemon, f"{HOST}:{server.port}")
        end: FarEnd = await soon(server.arrived.get())
        wire.send(b"last words")
        wire.transport.loseWriteConnection()
        await soon(end.when_came(b"last words"))
        # Long enough for a FIN to have come through, and for the daemon to look at who has left.
        await deferLater(installed(), 1.5)
        assert not end.lost.called
        assert wire.closed is None
        end.transport.write(pattern(BIG) + b"and yet")
        end.transport.loseConnection()
        await soon(wire.lost)
        assert tunnelled(wire) == pattern(BIG) + b"and yet"
        assert "cleanly" in str(wire.closed)


@ensureDeferred
async def test_rule_14_a_destination_that_resets_is_no_clean_end(daemon: Daemon) -> None:
    """The client of a tunnel sees the reset; what came before it may or may not arrive."""
    async with destination() as server:
        wire = await tunnel(daemon, f"{HOST}:{server.port}")
        end: FarEnd = await soon(server.arrived.get())
        end.transport.write(b"half a")
        await soon(wire.when_came(b"half a"))
        end.transport.abortConnection()
        await soon(wire.lost)
        assert "cleanly" not in str(wire.closed)


@ensureDeferred
async def test_an_onion_service(daemon: Daemon, tor_network: PrivateNetwork) -> None:
    """It may speak first, too; and nobody leaves Tor on the way to it."""
    client = await soon(Deferred.fromCoroutine(tor_network.start_client()))
    try:
        async with destination(b"server first ") as server:
            name = await publish(client, server.port)
            wire = await tunnel(daemon, f"{name}:80")
            end: FarEnd = await soon(server.arrived.get())
            await soon(wire.when_came(b"server first "))
            wire.send(b"client second")
            await soon(end.when_came(b"client second"))
            head = bytes(wire.raw).partition(b"\r\n\r\n")[0]
            assert b"\r\nTortxd-Exit" not in head
            wire.transport.abortConnection()
            await soon(end.lost, 2.0)
        assert name not in daemon.text
    finally:
        await client.stop()


# --- failure --------------------------------------------------------------------------------------


@ensureDeferred
async def test_rule_18_failure_is_said_before_the_200(daemon: Daemon) -> None:
    """With Tor's own reason, as its specification of HTTP CONNECT wants it."""
    reply = await refused(daemon, "canary.nowhere.example:443")
    assert (reply.status, reply["Tortxd-Error"]) == (502, "resolve_failed")
    assert reply["Tor-Request-Failed"] == "end/RESOLVEFAILED"
    assert reply["Proxy-Status"].startswith("tortxd; error=")
    assert b"canary" not in reply.body
    reply = await refused(daemon, f"{HOST}:{free_port()}")
    assert reply.status == 502
    assert reply["Tor-Request-Failed"] in ("end/CONNECTREFUSED", "end/MISC")


@ensureDeferred
async def test_an_onion_service_that_does_not_exist(daemon: Daemon) -> None:
    name = unknown_onion()
    reply = await refused(daemon, f"{name}:80", "Tortxd-Timeout: 30")
    assert (reply.status, reply["Tortxd-Error"]) == (502, "onion_unreachable")
    assert name.encode() not in reply.body
    assert "Tor-Request-Failed" in reply


@ensureDeferred
async def test_options_tells_what_the_proxy_can_do(daemon: Daemon) -> None:
    reply = await daemon.ask("*", method="OPTIONS")
    assert reply.status == 200
    assert "Tor-Capabilities" in reply
    assert "CONNECT" in reply["Allow"]
    assert reply["Via"].startswith("tor/1.0 ")


# --- the token ------------------------------------------------------------------------------------

TOKEN = "canary-token"


@ensureDeferred
async def test_without_the_token_407(launch: Launcher, tor_origin: Origin, tmp_path: Path) -> None:
    """In CONNECT and absolute-form, for raw clients and for curl; with it, both pass."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    daemon = launch(f"--token-file={file}")
    await daemon.when_listening()
    authority = f"{HOST}:{tor_origin.http_port}"
    for password in ("wrong", ""):
        login = base64.b64encode(f"tortxd:{password}".encode()).decode()
        reply = await refused(daemon, authority, f"Proxy-Authorization: Basic {login}")
        assert (reply.status, reply["Tortxd-Error"]) == (407, "unauthorized")
        assert reply["Proxy-Authenticate"].startswith("Basic ")
    shown = ("-w", "%{http_connect} %{http_code}")
    for options in ((), ("--proxytunnel",)):
        ran = await curl(daemon.port, *options, *shown, f"{tor_origin.http}/without-token")
        assert b"407" in ran.out
        assert ran.status == (56 if options else 0)
    assert not arrived(tor_origin, "without-token")
    for options in ((), ("--proxytunnel",)):
        for user in ("tortxd", "tortxd+alice canary"):
            login = f"{user}:{TOKEN}"
            ran = await curl(
                daemon.port, *options, "--proxy-user", login, f"{tor_origin.http}/echo"
            )
            assert ran.status == 0, ran
            assert b'"method": "GET"' in ran.out
            assert TOKEN.encode() not in ran.out
    reply = await daemon.ask("*", method="OPTIONS")
    assert reply.status == 407

"""More clients than there is room for, and clients that take what they get slowly or late, while
they are still sending."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import pytest
from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from tests.daemon.arrivals import arrivals, mark
from tests.daemon.process import GONE_WITHIN, Daemon, Launcher, installed, run, soon, until
from tests.daemon.servers import HOST, FarEnd, destination
from tests.slow_client import Got, converse, with_little_room
from tests.tor.lone_tor import free_port
from tests.web_client import Reply, Wire, connect, connect_to
from tortxd.testing import Origin, PrivateNetwork, pattern

DESCRIPTORS = 256
CLIENTS = 64
"""How many a daemon with so few descriptors serves (:class:`tortxd.gateway.limits.Limits`)."""
HOLDERS = ["127.0.0.1"] * 48 + ["127.0.0.2"] * 12 + ["127.0.0.3"] * 3 + ["127.0.0.4"]
"""Who can have all of them: each has three quarters of what the ones before have left."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@frozen
class Poor:
    """A daemon with few file descriptors."""

    daemon: Daemon
    second_port: int
    """Another one that it serves on."""


@pytest.fixture(scope="module")
def poor(
    tor_network: PrivateNetwork, tor_origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Poor]:
    """Its clients do not use up what it has."""
    prlimit = shutil.which("prlimit")
    assert prlimit is not None, "This test needs the program prlimit: apt-get install util-linux"
    folder = tmp_path_factory.mktemp("poor")
    torrc = tor_network.write_client_torrc(folder / "torrc")
    torrc.write_text(torrc.read_text() + "ConnLimit 100\n")
    launch = Launcher(tor_network, tor_origin, folder)
    second_port = free_port()
    daemon = launch(
        f"--http=tcp:{second_port}:interface=127.0.0.1:backlog=200",
        wrapper=(prlimit, f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"),
        torrc=torrc,
    )
    daemon.wrapped = False  # prlimit becomes what it starts
    run(daemon.when_ready)
    yield Poor(daemon, second_port)
    assert "EMFILE" not in daemon.text
    run(launch.stop)


async def connected(
    daemon: Daemon, number: int, port: int | None = None, source: str | None = None
) -> list[Wire]:
    """So many clients at once, of its first port or of another."""
    return await all_connected([source] * number, port or daemon.port)


async def all_connected(sources: Sequence[str | None], port: int) -> list[Wire]:
    """A client from each of these addresses, all at once."""
    connecting: Any = gatherResults(
        [Deferred.fromCoroutine(connect(installed(), port, source)) for source in sources]
    )
    return list(await soon(connecting))


@ensureDeferred
async def test_rule_25_each_client_of_a_crowd_gets_an_answer(
    poor: Poor, tor_origin: Origin
) -> None:
    """Five times as many as there is room for, at once: none is closed without a byte. Nor are
    those who are the first at a port, all in its queue when it first looks."""
    daemon = poor.daemon
    marked = mark("hang")
    url = quote(f"{tor_origin.http}/hang?{marked}", safe="")
    assert len(HOLDERS) == CLIENTS
    holding = [(await all_connected([source], daemon.port))[0] for source in HOLDERS]
    for wire in holding:
        wire.send(f"GET /proxy?url={url} HTTP/1.1\r\nHost: localhost\r\n".encode())
        wire.send(b"Tortxd-Timeout: 100\r\n\r\n")
    held = [one.connection for one in await arrivals(tor_origin, marked, CLIENTS)]
    daemon.kill(signal.SIGSTOP)
    try:
        crowd = await connected(daemon, 100, poor.second_port)
    finally:
        daemon.kill(signal.SIGCONT)
    crowd += await connected(daemon, 200)
    asked: list[Deferred[Reply]] = []
    for wire in crowd:
        wire.send(HEALTH)
        asked.append(wire.reply())
    for reply in await soon(gatherResults(asked)):
        assert (reply.status, reply.json["code"]) == (503, "overloaded")
        assert reply["Retry-After"].isdecimal()
        assert reply.whole
    assert all(wire.closed is None for wire in holding)
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) < DESCRIPTORS
    for wire in holding:
        wire.transport.abortConnection()
    # These, not all that there are: what another daemon keeps alive there stays for 90 s.
    await until(lambda: not any(tor_origin.connections[one].open for one in held), GONE_WITHIN)
    assert (await daemon.fetch(tor_origin.http + "/")).status == 200


@ensureDeferred
async def test_rule_25_clients_that_ask_for_nothing_keep_nobody_from_an_answer(
    poor: Poor,
) -> None:
    """They take all the room that there is, and all that there is to refuse; they are told before
    long, and who has long asked for nothing makes room."""
    daemon = poor.daemon
    silent = await connected(daemon, CLIENTS + 100)
    assert (await soon(Deferred.fromCoroutine(daemon.ask("/health")), 10.0)).status == 503
    assert any(wire.raw.startswith(b"HTTP/1.1 503 ") for wire in silent)
    start = installed().seconds()
    while (await daemon.ask("/health")).status != 200:
        assert installed().seconds() < start + 60.0
    for wire in silent:
        wire.transport.abortConnection()


@ensureDeferred
async def test_rule_25_a_client_that_takes_all_it_can_keeps_no_other_out(
    poor: Poor, tor_origin: Origin
) -> None:
    """It begins requests that it does not end, as many as it gets in."""
    daemon, greedy = poor.daemon, "127.0.0.2"
    slow = await connected(daemon, CLIENTS + 100, source=greedy)
    for wire in slow:
        wire.send(HEALTH[:-2])
    reply = await daemon.ask("/health", source=greedy)
    assert (reply.status, reply.json["code"]) == (503, "overloaded")
    assert (await daemon.ask("/health")).status == 200
    assert (await daemon.fetch(tor_origin.http + "/")).status == 200
    assert (await daemon.ask("/health?live", source=greedy)).status == 200
    for wire in slow:
        wire.transport.abortConnection()
    await gatherResults([wire.lost for wire in slow])
    start = installed().seconds()
    while (await daemon.ask("/health", source=greedy)).status != 200:
        assert installed().seconds() < start + 10.0
    assert greedy not in daemon.text


# --- the last bytes -------------------------------------------------------------------------------


STEP = 0.04
"""Seconds between two pieces that a client takes: with all of them, more than the 2 s that one has
that has taken the last byte."""


def talk(port: int, first: bytes) -> Deferred[Got]:
    """Say this to the gateway, and go on as :func:`tests.slow_client.converse` does."""

    def talking() -> Got:
        client = with_little_room()
        client.connect(("127.0.0.1", port))
        return converse(client, first, lambda: time.sleep(STEP))

    return deferToThread(talking)


@ensureDeferred
async def test_rule_18_the_end_reaches_a_slow_client_that_is_still_sending(daemon: Daemon) -> None:
    said = pattern(60_007)
    async with destination() as server:
        first = connect_to(f"{HOST}:{server.port}") + b"." * 30_000
        talking = talk(daemon.port, first)
        end: FarEnd = await soon(server.arrived.get())
        end.transport.write(said)
        # Only this way: to close it with bytes unread would be a reset, which drops the last ones.
        end.transport.loseWriteConnection()
        got = await soon(talking)
    assert got.body == said
    assert not got.reset


@ensureDeferred
async def test_rule_30_an_early_answer_reaches_a_slow_client_that_is_still_sending(
    daemon: Daemon,
) -> None:
    body = pattern(60_000)
    async with destination() as server:
        url = quote(f"http://{HOST}:{server.port}/", safe="")
        head = f"POST /proxy?url={url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000"
        first = f"{head}\r\n\r\n".encode() + b"." * 50_000
        talking = talk(daemon.port, first)
        end: FarEnd = await soon(server.arrived.get())
        await soon(end.when_came(b"\r\n\r\n"))
        end.transport.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 60000\r\n\r\n" + body)
        got = await soon(talking)
    assert got.data.startswith(b"HTTP/1.1 413 ")
    assert got.body == body
    assert not got.reset


@ensureDeferred
async def test_rule_30_all_of_a_long_pipeline_is_answered(
    daemon: Daemon, tor_origin: Origin
) -> None:
    """A megabyte of requests at once, in order; the last one is for a route that closes the
    connection, and what is behind that is dropped without harm to any answer."""
    number = 128
    requests = b""
    for size in range(number):
        url = quote(f"{tor_origin.http}/bytes/{size}", safe="")
        requests += f"GET /proxy?url={url} HTTP/1.1\r\nHost: localhost\r\n".encode()
        # What the gateway drops: Tor would take seconds for a megabyte.
        requests += b"Cookie: " + b"y" * 8000 + b"\r\n\r\n"
    wire = await daemon.connect()
    wire.send(requests + HEALTH * 100_000)
    for size in range(number):
        reply = await soon(wire.reply())
        assert (reply.status, bytes(reply.body)) == (200, pattern(size))
    assert (await soon(wire.reply())).json["status"] == "ok"
    await soon(wire.lost)
    assert wire.closed is not None
    assert "cleanly" in str(wire.closed)

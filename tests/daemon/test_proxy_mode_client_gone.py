"""Rule 13 on real circuits: when a client has left, its stream goes, whatever it waited for."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet.task import deferLater

from tests.daemon.process import GONE_WITHIN, POLL, Daemon, installed, soon, until
from tests.daemon.servers import HOST, Destination, FarEnd, destination, unanswering
from tests.web_client import Wire
from tortxd.testing import Origin

SIZE = 100_000_000


@pytest_twisted.async_yield_fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    """One for each test, so that its port tells whose stream it is."""
    origin = Origin(installed(), tmp_path)
    await origin.start()
    yield origin
    await origin.stop()


async def asked(daemon: Daemon, way: str, port: int, path: str, method: str = "GET") -> Wire:
    """A client that has asked for something, and has got nothing yet."""
    authority = f"{HOST}:{port}"
    wire = await daemon.connect()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {authority}"]
    if way == "proxy":
        url = quote(f"http://{authority}{path}", safe="")
        lines = [f"{method} /proxy?url={url} HTTP/1.1", "Host: localhost"]
    elif way == "absolute-form":
        lines[0] = f"{method} http://{authority}{path} HTTP/1.1"
    else:
        wire.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        await soon(wire.when_came(b"\r\n\r\n"))
        assert wire.raw.startswith(b"HTTP/1.1 200 "), wire.raw
    if method == "POST":
        lines.append(f"Content-Length: {SIZE}")
    wire.send("\r\n".join((*lines, "", "")).encode())
    return wire


def leave(wire: Wire, leaving: str) -> None:
    if leaving == "FIN":
        wire.transport.loseWriteConnection()
    else:
        wire.transport.abortConnection()


async def done_with(wire: Wire) -> None:
    """Close a connection of which only one direction may be closed."""
    wire.transport.abortConnection()
    await soon(wire.lost)


async def streams(daemon: Daemon, port: int) -> list[str]:
    """The states of the streams to a port, as operators see them."""
    told = (await daemon.told("/streams"))["streams"]
    return [one["state"] for one in told if one["target"].endswith(f":{port}")]


async def when_streams(daemon: Daemon, port: int, wanted: bool, seconds: float) -> None:
    """Wait until ``/streams`` shows any to this port, or none."""
    deadline = installed().seconds() + seconds
    while bool(found := await streams(daemon, port)) is not wanted:
        assert installed().seconds() < deadline, found
        await deferLater(installed(), POLL)


async def check_leaving(daemon: Daemon, origin: Origin, wire: Wire, leaving: str) -> None:
    """Leave; whether the destination then loses its only connection in time, and Tor the stream."""
    left_at = installed().seconds()
    leave(wire, leaving)
    (connection,) = origin.connections.values()
    await soon(origin.when_closed(connection.number), GONE_WITHIN)
    left = GONE_WITHIN - (installed().seconds() - left_at)
    await when_streams(daemon, origin.http_port, False, max(left, POLL))
    await done_with(wire)


CASES = [
    (way, leaving)
    for way in ("proxy", "absolute-form", "tunnel")
    for leaving in ("FIN", "reset")
    if (way, leaving) != ("tunnel", "FIN")  # there it only means that nothing more is said
]
EVERY_CASE = pytest.mark.parametrize(("way", "leaving"), CASES)


@EVERY_CASE
@ensureDeferred
async def test_rule_13_while_waiting_for_an_answer(
    daemon: Daemon, origin: Origin, way: str, leaving: str
) -> None:
    """The destination has the request, and says nothing."""
    wire = await asked(daemon, way, origin.http_port, "/hang")
    await soon(origin.when_requested(1))
    assert await streams(daemon, origin.http_port)
    await check_leaving(daemon, origin, wire, leaving)


@EVERY_CASE
@pytest.mark.parametrize("reading", [True, False], ids=["read", "unread"])
@ensureDeferred
async def test_rule_13_while_the_body_comes(
    daemon: Daemon, origin: Origin, way: str, leaving: str, reading: bool
) -> None:
    """A client that reads, and one that does not, so that nothing can be written to it."""
    wire = await asked(daemon, way, origin.http_port, f"/bytes/{SIZE}")
    if not reading:
        wire.transport.pauseProducing()
    await soon(origin.when_requested(1))
    (connection,) = origin.connections.values()
    sent = 0
    while connection.sent < 200_000 or (not reading and connection.sent != sent):
        sent = connection.sent
        await deferLater(installed(), 0.3)
    await check_leaving(daemon, origin, wire, leaving)


@EVERY_CASE
@ensureDeferred
async def test_rule_13_while_it_uploads(
    daemon: Daemon, origin: Origin, way: str, leaving: str
) -> None:
    """In the midst of its body."""
    wire = await asked(daemon, way, origin.http_port, "/upload", "POST")
    wire.send(bytes(300_000))
    await soon(origin.when_requested(1))
    (connection,) = origin.connections.values()
    while connection.received < 300_000:
        await deferLater(installed(), POLL)
    await check_leaving(daemon, origin, wire, leaving)


def connections_to(port: int) -> int:
    """How many connections to a port of 127.0.0.1 there are (proc(5), /proc/net/tcp)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = [line.split()[2:4] for line in lines]
    return sum(remote.endswith(f":{port:04X}") and state == "01" for remote, state in ends)


async def leave_while_nothing_is_taken(daemon: Daemon, way: str, server: Destination) -> None:
    """Upload to a destination that reads nothing until everything on the way is full, and leave."""
    wire = await asked(daemon, way, server.port, "/", "POST")
    end: FarEnd = await soon(server.arrived.get())
    end.transport.pauseProducing()
    for _ in range(40):
        wire.send(bytes(1_000_000))
    while await streams(daemon, server.port) != ["XOFF_RECV"]:
        await deferLater(installed(), POLL)
    await deferLater(installed(), 0.5)
    wire.transport.abortConnection()


@pytest.mark.parametrize("way", ["proxy", "tunnel"])
@ensureDeferred
async def test_rule_13_while_an_upload_is_not_taken(daemon: Daemon, way: str) -> None:
    """The daemon, which does not read the client now, notices that it is gone, and lets go of its
    connection to Tor."""
    before = connections_to(daemon.socks)
    async with destination() as server:
        await leave_while_nothing_is_taken(daemon, way, server)
        await until(lambda: connections_to(daemon.socks) <= before, GONE_WITHIN)


@ensureDeferred
async def test_rule_13_the_stream_of_an_upload_that_is_not_taken(daemon: Daemon) -> None:
    """Tor, which may send no more (XOFF) and so reads no more either, is told to close it."""
    async with destination() as server:
        await leave_while_nothing_is_taken(daemon, "proxy", server)
        await when_streams(daemon, server.port, False, GONE_WITHIN)


@pytest.mark.parametrize("way", ["proxy", "absolute-form", "CONNECT"])
@pytest.mark.parametrize("leaving", ["FIN", "reset"])
@ensureDeferred
async def test_rule_13_while_tor_connects(daemon: Daemon, way: str, leaving: str) -> None:
    """There is no answer from the destination's host. Before the 200 there is no tunnel, so that a
    FIN means gone there too."""
    with unanswering() as port:
        if way == "CONNECT":
            wire = await daemon.connect()
            authority = f"{HOST}:{port}"
            wire.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        else:
            wire = await asked(daemon, way, port, "/")
        await when_streams(daemon, port, True, 30)
        assert not wire.raw
        leave(wire, leaving)
        await when_streams(daemon, port, False, GONE_WITHIN)
        await done_with(wire)


@ensureDeferred
async def test_rule_13_a_tunnel_whose_client_has_closed(daemon: Daemon) -> None:
    """A closed socket sends a FIN, as one does that still listens (rule 18); with the first bytes
    that nobody takes, the difference shows."""
    async with destination() as server:
        wire = await daemon.connect()
        authority = f"{HOST}:{server.port}"
        wire.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        end: FarEnd = await soon(server.arrived.get())
        await soon(wire.when_came(b"\r\n\r\n"))
        wire.transport.loseConnection()
        await soon(wire.lost)
        await deferLater(installed(), 0.3)
        assert not end.lost.called
        end.transport.write(b"is anybody there?")
        await soon(end.lost, GONE_WITHIN)
        await when_streams(daemon, server.port, False, GONE_WITHIN)

"""The last that a client gets arrives, though it reads slowly and is still sending (rules 14, 18
and 30), whatever the gateway listens on."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.certificates import Authority
from tests.gateway.conftest import Gateway, port_of
from tests.gateway.handshakes import SWITCHED, handshake
from tests.slow_client import Got, converse, with_little_room
from tests.socks_server import Served
from tests.web_client import connect_to
from tortxd.gateway.front import connections
from tortxd.gateway.limits import Limits
from tortxd.testing import pattern

SIZE = 60_007
STEP = 0.05
"""Seconds that pass for the gateway with each piece that its client takes: with all of them, more
than a client has that has taken the last byte."""


@frozen
class WayIn:
    """Where the gateway listens."""

    kind: str
    talk: Callable[[bytes], Deferred[Got]]
    """Say this there, and go on as :func:`tests.slow_client.converse` does."""


@pytest.fixture(params=["tcp", "tls", "unix"])
def way_in(request: pytest.FixtureRequest, gateway: Gateway, tmp_path: Path) -> Iterator[WayIn]:
    """The gateway behind a socket of each kind that it may listen on."""
    kind: str = request.param
    listening: Any = None
    path, port = str(tmp_path / "gateway"), gateway.port
    if kind == "unix":
        listening = gateway.reactor.listenUNIX(path, gateway.factory)
    elif kind == "tls":
        secured = TLSMemoryBIOFactory(
            Authority(tmp_path).server("localhost"), False, gateway.factory
        )
        listening = gateway.reactor.listenTCP(0, secured, interface="127.0.0.1")
        port = port_of(listening)

    def connect() -> socket.socket:
        client = with_little_room(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        client.connect(path if kind == "unix" else ("127.0.0.1", port))
        if kind == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client = context.wrap_socket(client, suppress_ragged_eofs=False)
        return client

    # No time passes for the gateway but with what its clients do: then it is no matter how long
    # they have to wait for their turn on a busy machine.
    clock = Clock()
    gateway.core.timeouts.clock = clock
    gateway.core.timeouts.stop()

    def talk(first: bytes) -> Got:
        def pause() -> None:
            blockingCallFromThread(gateway.reactor, clock.advance, STEP)

        return converse(connect(), first, pause)

    yield WayIn(kind, lambda first: deferToThread(talk, first))
    if listening is not None:
        listening.stopListening()


async def reached(gateway: Gateway) -> Served:
    served = await gateway.socks.asked()
    await deferLater(gateway.reactor, 0)  # first, it answers itself
    return served


@pytest.mark.parametrize("kind", ["tunnel", "websocket"])
@pytest.mark.parametrize("end", ["DONE", "DESTROY"])
@ensureDeferred
async def test_rule_18_the_end_of_what_a_destination_sent_is_not_lost(
    gateway: Gateway, way_in: WayIn, kind: str, end: str
) -> None:
    """And where it broke off, that shows (rule 14)."""
    gateway.socks.origin = None
    gateway.link.reason = end
    first = connect_to("a.example:7000") if kind == "tunnel" else handshake("ws://a.example/")
    talking = way_in.talk(first + b"." * 30_000)
    served = await reached(gateway)
    if kind == "websocket":
        await gateway.heard(served)
        served.transport.write(SWITCHED)
    served.transport.write(pattern(SIZE))
    served.end()
    got = await talking
    assert len(got.body) == SIZE
    assert got.body == pattern(SIZE)
    if way_in.kind != "unix":  # where an end is an end
        assert got.reset is (end == "DESTROY")


REFUSED = {
    "by the destination": "/early",
    "by the gateway": "/proxy?url=ftp%3A%2F%2Fa.example%2F",
    "by the control plane": "/identity/new",
}


@pytest.mark.parametrize("who", REFUSED)
@ensureDeferred
async def test_rule_30_an_early_answer_reaches_a_slow_client_that_is_still_sending(
    gateway: Gateway, way_in: WayIn, who: str
) -> None:
    gateway.socks.origin = None
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n" % SIZE
    gateway.socks.behind = answer + pattern(SIZE)
    path = gateway.path("/early") if who == "by the destination" else REFUSED[who]
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000\r\n\r\n"
    got = await way_in.talk(head.encode() + b"." * 50_000)
    assert got.data.startswith(b"HTTP/1.1 4")
    if who == "by the destination":
        assert got.body == pattern(SIZE)
    else:
        assert json.loads(got.body)["code"]
    assert not got.reset


@ensureDeferred
async def test_rule_30_what_was_answered_before_a_stop_arrives(
    gateway: Gateway, way_in: WayIn
) -> None:
    """The gateway closes the connection; its client did not ask for that, and goes on."""
    gateway.socks.origin = None
    gateway.socks.behind = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + pattern(SIZE)
    gateway.socks.held = True
    get = f"GET {gateway.path('/')} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    talking = way_in.talk(get.encode())
    served = await gateway.socks.asked()
    drained = gateway.factory.drain(10.0)
    served.answer()
    got = await talking
    assert got.body == pattern(SIZE)
    assert not got.reset
    await drained


@pytest.mark.parametrize("size", [100_000, 4_000_000])
@ensureDeferred
async def test_rule_30_an_answer_that_ends_the_connection_survives_what_was_sent_behind(
    gateway: Gateway, way_in: WayIn, size: int
) -> None:
    """The control plane's routes close the connection: requests behind them are dropped (RFC 9112,
    section 9.6), but those before, and their own, are answered."""
    url = gateway.path("/bytes/20000")
    first = [f"GET {url} HTTP/1.1\r\nHost: localhost\r\n\r\n"] * 3
    health = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    got = await way_in.talk(("".join(first) + health * (size // len(health))).encode())
    assert got.data.count(b"HTTP/1.1 200 OK") == 4
    assert json.loads(got.data.rpartition(b"\r\n\r\n")[2])["status"] == "ok"
    assert not got.reset


@ensureDeferred
async def test_rule_25_each_that_is_too_many_is_told_so_on_each_kind_of_port(
    gateway: Gateway, way_in: WayIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at a time is refused here; the others wait for their turn."""
    monkeypatch.setattr(connections, "REFUSALS", 1)
    gateway.core.limits = Limits(clients=0)
    get = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    first = await way_in.talk(get)
    talking = [way_in.talk(get) for _ in range(5)]
    for got in [first, *await gatherResults(talking)]:
        assert got.data.startswith(b"HTTP/1.1 503 ")
        assert json.loads(got.body)["code"] == "overloaded"

"""WebSockets through ``/proxy`` (both ways in) and in absolute-form; in CONNECT they are bytes."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import deferLater

from tests.gateway.conftest import Gateway
from tests.gateway.handshakes import KEY, SWITCHED, handshake
from tests.gateway.tunnels import far_end_has, head_of
from tests.socks_server import Served
from tests.web_client import Wire


async def opened(gateway: Gateway, request: bytes, answer: bytes = SWITCHED) -> tuple[Wire, Served]:
    """A connection whose handshake has been answered, and its far end."""
    gateway.socks.origin = None
    wire = await gateway.connect()
    wire.send(request)
    served = await gateway.socks.asked()
    await deferLater(gateway.reactor, 0)  # first, it answers itself
    while b"\r\n\r\n" not in served.received:
        await deferLater(gateway.reactor, 0.001)
    served.transport.write(answer)
    await wire.when_came(b"\r\n\r\n")
    return wire, served


@ensureDeferred
async def test_a_page_names_a_key_as_a_parameter(either: Gateway) -> None:
    """It cannot set headers (rule 9)."""
    either.socks.origin = None
    target = "/proxy?url=ws%3A%2F%2Fa.example%2F"
    for number, key in enumerate(("alice", "bob", "alice"), 1):
        wire = await either.connect()
        wire.send(handshake("", target=f"{target}&isolation={key}"))
        await either.socks.asked(number)
    alice, bob, again = (served.username for served in either.socks.served)
    assert alice == again != bob


@pytest.mark.parametrize("url", ["ws://a.example/chat?x=1", "http://a.example/chat?x=1"])
@ensureDeferred
async def test_frames_go_both_ways(either: Gateway, url: str) -> None:
    wire, served = await opened(
        either,
        handshake(
            url,
            "Origin: http://localhost:8000",
            "Cookie: a=b",
            "Sec-Fetch-Site: same-site",
            "Sec-WebSocket-Protocol: chat",
            "Tor-Stream-Isolation: k",
        ),
    )
    assert served.target == ("a.example", 80)
    sent = served.received.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert sent[0] == b"GET /chat?x=1 HTTP/1.1"
    assert sorted(line.lower() for line in sent[1:]) == sorted(
        [
            b"host: a.example",
            b"sec-websocket-version: 13",
            KEY.lower().encode(),
            b"sec-websocket-protocol: chat",
            b"connection: upgrade",
            b"upgrade: websocket",
        ]
    )
    head = head_of(wire)
    assert head[0] == "HTTP/1.1 101 Switching Protocols"
    assert "Connection: Upgrade" in head
    assert "Upgrade: websocket" in head
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    assert "Tortxd-Circuit: 7" in head
    assert not [
        line
        for line in head
        if line.lower().startswith(
            ("set-cookie", "tortxd-error", "content-length", "transfer-encoding", "content-type")
        )
    ]
    handshake_sent = served.received
    wire.send(b"\x81\x85up...")
    served.transport.write(b"\x81\x04down")
    await wire.when_came(b"\x81\x04down")
    await far_end_has(either, served, handshake_sent + b"\x81\x85up...")
    served.transport.loseConnection()
    await wire.lost


@ensureDeferred
async def test_frames_that_come_with_the_101(either: Gateway) -> None:
    wire, _ = await opened(either, handshake("ws://a.example/"), SWITCHED + b"\x81\x05first")
    await wire.when_came(b"\x81\x05first")


@ensureDeferred
async def test_absolute_form(gateway: Gateway) -> None:
    request = handshake("", "Origin: http://a.example", target="ws://a.example/chat")
    wire, served = await opened(gateway, request)
    assert b"Origin: http://a.example\r\n" in served.received
    assert b"Set-Cookie: a=b" in wire.raw
    served.transport.write(b"\x81\x04down")
    await wire.when_came(b"\x81\x04down")


@ensureDeferred
async def test_a_client_that_leaves(either: Gateway) -> None:
    """Rule 13: a WebSocket has an end of its own, so a FIN means gone."""
    wire, served = await opened(either, handshake("ws://a.example/"))
    wire.transport.loseWriteConnection()
    await served.lost


@pytest.mark.parametrize("size", [1000, 500_000])
@ensureDeferred
async def test_what_a_client_says_last_arrives(either: Gateway, size: int) -> None:
    """It may not wait for an answer."""
    wire, served = await opened(either, handshake("ws://a.example/"))
    before = served.received
    wire.send(b"." * size)
    wire.transport.loseConnection()
    await served.lost
    assert served.received == before + b"." * size
    assert len(either.link.abandoned) == 1


@ensureDeferred
async def test_a_destination_that_does_not_take_it_is_not_waited_for(either: Gateway) -> None:
    """Rule 13."""
    wire, served = await opened(either, handshake("ws://a.example/"))
    served.transport.pauseProducing()
    wire.send(b"." * 8_000_000)
    wire.transport.abortConnection()
    while not either.link.abandoned:
        await deferLater(either.reactor, 0.01)
    served.transport.resumeProducing()
    await served.lost.addTimeout(2.0, either.reactor)


@ensureDeferred
async def test_a_broken_circuit_is_a_reset(either: Gateway) -> None:
    either.link.reason = "DESTROY"
    wire, served = await opened(either, handshake("ws://a.example/"))
    served.transport.loseConnection()
    await wire.lost
    assert "cleanly" not in str(wire.closed)


@ensureDeferred
async def test_slow_readers_are_waited_for(either: Gateway) -> None:
    wire, served = await opened(either, handshake("ws://a.example/"))
    wire.transport.pauseProducing()
    served.transport.write(b"." * 16_000_000)
    left = -1
    while left != (left := len(served.transport.dataBuffer) + served.transport._tempDataLen):
        await deferLater(either.reactor, 0.05)
    assert left > 4_000_000
    wire.transport.resumeProducing()
    served.transport.loseConnection()
    await wire.lost
    assert wire.raw.count(b".") >= 16_000_000


@pytest.mark.parametrize(
    "answer",
    [
        SWITCHED.replace(b"WebSocket", b"h2c"),
        SWITCHED.replace(b"Upgrade: WebSocket\r\n", b""),
        SWITCHED.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
@ensureDeferred
async def test_another_protocol_is_not_switched_to(either: Gateway, answer: bytes) -> None:
    wire, served = await opened(either, handshake("ws://a.example/"), answer)
    assert head_of(wire)[0].startswith("HTTP/1.1 502 ")
    assert "Tortxd-Error: bad_response" in head_of(wire)
    await served.lost


@ensureDeferred
async def test_a_destination_that_does_not_switch_answers_as_ever(either: Gateway) -> None:
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\nSet-Cookie: a=b\r\n\r\nno!"
    wire, _ = await opened(either, handshake("ws://a.example/"), answer)
    assert head_of(wire)[0] == "HTTP/1.1 403 Forbidden"
    assert "Content-Length: 3" in head_of(wire)
    assert b"Set-Cookie" not in wire.raw
    await wire.when_came(b"no!")
    wire.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    await wire.when_came(b'"status"')


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (handshake("ws://a.example/").replace(b"GET", b"POST"), 400),
        (handshake("ws://a.example/").replace(b"HTTP/1.1", b"HTTP/1.0"), 403),
        (handshake("ws://a.example/", "Content-Length: 2") + b"ab", 400),
        (handshake("ws://a.example/").replace(b"Upgrade: websocket", b"Upgrade: irc/1.0"), 403),
        (handshake("ws://a.example/").replace(b"Upgrade: websocket", b"Accept: x"), 403),
        (handshake("ws://a.example/", "Origin: http://evil.example"), 403),
        (handshake("ws://a.example/").replace(b"localhost", b"evil.example"), 403),
        (handshake("ws://localhost:3080/"), 403),
        (handshake("ws://10.0.0.1/"), 403),
        (handshake("ftp://a.example/"), 403),
    ],
)
@ensureDeferred
async def test_what_is_refused(either: Gateway, request_bytes: bytes, status: int) -> None:
    """Rules 2, 3, 4 and 7 hold for handshakes."""
    wire = await either.connect()
    wire.send(request_bytes)
    assert (await wire.reply()).status == status
    assert not either.socks.served

"""The origin: every byte as said, and everything that came seen."""

# mypy: disable-error-code="untyped-decorator, no-untyped-call"

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure

from tortxd.testing import Canned, INetworkReactor, Origin, Relay, pattern


def installed() -> INetworkReactor:
    from twisted.internet import reactor

    return cast(INetworkReactor, reactor)


class Peer(Protocol):
    """Collects what comes until the connection ends."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[type[BaseException]] = Deferred()
        self._waiting: list[tuple[int, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        waiting, self._waiting = self._waiting, []
        for size, waiter in waiting:
            if len(self.data) >= size:
                waiter.callback(self.data)
            else:
                self._waiting.append((size, waiter))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert reason.type is not None
        self.ended.callback(reason.type)

    def when(self, size: int) -> Deferred[bytes]:
        waiter: Deferred[bytes] = Deferred()
        self._waiting.append((size, waiter))
        self.dataReceived(b"")
        return waiter


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    made = Origin(installed(), tmp_path)
    pytest_twisted.blockon(ensureDeferred(made.start()))
    yield made
    pytest_twisted.blockon(ensureDeferred(made.stop()))


async def connect(origin: Origin) -> Peer:
    endpoint = TCP4ClientEndpoint(installed(), "127.0.0.1", origin.http_port)
    return cast(Peer, await connectProtocol(endpoint, Peer()))


async def talk(origin: Origin, data: bytes) -> tuple[bytes, bytes, type[BaseException]]:
    """Send, and return the head and body that came until the end, and how that was."""
    peer = await connect(origin)
    assert peer.transport is not None
    peer.transport.write(data)
    how = await peer.ended
    head, _, body = peer.data.partition(b"\r\n\r\n")
    return head, body, how


async def get(origin: Origin, target: str) -> tuple[bytes, bytes, type[BaseException]]:
    request = f"GET {target} HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n"
    return await talk(origin, request.encode())


@pytest_twisted.ensureDeferred
async def test_echo_tells_what_came(origin: Origin) -> None:
    body = bytes(range(256))
    head = b"PATCH /echo?a=1 HTTP/1.1\r\nhOST: o\r\nX-Two: 1\r\nX-Two: 2\r\nConnection: close\r\n"
    lengthy = head + b"Content-Length: 256\r\n\r\n" + body
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n80;x=y\r\n" + body[:128]
    chunked += b"\r\n80\r\n" + body[128:] + b"\r\n0\r\nTrailer: t\r\n\r\n"
    for request in (lengthy, chunked):
        _, answered, _ = await talk(origin, request)
        told = json.loads(answered)
        assert (told["method"], told["target"]) == ("PATCH", "/echo?a=1")
        assert told["headers"][:3] == [["hOST", "o"], ["X-Two", "1"], ["X-Two", "2"]]
        assert base64.b64decode(told["body"]) == body
        assert (told["length"], told["sha256"]) == (256, hashlib.sha256(body).hexdigest())
    assert origin.requests[0].head == lengthy[:-256]
    assert origin.requests[1].connection == 2


@pytest_twisted.ensureDeferred
async def test_bytes_in_every_framing(origin: Origin) -> None:
    size = 200_001
    head, body, _ = await get(origin, f"/bytes/{size}")
    assert b"Content-Length: 200001" in head
    assert body == pattern(size)
    head, body, how = await get(origin, f"/close/{size}")
    assert b"Content-Length" not in head
    assert (body, how) == (pattern(size), ConnectionDone)
    head, body, _ = await get(origin, f"/chunked/{size}")
    assert b"Transfer-Encoding: chunked" in head
    joined = b""
    while not body.startswith(b"0\r\n"):
        line, _, rest = body.partition(b"\r\n")
        joined, body = joined + rest[: int(line, 16)], rest[int(line, 16) + 2 :]
    assert (joined, body) == (pattern(size), b"0\r\n\r\n")


def test_pattern_is_one_endless_body() -> None:
    whole = pattern(300_000)
    for start, size in ((0, 10), (65_500, 100), (131_000, 70_000), (200_000, 100_000)):
        assert pattern(size, start) == whole[start : start + size]


@pytest_twisted.ensureDeferred
async def test_bodies_that_break_off(origin: Origin) -> None:
    _, body, how = await get(origin, "/bytes/1000?cut=10")
    assert (body, how) == (pattern(10), ConnectionDone)
    _, body, how = await get(origin, "/chunked/1000?cut=10")
    assert (body, how) == (b"a\r\n" + pattern(10) + b"\r\n", ConnectionDone)
    _, body, how = await get(origin, "/bytes/1000?cut=10&ending=abort")
    assert (body, how) == (pattern(10), ConnectionLost)
    head, body, how = await get(origin, "/reset")
    assert b"Content-Length: 100000" in head
    assert how is ConnectionLost


@pytest_twisted.ensureDeferred
async def test_statuses_and_heads(origin: Origin) -> None:
    for target, first, needed in (
        ("/status/404", b"HTTP/1.1 404 Not Found", b"Content-Length: 4"),
        ("/status/204", b"HTTP/1.1 204 No Content", b"Connection: close"),
        ("/redirect?to=/a%3Fb&status=307", b"HTTP/1.1 307 Temporary Redirect", b"Location: /a?b"),
        ("/respond?status=203&header=X-A:%20b&body=c", b"HTTP/1.1 203 ", b"X-A: b"),
        ("/nowhere", b"HTTP/1.1 404 Not Found", b"text/plain"),
    ):
        head, body, _ = await get(origin, target)
        assert head.startswith(first)
        assert needed in head
        assert bool(body) is (b"204" not in first)
    head, body, _ = await talk(origin, b"HEAD /bytes/50 HTTP/1.0\r\n\r\n")
    assert b"Content-Length: 50" in head
    assert body == b""
    head, body, _ = await get(origin, "/gzip")
    assert b"Content-Encoding: gzip" in head
    assert b"private Tor network" in gzip.decompress(body)


@pytest_twisted.ensureDeferred
async def test_raw_and_canned_bytes(origin: Origin) -> None:
    peer = await connect(origin)
    assert peer.transport is not None
    peer.transport.write(b"GET /raw?HTTP/1.1%20200%20OK%0d%0a%ff+ HTTP/1.1\r\n\r\n")
    await peer.ended
    assert peer.data == b"HTTP/1.1 200 OK\r\n\xff+"
    origin.canned[b"/x"] = Canned(b"nonsense", "keep")
    peer = await connect(origin)
    assert peer.transport is not None
    peer.transport.write(b"GET /x HTTP/1.1\r\n\r\n" * 2)
    assert await peer.when(16) == b"nonsense" * 2


@pytest_twisted.ensureDeferred
async def test_connections_are_kept_counted_and_seen_closing(origin: Origin) -> None:
    peer = await connect(origin)
    assert peer.transport is not None
    peer.transport.write(b"GET /hang HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    await origin.when_requested(1)
    assert [one.number for one in origin.open_connections] == [1]
    closed = origin.when_closed(1)
    assert not closed.called
    peer.transport.loseConnection()
    await closed
    assert len(origin.requests) == 1
    assert peer.data == b""
    assert not origin.open_connections


@pytest_twisted.ensureDeferred
async def test_expect_continue_is_answered_before_the_body(origin: Origin) -> None:
    peer = await connect(origin)
    assert peer.transport is not None
    head = b"PUT /upload HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    peer.transport.write(head)
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert await peer.when(len(interim)) == interim
    peer.transport.write(b"abc")
    answer = await peer.when(len(interim) + 100)
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["length"] == 3


@pytest_twisted.ensureDeferred
async def test_backpressure_stops_the_origin(origin: Origin) -> None:
    peer = await connect(origin)
    assert peer.transport is not None
    peer.transport.write(b"GET /bytes/200000000 HTTP/1.1\r\n\r\n")
    await peer.when(1)
    cast(IPushProducer, peer.transport).pauseProducing()
    # Meanwhile another is served, which takes longer than filling the kernel's buffers does.
    await get(origin, "/bytes/10000000")
    assert origin.connections[1].sent < 50_000_000
    # Nothing else would ever close a connection that is not read.
    cast(ITCPTransport, peer.transport).abortConnection()
    await peer.ended


@pytest_twisted.ensureDeferred
async def test_tls_with_the_ca_that_it_wrote(origin: Origin) -> None:
    ca = Certificate.loadPEM(origin.ca_file.read_bytes())
    options = optionsForClientTLS("origin.test.example", trustRoot=trustRootFromCertificates([ca]))
    plain = TCP4ClientEndpoint(installed(), "127.0.0.1", origin.https_port)
    peer = await connectProtocol(wrapClientTLS(options, plain), Peer())
    assert peer.transport is not None
    peer.transport.write(b"GET /bytes/300000 HTTP/1.0\r\n\r\n")
    await peer.ended
    assert peer.data.endswith(pattern(300_000))
    assert origin.requests[0].tls


@pytest_twisted.ensureDeferred
async def test_check_service_believes_the_kernel_alone(tmp_path: Path) -> None:
    relay = Relay("exit1", "A" * 40, "127.9.9.9", "de", is_exit=True, is_authority=False)
    asked: list[tuple[str, int, tuple[str, int]]] = []
    answers = [relay, None]

    def exit_of(peer_host: str, peer_port: int, *, local: tuple[str, int]) -> Relay | None:
        asked.append((peer_host, peer_port, local))
        return answers[(len(asked) - 1) // 2]

    origin = Origin(installed(), tmp_path, exit_of=exit_of)
    await origin.start()
    try:
        for is_tor, address in ((True, "127.9.9.9"), (False, "127.0.0.1")):
            assert json.loads((await get(origin, "/api/ip"))[1]) == {"IsTor": is_tor, "IP": address}
            assert json.loads((await get(origin, "/ip"))[1]) == {"ip": address}
    finally:
        await origin.stop()
    assert [one[0] for one in asked] == ["127.0.0.1"] * 4
    assert {one[2] for one in asked} == {("127.0.0.1", origin.http_port)}
    assert [one[1] for one in asked] == [one.peer[1] for one in origin.connections.values()]

"""Destinations that are lax, or say more than they were asked, or end without a word."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.certificates import Authority
from tests.gateway.conftest import Gateway, Way
from tests.gateway.handshakes import SWITCHED, handshake
from tests.web_client import Wire
from tortxd.gateway.front.connection import Front
from tortxd.relay import upstream
from tortxd.testing import Canned, pattern

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 5\r\nConnection: close\r\n"

LAX = {
    "white space before the colon": OK + b"X-A : b\r\nContent-Length\t: 5\r\n\r\nhello",
    "the same length twice": OK + LENGTH + b"Content-Length: 5\r\n\r\nhello",
    "a list of one length": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "a status of its own": b"HTTP/1.1 999 Request denied\r\n" + LENGTH + b"\r\nhello",
    "bare LF": b"HTTP/1.1 200 OK\nX-A: b\nContent-Length: 5\n\nhello",
    "bare LF between chunks": OK + b"Transfer-Encoding: chunked\n\n5\nhello\n0\n\n",
    "empty lines ahead": b"\r\n\r\n" + OK + LENGTH + b"\r\nhello",
    "padded sizes": OK + b"Transfer-Encoding: chunked\r\n\r\n5   \r\nhello\r\n0  \r\n\r\n",
    "blanks around extensions": OK
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b'2 ; a=b\r\nhe\r\n3; a = "x;y" \r\nllo\r\n0\t;\ta\r\n\r\n',
    "trailers that would frame": OK
    + b"Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n"
    + b"5\r\nhello\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: gzip\r\nHost: x\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\nhello",
    "identity, chunked": OK
    + b"Transfer-Encoding: identity, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "identity twice": OK + b"Transfer-Encoding: identity\r\n" * 2 + LENGTH + b"\r\nhello",
    "sizes with zeros": OK
    + b"Transfer-Encoding: chunked\r\n\r\n%040x\r\nhello\r\n%040x\r\n\r\n" % (5, 0),
    "identity until the end": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "nearly a thousand fields": OK + LENGTH + b"X: y\r\n" * 970 + b"\r\nhello",
    "250 kB of fields": OK + LENGTH + b"X: " + b"y" * 250_000 + b"\r\n\r\nhello",
}  # fmt: skip


@pytest.mark.parametrize("wire", LAX.values(), ids=LAX.keys())
@ensureDeferred
async def test_what_has_one_meaning_is_read(way: Way, wire: bytes) -> None:
    """The client gets framing of ours, whatever the destination's was."""
    way.gateway.origin.canned[b"/lax"] = Canned(wire, "close")
    reply = await way.ask("GET", "/lax")
    assert reply.status in (200, 999)
    assert (bytes(reply.body), reply.whole) == (b"hello", True)
    assert len(reply.all("Content-Length")) + len(reply.all("Transfer-Encoding")) == 1
    assert reply.all("Content-Length") in ([], ["5"])
    assert reply.all("Transfer-Encoding") in ([], ["chunked"])


AMBIGUOUS = {
    "differing lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a list of differing lengths": OK + b"Content-Length: 5, 6\r\n\r\nhello!",
    "a length beside chunks": OK + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "a coding twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a folded line": OK + b"X-A: b\r\n c\r\n" + LENGTH + b"\r\nhello",
    "a control byte": OK + b"X-A: b\x01\r\n" + LENGTH + b"\r\nhello",
    "a bare CR": OK + b"X-A: b\rX-B: c\r\n" + LENGTH + b"\r\nhello",
    "four digits": b"HTTP/1.1 2000 OK\r\n" + LENGTH + b"\r\nhello",
    "a line that is no field": OK + b"hello\r\n" + LENGTH + b"\r\nhello",
}  # fmt: skip


@pytest.mark.parametrize("wire", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
@ensureDeferred
async def test_rule_07_what_is_ambiguous_is_a_bad_response(way: Way, wire: bytes) -> None:
    way.gateway.origin.canned[b"/lax"] = Canned(wire, "close")
    reply = await way.ask("GET", "/lax")
    assert (reply.status, reply.json["code"]) == (502, "bad_response")


@pytest.mark.parametrize(
    ("second", "status"), [(b"/bytes/2", 302), (b"/bytes/3", 502)], ids=["equal", "differing"]
)
@ensureDeferred
async def test_a_doubled_location(either: Gateway, second: bytes, status: int) -> None:
    locations = b"Location: /bytes/2\r\nLocation: " + second + b"\r\n"
    answer = (
        b"HTTP/1.1 302 Found\r\n" + locations + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    either.origin.canned[b"/moved"] = Canned(answer, "close")
    reply = await either.fetch("/moved")
    assert reply.status == status
    if status == 302:
        assert reply["Location"] == either.path("/bytes/2")
        assert reply["Tortxd-Location"] == "/bytes/2"


# --- more than was asked for ----------------------------------------------------------------------

BODILESS = {
    "HEAD": OK + b"Content-Length: 5\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
}
SECOND = OK + b"Content-Length: 6\r\n\r\nsecond"


def request(method: str, path: str, *headers: str, body: str = "") -> bytes:
    target = "/proxy?url=" + quote(f"http://a.example{path}", safe="")
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", body]
    return "\r\n".join(lines).encode()


async def first(gateway: Gateway, kind: str) -> Wire:
    """A client whose first request was answered by a destination of the test's own."""
    gateway.socks.origin = None
    wire = await gateway.connect()
    method = kind if kind == "HEAD" else "GET"
    wire.send(request(method, "/first"))
    served = await gateway.socks.asked()
    await gateway.heard(served)
    served.transport.write(BODILESS[kind])
    reply = await wire.reply(method.encode())
    assert reply.whole
    return wire


async def until_closed(gateway: Gateway, number: int) -> None:
    await gateway.socks.served[number].lost


@pytest.mark.parametrize("kind", BODILESS)
@ensureDeferred
async def test_a_body_that_may_not_be_spoils_nothing(either: Gateway, kind: str) -> None:
    """It comes while the connection waits: the connection goes."""
    wire = await first(either, kind)
    either.socks.served[0].transport.write(b"hello")
    await until_closed(either, 0)
    wire.send(request("GET", "/second"))
    served = await either.socks.asked(2)
    await either.heard(served)
    served.transport.write(SECOND)
    assert bytes((await wire.reply()).body) == b"second"


@pytest.mark.parametrize("kind", BODILESS)
@ensureDeferred
async def test_a_body_that_comes_late_is_not_the_next_answer(either: Gateway, kind: str) -> None:
    """It comes when the next request is on its way: that is asked again on a fresh connection."""
    wire = await first(either, kind)
    wire.send(request("GET", "/second"))
    await either.heard(either.socks.served[0], 2)
    either.socks.served[0].transport.write(b"hello" + SECOND)
    served = await either.socks.asked(2)
    await either.heard(served)
    assert b"GET /second " in served.received
    served.transport.write(SECOND)
    reply = await wire.reply()
    assert (reply.status, bytes(reply.body)) == (200, b"second")
    await until_closed(either, 0)


@ensureDeferred
async def test_it_is_asked_again_once_only(either: Gateway) -> None:
    wire = await first(either, "HEAD")
    wire.send(request("GET", "/second"))
    await either.heard(either.socks.served[0], 2)
    either.socks.served[0].transport.write(b"hello")
    served = await either.socks.asked(2)
    await either.heard(served)
    served.transport.write(b"hello")
    reply = await wire.reply()
    assert (reply.status, reply.json["code"]) == (502, "bad_response")
    assert len(either.socks.served) == 2


@ensureDeferred
async def test_rule_28_what_may_not_be_repeated_is_not(either: Gateway) -> None:
    wire = await first(either, "HEAD")
    wire.send(request("POST", "/second", "Content-Length: 2", body="ab"))
    served = either.socks.served[0]
    await either.heard(served, 2)
    served.transport.write(b"hello")
    reply = await wire.reply()
    assert (reply.status, reply.json["code"]) == (502, "bad_response")
    assert len(either.socks.served) == 1


EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
FIRST = {
    "HEAD": ("HEAD", OK + b"Content-Length: 5\r\n\r\n"),
    "GET": ("GET", OK + b"Content-Length: 5\r\n\r\nhello"),
}


@pytest.mark.parametrize(("method", "answer"), FIRST.values(), ids=FIRST.keys())
@pytest.mark.parametrize("behind", [b"hello", EVIL])
@ensureDeferred
async def test_what_has_come_before_the_request_is_not_its_answer(
    either: Gateway, behind: bytes, method: str, answer: bytes
) -> None:
    """It lies in the kernel, unread, when the next request comes."""
    either.socks.origin = None
    wire = await either.connect()
    wire.send(request(method, "/first"))
    served = await either.socks.asked()
    await either.heard(served)
    served.transport.write(answer)
    assert (await wire.reply(method.encode())).whole
    (waiting,) = either.core.pool._waiting
    waiting.transport.pauseProducing()  # as if the reactor had not got to it yet
    served.transport.write(behind)
    while waiting.unasked() is None:
        await deferLater(either.reactor, 0)
    wire.send(request("GET", "/second"))
    served = await either.socks.asked(2)
    await either.heard(served)
    served.transport.write(SECOND)
    assert bytes((await wire.reply()).body) == b"second"


class TwoRecords(Protocol):
    """A destination that sends two TLS records in one go: an answer, and one that nobody asked
    for. Further requests are answered in order."""

    transport: Any
    answers: ClassVar[list[bytes]] = []

    def dataReceived(self, data: bytes) -> None:
        if not self.answers:
            self.transport.write(SECOND)
            return
        for record in self.answers:
            self.transport.getHandle().send(record)
        self.answers.clear()
        self.transport.write(b"")  # lets TLS flush


@pytest.mark.parametrize(("method", "answer"), FIRST.values(), ids=FIRST.keys())
@ensureDeferred
async def test_what_tls_has_read_before_the_request_is_not_its_answer(
    secure: Gateway, tmp_path: Path, method: str, answer: bytes
) -> None:
    """The client sent both requests at once: the second begins as soon as the first ends."""
    authority = Authority(tmp_path)
    secure.core.tls.context.load_verify_locations(str(authority.file))
    TwoRecords.answers[:] = [answer, EVIL]
    factory = Factory.forProtocol(TwoRecords)
    factory.noisy = False
    over_tls = TLSMemoryBIOFactory(authority.server("a.example"), False, factory)
    port = secure.reactor.listenTCP(0, over_tls, interface="127.0.0.1")
    secure.socks.origin = port.getHost().port
    both = request(method, "/first") + request("GET", "/second")
    wire = await secure.connect()
    wire.send(both.replace(b"http%3A", b"https%3A"))
    assert (await wire.reply(method.encode())).whole
    assert bytes((await wire.reply()).body) == b"second"
    assert len(secure.socks.served) == 2
    await port.stopListening()


@ensureDeferred
async def test_what_is_no_http_behind_an_interim_response_is_not_asked_again(
    either: Gateway,
) -> None:
    """The client has had a part of this answer."""
    wire = await first(either, "HEAD")
    wire.send(request("GET", "/second"))
    served = either.socks.served[0]
    await either.heard(served, 2)
    served.transport.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    await wire.when_came(b"HTTP/1.1 103 ")
    served.transport.write(b"hello")
    reply = await wire.reply()
    assert (reply.status, reply.json["code"]) == (502, "bad_response")
    assert len(either.socks.served) == 1


@ensureDeferred
async def test_a_destination_that_says_too_much_is_not_kept_for_a_while(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await first(gateway, "HEAD")
    gateway.socks.served[0].transport.write(b"hello")
    await until_closed(gateway, 0)
    for number in (2, 3):
        wire.send(request("GET", "/next"))
        served = await gateway.socks.asked(number)
        await gateway.heard(served)
        served.transport.write(SECOND)
        assert (await wire.reply()).status == 200
        await until_closed(gateway, number - 1)
    now = gateway.reactor.seconds()
    monkeypatch.setattr(gateway.reactor, "seconds", lambda: now + upstream.DISTRUST + 1)
    wire.send(request("GET", "/next"))
    served = await gateway.socks.asked(4)
    await gateway.heard(served)
    served.transport.write(SECOND)
    assert (await wire.reply()).status == 200
    wire.send(request("GET", "/next"))
    await gateway.heard(served, 2)


@ensureDeferred
async def test_others_are_kept_all_the_same(gateway: Gateway) -> None:
    """Another caller's connection to the same destination says nothing of this one's."""
    wire = await first(gateway, "HEAD")
    gateway.socks.served[0].transport.write(b"hello")
    await until_closed(gateway, 0)
    for number in (1, 2):
        wire.send(request("GET", "/next", "Tor-Stream-Isolation: other"))
        served = await gateway.socks.asked(2)
        await gateway.heard(served, number)
        served.transport.write(SECOND)
        assert (await wire.reply()).status == 200
    assert len(gateway.socks.served) == 2


# --- ends without a word --------------------------------------------------------------------------

BODY = pattern(3_000_000)


async def slow_client(gateway: Gateway) -> Wire:
    """One that has little room for what comes, so that much of it is on its way at the end."""
    wire = await gateway.connect()
    wire.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    return wire


async def cut_behind(gateway: Gateway, size: int, number: int = 1) -> None:
    """End the ``number``-th connection, without close_notify, when this much was sent on it."""
    served = await gateway.socks.asked(number)
    while served.sent < size:
        await deferLater(gateway.reactor, 0)
    served.end()


@ensureDeferred
async def test_what_came_before_a_tls_end_without_close_notify_arrives(secure: Gateway) -> None:
    """101, frames, and a FIN: all of it reaches the client."""
    secure.origin.canned[b"/chat"] = Canned(SWITCHED + BODY, "hang")
    for number in range(3):
        wire = await slow_client(secure)
        target = "wss://origin.test.example/chat"
        wire.send(handshake(target, f"Tor-Stream-Isolation: {number}"))
        await cut_behind(secure, len(BODY), number + 1)
        await wire.lost
        head, _, frames = bytes(wire.raw).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert len(frames) == len(BODY)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@ensureDeferred
async def test_a_body_that_tls_does_not_end_arrives_and_shows_it(
    secure: Gateway, version: str
) -> None:
    """Rule 14: not whole, and yet nothing is lost."""
    secure.origin.canned[b"/cut"] = Canned(OK + b"\r\n" + BODY, "hang")
    wire = await slow_client(secure)
    path = secure.path("https://origin.test.example/cut")
    wire.send(f"GET {path} HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
    replying = wire.reply()
    await cut_behind(secure, len(BODY))
    reply = await replying
    assert len(reply.body) == len(BODY)
    assert not reply.whole
    assert reply.aborted is (version == "1.0")


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nX:"])
@ensureDeferred
async def test_rule_30_there_is_an_answer_even_to_a_tls_end_without_a_word(
    secure: Gateway, part: bytes
) -> None:
    secure.origin.canned[b"/cut"] = Canned(part, "abort")
    reply = await secure.fetch("https://origin.test.example/cut")
    assert (reply.status, reply.json["code"]) == (502, "origin_reset")


async def cut_off(gateway: Gateway, wire: Wire, size: int) -> Front:
    """A response of HTTP/1.0 that breaks off while ``wire`` does not read all of it."""
    gateway.socks.origin = None
    gateway.link.reason = "DESTROY"
    wire.send(b"GET http://a.example/ HTTP/1.0\r\nHost: a.example\r\n\r\n")
    served = await gateway.socks.asked()
    await gateway.heard(served)
    served.transport.write(OK + b"Connection: close\r\n\r\n" + pattern(size))
    served.transport.loseConnection()
    (front,) = gateway.factory.connections
    while front._last is None:
        await deferLater(gateway.reactor, 0)
    return front


@ensureDeferred
async def test_rule_14_a_stop_does_not_make_a_broken_body_look_whole(gateway: Gateway) -> None:
    wire = await slow_client(gateway)
    wire.transport.pauseProducing()
    front = await cut_off(gateway, wire, 60_000)
    assert front.busy
    drained = gateway.factory.drain(0.1)
    await deferLater(gateway.reactor, 0)
    wire.transport.resumeProducing()
    await wire.lost
    await drained
    assert wire.closed is not None
    assert not wire.closed.check(ConnectionDone)


@ensureDeferred
async def test_a_client_that_leaves_its_last_bytes_leaves_no_timer(gateway: Gateway) -> None:
    """A failure that is only logged fails the test, too."""
    wire = await slow_client(gateway)
    wire.transport.pauseProducing()
    front = await cut_off(gateway, wire, 60_000)
    wire.transport.abortConnection()
    while front in gateway.factory.connections:
        await deferLater(gateway.reactor, 0)
    while any(queue.entries for queue in gateway.core.timeouts._queues.values()):
        await deferLater(gateway.reactor, 0.01)

"""The gateway's own port: framing, keeping connections, and what a Site cannot do."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.gateway.asking import in_memory, post
from tests.gateway.conftest import OPERATOR, Gateway
from tortxd.testing import Canned, pattern

GET = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"


def get(gateway: Gateway, target: str) -> bytes:
    return GET.format(gateway.path(target)).encode()


@ensureDeferred
async def test_a_connection_serves_one_request_after_the_other(gateway: Gateway) -> None:
    wire = await gateway.connect()
    for size in (10, 0, 70_000):
        wire.send(get(gateway, f"/bytes/{size}"))
        assert (await wire.reply()).body == pattern(size)
    assert len(gateway.socks.served) == 1


@ensureDeferred
async def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    wire = await gateway.connect()
    paths = ["/bytes/10", "/bytes/20000", "/status/404", "/bytes/30"]
    bad = GET.format("/proxy").encode()
    wire.send(b"".join([get(gateway, path) for path in paths]) + bad + get(gateway, "/bytes/5"))
    assert [len((await wire.reply()).body) for _ in range(2)] == [10, 20000]
    assert (await wire.reply()).status == 404
    assert (await wire.reply()).body == pattern(30)
    assert (await wire.reply()).status == 400
    assert (await wire.reply()).body == pattern(5)


@ensureDeferred
async def test_a_very_long_pipeline_does_not_nest(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(GET.format("/proxy").encode() * 1500)
    for _ in range(1500):
        assert (await wire.reply()).status == 400


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("kind", ["bytes", "chunked", "close"])
@ensureDeferred
async def test_a_client_that_closes_gets_everything(
    gateway: Gateway, version: str, kind: str
) -> None:
    wire = await gateway.connect()
    path = gateway.path(f"/{kind}/100000")
    wire.send(f"GET {path} HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    reply = await wire.reply()
    assert reply.whole
    assert reply.body == pattern(100_000)
    await wire.lost


@ensureDeferred
async def test_http_1_0_is_kept_alive_when_it_asks(gateway: Gateway) -> None:
    wire = await gateway.connect()
    request = f"GET {gateway.path('/bytes/5')} HTTP/1.0\r\nHost: localhost\r\n"
    for _ in range(2):
        wire.send(f"{request}Connection: keep-alive\r\n\r\n".encode())
        reply = await wire.reply()
        assert reply["Connection"] == "keep-alive"


@ensureDeferred
async def test_http_1_0_sees_truncation_as_a_reset(gateway: Gateway) -> None:
    """Rule 14: without framing of its own, nothing but a reset shows it."""
    wire = await gateway.connect()
    path = gateway.path("/chunked/200000?cut=100000")
    wire.send(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    await wire.lost
    assert "Connection was closed cleanly" not in str(wire.closed)


SMUGGLED = [
    ("Content-Length: 3\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 3", 400),
    ("Content-Length: 3\r\nContent-Length: 3", 400),
    ("Content-Length: 3\r\nContent-Length: 4", 400),
    ("X: a\r\n folded", 400),
    ("Transfer-Encoding: identity", 400),
    ("Transfer-Encoding: gzip", 501),
    ("Transfer-Encoding: gzip, chunked", 501),
    ("Bad Name: x", 400),
    ("X : x", 400),
    ("X: a\x00b", 400),
    ("X: " + "a" * 70_000, 431),
    ("\r\n".join(f"X{n}: y" for n in range(300)), 431),
]


@pytest.mark.parametrize(("headers", "status"), SMUGGLED)
@pytest.mark.parametrize("path", ["/proxy?url=http%3A%2F%2Fa.example%2F", "/health"])
@ensureDeferred
async def test_smuggling(gateway: Gateway, path: str, headers: str, status: int) -> None:
    """Rule 7."""
    wire = await gateway.connect()
    wire.send(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\nabc".encode("latin-1"))
    reply = await wire.reply()
    assert reply.status == status
    assert reply.json["code"] in ("bad_request", "not_implemented", "too_large")
    await wire.lost
    assert not gateway.socks.served


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /health HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /" + b"a" * 100_000, 414),
        (b"BR(EW /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"CONNECT xhealth HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, 400),
    ],
)
@ensureDeferred
async def test_heads_that_are_refused(gateway: Gateway, request_: bytes, status: int) -> None:
    wire = await gateway.connect()
    wire.send(request_)
    reply = await wire.reply()
    assert reply.status == status
    assert reply["Tortxd-Error"] == reply.json["code"]
    assert not gateway.socks.served


@ensureDeferred
async def test_a_refused_client_that_goes_on_sending_reads_why(gateway: Gateway) -> None:
    wire = await gateway.connect()
    path = "/proxy?url=http%3A%2F%2Flocalhost%2F"
    wire.send(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n".encode()
    )
    wire.send(b"a" * 3_000_000)
    reply = await wire.reply(b"POST")
    assert reply.status == 403
    assert reply.whole


@ensureDeferred
async def test_a_client_that_does_not_read_its_answers_gets_no_more_of_them(
    gateway: Gateway,
) -> None:
    """Rule 12: answers that nobody takes do not pile up, and neither do requests; when it reads, it
    gets them all, in order."""
    wire = await gateway.connect()
    wire.transport.pauseProducing()
    (front,) = gateway.factory.connections
    request = GET.format("/proxy").encode()
    sent = 0
    while not front.upload_producer.paused:
        wire.send(request * 200)
        sent += 200
        await deferLater(gateway.reactor, 0)
        written: Any = front.transport
        backlog = len(written.dataBuffer) + written._tempDataLen
        assert backlog < 200_000
        assert len(front._pipelined) < 200_000
    wire.transport.resumeProducing()
    for _ in range(sent):
        assert (await wire.reply()).status == 400


@ensureDeferred
async def test_more_is_sent_ahead_than_is_kept_and_all_is_answered(gateway: Gateway) -> None:
    """Rule 30: the client is not read meanwhile, and none of its requests is lost."""
    gateway.socks.held = True
    wire = await gateway.connect()
    wire.send(get(gateway, "/bytes/10"))
    served = await gateway.socks.asked()
    (front,) = gateway.factory.connections
    filler = "X: " + "y" * 900 + "\r\n"
    number = 300
    wire.send(GET.format("/proxy").replace("\r\n\r\n", f"\r\n{filler}\r\n").encode() * number)
    while not front.upload_producer.paused:
        await deferLater(gateway.reactor, 0)
    served.answer()
    assert (await wire.reply()).body == pattern(10)
    for _ in range(number):
        assert (await wire.reply()).status == 400


@ensureDeferred
async def test_who_leaves_while_it_is_not_read_is_noticed(gateway: Gateway) -> None:
    """Rule 13."""
    wire = await gateway.connect()
    wire.send(get(gateway, "/hang") + GET.format("/proxy").encode() * 3000)
    await gateway.origin.when_requested(1)
    (front,) = gateway.factory.connections
    while not front.upload_producer.paused:
        await deferLater(gateway.reactor, 0)
    wire.transport.abortConnection()
    await gateway.origin.when_closed(1).addTimeout(2.0, gateway.reactor)


@pytest.mark.parametrize("behind", [b"\r\n", b"\r", b"\n\r\n"])
@ensureDeferred
async def test_an_empty_line_behind_a_request_is_none(gateway: Gateway, behind: bytes) -> None:
    """RFC 9112, section 2.2: it begins no head, which would have to be whole in 10 s."""
    wire = await gateway.connect()
    (front,) = gateway.factory.connections
    wire.send(post(gateway, "/upload", "Content-Length: 2") + b"ab" + behind)
    assert (await wire.reply()).status == 200
    while front not in gateway.factory.connections.idle:
        await deferLater(gateway.reactor, 0)
    assert not front.busy
    wire.send(get(gateway, "/bytes/5"))
    assert (await wire.reply()).body == pattern(5)


@ensureDeferred
async def test_a_client_that_reads_late_gets_all_its_answers(gateway: Gateway) -> None:
    wire = await gateway.connect()
    (front,) = gateway.factory.connections
    front.set_congested(True)
    for _ in range(3):
        wire.send(GET.format("/proxy").encode())
    came = wire.when_came(b"Missing url")
    asked = await gateway.ask("/health")
    assert asked.status == 200
    assert not came.called
    front.set_congested(False)
    for _ in range(3):
        assert (await wire.reply()).status == 400


@ensureDeferred
async def test_a_request_has_one_answer(gateway: Gateway) -> None:
    """The target and the body are both at fault."""
    wire = await gateway.connect()
    wire.send(
        b"POST /proxy?url=ftp://x/ HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    )
    await wire.lost
    assert wire.raw.count(b"HTTP/1.1 ") == 1


@ensureDeferred
async def test_an_upgrade_that_is_not_served_takes_no_body_away(gateway: Gateway) -> None:
    wire = await gateway.connect()
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA"
    wire.send(post(gateway, "/echo", upgrade, "Transfer-Encoding: chunked"))
    wire.send(b"5\r\nhello\r\n0\r\n\r\n")
    reply = await wire.reply(b"POST")
    assert reply.json["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert "upgrade" not in [name.lower() for name, _ in reply.json["headers"]]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/health", ["X: " + "a" * 20_000], 200),
        ("/health", [f"X-{n}: " + "a" * 100 for n in range(200)], 200),
        ("/health", ["Authorization: Bearer " + "a" * 20_000], 431),
        ("/health?" + "a" * 20_000, [], 414),
    ],
)
@ensureDeferred
async def test_large_heads_on_the_control_plane(
    gateway: Gateway, path: str, headers: list[str], status: int
) -> None:
    """Rule 7: an answer, not silence."""
    assert (await gateway.ask(path, *headers)).status == status


# --- uploads ------------------------------------------------------------------------------------


@ensureDeferred
async def test_chunked_uploads_are_framed_anew(gateway: Gateway) -> None:
    """Rules 7 and 16: extensions and trailers do not pass."""
    wire = await gateway.connect()
    wire.send(post(gateway, "/echo", "Transfer-Encoding: chunked"))
    wire.send(b"3;ext=1\r\nabc\r\n")
    await gateway.origin.when_requested(1)
    wire.send(b"4\r\ndefg\r\n0\r\nX-Trailer: y\r\n\r\n")
    reply = await wire.reply(b"POST")
    assert reply.json["sha256"] == hashlib.sha256(b"abcdefg").hexdigest()
    assert ["Transfer-Encoding", "chunked"] in reply.json["headers"]
    assert b"ext=1" not in gateway.socks.served[0].received
    assert b"X-Trailer" not in gateway.socks.served[0].received


@pytest.mark.parametrize("framing", ["Content-Length: 5000000", "Transfer-Encoding: chunked"])
@ensureDeferred
async def test_large_uploads(gateway: Gateway, framing: str) -> None:
    """Rule 16."""
    wire = await gateway.connect()
    body = pattern(5_000_000)
    wire.send(post(gateway, "/upload", framing))
    if "chunked" in framing:
        for at in range(0, len(body), 100_000):
            wire.send(b"186a0\r\n" + body[at : at + 100_000] + b"\r\n")
        wire.send(b"0\r\n\r\n")
    else:
        wire.send(body)
    reply = await wire.reply(b"POST")
    assert reply.json == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


@ensureDeferred
async def test_expect_continue(gateway: Gateway) -> None:
    """Rule 16."""
    wire = await gateway.connect()
    wire.send(post(gateway, "/upload", "Content-Length: 3", "Expect: 100-continue"))
    await wire.when_came(b"HTTP/1.1 100 Continue\r\n\r\n")
    wire.send(b"abc")
    reply = await wire.reply(b"POST")
    assert reply.json["length"] == 3


@ensureDeferred
async def test_a_client_that_is_refused_is_not_told_to_continue(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(
        b"POST /proxy?url=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    assert (await wire.reply(b"POST")).status == 400
    assert b"100 Continue" not in wire.raw


@ensureDeferred
async def test_an_answer_before_the_upload_is_whole_reaches_the_client(gateway: Gateway) -> None:
    gateway.socks.origin = None
    gateway.socks.behind = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
    wire = await gateway.connect()
    wire.send(post(gateway, "/early", "Content-Length: 10000000"))
    wire.send(b"a" * 200_000)
    reply = await wire.reply(b"POST")
    assert reply.status == 413
    assert reply.body == b"no"
    assert reply["Connection"] == "close"


@ensureDeferred
async def test_a_malformed_upload_ends_with_an_error(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(post(gateway, "/upload", "Transfer-Encoding: chunked") + b"3\r\nabc\r\nzz\r\n")
    reply = await wire.reply(b"POST")
    assert reply.status == 400
    await wire.lost


@pytest.mark.parametrize(("size", "status"), [(60_000, 400), (70_000, 413)])
@ensureDeferred
async def test_bodies_on_the_control_plane_are_bounded(
    gateway: Gateway, size: int, status: int
) -> None:
    reply = await gateway.ask("/identity/new", method="POST", body=b"a" * size)
    assert reply.status == status


# --- clients that leave, or are slow --------------------------------------------------------------


@pytest.mark.parametrize("phase", ["connecting", "waiting", "body", "upload"])
@ensureDeferred
async def test_a_client_that_leaves_takes_its_stream_along(gateway: Gateway, phase: str) -> None:
    """Rule 13."""
    wire = await gateway.connect()
    gateway.socks.held = phase == "connecting"
    if phase == "upload":
        wire.send(post(gateway, "/upload", "Content-Length: 1000000") + b"a" * 1000)
    else:
        path = "/bytes/50000000" if phase == "body" else "/hang"
        wire.send(get(gateway, path))
    served = await gateway.socks.asked()
    if phase == "body":
        await wire.when_came(b"200 OK")
    elif phase != "connecting":
        await gateway.origin.when_requested(1)
    wire.transport.loseConnection() if phase != "body" else wire.transport.abortConnection()
    await served.lost


@ensureDeferred
async def test_the_rest_of_a_body_that_nobody_reads_stays_where_it_is(gateway: Gateway) -> None:
    """Rule 12: what is not read is not fetched either."""
    wire = await gateway.connect()
    wire.send(get(gateway, "/bytes/60000000"))
    await wire.when_came(b"200 OK")
    wire.transport.pauseProducing()
    sent = -1
    connection = gateway.origin.connections[1]
    while connection.sent != sent:
        sent = connection.sent
        still: Deferred[None] = Deferred()
        gateway.reactor.callLater(0.3, still.callback, None)
        await still
    assert sent < 30_000_000
    wire.transport.resumeProducing()
    reply = await wire.reply()
    assert len(reply.body) == 60_000_000


@ensureDeferred
async def test_a_slow_head_is_a_request_timeout(gateway: Gateway) -> None:
    """Rule 17: 10 s from its first byte."""
    _, clock, transport = in_memory(gateway)
    clock.advance(100)
    transport.protocol.dataReceived(b"GET / HT")
    clock.advance(gateway.core.limits.head_time - 1)
    transport.protocol.dataReceived(b"TP/1.1\r\n")
    assert not transport.value()
    clock.advance(1)
    assert transport.value().startswith(b"HTTP/1.1 408 ")


@ensureDeferred
async def test_an_idle_connection_is_closed(gateway: Gateway) -> None:
    """Rule 17: 300 s."""
    _, clock, transport = in_memory(gateway)
    clock.advance(gateway.core.limits.idle_time - 1)
    assert transport.connected
    clock.advance(1)
    assert not transport.connected


@pytest.mark.parametrize("phase", ["waiting", "upload"])
@ensureDeferred
async def test_what_follows_a_drain_finds_nothing_under_way(gateway: Gateway, phase: str) -> None:
    """The last connection to go ends its exchange first."""
    wire = await gateway.connect()
    wire.send(
        get(gateway, "/hang") if phase == "waiting" else post(gateway, "/", "Content-Length: 9")
    )
    await gateway.origin.when_requested(1)
    stopped = gateway.factory.drain(0.1).addCallback(lambda _: len(gateway.core.under_way))
    assert await stopped == 0
    gateway.core.stop()
    await wire.lost


@ensureDeferred
async def test_a_stop_ends_what_is_under_way_in_a_site(gateway: Gateway) -> None:
    """On a Tor that others run, nothing else would."""
    gateway.way = "site"
    asking = Deferred.fromCoroutine(gateway.fetch("/hang"))
    await gateway.origin.when_requested(1)
    gateway.core.stop()
    reply = await asking
    assert (reply.status, reply.json["code"]) == (503, "tor_down")
    await gateway.origin.when_closed(1)


@ensureDeferred
async def test_a_stop_ends_what_was_sent_ahead_as_well(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(get(gateway, "/hang") * 3)
    await gateway.origin.when_requested(1)
    gateway.core.stop()
    assert not gateway.core.under_way
    for _ in range(3):
        assert (await wire.reply()).json["code"] == "tor_down"


@ensureDeferred
async def test_draining_lets_what_is_under_way_finish(gateway: Gateway) -> None:
    idle = await gateway.connect()
    busy = await gateway.connect()
    gateway.socks.held = True
    busy.send(get(gateway, "/bytes/10"))
    served = await gateway.socks.asked()
    drained = gateway.factory.drain(30.0)
    await idle.lost
    assert not drained.called
    served.answer()
    reply = await busy.reply()
    assert reply.body == pattern(10)
    assert reply["Connection"] == "close"
    await drained


WAITING = {
    "a destination's answer": "GET {hang} HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a service's answer": "GET /ip HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "Tor": "POST /identity/new HTTP/1.1\r\nHost: localhost\r\nTortxd-Token: {token}\r\n\r\n",
    "a body": "POST /identity/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
    "a head": "GET /health HTTP/1.1\r\nHost: local",
}


@pytest.mark.parametrize("request_", WAITING.values(), ids=WAITING.keys())
@ensureDeferred
async def test_rule_30_what_a_stop_cuts_off_is_told_so(gateway: Gateway, request_: str) -> None:
    gateway.origin.canned[b"/ip"] = Canned(b"", "hang")
    gateway.link.renewing = Deferred()
    wire = await gateway.connect()
    wire.send(request_.format(hang=gateway.path("/hang"), token=OPERATOR.decode()).encode())
    if "GET" in request_ and "health" not in request_:
        await gateway.origin.when_requested(1)
    elif "Token" in request_:
        while not gateway.link.renewed:
            await deferLater(gateway.reactor, 0)
    else:
        (front,) = gateway.factory.connections
        while front in gateway.factory.connections.idle:
            await deferLater(gateway.reactor, 0)
    drained = gateway.factory.drain(0.1)
    reply = await wire.reply()
    assert (reply.status, reply.json["code"]) == (503, "tor_down")
    await drained


@pytest.mark.parametrize("leave", ["FIN", "reset"])
@ensureDeferred
async def test_a_client_that_leaves_behind_much_that_nobody_reads(
    gateway: Gateway, leave: str
) -> None:
    """Rule 13, on the control plane: twisted.web stops reading past 16 KiB."""
    gateway.origin.canned[b"/ip"] = Canned(b"", "hang")
    wire = await gateway.connect()
    wire.send(b"GET /ip HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"a" * 100_000)
    await gateway.origin.when_requested(1)
    if leave == "FIN":
        wire.transport.loseConnection()
    else:
        wire.transport.abortConnection()
    await gateway.origin.when_closed(1).addTimeout(2.0, gateway.reactor)


@ensureDeferred
async def test_a_body_that_is_known_to_be_too_long_is_not_waited_for(gateway: Gateway) -> None:
    wire = await gateway.connect()
    head = "POST /identity/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000\r\n"
    wire.send((head + "Expect: 100-continue\r\n\r\n").encode())
    reply = await wire.reply(b"POST")
    assert (reply.status, reply.json["code"]) == (413, "too_large")
    assert b"100 Continue" not in wire.raw


@pytest.mark.parametrize(
    "line", ["HEAD / HTTP/1.1\r\nX y", "HEAD /\x7f HTTP/1.1", "HEAD / HTTP/9.9", "HEAD /  X"]
)
@ensureDeferred
async def test_a_malformed_head_request_gets_no_body(gateway: Gateway, line: str) -> None:
    """RFC 9110, section 9.3.2."""
    wire = await gateway.connect()
    wire.send(f"{line}\r\nHost: localhost\r\n\r\n".encode())
    reply = await wire.reply(b"HEAD")
    assert reply.status == 400
    assert int(reply["Content-Length"]) > 0
    await wire.lost
    assert wire.raw.endswith(b"\r\n\r\n")


@ensureDeferred
async def test_draining_ends_a_kept_connection_whose_response_had_begun(gateway: Gateway) -> None:
    gateway.socks.origin = None
    wire = await gateway.connect()
    wire.send(f"GET {gateway.path('/')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    served = await gateway.socks.asked()
    await deferLater(gateway.reactor, 0)  # first, it answers itself
    served.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    await wire.when_came(b"ab")
    drained = gateway.factory.drain(30.0)
    served.transport.write(b"cd")
    await drained.addTimeout(5.0, gateway.reactor)
    await wire.lost
    assert wire.raw.endswith(b"abcd")


@ensureDeferred
async def test_a_malformed_upload_does_not_get_into_a_response(gateway: Gateway) -> None:
    """Rule 14: what has begun as a response is cut off, and nothing looks part of it."""
    gateway.socks.origin = None
    wire = await gateway.connect()
    head = f"POST {gateway.path('/')} HTTP/1.1\r\nHost: localhost\r\n"
    wire.send((head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").encode())
    served = await gateway.socks.asked()
    await deferLater(gateway.reactor, 0)  # first, it answers itself
    served.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\nfirst")
    await wire.when_came(b"first")
    wire.send(b"ZZ\r\n")
    await wire.lost
    assert wire.raw.endswith(b"first")
    assert "cleanly" not in str(wire.closed)

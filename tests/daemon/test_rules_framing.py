"""Where one message ends and the next begins: nobody can make the daemon think otherwise."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from tests.daemon.arrivals import arrived, mark
from tests.daemon.process import Daemon, soon
from tortxd.testing import Canned, Origin

SMUGGLING = {
    "CL and TE": ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
    "TE and CL": ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
    "CL twice": ("Content-Length: 5\r\nContent-Length: 5", 400),
    "two CLs": ("Content-Length: 5\r\nContent-Length: 6", 400),
    "CL list": ("Content-Length: 5, 5", 400),
    "CL plus": ("Content-Length: +5", 400),
    "CL hex": ("Content-Length: 0x5", 400),
    "obs-fold": ("X: a\r\n b", 400),
    "identity": ("Transfer-Encoding: identity", 400),
    "gzip": ("Transfer-Encoding: gzip", 501),
    "gzip, chunked": ("Transfer-Encoding: gzip, chunked", 501),
    "xchunked": ("Transfer-Encoding: xchunked", 501),
    "space before colon": ("Transfer-Encoding : chunked", 400),
    "bare LF": ("X: a\nTransfer-Encoding: chunked", 400),
    "bare CR": ("X: a\rTransfer-Encoding: chunked", 400),
    "NUL": ("X: a\0b", 400),
    "bad name": ("X y: a", 400),
}


@pytest.mark.parametrize("way", ["/proxy", "absolute-form", "/health"])
@pytest.mark.parametrize(("fields", "status"), SMUGGLING.values(), ids=SMUGGLING.keys())
@ensureDeferred
async def test_rule_07_smuggling(
    daemon: Daemon, tor_origin: Origin, way: str, fields: str, status: int
) -> None:
    """One answer, then the end of the connection: what stands behind is never a request."""
    marked = mark("smuggled")
    echo = f"{tor_origin.http}/echo?{marked}"
    target = {"/proxy": "/proxy?url=" + quote(echo, safe=""), "absolute-form": echo}.get(way, way)
    behind = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    wire = await daemon.connect()
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n"
    wire.send((head + "0\r\n\r\n" + behind).encode("latin-1"))
    await soon(wire.lost)
    assert bytes(wire.raw).startswith(b"HTTP/1.1 %d " % status)
    assert wire.raw.count(b"HTTP/1.1 ") == 1
    assert b"Tortxd-Error: " in wire.raw
    assert not arrived(tor_origin, marked)


@ensureDeferred
async def test_rule_07_transfer_codings_are_not_for_http_1_0(daemon: Daemon) -> None:
    head = "POST /health HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert (await daemon.say(head)).status == 400


@pytest.mark.parametrize("way", ["/proxy?url=", "http://www.example/", "/health?"])
@ensureDeferred
async def test_rule_07_oversize_is_said(daemon: Daemon, way: str) -> None:
    reply = await daemon.say(f"GET {way}{'x' * 40_000} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (reply.status, reply.json["code"]) == (414, "too_large")
    fields = "".join(f"X-{number}: {'y' * 200}\r\n" for number in range(400))
    reply = await daemon.say(f"GET {way} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
    assert (reply.status, reply.json["code"]) == (431, "too_large")


@ensureDeferred
async def test_rule_07_destinations_are_held_to_the_same(
    daemon: Daemon, tor_origin: Origin
) -> None:
    ends = "\r\n\r\n0\r\n\r\n"
    for head in (
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        "HTTP/1.1 200 OK\r\nX: a\r\n b",
        "HTTP/1.1 200 OK\r\nX: a\x7f",
        "HTTP/1.1 2000 OK",
        "ICY 200 OK",
        "HTTP/1.1 200 OK\r\n" + "\r\n".join(f"X{n}: y" for n in range(1001)),
        "HTTP/1.1 200 OK\r\nX: " + "y" * 270_000,
    ):
        tor_origin.canned[b"/canary-framing"] = Canned((head + ends).encode(), "close")
        reply = await daemon.fetch(tor_origin.http + "/canary-framing")
        assert (reply.status, reply.json["code"]) == (502, "bad_response"), head


PADDED = {
    "blanks before": ("5 ; a=b", "0 ; a=b", ""),
    "blanks behind": ("5; a=b", "0; a=b", ""),
    "blanks alone": ("5  ", "0  ", ""),
    "blanks around the value": ("5;a = b", "0;a = b", ""),
    "tabs": ("5\t;\ta\t=\tb\t", "0\t", ""),
    "quoted": ('5 ;a="x;y"', '0 ;a="x;y" ', ""),
    "a length": ("5", "0", "Content-Length: 99\r\n"),
    "a coding": ("5", "0", "Transfer-Encoding: gzip\r\nConnection: close\r\n"),
    "a host": ("5", "0", "Host: evil.example\r\n"),
}


@pytest.mark.parametrize(("size", "last", "trailers"), PADDED.values(), ids=PADDED.keys())
@ensureDeferred
async def test_rule_07_chunks_as_the_standard_has_them_are_read(
    daemon: Daemon, tor_origin: Origin, size: str, last: str, trailers: str
) -> None:
    """Blanks around extensions, and trailers named like fields that frame: all of it is dropped."""
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = f"{head}{size}\r\nhello\r\n{last}\r\n{trailers}\r\n".encode()
    tor_origin.canned[b"/canary-chunks"] = Canned(wire, "keep")
    url = tor_origin.http + "/canary-chunks"
    for reply in (
        await daemon.fetch(url),
        await daemon.say(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n"),
    ):
        assert (reply.status, bytes(reply.body), reply.whole) == (200, b"hello", True)
        assert reply.all("Transfer-Encoding") == ["chunked"]
        assert "Content-Length" not in reply


UPLOADED = {
    # They are dropped, and the next request on the connection is the next one.
    "a trailer named Content-Length": ("5;a=b", "Content-Length: 99\r\n", True),
    "a trailer named Transfer-Encoding": ("5", "Transfer-Encoding: gzip\r\n", True),
    "a trailer named Host": ("5", "Host: evil\r\n", True),
    # Other readers before the gateway might see another length where blanks stand.
    "blanks before": ("5 ;a", "", False),
    "blanks behind": ("5; a", "", False),
    "blanks alone": ("5 ", "", False),
    "blanks around the value": ("5;a = b", "", False),
}


@pytest.mark.parametrize(("size", "trailers", "read"), UPLOADED.values(), ids=UPLOADED.keys())
@ensureDeferred
async def test_rule_07_clients_chunks_are_read_to_the_letter_and_their_trailers_frame_nothing(
    daemon: Daemon, tor_origin: Origin, size: str, trailers: str, read: bool
) -> None:
    url = quote(f"{tor_origin.http}/echo", safe="")
    wire = await daemon.connect()
    head = (
        f"POST /proxy?url={url} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    wire.send(f"{head}{size}\r\nhello\r\n0\r\n{trailers}\r\n".encode())
    reply = await soon(wire.reply(b"POST"))
    assert reply.status == (200 if read else 400)
    if read:
        assert reply.json["length"] == 5
        arrived = dict(reply.json["headers"])
        assert arrived["Host"].startswith("origin.test.example:")
        assert arrived.keys() & {"Content-Length", "Transfer-Encoding"} == {"Transfer-Encoding"}
        wire.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await soon(wire.reply())).json["status"] == "ok"
    wire.transport.abortConnection()

"""What real clients and destinations do, through real circuits: read as they mean it."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from tests.daemon.process import Daemon, soon
from tests.web_client import Reply
from tortxd.testing import Canned, Origin

OK = "HTTP/1.1 200 OK\r\n"
END = "Content-Length: 5\r\nConnection: close\r\n\r\nhello"

ASKED = {
    "a method of its own": ("VERSION-CONTROL", "/echo", ""),
    "a method in lower case": ("get", "/echo", ""),
    "an offer of TLS": ("GET", "/echo", "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n"),
    "an offer of HTTP/2": ("GET", "/echo", "Connection: Upgrade\r\nUpgrade: h2,h2c\r\n"),
    "a count of hops": ("TRACE", "/echo", "Max-Forwards: 3\r\n"),
    "raw UTF-8": ("GET", "/echo/\xc3\xbcbung?\xe2\x98\x83", ""),
}


async def ask(daemon: Daemon, way: str, method: str, url: str, fields: str = "") -> Reply:
    """Ask for ``url`` (Latin-1, as its bytes go over the wire) by one way in."""
    raw = url if way == "absolute-form" else "/proxy?url=" + url
    head = f"{method} {raw} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
    return await daemon.say(head, method.encode())


@pytest.mark.parametrize("way", ["/proxy", "absolute-form"])
@pytest.mark.parametrize(("method", "path", "fields"), ASKED.values(), ids=ASKED.keys())
@ensureDeferred
async def test_clients_are_understood(
    daemon: Daemon, tor_origin: Origin, way: str, method: str, path: str, fields: str
) -> None:
    reply = await ask(daemon, way, method, tor_origin.http + path, fields)
    assert (reply.status, reply.json["method"]) == (200, method)
    assert reply.json["target"] == quote(path.encode("latin-1"), safe="/?=")
    sent = {name.lower(): value for name, value in reply.json["headers"]}
    assert "upgrade" not in sent
    assert sent.get("max-forwards") == ("2" if method == "TRACE" else None)


SAID = {
    "interim responses": "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n" + OK + END,
    "white space before the colon": OK + "X-A : b\r\n" + END,
    "a length twice": OK + "Content-Length: 5\r\n" + END,
    "bare LF": (OK + END).replace("\r\n", "\n"),
    "empty lines ahead": "\r\n\r\n" + OK + END,
    "identity": OK + "Transfer-Encoding: identity\r\n" + END,
    "padded sizes": OK + "Transfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n0  \r\n\r\n",
}


@pytest.mark.parametrize("way", ["/proxy", "absolute-form"])
@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
@ensureDeferred
async def test_destinations_are_understood(
    daemon: Daemon, tor_origin: Origin, way: str, said: str
) -> None:
    tor_origin.canned[b"/said"] = Canned(said.encode(), "close")
    reply = await ask(daemon, way, "GET", tor_origin.http + "/said")
    assert (reply.status, bytes(reply.body), reply.whole) == (200, b"hello", True)
    assert [one.status for one in reply.interim] == ([102, 103] if "102" in said else [])


@ensureDeferred
async def test_rule_07_a_body_after_head_is_no_answer_to_the_next_request(
    daemon: Daemon, tor_origin: Origin
) -> None:
    """A common fault; on one connection of the client's, and on a kept one through Tor."""
    tor_origin.canned[b"/said"] = Canned((OK + "Content-Length: 5\r\n\r\nhello").encode(), "keep")
    wire = await daemon.connect()
    said, echo = (quote(tor_origin.http + path, safe="") for path in ("/said", "/echo"))
    for _ in range(3):
        wire.send(f"HEAD /proxy?url={said} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await soon(wire.reply(b"HEAD"))).status == 200
        wire.send(f"GET /proxy?url={echo} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        reply = await soon(wire.reply())
        assert (reply.status, reply.json["target"]) == (200, "/echo")


@ensureDeferred
async def test_a_redirect_that_is_said_twice_is_one(daemon: Daemon, tor_origin: Origin) -> None:
    location = f"Location: {tor_origin.http}/echo\r\n"
    said = "HTTP/1.1 302 Found\r\n" + location * 2 + END
    tor_origin.canned[b"/said"] = Canned(said.encode(), "close")
    reply = await daemon.fetch(tor_origin.http + "/said")
    assert (reply.status, reply["Tortxd-Location"]) == (302, tor_origin.http + "/echo")


@ensureDeferred
async def test_a_tunnel_needs_a_host_and_routes_do_not_wait(daemon: Daemon) -> None:
    reply = await daemon.say("CONNECT origin.test.example:80 HTTP/1.1\r\n\r\n", b"CONNECT")
    assert reply.status == 400
    head = "POST /circuits HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
    assert (await daemon.say(head, b"POST")).status == 401

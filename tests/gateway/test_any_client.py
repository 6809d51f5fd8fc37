"""What clients ask in ways of their own: methods, upgrades, interim responses, Max-Forwards."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from tests.gateway.conftest import OPERATOR, ORIGIN, Gateway, Way
from tortxd.testing import Canned

METHODS = ["LIST", "BAN", "VERSION-CONTROL", "FOO", "get", "Patch", "DESCRIBE", "!#$%&'*+.^_`|~9"]


@pytest.mark.parametrize("method", METHODS)
@ensureDeferred
async def test_any_token_is_a_method(way: Way, method: str) -> None:
    reply = await way.ask(method, "/echo", "Content-Length: 3", body=b"abc")
    assert reply.status == 200
    assert (reply.json["method"], reply.json["body"]) == (method, "YWJj")


@pytest.mark.parametrize("method", ["FOO", "get", "CONNECTED"])
@ensureDeferred
async def test_routes_do_not_take_any_method(either: Gateway, method: str) -> None:
    reply = await either.ask("/health", method=method)
    assert (reply.status, reply.json["code"]) == (405, "method_not_allowed")
    assert reply["Allow"] == "GET, HEAD, OPTIONS"


UPGRADES = [
    ("Connection: Upgrade", "Upgrade: TLS/1.2"),
    ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2,h2c", "HTTP2-Settings: AAMAAABk"),
    ("Connection: keep-alive, upgrade", "Upgrade: HTTP/2.0"),
    ("Connection: Upgrade", "Upgrade: irc/1.0"),
    ("Connection: Upgrade", "Upgrade: "),
    ("Upgrade: websocket",),
]


@pytest.mark.parametrize("headers", UPGRADES, ids=lambda headers: headers[-1])
@pytest.mark.parametrize("method", ["GET", "POST"])
@ensureDeferred
async def test_an_upgrade_that_is_no_websockets_is_passed_over(
    way: Way, method: str, headers: tuple[str, ...]
) -> None:
    """RFC 9110, section 7.8."""
    body = b"abc" if method == "POST" else b""
    reply = await way.ask(method, "/echo", *headers, f"Content-Length: {len(body)}", body=body)
    assert reply.status == 200
    assert reply.json["body"] == b64encode(body).decode()
    sent = {name.lower() for name, _ in reply.json["headers"]}
    assert sent.isdisjoint({"upgrade", "http2-settings", "connection"})


@pytest.mark.parametrize("headers", UPGRADES, ids=lambda headers: headers[-1])
@ensureDeferred
async def test_routes_and_tunnels_pass_over_upgrades_as_well(
    gateway: Gateway, headers: tuple[str, ...]
) -> None:
    assert (await gateway.ask("/health", *headers)).status == 200
    wire = await gateway.connect()
    lines = ["CONNECT origin.test.example:80 HTTP/1.1", "Host: origin.test.example:80", *headers]
    wire.send("\r\n".join([*lines, "", ""]).encode())
    await wire.when_came(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("absolute", [False, True])
@ensureDeferred
async def test_raw_utf_8_in_a_target_is_percent_encoded(gateway: Gateway, absolute: bool) -> None:
    wire = await Way(gateway, absolute).send("GET", f"{ORIGIN}/echo/übung?ä=☃")
    reply = await wire.reply()
    assert reply.status == 200
    assert reply.json["target"] == "/echo/%C3%BCbung?%C3%A4=%E2%98%83"


@pytest.mark.parametrize("path", ["/übung", "/health/ü", "/proxyü"])
@ensureDeferred
async def test_a_path_in_raw_utf_8_is_no_route(gateway: Gateway, path: str) -> None:
    reply = await gateway.ask(path)
    assert (reply.status, reply.json["code"]) == (404, "not_found")


# --- interim responses ----------------------------------------------------------------------------

INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    b"HTTP/1.1 103 Early Hints\r\nX-Hint: 1\r\nTortxd-Error: forged\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
)


@ensureDeferred
async def test_interim_responses_reach_the_client(way: Way) -> None:
    """RFC 9110, section 15.2; a 100 that nobody waits for tells nothing."""
    way.gateway.origin.canned[b"/early"] = Canned(INTERIM, "close")
    reply = await way.ask("GET", "/early")
    assert (reply.status, bytes(reply.body)) == (200, b"ok")
    assert [(one.status, one.reason) for one in reply.interim] == [
        (102, b"Processing"),
        (103, b"Early Hints"),
    ]
    hints = {name.lower() for name, _ in reply.interim[1].headers}
    assert b"x-hint" in hints
    assert b"tortxd-error" not in hints


@ensureDeferred
async def test_they_come_before_the_response_does(way: Way) -> None:
    way.gateway.socks.origin = None
    wire = await way.send("GET", "http://a.example/")
    served = await way.gateway.socks.asked()
    await way.gateway.heard(served)
    served.transport.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    await wire.when_came(b"HTTP/1.1 103 Early Hints\r\n")
    served.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert (await wire.reply()).status == 200


@ensureDeferred
async def test_http_1_0_knows_no_interim_responses(way: Way) -> None:
    way.gateway.origin.canned[b"/early"] = Canned(INTERIM, "close")
    url = f"{ORIGIN}/early"
    wire = await way.send("GET", url if way.absolute else quote(url, safe=""), version="1.0")
    reply = await wire.reply()
    assert (reply.status, reply.interim) == (200, [])


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 102 Processing\r\n\r\n" * 200,
        b"HTTP/1.1 103 x\r\nX: %b\r\n\r\n" % (b"y" * 300_000),
    ],
    ids=["number", "size"],
)
@ensureDeferred
async def test_they_are_bounded(way: Way, wire: bytes) -> None:
    way.gateway.origin.canned[b"/early"] = Canned(wire, "close")
    reply = await way.ask("GET", "/early")
    assert (reply.status, reply.json["code"]) == (502, "bad_response")


# --- Max-Forwards ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS"])
@ensureDeferred
async def test_max_forwards_is_counted_down(way: Way, method: str) -> None:
    reply = await way.ask(method, "/echo", "Max-Forwards: 5")
    assert (reply.status, reply.json["method"]) == (200, method)
    assert ["Max-Forwards", "4"] in reply.json["headers"]


@ensureDeferred
async def test_other_methods_take_max_forwards_along(way: Way) -> None:
    reply = await way.ask("GET", "/echo", "Max-Forwards: 0")
    assert ["Max-Forwards", "0"] in reply.json["headers"]


@ensureDeferred
async def test_a_trace_ends_here_when_it_may_go_no_further(way: Way) -> None:
    """RFC 9110, sections 7.6.2 and 9.3.8: it shows what would have gone on, less what is secret."""
    reply = await way.ask(
        "TRACE",
        "/echo",
        "Max-Forwards: 0",
        "X-Shown: 1",
        "Authorization: Basic eDp5",
        "Tor-Stream-Isolation: canary",
        "Proxy-Authorization: Basic dG9yLWlzbzpjYW5hcnk=",
    )
    assert (reply.status, reply["Content-Type"]) == (200, "message/http")
    shown = bytes(reply.body)
    assert shown.startswith(b"TRACE ")
    assert b"\r\nX-Shown: 1\r\n" in shown
    for secret in (b"uthorization", b"solation", b"canary"):
        assert secret not in shown
    assert not way.gateway.socks.served


@ensureDeferred
async def test_options_end_here_when_they_may_go_no_further(way: Way) -> None:
    reply = await way.ask("OPTIONS", "/echo", "Max-Forwards: 0")
    assert reply.status == 200
    assert {"GET", "OPTIONS", "TRACE"} <= set(reply["Allow"].split(", "))
    assert not way.gateway.socks.served


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "0x1", ""])
@ensureDeferred
async def test_max_forwards_takes_a_number(way: Way, value: str) -> None:
    reply = await way.ask("TRACE", "/echo", f"Max-Forwards: {value}")
    assert (reply.status, reply.json["code"]) == (400, "bad_request")


# --- judged when the head is there ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("POST /identity/new", ("Host: evil.example",), 403),
        ("POST /identity/new", ("Host: localhost", "Origin: http://evil.example"), 403),
        ("POST /health", ("Host: localhost",), 405),
        ("POST /circuits", ("Host: localhost",), 401),
        ("POST /circuits", ("Host: localhost", f"Tortxd-Token: {OPERATOR.decode()}"), 405),
        ("POST /circuits/7/close", ("Host: localhost",), 401),
        ("POST /", ("Host: localhost",), 405),
        ("POST /", ("Host: localhost", "Origin: http://evil.example"), 403),
        ("OPTIONS /identity/new", ("Host: localhost",), 204),
    ],
)
@pytest.mark.parametrize("body", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
@ensureDeferred
async def test_routes_judge_when_the_head_is_there(
    gateway: Gateway, line: str, headers: tuple[str, ...], status: int, body: str
) -> None:
    """Not when a body has come, which may never be."""
    wire = await gateway.connect()
    wire.send("\r\n".join([f"{line} HTTP/1.1", *headers, body, "", ""]).encode())
    assert (await wire.reply(line.partition(" ")[0].encode())).status == status


@pytest.mark.parametrize(("version", "status"), [("1.1", 400), ("1.0", 200)])
@ensureDeferred
async def test_a_tunnel_needs_a_host(gateway: Gateway, version: str, status: int) -> None:
    """RFC 9112, section 3.2."""
    wire = await gateway.connect()
    wire.send(f"CONNECT origin.test.example:80 HTTP/{version}\r\n\r\n".encode())
    await wire.when_came(b"HTTP/1.1 %d " % status)

"""Requests in absolute-form: the gateway as an ordinary HTTP proxy."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.gateway.asking import forward
from tests.gateway.conftest import ORIGIN, Gateway, Policy
from tests.gateway.tunnels import TOKEN, basic
from tests.web_client import Reply
from tortxd.policy.access import AccessPolicy
from tortxd.testing import Canned, pattern


async def first_line(gateway: Gateway, method: str, url: str) -> str:
    """The request line that the destination of such a request reads."""
    gateway.socks.origin = None
    wire = await gateway.connect()
    wire.send(f"{method} {url} HTTP/1.1\r\nHost: x.example\r\n\r\n".encode())
    served = await gateway.socks.asked()
    return served.received.partition(b"\r\n")[0].decode()


def names(reply: Reply) -> set[str]:
    """The names of the header fields that the origin's ``/echo`` was sent."""
    return {name.lower() for name, _ in reply.json["headers"]}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
@ensureDeferred
async def test_methods_and_bodies(gateway: Gateway, method: str) -> None:
    reply = await forward(
        gateway, "/echo?a=b", "Content-Length: 3", method=method, body=b"\x00\xff1"
    )
    assert reply.status == 200
    assert reply.json["method"] == method
    assert reply.json["target"] == "/echo?a=b"
    assert reply["Tortxd-Circuit"] == "7"
    assert reply["Tortxd-Exit-Country"] == "de"
    assert reply["Proxy-Status"] == "tortxd; received-status=200"


@ensureDeferred
async def test_one_connection_serves_all_that_is_asked(gateway: Gateway) -> None:
    wire = await gateway.connect()
    for _ in range(3):
        wire.send(f"GET {ORIGIN}/bytes/5 HTTP/1.1\r\nHost: x.example\r\n\r\n".encode())
        assert (await wire.reply()).body == pattern(5)
        wire.send(f"GET {gateway.path('/bytes/5')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await wire.reply()).status == 200
    assert len(gateway.socks.served) == 1


@ensureDeferred
async def test_the_host_is_the_targets(gateway: Gateway) -> None:
    """RFC 9112, section 3.2.2: whatever the client's own Host says."""
    reply = await forward(gateway, "/echo", "X-Own: 1")
    assert ["Host", "origin.test.example"] in reply.json["headers"]
    wire = await gateway.connect()
    wire.send(f"GET {ORIGIN}/echo HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
    assert ["Host", "origin.test.example"] in (await wire.reply()).json["headers"]
    wire.send(f"GET {ORIGIN}/echo HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n".encode())
    assert (await wire.reply()).status == 400


@ensureDeferred
async def test_what_leaves(gateway: Gateway) -> None:
    """Rule 6, in proxy mode: what a page says to its own server is its own affair."""
    kept = [
        "Origin: http://a.example",
        "Referer: http://a.example/",
        "Cookie: a=b",
        "Sec-Fetch-Site: same-origin",
    ]
    dropped = [
        "Proxy-Connection: keep-alive",
        basic("bob", "secret"),
        "Forwarded: for=1.2.3.4",
        "X-Forwarded-For: 1.2.3.4",
        "Via: 1.1 x",
        "Tor-Stream-Isolation: k",
        "X-Tor-Other: k",
        "Tortxd-Timeout: 5",
        "TE: trailers",
        "Connection: close, X-Mine",
        "X-Mine: 1",
        "Keep-Alive: 5",
    ]
    reply = await forward(gateway, "/echo", *kept, *dropped)
    assert names(reply) == {"host", "origin", "referer", "cookie", "sec-fetch-site"}


@ensureDeferred
async def test_what_comes_back(gateway: Gateway) -> None:
    """Rule 5, in proxy mode: all but what is for this hop, or would be taken for the gateway's."""
    gateway.origin.canned[b"/page"] = Canned(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=b\r\nLocation: /there\r\n"
        b"Access-Control-Allow-Origin: *\r\nContent-Type: text/html\r\n"
        b"Strict-Transport-Security: x\r\nTortxd-Error: forged\r\nTortxd-Circuit: forged\r\n"
        b"Proxy-Status: forged\r\n"
        b"Proxy-Authenticate: Basic\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\r\nhi",
        "keep",
    )
    reply = await forward(gateway, "/page", "Sec-Fetch-Dest: document")
    assert reply["Set-Cookie"] == "a=b"
    assert reply["Location"] == "/there"
    assert reply["Content-Type"] == "text/html"
    assert reply["Access-Control-Allow-Origin"] == "*"
    assert "Strict-Transport-Security" in reply
    assert reply["Tortxd-Circuit"] == "7"
    assert reply["Proxy-Status"] == "tortxd; received-status=200"
    for name in ("Tortxd-Error", "Proxy-Authenticate", "X-Hop", "Keep-Alive", "Vary"):
        assert name not in reply
    assert "Content-Security-Policy" not in reply


@ensureDeferred
async def test_a_preflight_is_the_destinations(gateway: Gateway) -> None:
    reply = await forward(
        gateway,
        "/echo",
        "Origin: http://a.example",
        "Access-Control-Request-Method: PUT",
        method="OPTIONS",
    )
    assert reply.json["method"] == "OPTIONS"
    assert "access-control-request-method" in names(reply)


@pytest.mark.parametrize(
    ("url", "target"), [(ORIGIN, "*"), (f"{ORIGIN}/", "/"), (f"{ORIGIN}?a", "/?a")]
)
@ensureDeferred
async def test_options_of_a_whole_server(gateway: Gateway, url: str, target: str) -> None:
    """RFC 9112, section 3.2.4."""
    assert await first_line(gateway, "OPTIONS", url) == f"OPTIONS {target} HTTP/1.1"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/echo?a'b", "/echo?a'b"),
        ('/echo?"<>^`{|}\\%zz', '/echo?"<>^`{|}\\%zz'),
        ("/x/../echo", "/x/../echo"),
        ("/x\\..\\%2e%2e/echo", "/x\\..\\%2e%2e/echo"),
        ("?a'b", "/?a'b"),
    ],
)
@ensureDeferred
async def test_path_and_query_pass_as_they_came(gateway: Gateway, path: str, target: str) -> None:
    """RFC 9110, section 7.7."""
    assert await first_line(gateway, "GET", ORIGIN + path) == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize(
    ("host", "name"),
    [("xn--n3h.example", "xn--n3h.example"), ("XN--FA-hia.de.", "xn--fa-hia.de")],
)
@ensureDeferred
async def test_international_names(gateway: Gateway, host: str, name: str) -> None:
    await forward(gateway, f"http://{host}/echo")
    assert gateway.socks.served[0].target == (name, 80)
    wire = await gateway.connect()
    wire.send(f"CONNECT {host}:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (await gateway.socks.asked(2)).target == (name, 443)


@pytest.mark.parametrize(
    "url",
    [
        "http://xn--a.example/",
        "http://localhost/",
        "http://127.0.0.1:3080/health",
        "http://[::1]/",
        "http://10.0.0.1/",
        "http://2130706433/",
        "http://user:password@a.example/",
        "http://printer/",
        "ftp://a.example/",
        "ws://a.example/",
        "http://a.example:0/",
        "http://a.example\\b.example/",
    ],
)
@ensureDeferred
async def test_targets_that_are_refused(gateway: Gateway, url: str) -> None:
    """Rule 3."""
    reply = await forward(gateway, url)
    assert reply.status in (400, 403)
    assert reply["Tortxd-Error"] in ("bad_request", "bad_url", "target_forbidden")
    assert not gateway.socks.served


@ensureDeferred
async def test_errors_are_no_other_origins_to_read(gateway: Gateway) -> None:
    gateway.socks.code = 5
    reply = await forward(gateway, "/echo", "Origin: http://localhost")
    assert reply.json["code"] == "connect_refused"
    assert "Access-Control-Allow-Origin" not in reply
    assert "Tor-Request-Failed" not in reply


@ensureDeferred
async def test_the_token_is_for_the_proxy(gateway: Gateway, make_policy: Policy) -> None:
    gateway.core.policy = make_policy(access=AccessPolicy(token=TOKEN))
    reply = await forward(gateway, "/echo", "Authorization: Bearer a-token")
    assert reply.status == 407
    assert reply["Proxy-Authenticate"] == 'Basic realm="tortxd"'
    assert not gateway.socks.served
    reply = await forward(gateway, "/echo", basic("tortxd", "a-token"), "Authorization: Bearer x")
    assert reply.status == 200
    assert ["Authorization", "Bearer x"] in reply.json["headers"]
    assert "a-token" not in str(reply.json)


@ensureDeferred
async def test_keys_keep_requests_apart(gateway: Gateway) -> None:
    """Rule 9; ``/proxy`` with the same key, and no web origin, is the same caller."""
    for field in ("Tor-Stream-Isolation: k", basic("tortxd+k", ""), basic("tor-iso", "k")):
        assert (await forward(gateway, "/bytes/1", field)).status == 200
    assert (await gateway.fetch("/bytes/1", "Tor-Stream-Isolation: k")).status == 200
    assert len(gateway.socks.served) == 1
    for number, field in enumerate(("Accept: x", basic("tortxd+l", ""), basic("bob", "x")), 2):
        assert (await forward(gateway, "/bytes/1", field)).status == 200
        assert len(gateway.socks.served) == number


@ensureDeferred
async def test_uploads_that_are_refused_are_not_taken_for_requests(gateway: Gateway) -> None:
    """Rule 7."""
    wire = await gateway.connect()
    inner = f"GET {ORIGIN}/echo HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"POST http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\nContent-Length: {len(inner)}\r\n\r\n"
    wire.send(head.encode() + inner.encode())
    wire.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await wire.reply()).status == 403
    assert "status" in (await wire.reply()).json
    await wire.lost
    assert wire.raw.count(b"HTTP/1.1 ") == 2
    assert not gateway.socks.served


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", 400),
        ("Content-Length: 3\r\nContent-Length: 3", 400),
        ("X: a\r\n folded", 400),
        ("Transfer-Encoding: identity", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
    ],
)
@ensureDeferred
async def test_framing_is_as_strict(gateway: Gateway, headers: str, status: int) -> None:
    """Rule 7."""
    wire = await gateway.connect()
    wire.send(f"POST {ORIGIN}/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\nabc".encode())
    assert (await wire.reply()).status == status
    assert not gateway.socks.served


@ensureDeferred
async def test_a_host_is_needed(gateway: Gateway) -> None:
    """RFC 9112, section 3.2, though nothing follows from what it says."""
    wire = await gateway.connect()
    wire.send(f"GET {ORIGIN}/ HTTP/1.1\r\n\r\n".encode())
    assert (await wire.reply()).status == 400
    wire.send(f"GET {ORIGIN}/ HTTP/1.0\r\n\r\n".encode())
    assert (await wire.reply()).status == 200

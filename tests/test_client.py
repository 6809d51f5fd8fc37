"""The HTTP client, through a scripted SOCKS server to an origin on loopback."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.certificates import Authority
from tests.client_world import Request, moved, ok, world
from tortxd import TorInfo
from tortxd.errors import (
    BadResponse,
    TlsFailed,
)


@ensureDeferred
async def test_get() -> None:
    async with world(lambda _: ok()) as here:
        response = await here.client().get("http://example.com/a?b=c")
        assert response.code == 200
        assert await response.text() == "hello"
        assert here.targets == [("example.com", 80)]
        assert here.seen[0].path == b"/a?b=c"
        assert here.seen[0].headers[b"host"] == b"example.com"
        assert b"user-agent" not in here.seen[0].headers
        assert here.socks.served[0].early.startswith(b"GET /a?b=c HTTP/1.1\r\n")


@ensureDeferred
async def test_of_its_way_a_response_tells_how_many_tries_it_took() -> None:
    """A SOCKS port says no more; with a gateway: tests/gateway/test_steered_beside.py."""
    async with world(lambda _: ok(b"", b"Tortxd-Exit: forged")) as here:
        response = await here.client().isolated("alice").get("http://example.com/")
        assert response.tor == TorInfo(circuit=None, exit=None, attempts=1, exit_changed=False)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@ensureDeferred
async def test_what_changes_something_waits_for_the_reply(method: str) -> None:
    async with world(lambda _: ok()) as here:
        await here.client().request(method, "http://example.com/")
        assert here.seen[0].method == method.encode()
        assert here.socks.served[0].early == b""


@pytest.mark.parametrize("method", ["post", "put", "patch"])
@ensureDeferred
async def test_bodies_are_json_unless_they_are_bytes(method: str) -> None:
    async with world(lambda _: ok()) as here:
        client = here.client()
        await getattr(client, method)("http://example.com/", {"a": 1})
        await getattr(client, method)("http://example.com/", b"\0raw")
        await getattr(client, method)("http://example.com/", data={"a": "1"})
        assert [asked.body for asked in here.seen] == [b'{"a":1}', b"\0raw", b"a=1"]
        assert here.seen[0].headers[b"content-type"].startswith(b"application/json")


@ensureDeferred
async def test_head_and_delete() -> None:
    async with world(lambda asked: ok(b"" if asked.method == b"HEAD" else b"x")) as here:
        assert (await here.client().head("http://example.com/")).code == 200
        assert await (await here.client().delete("http://example.com/")).content() == b"x"


@ensureDeferred
async def test_json() -> None:
    async with world(lambda asked: ok(asked.body or b'{"b": 2}')) as here:
        client = here.client()
        assert await client.get_json("http://example.com/") == {"b": 2}
        assert await client.post_json("http://example.com/", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("body", [b"<html>", b"[" * 100_000])
@ensureDeferred
async def test_what_is_no_json(body: bytes) -> None:
    async with world(lambda _: ok(body)) as here:
        with pytest.raises(BadResponse, match="not JSON"):
            await here.client().get_json("http://example.com/")


@pytest.mark.parametrize(("word", "verdict"), [(b"true", True), (b"false", False)])
@ensureDeferred
async def test_verify_tor_connection(word: bytes, verdict: bool) -> None:
    async with world(lambda _: ok(b'{"IsTor": %s, "IP": "192.0.2.1"}' % word)) as here:
        client = here.client(check_url="http://check.example.com/api/ip")
        assert await client.verify_tor_connection() is verdict
        assert here.targets == [("check.example.com", 80)]


@ensureDeferred
async def test_what_cannot_be_verified_is_an_error() -> None:
    async with world(lambda _: ok(b"[]")) as here:
        client = here.client(check_url="http://c.example.com/", ip_url="http://i.example.com/")
        with pytest.raises(BadResponse):
            await client.verify_tor_connection()
        with pytest.raises(BadResponse):
            await client.get_exit_ip()


@ensureDeferred
async def test_get_exit_ip() -> None:
    async with world(lambda _: ok(b'{"ip": "192.0.2.1"}')) as here:
        assert await here.client(ip_url="http://ip.example.com/").get_exit_ip() == "192.0.2.1"


@ensureDeferred
async def test_isolation() -> None:
    """By site at first; by nothing but the key in an isolated client; never with another client."""
    async with world(lambda _: ok(b"", b"Connection: close")) as here:
        client, other = here.client(), here.client()
        for asking in (
            client.get("http://example.com/"),
            client.get("http://www.example.com/"),
            client.get("http://example.org/"),
            other.get("http://example.com/"),
            client.isolated("alice").get("http://example.com/"),
            client.isolated("alice").get("http://example.org/"),
            client.isolated("bob").get("http://example.com/"),
            client.isolated("example.com").get("http://example.com/"),
            other.isolated("alice").get("http://example.com/"),
        ):
            await asking
        one = here.credentials
        assert one[0] == one[1]
        assert one[4] == one[5]
        assert len(set(one)) == 7


@ensureDeferred
async def test_connections_are_kept_within_one_isolation_only() -> None:
    async with world(lambda _: ok()) as here:
        client, alice = here.client(), here.client().isolated("alice")
        for _ in range(3):
            await (await client.get("http://example.com/")).content()
            await (await alice.get("http://example.com/")).content()
        assert len(here.socks.served) == 2
        client._ways.direct.pool.clear()
        await client.get("http://example.com/")
        assert len(here.socks.served) == 3


@ensureDeferred
async def test_no_cookie_outlives_its_call() -> None:
    async with world(lambda _: ok(b"", b"Set-Cookie: a=b; Path=/")) as here:
        client = here.client()
        for _ in range(2):
            await client.get("http://example.com/")
        assert all(b"cookie" not in asked.headers for asked in here.seen)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
@ensureDeferred
async def test_destinations_are_read_as_the_gateway_reads_them(answer: bytes) -> None:
    async with world(lambda _: answer) as here:
        response = await here.client().get("http://example.com/")
        assert await response.text() == "hello"
        assert not response.headers.hasHeader("link")


@pytest.mark.parametrize("odd", [b"a=\xff", "ä=ö".encode(), b"=;", b"a=b; Max-Age=9e9; Port=x"])
@ensureDeferred
async def test_odd_cookies_spoil_nothing(odd: bytes) -> None:
    def answer(asked: Request) -> bytes:
        cookies = (b"Set-Cookie: c=d; Path=/", b"Set-Cookie: " + odd)
        return moved(b"/b", b"302 F", *cookies) if asked.path == b"/" else ok(b"", *cookies)

    async with world(answer) as here:
        response = await here.client().get("http://example.com/")
        assert b"c=d" in here.seen[1].headers[b"cookie"]
        assert response.headers.getRawHeaders(b"set-cookie") == [b"c=d; Path=/", odd]


def to_example_org(asked: Request) -> bytes:
    if asked.headers[b"host"] == b"example.org":
        return ok()
    return moved(b"http://example.org/", b"302 Found", b"Set-Cookie: a=b; Path=/")


@ensureDeferred
async def test_a_redirect_to_another_origin_takes_no_credentials_along() -> None:
    async with world(to_example_org) as here:
        response = await here.client().get(
            "http://example.com/", auth=("user", "word"), cookies={"c": "d"}
        )
        assert await response.content() == b"hello"
        assert b"authorization" in here.seen[0].headers
        assert here.seen[0].headers[b"cookie"] == b"c=d"
        assert not {b"authorization", b"cookie"} & here.seen[1].headers.keys()
        assert len(set(here.credentials)) == 2


@ensureDeferred
async def test_https(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = Authority(tmp_path_factory.mktemp("authority"))

    def wrap(origin: Factory[Any]) -> TLSMemoryBIOFactory:
        factory = TLSMemoryBIOFactory(authority.server("example.com"), False, origin)
        factory.noisy = False
        return factory

    async with world(lambda _: ok(), wrap) as here:
        with pytest.raises(TlsFailed):
            await here.client().get("https://example.com/")
        unverified = await here.client(verify_tls=False).get("https://example.com/")
        assert await unverified.content() == b"hello"
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        client = here.client()
        for _ in range(2):
            assert await (await client.get("https://example.com/")).content() == b"hello"
        with pytest.raises(TlsFailed, match="another name"):
            await client.get("https://www.example.com/")
        assert here.targets[0] == ("example.com", 443)
        assert len(here.socks.served) == 4


ASYNCIO = """
import asyncio, sys
from tortxd.client.http import TorHttpClient
assert "twisted.internet.reactor" not in sys.modules

async def main():
    from twisted.internet import asyncioreactor
    asyncioreactor.install(asyncio.get_running_loop())
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory
    from twisted.web.resource import Resource
    from twisted.web.server import Site
    from tests.socks_server import SocksServer
    from tortxd.config import Config

    class Page(Resource):
        isLeaf = True
        def render_GET(self, request):
            return b'{"IsTor": true}'

    reactor.startRunning(installSignalHandlers=False)
    origin = reactor.listenTCP(0, Site(Page()), interface="127.0.0.1")
    server = SocksServer(reactor, origin=origin.getHost().port)
    port = reactor.listenTCP(0, server, interface="127.0.0.1")
    config = Config(f"127.0.0.1:{port.getHost().port}", check_url="http://check.example.com/")
    client = TorHttpClient(config)
    loop = asyncio.get_running_loop()
    print(await client.verify_tor_connection().asFuture(loop))
    response = await client.get("http://example.com/").asFuture(loop)
    print(await response.text().asFuture(loop))

asyncio.run(asyncio.wait_for(main(), 20))
"""


def test_from_asyncio() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASYNCIO],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["True", '{"IsTor": true}'], done.stderr


@ensureDeferred
async def test_json_in_the_encoding_that_its_type_names() -> None:
    body = '{"a": "Grüße"}'.encode("latin-1")
    answer = ok(body, b"Content-Type: application/json; charset=iso-8859-1")
    async with world(lambda _: answer) as here:
        assert await here.client().get_json("http://example.com/") == {"a": "Grüße"}

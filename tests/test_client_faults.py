"""What the HTTP client says and does when things go wrong."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError

from tests.client_world import Request, moved, ok, world
from tests.socks_server import Served
from tortxd.client.http import tor_client
from tortxd.client.socks import SocksClient
from tortxd.config import Config
from tortxd.errors import (
    BadRequest,
    BadResponse,
    BadUrl,
    ConnectRefused,
    OriginReset,
    OriginTimeout,
    TargetForbidden,
    TlsFailed,
    TorDown,
    TorTimeout,
    TortxdError,
)
from tortxd.wire.http1 import MAX_INTERIM, MAX_RESPONSE_FIELDS, MAX_RESPONSE_HEAD


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        (b"file:///etc/passwd", TargetForbidden),
        (b"ftp://example.com/", TargetForbidden),
        (b"http://127.0.0.1:3080/", TargetForbidden),
        (b"http://localhost/", TargetForbidden),
        (b"http://user@example.com/", TortxdError),
        (b"/again", BadResponse),
    ],
)
@ensureDeferred
async def test_where_no_redirect_leads(location: bytes, kind: type[TortxdError]) -> None:
    async with world(lambda _: moved(location)) as here:
        with pytest.raises(kind):
            await here.client().get("http://example.com/")
        assert set(here.targets) == {("example.com", 80)}


@ensureDeferred
async def test_a_redirect_does_not_repeat_a_post() -> None:
    async with world(lambda asked: ok() if asked.path == b"/b" else moved(b"/b")) as here:
        await here.client().post("http://example.com/", {"a": 1})
        assert [asked.method for asked in here.seen] == [b"POST", b"GET"]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("", BadUrl),
        ("example.com", BadUrl),
        ("http://", BadUrl),
        ("http://[::1", BadUrl),
        ("http://example.com:99999/", TargetForbidden),
        ("ws://example.com/", TargetForbidden),
        ("ftp://example.com/", TargetForbidden),
        ("http://10.0.0.1/", TargetForbidden),
    ],
)
@ensureDeferred
async def test_bad_urls(url: str, kind: type[TortxdError]) -> None:
    with pytest.raises(kind):
        await tor_client("127.0.0.1:1").get(url)


@ensureDeferred
async def test_bad_methods() -> None:
    with pytest.raises(BadRequest):
        await tor_client("127.0.0.1:1").request("GET /\r\n", "http://example.com/")


@ensureDeferred
async def test_refusals() -> None:
    async with world(lambda _: ok()) as here:
        here.socks.code = 5
        for url in ("http://example.com/", "https://example.com/"):
            with pytest.raises(ConnectRefused):
                await here.client().get(url)
            with pytest.raises(ConnectRefused):
                await here.client().post(url, {})


ALERT = bytes.fromhex("15030100020228")


@ensureDeferred
async def test_the_wrong_scheme() -> None:
    """Either is said, and how it would be right."""
    async with world(lambda _: ALERT) as here:
        with pytest.raises(BadResponse, match=r"speaks TLS on this port.*https:// might be meant"):
            await here.client().get("http://canary.example:443/")
    async with world(lambda _: None) as here:
        here.socks.origin = None
        here.socks.behind = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        with pytest.raises(TlsFailed, match="speaks plain http on this port") as caught:
            await here.client().get("https://canary.example:80/")
        assert "canary" not in str(caught.value)


@ensureDeferred
async def test_without_tor() -> None:
    async with world(lambda _: ok()) as here:
        address = here.config.socks_addr
    with pytest.raises(TorDown):
        await tor_client(address).get("http://example.com/")
    assert await SocksClient(Config(address)).check_connection() is False


@pytest.mark.parametrize("method", ["GET", "POST"])
@ensureDeferred
async def test_timeouts(method: str) -> None:
    async with world(lambda _: None) as here:
        client = here.client(timeout=0.2)
        with pytest.raises(OriginTimeout):
            await client.request(method, "http://example.com/")
        here.socks.held = True
        with pytest.raises(TorTimeout):
            await client.request(method, "http://example.org/")


@ensureDeferred
async def test_the_timeout_covers_the_body_too() -> None:
    async with world(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") as here:
        response = await here.client(timeout=0.2).get("http://example.com/")
        with pytest.raises(OriginTimeout):
            await response.content()
        await here.socks.served[0].lost


@ensureDeferred
async def test_a_body_that_nobody_reads_does_not_outlive_the_timeout() -> None:
    async with world(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") as here:
        response = await here.client(timeout=0.2).get("http://example.com/", unbuffered=True)
        await here.socks.served[0].lost
        with pytest.raises(OriginTimeout):
            await response.content()


@ensureDeferred
async def test_the_timeout_covers_all_redirects() -> None:
    def slowly(asked: Request) -> None:
        from twisted.internet import reactor

        clock: Any = reactor
        clock.callLater(0.15, asked.transport.write, moved(b"/again"))

    async with world(slowly) as here:
        with pytest.raises(OriginTimeout):
            await here.client(timeout=0.4).get("http://example.com/")
        assert len(here.seen) <= 3


@ensureDeferred
async def test_cancelling_closes_the_stream() -> None:
    async with world(lambda _: None) as here:
        asking = here.client().get("http://example.com/")
        served: Served = await here.socks.asked()
        asking.cancel()
        with pytest.raises(CancelledError):
            await asking
        await served.lost


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", OriginReset),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", OriginReset),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", BadResponse),
        (b"HTTP/1.1 200 O", OriginReset),
        (b"", OriginReset),
        (b"nonsense\r\n\r\n", BadResponse),
    ],
)
@ensureDeferred
async def test_broken_answers(answer: bytes, kind: type[TortxdError]) -> None:
    def broken(asked: Request) -> None:
        asked.transport.write(answer)
        asked.transport.loseConnection()

    async with world(broken) as here:
        with pytest.raises(kind) as caught:
            await (await here.client().post("http://example.com/")).content()
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n"
        + b"X: y\r\n" * (MAX_RESPONSE_FIELDS + 1)
        + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * MAX_RESPONSE_HEAD,
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1),
    ],
)
@ensureDeferred
async def test_heads_have_limits(head: bytes) -> None:
    """Rule 12, for the library; the destination leaves the connection open."""

    def answer(asked: Request) -> bytes:
        return ok(b"x" * 200_000) if asked.path == b"/long" else head

    async with world(answer) as here:
        for method in ("GET", "POST"):
            with pytest.raises(BadResponse, match=r"too (large|many)"):
                await here.client().request(method, "http://example.com/")
        for served in here.socks.served:
            await served.lost
        # Bodies may be longer than that, in as many pieces as they come.
        response = await here.client().get("http://example.com/long")
        assert len(await response.content()) == 200_000


@pytest.mark.parametrize(
    ("size", "fits"), [(MAX_RESPONSE_HEAD * 5 // 8, True), (MAX_RESPONSE_HEAD, False)]
)
@ensureDeferred
async def test_a_line_may_be_as_long_as_the_head(size: int, fits: bool) -> None:
    async with world(lambda _: ok(b"x", b"X: " + b"y" * size)) as here:
        asking = here.client().get("http://example.com/")
        if fits:
            assert (await asking).headers.getRawHeaders(b"x") == [b"y" * size]
        else:
            with pytest.raises(BadResponse, match="too large"):
                await asking


@ensureDeferred
async def test_what_services_say_has_a_limit() -> None:
    async with world(lambda _: ok(b" " * 100_000)) as here:
        url = "http://example.com/"
        client = here.client(ip_url=url, check_url=url)
        for asking in (client.get_exit_ip(), client.verify_tor_connection()):
            with pytest.raises(BadResponse, match="too much"):
                await asking
        for served in here.socks.served:
            await served.lost


@ensureDeferred
async def test_a_dead_connection_is_replaced_for_what_is_safe_to_repeat() -> None:
    """The origin closes what is kept when the second request comes."""
    counts: dict[bytes, int] = {}

    def twice(asked: Request) -> bytes | None:
        counts[asked.method] = counts.get(asked.method, 0) + 1
        if counts[asked.method] == 2:
            asked.transport.abortConnection()
            return None
        return ok()

    async with world(twice) as here:
        client = here.client()
        for _ in range(2):
            await (await client.get("http://example.com/")).content()
        assert counts == {b"GET": 3}
        await (await client.delete("http://example.com/")).content()
        with pytest.raises(OriginReset):
            await client.delete("http://example.com/")
        assert counts[b"DELETE"] == 2

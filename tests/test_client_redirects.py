"""Redirects in the library: which request follows, and that its body goes along."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.web.client import FileBodyProducer

from tests.client_world import Request, moved, ok, world
from tortxd.client.redirects import HopRequest, following
from tortxd.errors import BadResponse, RedirectForbidden, TargetForbidden
from tortxd.policy.target import TargetPolicy

POLICY = TargetPolicy()
HERE = POLICY.parse("http://example.com/a/b?c")
FIELDS = (
    (b"Authorization", b"Basic x"),
    (b"Cookie", b"a=b"),
    (b"Host", b"example.com"),
    (b"Content-Type", b"text/plain"),
    (b"X-Mine", b"1"),
)
WORDS = {301: b"301 M", 302: b"302 F", 303: b"303 S", 307: b"307 T", 308: b"308 P"}


# --- which request follows ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "method", "becomes"),
    [
        (301, b"POST", b"GET"),
        (302, b"POST", b"GET"),
        (303, b"POST", b"GET"),
        (303, b"PUT", b"GET"),
        (303, b"DELETE", b"GET"),
        (303, b"HEAD", b"HEAD"),
        (303, b"GET", b"GET"),
        (301, b"PUT", b"PUT"),
        (302, b"PATCH", b"PATCH"),
        (302, b"HEAD", b"HEAD"),
        (301, b"DELETE", b"DELETE"),
        (307, b"POST", b"POST"),
        (308, b"PUT", b"PUT"),
        (307, b"GET", b"GET"),
    ],
)
def test_what_a_method_becomes(status: int, method: bytes, becomes: bytes) -> None:
    request = HopRequest(method, HERE, FIELDS, has_body=method in (b"POST", b"PUT", b"PATCH"))
    found = following(request, status, [b"/d"], POLICY)
    assert found is not None
    assert (found.method, found.target.path) == (becomes, b"/d")
    kept = method == becomes
    assert found.has_body == (request.has_body and kept)
    assert ((b"Content-Type", b"text/plain") in found.headers) == kept
    assert (b"Authorization", b"Basic x") in found.headers
    assert found.trusted


@pytest.mark.parametrize("status", [200, 201, 300, 304, 305, 306, 399, 401])
def test_what_is_no_redirect(status: int) -> None:
    assert following(HopRequest(b"GET", HERE), status, [b"/d"], POLICY) is None


def test_a_redirect_that_leads_nowhere_is_a_response() -> None:
    assert following(HopRequest(b"GET", HERE), 302, [], POLICY) is None


OTHERS = [
    b"http://example.org/",
    b"//example.org/",
    b"https://example.com/",
    b"http://example.com:81/",
    b"http://www.example.com/",
]


@pytest.mark.parametrize("location", OTHERS)
@pytest.mark.parametrize("status", WORDS)
def test_another_origin_gets_no_credentials(location: bytes, status: int) -> None:
    for method in (b"GET", b"HEAD", b"OPTIONS"):
        if (status, method) == (303, b"OPTIONS"):
            continue  # becomes a GET
        found = following(HopRequest(method, HERE, FIELDS), status, [location], POLICY)
        assert found is not None
        assert found.method == method
        assert [name for name, _ in found.headers] == [b"Content-Type", b"X-Mine"]
        assert not found.trusted
        back = following(found, status, [b"http://example.com/"], POLICY)
        assert back is not None
        assert not back.trusted


@pytest.mark.parametrize("location", OTHERS)
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("has_body", [True, False])
def test_another_origin_gets_no_body_and_no_order(
    location: bytes, status: int, has_body: bool
) -> None:
    for method in (b"POST", b"PUT", b"DELETE", b"FOO"):
        with pytest.raises(RedirectForbidden):
            following(HopRequest(method, HERE, FIELDS, has_body), status, [location], POLICY)
    with pytest.raises(RedirectForbidden):
        following(HopRequest(b"GET", HERE, FIELDS, has_body=True), status, [location], POLICY)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/übung".encode(), "http://example.com/%C3%BCbung"),
        ("d?q=ü".encode(), "http://example.com/a/d?q=%C3%BC"),
        (b"/\xfcbung", "http://example.com/%FCbung"),
        ("http://übung.example/".encode(), "http://xn--bung-zra.example/"),
        (b"../d", "http://example.com/d"),
        (b"?e", "http://example.com/a/b?e"),
        (b"", "http://example.com/a/b?c"),
        (b"#f", "http://example.com/a/b?c"),
        (b" /d#f?g \t", "http://example.com/d"),
        (b"HTTP://EXAMPLE.COM:80/d", "http://example.com/d"),
        (b"/a b", "http://example.com/a%20b"),
        (b"/a\\b/./c/../d", "http://example.com/a/b/d"),
    ],
)
def test_where_it_leads(location: bytes, url: str) -> None:
    found = following(HopRequest(b"GET", HERE), 302, [location], POLICY)
    assert found is not None
    assert found.target.url == url


@pytest.mark.parametrize(
    ("locations", "kind"),
    [
        ([b"/a", b"/b"], BadResponse),
        ([b"/a", b"/a", b"/A"], BadResponse),
        ([b"http://"], BadResponse),
        ([b"http:/d"], BadResponse),
        ([b"http://[::1/"], BadResponse),
        ([b"/\x01"], BadResponse),
        ([b"http://a..b.example/"], BadResponse),
        ([b"http://10.0.0.1/"], TargetForbidden),
        ([b"javascript:void(1)"], TargetForbidden),
    ],
)
def test_where_nothing_leads(locations: list[bytes], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        following(HopRequest(b"GET", HERE), 302, locations, POLICY)


def test_equal_doubled_places_are_one() -> None:
    found = following(HopRequest(b"GET", HERE), 302, [b"/d", b" /d"], POLICY)
    assert found is not None
    assert found.target.path == b"/d"


# --- on the wire ----------------------------------------------------------------------------------


def redirecting(status: int, to: bytes = b"/b") -> Any:
    """An origin whose /a redirects."""
    return lambda request: moved(to, WORDS[status]) if request.path == b"/a" else ok()


def file_of(tmp_path: Path) -> Any:
    path = tmp_path / "file.txt"
    path.write_bytes(b"skipped" + b"x" * 100_000)
    file = path.open("rb")
    file.seek(7)
    return file


@pytest.mark.parametrize("status", [307, 308])
@ensureDeferred
async def test_bodies_go_along_within_an_origin(status: int, tmp_path: Path) -> None:
    file, upload = file_of(tmp_path), io.BytesIO(b"upload")
    bodies: list[dict[str, Any]] = [
        {"data": b"bytes"},
        {"data": {"a": "1", "b": ["2", "3"]}},
        {"json": {"a": 1}},
        {"json": None},
        {"data": file},
        {"data": io.BytesIO(b"in memory")},
        {"files": {"f": upload}, "data": {"a": "1"}},
        {"files": [("f", ("name.txt", io.BytesIO(b"named")))]},
        {"files": {"f": ("name.txt", "text/plain", io.BytesIO(b"typed"))}},
    ]
    async with world(redirecting(status)) as here:
        for body in bodies:
            here.seen.clear()
            response = await here.client().request("POST", "http://example.com/a", **body)
            assert await response.text() == "hello"
            first, second = here.seen
            assert (first.method, second.method) == (b"POST", b"POST")
            assert (first.path, second.path) == (b"/a", b"/b")
            kinds = [request.headers.get(b"content-type", b"") for request in (first, second)]
            if "files" in body:
                assert all(kind.startswith(b"multipart/form-data") for kind in kinds)
                marks = [kind.partition(b"boundary=")[2] for kind in kinds]
                assert first.body.replace(marks[0], marks[1]) == second.body
            else:
                assert kinds[0] == kinds[1]
                assert first.body == second.body
            assert first.body
    assert second.body
    assert file.closed
    assert upload.closed


@ensureDeferred
async def test_a_file_goes_from_where_it_stands(tmp_path: Path) -> None:
    async with world(redirecting(307)) as here:
        await here.client().put("http://example.com/a", file_of(tmp_path))
        assert [request.body for request in here.seen] == [b"x" * 100_000] * 2


@ensureDeferred
async def test_a_body_that_is_a_stream_cannot_go_twice() -> None:
    for status, sent in ((307, 1), (303, 2)):
        async with world(redirecting(status)) as here:
            stream = FileBodyProducer(io.BytesIO(b"once"))
            asking = here.client().request("POST", "http://example.com/a", data=stream)
            if status == 303:
                assert (await asking).code == 200
            else:
                with pytest.raises(RedirectForbidden, match="sent again"):
                    await asking
            assert len(here.seen) == sent


@pytest.mark.parametrize("status", [301, 302, 303])
@ensureDeferred
async def test_a_post_becomes_a_get(status: int) -> None:
    async with world(redirecting(status)) as here:
        await here.client().post("http://example.com/a", {"a": 1}, headers={"X-Mine": "1"})
        second = here.seen[1]
        assert (second.method, second.body) == (b"GET", b"")
        assert not {b"content-type", b"content-length"} & second.headers.keys()
        assert second.headers[b"x-mine"] == b"1"


@pytest.mark.parametrize("status", [307, 308])
@ensureDeferred
async def test_a_body_never_goes_to_another_origin(status: int) -> None:
    async with world(redirecting(status, b"http://example.org/b")) as here:
        for method in ("POST", "PUT", "DELETE"):
            with pytest.raises(RedirectForbidden):
                await here.client().request(method, "http://example.com/a", data=b"secret")
        assert set(here.targets) == {("example.com", 80)}


@ensureDeferred
async def test_cookies_of_one_hop_are_there_at_the_next_and_nowhere_else() -> None:
    def answer(request: Request) -> bytes:
        if request.path == b"/a":
            return moved(b"/b", b"302 F", b"Set-Cookie: s=t; Path=/")
        if request.path == b"/b":
            return moved(b"http://example.org/c")
        return ok()

    async with world(answer) as here:
        response = await here.client().get(
            "http://example.com/a", cookies={"c": "d"}, auth=("user", "word")
        )
        cookies = [set(request.headers.get(b"cookie", b"").split(b"; ")) for request in here.seen]
        assert cookies == [{b"c=d"}, {b"c=d", b"s=t"}, {b""}]
        assert [b"authorization" in request.headers for request in here.seen] == [True, True, False]
        assert [one.code for one in response.history()] == [302, 302]
        assert [one.request.absoluteURI for one in response.history()] == [
            b"http://example.com/a",
            b"http://example.com/b",
        ]
        assert response.request.absoluteURI == b"http://example.org/c"
        assert response.cookies()["s"] == "t"


@ensureDeferred
async def test_twenty_are_followed_and_no_more() -> None:
    async with world(lambda request: moved(b"/%d" % (int(request.path[1:]) + 1))) as here:
        with pytest.raises(BadResponse, match="too often"):
            await here.client().get("http://example.com/0")
        assert len(here.seen) == 21

    def twenty(request: Request) -> bytes:
        number = int(request.path[1:])
        return ok() if number == 20 else moved(b"/%d" % (number + 1))

    async with world(twenty) as here:
        response = await here.client().get("http://example.com/0")
        assert await response.text() == "hello"
        assert len(response.history()) == 20


@ensureDeferred
async def test_redirects_can_be_left_alone() -> None:
    async with world(redirecting(302)) as here:
        response = await here.client().get("http://example.com/a", allow_redirects=False)
        assert response.code == 302
        assert len(here.seen) == 1


@ensureDeferred
async def test_a_redirect_with_a_long_body_leaves_nothing_open() -> None:
    def answer(request: Request) -> bytes:
        if request.path == b"/b":
            return ok()
        return b"HTTP/1.1 302 F\r\nLocation: /b\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9000

    async with world(answer) as here:
        response = await here.client().get("http://example.com/a")
        assert await response.text() == "hello"
        await here.socks.served[0].lost


@ensureDeferred
async def test_exactly_what_was_asked_for_is_asked_for() -> None:
    """No library in between spells the URL anew."""
    urls = {
        "http://example.com/?a'b=%41&&c=|": b"/?a%27b=%41&&c=|",
        "http://example.com/%7euser/x?": b"/%7euser/x?",
        "http://example.com/ä b?ö#ü": b"/%C3%A4%20b?%C3%B6",
    }
    async with world(lambda _: ok()) as here:
        for url in urls:
            await here.client().get(url)
        assert [request.path for request in here.seen] == list(urls.values())
        here.seen.clear()
        params = {"x": ["1", "2"], "y z": "ü", "n": 3}
        for url in ("http://example.com/p#f", "http://example.com/p?q", "http://example.com/p?"):
            await here.client().get(url, params=params)
        query = b"x=1&x=2&y+z=%C3%BC&n=3"
        assert [request.path for request in here.seen] == [
            b"/p?" + query,
            b"/p?q&" + query,
            b"/p?" + query,
        ]

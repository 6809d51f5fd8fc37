"""The library: whatever its callers and destinations say, nothing but our errors leaves it."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
from hypothesis import event
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from tests.client_world import Request, World, moved, ok, world
from tests.fuzz.addresses import REFERENCES, URLS
from tests.fuzz.cutting import CUTS, SPOILING, Cuts, Spoiling, cut, spoil
from tests.fuzz.messages import METHODS, mostly, orderly_responses, responses
from tests.fuzz.profile import fuzzed
from tortxd.client.http import TorHttpClient
from tortxd.errors import TortxdError

URL = "http://example.com/"
TEXT = st.text(max_size=8) | st.text("\r\n\0 \t;:/=äß\ud800☃", max_size=8)

NAMES = st.sampled_from(("X-A", "Cookie", "Host", "Content-Type", "te", "\xe4")) | TEXT


class Answering:
    """The origin's answer to each request of one example, and how it ends."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closes = True
        self.asked = 0

    def __call__(self, asked: Request) -> bytes | None:
        self.asked += 1
        if self.asked > 1:
            return ok()  # wherever a redirect led
        for piece in self.pieces:
            asked.transport.write(piece)
        if self.closes:
            asked.transport.loseConnection()
        return None


class Library:
    """A client, and the origin behind its Tor."""

    def __init__(self, here: World, answering: Answering) -> None:
        self.here = here
        self.answering = answering

    def answer(self, pieces: list[bytes], *, closes: bool) -> TorHttpClient:
        """A client whose destination answers so."""
        self.answering.pieces, self.answering.closes, self.answering.asked = pieces, closes, 0
        self.here.seen.clear()
        return self.here.client(timeout=0.3)  # over https nobody answers


@pytest_twisted.async_yield_fixture
async def library() -> AsyncIterator[Library]:
    answering = Answering()
    async with world(answering) as here:
        yield Library(here, answering)


async def outcome(asking: Any) -> Any:
    """What comes of it; a foreign error is passed on."""
    try:
        return await asking
    except TortxdError as error:
        event(error.code)
        assert "cannot be read" not in str(error)  # the net below all that is foreseen
        return error


@fuzzed(
    200,
    data=orderly_responses() | responses(),
    spoiling=st.just([]) | SPOILING,
    cuts=CUTS,
    method=st.sampled_from(("GET", "HEAD", "POST")),
    closes=st.sampled_from((True, True, True, True, False)),
)
@ensureDeferred
async def test_whatever_a_destination_answers(
    library: Library, data: bytes, spoiling: Spoiling, cuts: Cuts, method: str, closes: bool
) -> None:
    client = library.answer(cut(spoil(data, spoiling), cuts), closes=closes)
    response = await outcome(client.request(method, URL))
    if isinstance(response, TortxdError):
        return
    event(f"status {response.code // 100}")
    for reading in (response.content, response.text, response.json):
        await outcome(reading())
    assert isinstance(repr(response), str)
    response.cookies()
    response.history()
    client._ways.direct.pool.clear()


VALUES = st.binary(max_size=30).map(
    lambda value: b"".join(bytes((b,)) for b in value if b not in b"\r\n\0")
)
COOKIES = mostly(
    (b"a=b", b"a=b; Path=/", b"a=b; Domain=example.com; Secure", b"a=b; Max-Age=5"),
    (
        b"",
        b"=",
        b";;;",
        b"a=\xff\xfe",
        b"\xc3\xa4=\xc3\xb6",
        b"a=b; expires=Thu, 99 Foo 99999999999 99:99:99",
        b"a=b; Max-Age=99999999999999999999999",
        b"a=b; Domain=..; Port=x; Version=y; Path",
        b'a="b\\"; Comment="\xff',
        b"a=b; expires=Wed, 09 Nov 1999 23:12:40 +99999999999",
    ),
    3,
)
FIELDS = st.lists(
    st.tuples(st.sampled_from((b"Set-Cookie", b"Set-Cookie", b"Set-Cookie2")), COOKIES | VALUES)
    | st.tuples(
        st.just(b"Content-Type"),
        st.sampled_from(
            (
                b"application/json",
                b"text/plain; charset=utf-8",
                b"text/plain; charset=undefined",
                b"text/plain; charset=idna",
                b"text/plain; charset=rot13",
                b"text/plain; charset=utf-16",
                b"a/b; charset*=utf-8''%ff",
                b'x; charset="\xff"',
            )
        )
        | VALUES.map(lambda value: b"text/plain; charset=" + value),
    )
    | st.tuples(
        st.just(b"Content-Encoding"),
        st.sampled_from((b"gzip", b"deflate", b"br", b"zstd", b"gzip, gzip", b"x", b",")),
    )
    | st.tuples(st.just(b"Location"), REFERENCES | URLS | VALUES)
    | st.tuples(st.sampled_from((b"WWW-Authenticate", b"X-A", b"Link", b"Age")), VALUES),
    max_size=5,
)
BODIES = st.sampled_from(
    (b"", b"{}", b"\xef\xbb\xbf{}", b"\xff\xfe", gzip.compress(b"{}"), gzip.compress(b"{}")[:-1])
) | st.binary(max_size=20)


@fuzzed(
    250,
    status=st.sampled_from((200, 200, 204, 301, 302, 303, 304, 307, 308, 401)),
    fields=FIELDS,
    body=BODIES,
    method=st.sampled_from(("GET", "HEAD", "POST", "PUT")),
    data=st.none() | st.just(b"data"),
)
@ensureDeferred
async def test_whatever_headers_and_bodies_a_destination_sends(
    library: Library,
    status: int,
    fields: list[tuple[bytes, bytes]],
    body: bytes,
    method: str,
    data: bytes | None,
) -> None:
    lines = [b"%b: %b" % field for field in fields]
    answer = ok(body, *lines).replace(b"200 OK", b"%d X" % status, 1)
    client = library.answer([answer], closes=True)
    response = await outcome(client.request(method, URL, data=data))
    if not isinstance(response, TortxdError):
        event(f"status {response.code}")
        for reading in (response.content, response.text, response.json):
            await outcome(reading())
        repr(response)
        response.cookies()


@fuzzed(250, location=REFERENCES | URLS | st.binary(max_size=20), spoiling=SPOILING)
@ensureDeferred
async def test_wherever_a_redirect_leads(
    library: Library, location: bytes, spoiling: Spoiling
) -> None:
    location = spoil(location, spoiling).replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    client = library.answer([moved(location)], closes=True)
    await outcome(client.get(URL))


@fuzzed(
    300,
    method=st.sampled_from(("GET", "POST"))
    | METHODS.map(lambda name: name.decode("latin-1"))
    | TEXT,
    url=st.just(URL)
    | st.just(URL)
    | URLS.map(lambda url: url.decode("utf-8", "surrogateescape"))
    | URLS
    | TEXT,
    options=st.fixed_dictionaries(
        {},
        optional={
            "headers": st.dictionaries(NAMES, TEXT | st.lists(TEXT, max_size=2), max_size=2),
            "params": st.dictionaries(TEXT, TEXT | st.integers() | st.binary(max_size=4))
            | st.lists(st.tuples(TEXT, st.lists(TEXT, max_size=2)), max_size=2),
            "cookies": st.dictionaries(TEXT, TEXT, max_size=2),
            "auth": st.tuples(TEXT, TEXT),
            "timeout": st.sampled_from((None, 0, -1, 0.1, 1e300, float("inf"), float("nan"))),
        },
    ),
    body=st.fixed_dictionaries({})
    | st.fixed_dictionaries({"json": st.recursive(TEXT | st.floats(), st.lists, max_leaves=4)})
    | st.fixed_dictionaries({"data": st.binary(max_size=9) | st.dictionaries(TEXT, TEXT)})
    | st.fixed_dictionaries({"files": st.dictionaries(TEXT, st.tuples(TEXT, st.just(b"x")))}),
)
@ensureDeferred
async def test_whatever_a_caller_asks(
    library: Library, method: str, url: str | bytes, options: dict[str, Any], body: dict[str, Any]
) -> None:
    client = library.answer([ok()], closes=True)
    asking: Any = client.request
    response = await outcome(asking(method, url, **options, **body))
    if not isinstance(response, TortxdError):
        event("answered")

"""Streams of requests to a gateway, each of which asks the origin for its own number."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import strategies as st

from tests.fuzz.messages import mostly

ORIGIN = "http://origin.test.example"
_EVIL = (
    b"GET /proxy?url=http%3A%2F%2Forigin.test.example%2Fecho%3Fid%3Devil HTTP/1.1\r\n"
    b"Host: localhost\r\n\r\n"
)
_BODIES = st.sampled_from(
    (b"x", b"hello", _EVIL, b"0\r\n\r\n" + _EVIL, b"\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n")
)
_METHODS = mostly(
    (b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS"),
    (b"QUERY", b"BREW", b"TRACE", b"get"),
    16,
)
_EXTRA = st.lists(
    mostly(
        (b"X-A: b", b"Accept: */*", b"Expect: 100-continue", b"X-B:\t\xe4 c \t"),
        (
            b"Connection: close",
            b"Connection: keep-alive, x-a",
            b"Connection: upgrade\r\nUpgrade: h2c",
            b"Connection: upgrade\r\nUpgrade: websocket",
            b"Connection: upgrade\r\nUpgrade: other",
            b"Host: localhost",
            b"Host: evil.example",
            b"Origin: null",
            b"Proxy-Authorization: Basic dG9yLWlzbzpr",
            b"Tor-Stream-Isolation: k",
            b"Tortxd-Timeout: x",
            b"TE: trailers, chunked",
            b"Trailer: X",
            b"Expect: 200-ok",
            b"X: y\r\n folded",
            b"X : y",
            b"X: \x00",
        ),
        12,
    ),
    max_size=2,
)
_FRAMING = st.sampled_from(("none", "length", "chunked", "length", "chunked"))
_ODD_FRAMING = st.sampled_from(
    ("both", "twice", "short", "long", "gzip", "identity", "endless", "broken")
)


def _chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]) + b"0\r\n\r\n"


def _framed(how: str, body: bytes) -> tuple[list[bytes], bytes]:
    """Fields and bytes of a body."""
    length = b"Content-Length: %d" % len(body)
    chunked = b"Transfer-Encoding: chunked"
    wire = _chunked(body, 7)
    return {
        "none": ([], b""),
        "length": ([length], body),
        "chunked": ([chunked], wire),
        "both": ([chunked, length], wire),
        "twice": ([length, length], body),
        "short": ([b"Content-Length: %d" % (len(body) - 1)], body),
        "long": ([b"Content-Length: %d" % (len(body) + 9)], body),
        "gzip": ([b"Transfer-Encoding: gzip, chunked"], wire),
        "identity": ([b"Transfer-Encoding: identity"], body),
        "endless": ([chunked], wire[:-5]),
        "broken": ([chunked], wire[:-5] + b"zz\r\n"),
    }[how]


@st.composite
def _request(draw: st.DrawFn, number: int) -> bytes:
    path = f"/echo?id={number}"
    url = f"{ORIGIN}{path}"
    way = draw(
        mostly(
            (f"/proxy?url={quote(url, safe='')}".encode(), url.encode()),
            (
                b"/health",
                b"/nowhere",
                b"*",
                b"/proxy",
                b"/proxy?url=http://127.0.0.1/",
                b"http://localhost/",
                b"origin.test.example:80",
            ),
            14,
        )
    )
    method = draw(_METHODS)
    framing = draw(_ODD_FRAMING if draw(st.integers(0, 15)) == 15 else _FRAMING)
    fields, body = _framed(framing, draw(_BODIES))
    version = draw(mostly((b"HTTP/1.1",), (b"HTTP/1.0", b"HTTP/2.0"), 40))
    line = method + b" " + way + b" " + version
    lines = [line, b"Host: localhost", *fields, *draw(_EXTRA)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """What one client sends."""
    stream = b"".join([draw(_request(number)) for number in range(draw(st.integers(1, 4)))])
    if draw(st.integers(0, 5)) == 5:
        stream += b"CONNECT origin.test.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        stream += draw(
            st.sampled_from(
                (b"", b"GET /echo?id=tunnel HTTP/1.1\r\nHost: h\r\n\r\n", _EVIL, b"\x16\x03\x01")
            )
        )
    return stream

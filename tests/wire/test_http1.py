"""HTTP/1.1 heads and framing, fed whole and byte by byte."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import BadRequest, BadResponse, NotServed, TooLarge, TortxdError
from tortxd.wire.http1 import (
    LAST_CHUNK,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_INTERIM,
    MAX_RESPONSE_FIELDS,
    MAX_RESPONSE_HEAD,
    OF_REQUEST,
    OF_RESPONSE,
    BodyReader,
    ChunkedBody,
    CloseBody,
    LengthBody,
    RequestHead,
    RequestReader,
    ResponseHead,
    ResponseReader,
    chunk,
    head_bytes,
    known_head,
)


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def read_request(data: bytes, size: int = 1 << 20) -> tuple[RequestHead, RequestReader]:
    reader = RequestReader()
    head = None
    parts = pieces(data, size)
    while head is None:
        head = reader.feed(parts.pop(0))
    reader.rest += b"".join(parts)
    return head, reader


def read_response(
    data: bytes, method: bytes = b"GET", size: int = 1 << 20
) -> tuple[ResponseHead, ResponseReader]:
    reader = ResponseReader(method)
    head = None
    parts = pieces(data, size)
    while head is None:
        head = reader.feed(parts.pop(0))
    reader.rest += b"".join(parts)
    return head, reader


def read_body(body: BodyReader, data: bytes, size: int = 1 << 20) -> bytes:
    return b"".join([body.feed(part) for part in pieces(data, size)])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_a_request_is_read_however_it_is_cut(size: int) -> None:
    data = b"\r\nPOST /a?b=c HTTP/1.1\r\nHost: h \r\nX:\t y\t\r\nContent-Length: 3\r\n\r\nabcGET"
    head, reader = read_request(data, size)
    assert (head.method, head.target, head.minor) == (b"POST", b"/a?b=c", 1)
    assert head.headers == [(b"Host", b"h"), (b"X", b"y"), (b"Content-Length", b"3")]
    assert head.fields[b"x"] == b"y"
    assert head.hosts == (b"h",)
    assert head.keep_alive
    body = reader.body(head)
    assert read_body(body, reader.rest, size).startswith(b"abc")
    assert body.done


def test_what_follows_a_request_is_kept() -> None:
    head, reader = read_request(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\n")
    assert not head.has_body
    assert reader.rest == b"GET /next HTTP/1.1\r\n"
    head, reader = read_request(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nabGET /")
    body = reader.body(head)
    assert body.feed(reader.rest) == b"ab"
    assert body.rest == b"GET /"


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("behind", [b"GET / HTTP/1.1\r\n", b"2\r\nxx\r\n", b"\x00\x00", b"x"])
def test_what_follows_a_chunked_body_is_kept(behind: bytes, size: int) -> None:
    head, reader = read_request(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = reader.body(head)
    assert read_body(body, b"2\r\nab\r\n0\r\n\r\n" + behind, size) == b"ab"
    assert body.done
    assert body.rest == behind


REFUSED = [
    (b"GET / HTTP/1.1\nHost: h\n\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
     BadRequest, 400),
    (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", TortxdError, (400, 501)),
    (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", NotServed, 501),
    (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", NotServed, 501),
    (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
     NotServed, 501),
    (b"GET / HTTP/1.1\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
     TortxdError, (400, 501)),
    (b"OPTIONS / RTSP/1.0\r\n\r\n", TortxdError, (400, 501)),
    (b"SOURCE / ICE/1.0\r\n\r\n", TortxdError, (400, 501)),
    (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/2.0\r\n\r\n", BadRequest, 400),
    (b"GET /\r\n\r\n", BadRequest, 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BadRequest, 400),
    (b"GET /a b HTTP/1.1\r\n\r\n", BadRequest, 400),
    (b"GET  / HTTP/1.1\r\n\r\n", BadRequest, 400),
    (b"GET /  HTTP/1.1\r\n\r\n", BadRequest, 400),
    (b"\r\nGET   / HTTP/1.1\r\n\r\n", BadRequest, 400),
    (b"FR(OB / HTTP/1.1\r\n\r\n", BadRequest, 400),
    (b"GET /a\x0bb HTTP/1.1\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\rX: y\r\n\r\n", BadRequest, 400),
    (b"GET / HTTP/1.1\r\r\n\r\n", BadRequest, 400),
    (b"SSH-2.0-OpenSSH_9.2\r\n", BadRequest, 400),
    (b"GET\t/ HTTP/1.1\r\n\r\n", BadRequest, 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", BadRequest, 400),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", TooLarge, 414),
    (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n", TooLarge, 414),
    (b"GET /" + b"a" * 80_000, TooLarge, 414),
    (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n", TooLarge, 431),
    (b"GET / HTTP/1.1\r\nA: b\r\nB: " + b"b" * MAX_HEAD, TooLarge, 431),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(("data", "error", "status"), REFUSED)
def test_malformed_requests_are_refused(
    data: bytes, error: type[TortxdError], status: int | tuple[int, ...], size: int
) -> None:
    if size == 1 and len(data) > 10_000:
        size = 1000
    reader = RequestReader()
    with pytest.raises(error) as caught:
        for part in pieces(data, size):
            reader.feed(part)
    assert caught.value.status in (status if isinstance(status, tuple) else (status,))


def test_upgrade_and_connect_are_read_as_heads() -> None:
    head, _ = read_request(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n")
    assert head.target == b"a.example:443"
    data = b"POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab"
    head, reader = read_request(data)
    assert reader.body(head).feed(reader.rest) == b"ab"


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: x, Close\r\n", False),
        (b"1.1", b"Connection: x\r\nConnection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_persistence(version: bytes, connection: bytes, kept: bool) -> None:
    head, _ = read_request(b"GET / HTTP/%b\r\nHost: h\r\n%b\r\n" % (version, connection))
    assert head.keep_alive is kept


@given(st.lists(st.binary(min_size=1, max_size=50)), st.integers(1, 80))
def test_chunked_bodies_come_out_as_they_went_in(parts: list[bytes], size: int) -> None:
    head, reader = read_request(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = reader.body(head)
    wire = b"".join([chunk(part) for part in parts]) + LAST_CHUNK
    assert read_body(body, wire, size) == b"".join(parts)
    assert body.done
    assert not body.rest


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "wire",
    [
        b"zz\r\n",
        b" 2\r\nab\r\n",
        b"2 \r\nab\r\n",
        b"2\nab\n",
        b"2\r\nab\n",
        b"2\r\nabc\r\n",
        b"2 ;x=y\r\nab\r\n",
        b"2; x=y\r\nab\r\n",
        b"2;x=\ry\r\nab\r\n",
        b'2;x="y\r\nab\r\n',
        b"2\r\nab\r\n0\r\nX : y\r\n\r\n",
        b"2\r\nab\r\n0\r\n X: y\r\n\r\n",
        b"5\r\nabcdefg",
        b"ffffffffffffffffff\r\n",
        b"1;" + b"x" * (MAX_HEAD + 1),
        b"0\r\nX: " + b"x" * (MAX_HEAD + 1),
        b"0\r\n" + b"X: y\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    ],
)
def test_malformed_chunks_are_refused(wire: bytes, size: int) -> None:
    head, reader = read_request(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = reader.body(head)
    with pytest.raises(BadRequest):
        read_body(body, wire, size)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("extension", [b";a", b";a=b", b';a="b c\\"";d'])
def test_chunk_extensions_are_dropped(extension: bytes, size: int) -> None:
    body = ChunkedBody(OF_REQUEST)
    assert read_body(body, b"2%b\r\nab\r\n0%b\r\n\r\n" % (extension, extension), size) == b"ab"
    assert body.done


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "wire",
    [
        b"5  \r\nhello\r\n0  \r\n\r\n",
        b"5 ; a=b\r\nhello\r\n0\r\n\r\n",
        b"5; a = b, what ever\r\nhello\r\n0\r\n\r\n",
        b"5; a=b\r\nhello\r\n0\r\n\r\n",
        b"5;a = b\r\nhello\r\n0;c\t=\td\r\n\r\n",
        b'5 ;a="x;y\\"" ; b \r\nhello\r\n0\t;\tc\r\n\r\n',
        b"5\nhello\n0\n\n",
        b"00005\r\nhello\r\n0\r\n\r\n",
        b"2\r\nhe\r\n3\r\nllo\r\n000\r\nContent-Length: 7\r\nno field\r\n\r\n",
    ],
)
def test_chunks_of_destinations_are_read_leniently(wire: bytes, size: int) -> None:
    body = ChunkedBody(OF_RESPONSE)
    assert read_body(body, wire + b"HTTP", size) == b"hello"
    assert body.done
    assert body.rest == b"HTTP"


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "wire",
    [b"5\r\nhello!\r\n", b"x\r\n", b"-5\r\n", b"5 5\r\n", b"5\x00\r\n", b"\r\n5\r\n", b"5\rx"],
)
def test_chunks_that_are_none_are_refused(wire: bytes, size: int) -> None:
    with pytest.raises(BadResponse):
        read_body(ChunkedBody(OF_RESPONSE), wire + b"0\r\n\r\n", size)


FRAMING_TRAILERS = [
    b"X-Sum: 5",
    b"Content-Length: 99",
    b"Content-Length: 1\r\nContent-Length: 2",
    b"Transfer-Encoding: gzip",
    b"Host: evil.example",
    b"Connection: X-Sum",
    b"Trailer: Content-Length",
    b"Expect: 100-continue",
    b"Upgrade: websocket",
]


@pytest.mark.parametrize("trailer", FRAMING_TRAILERS)
def test_trailers_are_dropped(trailer: bytes) -> None:
    """Whatever they are called, either way: what frames a message stands before it."""
    head, reader = read_request(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    fields = dict(head.fields)
    wire = b"1\r\na\r\n0\r\n" + trailer + b"\r\n\r\nGET"
    for body in (reader.body(head), ChunkedBody(OF_RESPONSE)):
        assert body.feed(wire) == b"a"
        assert (body.done, body.rest) == (True, b"GET")
    assert head.fields == fields


# --- responses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [b"LIST", b"VERSION-CONTROL", b"get", b"Patch", b"!#$%&'*+.^_`|~9"]
)
@pytest.mark.parametrize("size", [1, 1000])
def test_any_token_is_a_method(method: bytes, size: int) -> None:
    head, reader = read_request(
        b"%b /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab" % method, size
    )
    assert (head.method, head.target) == (method, b"/a")
    assert read_body(reader.body(head), reader.rest) == b"ab"


@pytest.mark.parametrize("size", [1, 1000])
def test_a_target_may_hold_utf_8(size: int) -> None:
    target = "http://bücher.example/übung?ä#\u2603".encode()
    head, _ = read_request(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target, size)
    assert head.target == target


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("behind", [b"/ HTTP/1.1\r\n", b"/\r\n", b"/ HTTP/1.1\r\nX y\r\n"])
def test_a_malformed_head_request_is_known_for_one(behind: bytes, size: int) -> None:
    reader = RequestReader()
    with contextlib.suppress(BadRequest):
        for part in pieces(b"HEAD " + behind, size):
            reader.feed(part)
    assert reader.for_head


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_response_is_read_past_interim_ones(size: int) -> None:
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nok"
    )
    head, reader = read_response(data, size=size)
    assert (head.status, head.reason, head.length) == (200, b"Fine", 2)
    assert head.headers == [(b"Content-Length", b"2")]
    assert [(one.status, one.headers) for one in reader.interim] == [
        (100, []),
        (103, [(b"Link", b"x")]),
    ]
    body = reader.body(head)
    assert read_body(body, reader.rest) == b"ok"
    assert body.done


LENIENT = [
    (b"\r\n\n\rHTTP/1.1 200 OK\r\nA: b\r\n\r\n", 200, [(b"A", b"b")], None),
    (b"HTTP/1.1 100 x\r\n\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n", 200, [(b"A", b"b")], None),
    (b"HTTP/1.1 200 OK\nA: b\nC:d\n\n", 200, [(b"A", b"b"), (b"C", b"d")], None),
    (b"HTTP/1.1 200 OK\r\nA: b\n\r\n", 200, [(b"A", b"b")], None),
    (b"HTTP/1.1 200\r\n\r\n", 200, [], None),
    (b"HTTP/1.1 600 x\r\n\r\n", 600, [], None),
    (b"HTTP/1.1 999 Request denied\r\n\r\n", 999, [], None),
    (b"HTTP/1.1 200 x\r\nA : b\r\nC\t :d \t\r\nE:\r\n\r\n", 200,
     [(b"A", b"b"), (b"C", b"d"), (b"E", b"")], None),
    (b"HTTP/1.1 200 x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", 200, None, 2),
    (b"HTTP/1.1 200 x\r\nContent-Length: 2, 2\r\nContent-Length: 02\r\n\r\n", 200, None, 2),
    (b"HTTP/1.1 200 x\r\nContent-Length : 2\r\n\r\n", 200, None, 2),
    (b"HTTP/1.1 200 x\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n", 200, None, 2),
    (b"HTTP/1.1 200 x\r\nTransfer-Encoding: Identity\r\n\r\n", 200, None, None),
    (b"HTTP/1.0 200 x\r\nTransfer-Encoding: identity\r\n\r\n", 200, None, None),
    (b"HTTP/1.1 200 x\r\n" + b"A: b\r\n" * 1000 + b"\r\n", 200, [(b"A", b"b")] * 1000, None),
    (b"HTTP/1.1 200 x\r\nA: " + b"b" * 200_000 + b"\r\n\r\n", 200, [(b"A", b"b" * 200_000)], None),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status", "headers", "length"), LENIENT)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_has_one_meaning_is_read(
    data: bytes,
    status: int,
    headers: list[tuple[bytes, bytes]] | None,
    length: int | None,
    size: int,
) -> None:
    read, _ = read_response(data, size=997 if size == 1 and len(data) > 10_000 else size)
    assert (read.status, read.length, read.declared_length) == (status, length, length)
    assert headers is None or read.headers == headers


@given(st.integers(0, 400), st.sampled_from([b" ", b"\t", b" x", b"x ", b"\x80 "]))
def test_a_hostile_field_is_read_in_one_pass(count: int, blank: bytes) -> None:
    """What could be tried in many ways is not: 200 kB of it take no longer than of anything."""
    line = b"A:" + blank * (count * 400) + b"\x00\r\n\r\n"
    with pytest.raises(BadResponse):
        ResponseReader(b"GET").feed(b"HTTP/1.1 200 " + line)
    with pytest.raises(BadResponse):
        ResponseReader(b"GET").feed(b"HTTP/1.1 200 OK\r\n" + line)


@pytest.mark.parametrize("data", [b"H", b"\r\nHTT", b"HTTP/1."])
def test_what_may_become_a_response_is_waited_for(data: bytes) -> None:
    reader = ResponseReader(b"GET")
    assert reader.feed(data) is None
    assert reader.is_http is (data == b"HTTP/1.")


def test_interim_responses_are_counted_though_they_are_taken_out() -> None:
    reader = ResponseReader(b"GET")
    with pytest.raises(BadResponse):
        for _ in range(MAX_INTERIM + 1):
            reader.feed(b"HTTP/1.1 102 x\r\n\r\n")
            reader.interim.clear()


def test_what_has_begun_as_http_stays_so() -> None:
    reader = ResponseReader(b"GET")
    assert reader.feed(b"HTTP/1.1 103 x\r\n\r\n") is None
    with pytest.raises(BadResponse):
        reader.feed(b"<html>")
    assert reader.is_http


@pytest.mark.parametrize("data", [b"<html>", b"HTTPS", b"\x00", b"{", b"\r\n5\r\nhello"])
def test_what_is_no_http_is_known_at_its_first_bytes(data: bytes) -> None:
    reader = ResponseReader(b"GET")
    with pytest.raises(BadResponse):
        reader.feed(data)
    assert not reader.is_http


FRAMING = [
    (b"GET", b"200 OK\r\nContent-Length: 5", 5, False, False, True),
    (b"GET", b"200 OK\r\nTransfer-Encoding: chunked", None, True, False, True),
    (b"GET", b"200 OK", None, False, True, False),
    (b"GET", b"200 OK\r\nConnection: close\r\nContent-Length: 5", 5, False, False, False),
    (b"HEAD", b"200 OK\r\nContent-Length: 5", 0, False, False, True),
    (b"HEAD", b"200 OK\r\nTransfer-Encoding: chunked", 0, False, False, True),
    (b"HEAD", b"200 OK", 0, False, False, True),
    (b"GET", b"204 No Content", 0, False, False, True),
    (b"GET", b"304 Not Modified\r\nContent-Length: 9", 0, False, False, True),
]


def test_a_length_is_made_anew() -> None:
    head, _ = read_response(b"HTTP/1.1 200 OK\r\nContent-Length: 005\r\n\r\n", b"HEAD")
    assert head.declared_length == 5
    head, _ = read_response(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
    assert head.declared_length is None


@pytest.mark.parametrize("size", [1, 1000])
def test_an_upgrade_does_not_change_how_a_chunked_body_is_read(size: int) -> None:
    data = (
        b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    head, reader = read_request(data, size)
    body = reader.body(head)
    assert read_body(body, reader.rest, size) == b"hello"
    assert body.done


@pytest.mark.parametrize(("method", "head", "length", "chunked", "close", "kept"), FRAMING)
def test_how_a_response_is_framed(
    method: bytes, head: bytes, length: int | None, chunked: bool, close: bool, kept: bool
) -> None:
    read, reader = read_response(b"HTTP/1.1 " + head + b"\r\n\r\n", method)
    assert read.length == length
    assert read.chunked is chunked
    assert read.until_close is close
    assert read.keep_alive is kept
    assert reader.body(read).done is (length == 0)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 099 x\r\n\r\n",
        b"HTTP/1.1 2000 x\r\n\r\n",
        b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 x\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.0 200 x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 a\x00b\r\n\r\n",
        b"HTTP/1.1 200 x\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 x\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 x\r\nContent-Length: 1,\r\n\r\n",
        b"HTTP/1.1 200 x\r\nContent-Length: 9999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 x\r\n A: b\r\n\r\n",
        b"HTTP/1.1 200 x\r\nA\r\n\r\n",
        b"HTTP/1.1 200 x\r\nA: b\rC: d\r\n\r\n",
        b"HTTP/1.1 200 x\r\nA: b\x7f\r\n\r\n",
        b"HTTP/1.1 200 x\r\nA\x00: b\r\n\r\n",
        b"HTTP/1.1 200 x\r\n: b\r\n\r\n",
        b"HTTP/1.1 200 x\r\nA: " + b"b" * MAX_RESPONSE_HEAD,
        b"HTTP/1.1 200 x\r\n" + b"A: b\r\n" * (MAX_RESPONSE_FIELDS + 1) + b"\r\n",
        b"HTTP/1.1 102 x\r\n\r\n" * (MAX_INTERIM + 1),
    ],
)
@pytest.mark.parametrize("size", [997, 1 << 20])
def test_malformed_responses_are_refused(data: bytes, size: int) -> None:
    reader = ResponseReader(b"GET")
    with pytest.raises(BadResponse):
        for part in pieces(data, size):
            reader.feed(part)


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_bytes_give_a_head_or_one_of_our_errors(data: bytes, size: int) -> None:
    for reader in (RequestReader(), ResponseReader(b"GET")):
        try:
            for part in pieces(data, size):
                if reader.feed(part) is not None:
                    break
        except TortxdError as error:
            assert error.status in (400, 414, 431, 501, 502)


def test_head_bytes() -> None:
    assert head_bytes(b"GET / HTTP/1.1", [(b"A", b"b")]) == b"GET / HTTP/1.1\r\nA: b\r\n\r\n"
    assert head_bytes(b"GET / HTTP/1.1", []) == b"GET / HTTP/1.1\r\n\r\n"


def test_a_header_section_that_comes_again_is_known() -> None:
    section = b" HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n"
    one = known_head(b"GET /a" + section)
    two = known_head(b"HEAD http://a.example/b" + section)
    assert one is not None
    assert two is not None
    assert one.section is two.section is not None
    assert (one.method, one.target) == (b"GET", b"/a")
    assert (two.method, two.target) == (b"HEAD", b"http://a.example/b")
    assert one.headers == two.headers == [(b"Host", b"h"), (b"Accept", b"*/*")]


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 3000 + b"\r\n\r\n",
        b"GET /|a HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
def test_heads_that_need_a_closer_look(data: bytes) -> None:
    assert known_head(data) is None
    assert RequestReader().feed(data) is not None


# --- what is not HTTP at all ----------------------------------------------------------------------

ALERT = bytes.fromhex("15030100020228")  # handshake_failure (RFC 8446, section 6)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_an_alert_of_tls_is_known_for_one(size: int) -> None:
    reader = ResponseReader(b"GET")
    with pytest.raises(BadResponse, match=r"speaks TLS on this port.*https:// might be meant"):
        for at in range(0, len(ALERT), size):
            reader.feed(ALERT[at : at + size])


@pytest.mark.parametrize("data", [b"\x15\x02\x00", b"\x16\x03\x01", b"SSH-2.0-x\r\n", b"\x00"])
def test_other_things_are_not_taken_for_one(data: bytes) -> None:
    with pytest.raises(BadResponse) as caught:
        ResponseReader(b"GET").feed(data)
    assert str(caught.value) == BadResponse.sentence


def test_what_follows_a_head_is_kept_until_it_is_taken() -> None:
    reader = ResponseReader(b"GET")
    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(60_000)) is not None
    assert len(reader.take_rest()) == 60_000
    assert not [it for it in vars(reader).values() if isinstance(it, bytes | bytearray) and it[3:]]


def test_bytes_of_a_body_can_go_another_way() -> None:
    body = LengthBody(10)
    assert body.feed(b"abc") == b"abc"
    assert body.unframed == 7
    body.skip(5)
    assert body.unframed == 2
    assert (body.feed(b"ijk"), body.done, body.rest) == (b"ij", True, b"k")
    assert CloseBody().unframed > 1 << 60
    assert ChunkedBody(OF_RESPONSE).unframed == 0

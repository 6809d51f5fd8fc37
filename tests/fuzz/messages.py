"""HTTP/1.1 messages as an attacker writes them: nearly right."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

Bytes = st.SearchStrategy[bytes]


def mostly(usual: Sequence[bytes], odd: Sequence[bytes], share: int = 24) -> Bytes:
    """One of the usual ones, and in one case of ``share`` an odd one."""
    return st.integers(1, share).flatmap(lambda n: st.sampled_from(odd if n == share else usual))


METHODS = mostly(
    (b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT"),
    (
        b"get",
        b"TRACE",
        b"PRI",
        b"SOURCE",
        b"M-SEARCH",
        b"QUERY",
        b"G\x00T",
        b"",
        b"A" * 40,
        b"\xff",
    ),
)
TARGETS = mostly(
    (b"/", b"/a?b=c", b"*", b"http://a.example/", b"a.example:443", b"/%zz", b"//x/../y"),
    (
        b"",
        b"/\xc3\xa4",
        b"/a b",
        b"/a#f",
        b"/\x7f",
        b"\\",
        b"/a\tb",
        b'/<>"{|}^`',
        b"http://a@b.example:80/x?y#z",
        b"?",
        b"a",
        b"http:",
        b"/?a?b#c#d",
        b"[::1]:443",
    ),
)
VERSIONS = mostly(
    (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"),
    (
        b"HTTP/2.0",
        b"HTTP/0.9",
        b"HTTP/1.2",
        b"HTTP/1.1 ",
        b"http/1.1",
        b"HTTP/01.1",
        b"HTTP/1.10",
        b"HTTP/11",
        b"",
        b"RTSP/1.0",
        b"ICE/1.0",
        b"HTTP/1.1\t",
    ),
)
ENDS = mostly((b"\r\n",), (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\x0b\r\n", b""), 70)
_NAMES = mostly(
    (b"Host", b"X-A", b"Accept", b"Connection", b"Upgrade", b"Expect", b"Cookie", b"hOSt", b"a"),
    (b"", b"X A", b"X\tA", b"X\x00", b"\xe4", b"(x)", b"X@", b"'", b"X;", b"\x0bX", b"X\xc2\xa0"),
)
_COLONS = mostly(
    (b":", b": ", b":\t ", b":  "), (b" :", b"\t:", b"", b"::", b" ", b":\x0b", b":\r\n ")
)
_VALUES = mostly(
    (
        b"",
        b"x",
        b"localhost",
        b"a.example",
        b"close",
        b"keep-alive",
        b"upgrade, x",
        b"websocket",
        b"h2c",
        b"100-continue",
        b"a  b\tc",
        b"\xe4\xff",
        b'"quoted, \\" x"',
        b"x \t",
    ),
    (
        b"\x00",
        b"a\x00b",
        b"a\rb",
        b"a\nb",
        b"\x7f",
        b"a\r\n b",
        b"\x01",
        b"\x0b",
        b"close\x0b",
        b"\x85",
    ),
)
_FRAMING = st.sampled_from(
    (
        b"Content-Length: 0",
        b"Content-Length: 5",
        b"Content-Length: 37",
        b"content-length:5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked",
        b"transfer-ENCODING:\tChunked ",
    )
)
_ODD_FRAMING = st.sampled_from(
    (
        b"Content-Length: +5",
        b"Content-Length: 5,5",
        b"Content-Length: 5 5",
        b"Content-Length: -1",
        b"Content-Length: 0x5",
        b"Content-Length: 05",
        b"Content-Length: 5\x0b",
        b"Content-Length:",
        b"Content-Length: \xb2",
        b"Content-Length: 1_0",
        b"Content-Length: 18446744073709551616",
        b"Content-Length : 5",
        b" Content-Length: 5",
        b"Content_Length: 5",
        b"Content-Length\x00: 5",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked,",
        b"Transfer-Encoding: ,chunked",
        b"Transfer-Encoding: chunked;x=1",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked\x0b",
        b'Transfer-Encoding: "chunked"',
        b"Transfer-Encoding : chunked",
        b" Transfer-Encoding: chunked",
        b"Transfer-Encoding:\x0bchunked",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding: chun\r\n ked",
        b"Transfer-Encoding\r\n: chunked",
        b"Transfer_Encoding: chunked",
        b"Transfer-Encoding:",
        b"TE: chunked",
        b"X: y\rTransfer-Encoding: chunked",
        b"X: y\nContent-Length: 5",
    )
)
FRAMINGS: st.SearchStrategy[list[bytes]] = st.one_of(
    st.just([]),
    st.lists(_FRAMING, min_size=1, max_size=1),
    st.lists(_FRAMING, min_size=1, max_size=1),
    st.lists(_ODD_FRAMING | _FRAMING, min_size=1, max_size=2),
)
_SIZES = mostly(
    (b"0", b"1", b"5", b"00005", b"a", b"A"),
    (
        b"",
        b"-1",
        b"0x5",
        b"+5",
        b" 5",
        b"5 ",
        b"g",
        b"\xb2",
        b"ffffffffffffffff",
        b"1" * 25,
        b"5\t",
    ),
)
_EXTENSIONS = mostly(
    (b"", b"", b";x", b";x=y", b';x="y"'),
    (b";", b";=", b"; x", b';x="', b";x=\r", b";x\n", b";\x00", b" ;x", b'; x = "a\\"\r\n"', b"x"),
)
_DATA = st.sampled_from(
    (b"", b"a", b"hello", b"0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n", b"1234567890")
)


@st.composite
def chunked_bodies(draw: st.DrawFn) -> bytes:
    """A chunked body, with or without its end, or nearly one."""
    wire = b""
    for data in draw(st.lists(_DATA, max_size=3)):
        size = draw(st.one_of(st.just(b"%x" % len(data)), _SIZES)) if data else draw(_SIZES)
        wire += size + draw(_EXTENSIONS) + draw(ENDS) + data + draw(ENDS)
    if draw(st.booleans()) or draw(st.booleans()):
        wire += draw(mostly((b"0", b"00"), (b"0x0", b"-0", b"0 ", b""))) + draw(_EXTENSIONS)
        wire += draw(ENDS)
        for name in draw(st.lists(_NAMES, max_size=2)):
            wire += name + draw(_COLONS) + draw(_VALUES) + draw(ENDS)
        wire += draw(ENDS)
    return wire


_BLANKS = st.sampled_from((b"", b"", b" ", b"\t", b"   ", b" \t "))
_TRAILERS = st.sampled_from(
    (
        b"Content-Length: 99",
        b"Transfer-Encoding: chunked",
        b"Host: evil.example",
        b"Connection: close",
        b"Trailer: Host",
        b"X-Sum: 5",
    )
)


@st.composite
def padded_chunks(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A chunked body with blanks wherever RFC 9112 (section 7.1.1) has readers bear with them, and
    trailers named like fields that frame a message; and what it says."""
    content = draw(st.lists(_DATA.filter(bool), max_size=3))
    wire = b""
    for data in (*content, b""):
        wire += draw(st.sampled_from((b"%x", b"%X", b"%04x"))) % len(data)
        for name, value in draw(
            st.lists(
                st.tuples(
                    st.sampled_from((b"a", b"x-y", b"!")),
                    st.sampled_from((None, b"b", b"0", b'""', b'"x;y, \\" =z"')),
                ),
                max_size=2,
            )
        ):
            wire += draw(_BLANKS) + b";" + draw(_BLANKS) + name
            if value is not None:
                wire += draw(_BLANKS) + b"=" + draw(_BLANKS) + value
        wire += draw(_BLANKS) + b"\r\n"
        wire += data + b"\r\n" if data else b""
    for trailer in draw(st.lists(_TRAILERS, max_size=2, unique=True)):
        wire += trailer + b"\r\n"
    return wire + b"\r\n", b"".join(content)


BODIES = st.one_of(
    st.just(b""),
    st.sampled_from((b"hello", b"GET /evil HTTP/1.1\r\nHost: localhost\r\n\r\n")),
    chunked_bodies(),
)


@st.composite
def _fields(draw: st.DrawFn, always: Sequence[bytes]) -> bytes:
    lines = list(always)
    for _ in range(draw(st.integers(0, 3))):
        lines.append(draw(_NAMES) + draw(_COLONS) + draw(_VALUES))
    lines += draw(FRAMINGS)
    return b"".join([line + draw(ENDS) for line in draw(st.permutations(lines))])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, and perhaps something behind it."""
    gap = mostly((b" ",), (b"  ", b"\t", b"", b"\x0b", b"\r\n "), 20)
    return b"".join(
        (
            draw(mostly((b"",), (b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\r"), 12)),
            draw(METHODS) + draw(gap) + draw(TARGETS) + draw(gap) + draw(VERSIONS) + draw(ENDS),
            draw(_fields([draw(mostly((b"Host: h",), (b"X: y", b"Host:"), 10))])),
            draw(ENDS),
            draw(BODIES),
            draw(
                st.sampled_from((b"", b"", b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n", b"x"))
            ),
        )
    )


_STATUSES = mostly(
    (b"200", b"200", b"204", b"304", b"302", b"404", b"599", b"100", b"103"),
    (b"101", b"099", b"600", b"20", b"2000", b"+20", b" 200", b"2x0", b"\xb2\xb2\xb2", b""),
)
_REASONS = mostly(
    (b" OK", b" ", b"", b" Not at all"), (b" a\x00b", b" \x7f", b" \xff", b"\tOK", b" a\rb")
)


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """A response, perhaps behind an interim one and before something else."""
    wire = b""
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        wire += draw(
            st.sampled_from((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 x\r\nA: b\r\n\r\n"))
        )
    return b"".join(
        (
            wire,
            draw(VERSIONS) + b" " + draw(_STATUSES) + draw(_REASONS) + draw(ENDS),
            draw(_fields([])),
            draw(ENDS),
            draw(BODIES),
            draw(
                st.sampled_from(
                    (b"", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"x")
                )
            ),
        )
    )


@st.composite
def orderly_responses(draw: st.DrawFn) -> bytes:
    """A response in which nothing is wrong, but for what may follow it."""
    body = draw(st.sampled_from((b"hello", b"", b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n")))
    padded = (b"Transfer-Encoding: chunked\r\n", draw(padded_chunks())[0])
    fields, wire = draw(
        st.sampled_from(
            (
                padded,
                (b"Content-Length: %d\r\n" % len(body), body),
                (b"Content-Length: %d\r\n" % (len(body) + 3), body),
                (b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n5;x\r\nhello\r\n0\r\n\r\n"),
                (b"Transfer-Encoding: chunked\r\n", b"0\r\nX: y\r\n\r\n"),
                (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n"),
                (b"", body),
            )
        )
    )
    status = draw(mostly((b"200 OK", b"404 Not Found"), (b"204 x", b"304 x", b"302 x"), 4))
    more = draw(mostly((b"",), (b"Connection: close\r\n", b"Connection: keep-alive\r\n"), 5))
    behind = draw(
        mostly((b"",), (b"x", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"), 3)
    )
    return b"HTTP/1.1 " + status + b"\r\n" + fields + more + b"\r\n" + wire + behind

"""URLs, authorities and references on which readers of URLs disagree."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import strategies as st

from tests.fuzz.messages import mostly

ONION = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion"


def _encoded(*texts: str) -> tuple[bytes, ...]:
    return tuple(text.encode("utf-8", "surrogatepass") for text in texts)


_PLAIN = _encoded(
    "a.example", "www.a.example", "A.Example", "b-c.a_d.example", "xn--bcher-kva.example", ONION
)
_ODD_HOSTS = _encoded(
    "bücher.example",
    "faß.example",
    "ｅｘａｍｐｌｅ．ｃｏｍ",
    "a。example",
    "a｡example",
    "１２７．０．０．１",
    "1②7.0.0.1",
    "①②⑦.⓪.⓪.①",
    "ⓛocalhost",
    "localhoﬆ",
    "LOCALHOſT",
    "K.example",
    "a\u00adb.example",
    "a\u200bb.example",
    "a\u2024example",
    "a．",
    "ⅰⅱ.example",
    "℡.example",
    "ﷺ.example",
    "xn--a.example",
    "xn--.example",
    "xn--ls8h.la",
    "xn--127-.example",
    "xn--localhost-.a",
    "ẞ.example",
    "İ.example",
    "ı.localhost",
    "a\ud800.example",
    "localhost",
    "localhost.",
    "x.localhost",
    "printer.local",
    "a.exit",
    "intranet",
    "home.arpa",
    "x.internal",
    "router.lan",
    "Router.LAN.",
    "wiki.corp",
    "app.test",
    "x.invalid",
    "lan.example",
    "a.example.",
    "a.example..",
    ".a.example",
    "a..example",
    "",
    ".",
    "%6cocalhost",
    "127%2e0.0.1",
    "a.example%00",
    "a.example%2f",
    "a%E3%80%82example",
    "a,b.example",
    "a|b.example",
    "a^b.example",
    "a b.example",
    "-a.example-",
    "x" * 64 + ".example",
    "127.0.0.1",
    "127.1",
    "0177.0.0.1",
    "0x7f.1",
    "2130706433",
    "017700000001",
    "127.0.0.1.",
    "1.2.3.4.5",
    "1.2.3.256",
    "0",
    "08.08.08.08",
    "a.1",
    "a.0x1",
    "a.example.0",
    "1.2.3.4.example",
    "93.184.216.34",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]",
    "[fe80::1%25eth0]",
    "[2606:4700::1%1]",
    "[2606:4700::1]",
    "[2606:4700:0000::0001]",
    "[2606:4700::1.2.3.4]",
    "[::1",
    "::1",
    "[v1.a]",
    "[127.0.0.1]",
    "[a.example]",
    "[2606:4700::1].",
    "[２606:4700::1]",
)


def _spelt(number: int) -> list[str]:
    a, b, c, d = number.to_bytes(4, "big")
    plain = f"{a}.{b}.{c}.{d}"
    return [
        plain,
        f"{a}.{b}.{c * 256 + d}",
        f"{a}.{number & 0xFFFFFF}",
        str(number),
        f"0x{number:x}",
        f"{a:#o}.{b}.{c}.{d}".replace("0o", "0"),
        f"{a}.{b}.{c}.{d:#x}",
        f"{a:03}.{b:03}.{c:03}.{d:03}",
        plain + ".",
        plain.replace(".", "．"),
        plain.translate({ord("0") + n: 0xFF10 + n for n in range(10)}),
        f"[::ffff:{plain}]",
        f"[64:ff9b::{plain}]",
        f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::1]",
    ]


_SPELT = st.tuples(
    st.sampled_from(
        [int(IPv4Address(a)) for a in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "8.8.8.8")]
    )
    | st.integers(0, 2**32 - 1),
    st.integers(0, 13),
).map(lambda pair: _spelt(pair[0])[pair[1]].encode())

HOSTS = st.one_of(
    mostly(_PLAIN, _ODD_HOSTS, 3),
    _SPELT,
    st.text(alphabet="a0x.1９。．-_%", min_size=1, max_size=9).map(str.encode),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]".encode()),
)
_USERS = mostly(
    (b"",),
    _encoded("@", "user@", "a.example@", "u:p@", ":@", "a.example:80@", "%40", "＠", "\\@"),
    8,
)
PORTS = mostly(
    (b"", b"", b":80", b":443", b":8080"),
    _encoded(
        ":",
        ":0",
        ":00080",
        ":65536",
        ":-1",
        ":+80",
        ": 80",
        ":8o",
        "::80",
        ":８０",
        ":80:",
        ":1_0",
        ":²",
    ),
    6,
)
AUTHORITIES = st.tuples(_USERS, HOSTS, PORTS).map(b"".join)
_SCHEMES = mostly(
    (b"http", b"https", b"HTTP", b"https"),
    (
        b"ws",
        b"wss",
        b"ftp",
        b"file",
        b"javascript",
        b"data",
        b"blob",
        b"view-source:http",
        b"http ",
        b"",
        b"ht\ttp",
        b"h\xc5\xbfttp",
        b"unix",
    ),
    10,
)
_SLASHES = mostly(
    (b"://",),
    (
        b":",
        b":/",
        b":///",
        b":////",
        b":\\\\",
        b":/\\",
        b"//",
        b"",
        b":\t//",
        b"\xef\xbc\x9a//",
        b": //",
    ),
    10,
)
_PATHS = mostly(
    (b"", b"/", b"/p", b"/p?q", b"?q", b"/a/../b/./c//d"),
    _encoded(
        "/\\x",
        "\\x",
        "/@b.example/",
        "?@b.example",
        "#@b.example",
        "/p#f",
        "#",
        "/%2e%2e/",
        "/ x",
        "/\tx",
        "/ü?ü",
        "/\x7f",
        "/?x\\y",
        ";p",
        "/:80",
        "//b.example/",
        "/\"<>{}|^`'",
        "?\"<>{}|^`'",
        "/%",
        "/\u2028",
        "/?#?#",
    ),
    4,
)

URLS = st.tuples(
    mostly((b"",), _encoded(" ", "\t", "\n", "\u00a0", "\ufeff", "\x00", "<"), 14),
    _SCHEMES,
    _SLASHES,
    AUTHORITIES,
    _PATHS,
    mostly((b"",), _encoded(" ", "\n", "\x00", "\u3000"), 14),
).map(b"".join)

REFERENCES = st.one_of(
    URLS,
    _PATHS,
    st.tuples(
        st.sampled_from((b"//", b"\\\\", b"/\\", b"///", b"/\t/", b"")), AUTHORITIES, _PATHS
    ).map(b"".join),
    st.text(alphabet="./?#\\:@ab \t%é", max_size=10).map(str.encode),
    st.binary(max_size=12),
)

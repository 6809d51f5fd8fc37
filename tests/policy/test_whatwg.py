"""What a browser asks for is what ``/proxy`` asks for; Node.js says what the standard says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.policy.whatwg import Whatwg
from tortxd.errors import BadUrl, TargetForbidden
from tortxd.policy.hosts import canonical_host
from tortxd.policy.target import TargetPolicy

POLICY = TargetPolicy()


@pytest.fixture(scope="module")
def node() -> Iterator[Whatwg]:
    node = Whatwg()
    yield node
    node.stop()


# --- paths and queries ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "canonical"),
    [
        ("/a/../b", "/b"),
        ("/a/./b/.", "/a/b/"),
        ("/a/b/..", "/a/"),
        ("/..", "/"),
        ("/../../x/../..", "/"),
        ("/a/%2e%2E/b/.%2e/c/%2e", "/c/"),
        ("/a//../b", "/a/b"),
        ("/a/..//b", "//b"),
        ("/...", "/..."),
        ("/.a/..b/a.", "/.a/..b/a."),
        ("/%2e%2e%2e/%2ea", "/%2e%2e%2e/%2ea"),
        ("/a\\b\\..\\c", "/a/c"),
        ("/a/%5c../b", "/a/%5c../b"),
        ("/a\\\\b", "/a//b"),
        ("/?a\\b", "/?a\\b"),
        ("/?a/../b", "/?a/../b"),
        ("/a'b?a'b", "/a'b?a%27b"),
        ('/ "<>`{}|[]', "/%20%22%3C%3E%60%7B%7D|[]"),
        ('/? "<>`{}|[]^', "/?%20%22%3C%3E`{}|[]^"),
        ("/%zz%?%zz%", "/%zz%?%zz%"),
        ("/übung?größe=☃", "/%C3%BCbung?gr%C3%B6%C3%9Fe=%E2%98%83"),
        ("?x", "/?x"),
        ("/?", "/?"),
        ("", "/"),
        ("/a?b#c", "/a?b"),
        ("/a;b=c/..;d", "/a;b=c/..;d"),
    ],
)
def test_paths(node: Whatwg, asked: str, canonical: str) -> None:
    target = POLICY.parse("http://a.example" + asked)
    assert target.path == canonical.encode()
    standard = node.url("http://a.example" + asked.partition("#")[0])
    assert target.url == standard


# ``^`` came into the standard's path percent-encode set in 2024: versions of Node.js differ.
PATHS = st.lists(
    st.sampled_from([*"/\\./\\.?a'\"<> `{}|[]@:;&=%é☃", "..", "%2e", "%2E", "%5C", "//"]),
    max_size=12,
).map("".join)


@given(PATHS)
@example("/a/%2e%2E\\.\\b?\\'")
def test_any_path_is_what_a_browser_asks_for(node: Whatwg, path: str) -> None:
    url = f"http://a.example/{path}".rstrip(" ")
    target = POLICY.parse(url)
    assert target.url == node.url(url)
    assert POLICY.parse(target.url) == target


# --- hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "canonical"),
    [
        ("☃.example", "xn--n3h.example"),
        ("💩.la", "xn--ls8h.la"),
        ("I❤.ws", "xn--i-7iq.ws"),
        ("faß.de", "xn--fa-hia.de"),
        ("βόλος.com", "xn--nxasmm1c.com"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("Ｗｗｗ。ｅxample．com", "www.example.com"),
        ("www｡example.com", "www.example.com"),
        ("a\u00adb.example", "ab.example"),
        ("XN--N3H.example", "xn--n3h.example"),
        ("xn--n3h.XN--fa-hia.example", "xn--n3h.xn--fa-hia.example"),
        ("ＸＮ－－n3h.example", "xn--n3h.example"),
        ("क्\u200dष.example", "xn--11b2ezcw70k.example"),
        ("نامه\u200cای.com", "xn--mgba3gch31f060k.com"),
        ("אב.example", "xn--4dbc.example"),
        ("a--b.-x-.xn.example", "a--b.-x-.xn.example"),
        ("☃--a.example", "xn----a-rm5a.example"),
        ("ab--☃.example", "xn--ab---8g3b.example"),
        ("www.≠.example", "www.xn--1ch.example"),
    ],
)
def test_names(node: Whatwg, asked: str, canonical: str) -> None:
    assert node.host(asked) == canonical
    assert canonical_host(asked.encode()) == canonical
    assert canonical_host(canonical.encode()) == canonical
    assert POLICY.parse(f"https://{asked}/").host == canonical
    assert POLICY.parse_absolute_form(f"http://{asked}/".encode()).host == canonical
    assert POLICY.tunnel(f"{asked}:443".encode()).host == canonical


@pytest.mark.parametrize(
    "asked",
    [
        "xn--a.example",
        "xn--0.example",
        "xn--☃.example",
        "xn--\u0300.example",
        "xn--99999999.example",
        "xn--zca\u00df.example",
        "xn--bcher-kVa\u0308.example",
        "\u0300a.example",
        "a\u200d.example",
        "a\u200cb.example",
        "xn--a-vgn.example",  # a joiner after a Latin letter
        "xn--mA-ogt.example",
        "a\u2fefb.example",  # not assigned
        "a\ufffd.example",
        "℀.example",
        "a／b.example",
        "a＠b.example",
        "a％41.example",
        "a：80.example",
        "אa.example",
    ],
)
def test_names_that_are_none(node: Whatwg, asked: str) -> None:
    assert node.host(asked) is None
    with pytest.raises(BadUrl):
        canonical_host(asked.encode())


@pytest.mark.parametrize(
    "asked",
    [
        # Only ASCII is encoded in them.
        "xn--abc-.example",
        "xn--.example",
        "xn--fa-hia--.example",
        "xn--xn---epa.example",
        # RFC 5893, section 2, rule 1; ICU, which Chromium has, refuses it as well.
        "1א.example",
        # A name with a right-to-left label is one as a whole (RFC 5893, section 1.4).
        "123.אב.example",
    ],
)
def test_names_that_node_lets_pass(asked: str) -> None:
    with pytest.raises(BadUrl):
        canonical_host(asked.encode())


CHARACTERS = "aZ0-_.。．｡ßÄéäΣςσжЖ中ﬀ①Ａ９☃❤💩אבقم٣क्षं"
MARKS = "\u0301\u0308\u0327\u094d\u00ad\u200c\u200d\ufe0f"
NAMES = st.lists(
    st.sampled_from([*CHARACTERS, *MARKS, "xn--", "XN--", "n3h", "fa-hia", ".example"]), max_size=10
).map(lambda parts: "".join(parts) + ".example")
JOINERS = ("\u200c", "\u200d")
POLICYS_OWN = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
"""Names that Tor takes; the standard has more."""


@given(NAMES)
@example("xn--n3h\u200d.example")
@example("a\u0308\u0327.example")
def test_any_name_is_what_a_browser_asks_for(node: Whatwg, name: str) -> None:
    standard = node.host(name)
    try:
        host = canonical_host(name.encode())
    except (BadUrl, TargetForbidden):
        assert standard is None or not POLICYS_OWN.fullmatch(standard) or is_stricter(name)
        return
    assert standard is not None
    assert host == standard.removesuffix(".")
    assert canonical_host(host.encode()) == host


def is_stricter(name: str) -> bool:
    """Whether it may be one of those that Node.js lets pass, and the standard does not."""
    return (
        "xn--" in unicodedata.normalize("NFKC", name).lower()
        or any(unicodedata.bidirectional(char) in ("R", "AL", "AN") for char in name)
        or sum(map(name.count, JOINERS)) > 1
    )

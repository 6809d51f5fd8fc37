from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import BadRequest, BadUrl, TortxdError
from tortxd.policy.query import ProxyQuery, target_of
from tortxd.policy.target import TargetPolicy


@pytest.mark.parametrize(
    ("query", "url", "redirected"),
    [
        (b"url=http://a.example/", b"http://a.example/", False),
        (b"url=http%3A%2F%2Fa.example%2F%3Fx%3D1%26y%3D2", b"http://a.example/?x=1&y=2", False),
        (b"url=http://a.example/?x=1&y=2", b"http://a.example/?x=1", False),
        (b"url=http://a.example/?q=a+b%2Bc", b"http://a.example/?q=a b+c", False),
        (b"url=http%253A", b"http%3A", False),
        (b"u%72l=x", b"x", False),
        (b"URL=y&url=x", b"x", False),
        (b"&&_=1&url=x&", b"x", False),
        (b"url=x;url=y", b"x;url=y", False),
        (b"url=x&redirected=1", b"x", True),
        (b"redirected=1&url=x", b"x", True),
        (b"url=x&redirected=yes&redirected=0", b"x", True),
        (b"url=x&redirected=0", b"x", False),
        (b"url=%zz%", b"%zz%", False),
    ],
)
def test_reading(query: bytes, url: bytes, redirected: bool) -> None:
    assert target_of(query) == ProxyQuery(url, redirected)


@pytest.mark.parametrize("query", [b"", b"url", b"url=", b"uri=http://a.example/", b"%75rl2=x"])
def test_missing(query: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        target_of(query)
    assert str(caught.value) == "Missing url query parameter"
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "query", [b"url=a&url=b", b"url=a&url=a", b"url=a&%75%72%6C=b", b"url=&url=b"]
)
def test_doubled(query: bytes) -> None:
    with pytest.raises(BadRequest, match="more than once"):
        target_of(query)


@pytest.mark.parametrize("injected", ["%0d%0a", "%0A", "%0D", "%00", "%09", "%FF", "%ED%A0%80"])
def test_what_a_url_cannot_hold_is_refused_with_it(injected: str) -> None:
    query = target_of(f"url=http://a.example/{injected}X:%20y".encode())
    with pytest.raises(BadUrl):
        TargetPolicy().parse(query.url)


def test_the_repr_does_not_show_the_target() -> None:
    assert "canary" not in repr(target_of(b"url=http://canary.example/"))


def test_long_queries_are_not_remembered() -> None:
    long = b"url=" + b"x" * 3000
    assert target_of(long) is not target_of(long)
    assert target_of(b"url=x") is target_of(b"url=x")


@given(st.text(min_size=1), st.booleans())
def test_browsers_ways_of_encoding_are_undone(url: str, redirected: bool) -> None:
    try:
        raw = url.encode()
    except UnicodeEncodeError:
        return
    mark = b"&redirected=1" if redirected else b""
    assert target_of(b"url=" + quote(raw, safe="").encode() + mark) == ProxyQuery(raw, redirected)
    assert target_of(urlencode({"a": "&", "url": url}).encode() + mark) == ProxyQuery(
        raw, redirected
    )


@given(st.binary())
def test_any_bytes_are_read_or_refused(query: bytes) -> None:
    try:
        assert target_of(query).url
    except TortxdError as error:
        assert error.code == "bad_request"

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
        (b"url=http://a.example/?q=a+b%2Bc", b"http://a.example/?q=a b+c", False),
        (b"url=http%253A", b"http%3A", False),
        (b"u%72l=x", b"x", False),
        (b"&&url=x&", b"x", False),
        (b"url=x;url=y", b"x;url=y", False),
        (b"url=x&redirected=1", b"x", True),
        (b"redirected=1&url=x", b"x", True),
        (b"url=x&redirected=yes", b"x", True),
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
    "query",
    [
        b"url=a&url=b",
        b"url=a&url=a",
        b"url=a&%75%72%6C=b",
        b"url=&url=b",
        b"url=a&redirected=1&redirected=0",
        b"isolation=a&url=a&isolation=a",
        b"url=a&exit=a&exit=b",
    ],
)
def test_doubled(query: bytes) -> None:
    with pytest.raises(BadRequest, match="more than once"):
        target_of(query)


@pytest.mark.parametrize(
    "query",
    [b"url=x&isolation=a+b%26%C3%BC&redirected=1", b"redirected=1&isolation=a%20b%26%C3%BC&url=x"],
)
def test_parameters_stand_in_any_order(query: bytes) -> None:
    assert target_of(query) == ProxyQuery(
        b"x", True, "a b&ü".encode(), kept=((b"isolation", "a b&ü".encode()),)
    )


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (b"url=http://h/a?b=1&c=2", "`c` is not"),
        (b"c&url=x", "`c` is not"),
        (b"url=x&URL=y", "`URL` is not"),
        (b"_=1&url=x", "`_` is not"),
        (b"url=x&=1", "One of the parameters is not"),
        (b"url=x&canary.example=1", "One of the parameters is not"),
        (b"url=x&cAn4ry%20canary=1", "One of the parameters is not"),
        (b"url=x&" + b"canary" * 4, "One of the parameters is not"),
        (b"url=x&\xff", "One of the parameters is not"),
        (b"url=x&url%00=y", "One of the parameters is not"),
        (b"url=x&exit=a&c=d", "`c` is not"),
    ],
)
def test_what_is_no_parameter_is_said_and_how_to_encode_it(query: bytes, named: str) -> None:
    with pytest.raises(BadRequest) as caught:
        target_of(query)
    said = str(caught.value)
    assert said.startswith(f"{named} a parameter of /proxy.")
    assert "percent-encode" in said
    assert "canary" not in said
    assert caught.value.code == "bad_request"
    example = said.partition("/proxy?")[2].partition(",")[0]
    assert target_of(example.encode()).url == b"http://example.com/?a=1&b=2"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("isolaton", "isolation"),
        ("Isolation", "isolation"),
        ("URL", "url"),
        ("exit_country", "exit-country"),
        ("country", "exit-country"),
        ("retries", "retry"),
    ],
)
def test_the_nearest_parameter_is_named(name: str, meant: str) -> None:
    with pytest.raises(BadRequest) as caught:
        target_of(f"url=x&{name}=canary".encode())
    said = f"`{name}` is not a parameter of /proxy. Did you mean {meant}? If it belongs to"
    assert str(caught.value).startswith(said)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "id", "page", "redirect", "utm_source", "session"])
def test_where_none_is_near_none_is_named(name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        target_of(f"url=x&{name}=1".encode())
    assert "Did you mean" not in str(caught.value)


def test_what_steers_a_request_stays_in_its_links() -> None:
    query = target_of(b"url=x&retry=1&isolation=k&redirected=1&exit-country=de,%20fr")
    assert query.kept == ((b"exit-country", b"de, fr"), (b"isolation", b"k"), (b"retry", b"1"))
    assert query.asked.steering().choice.countries == {"de", "fr"}


@pytest.mark.parametrize("injected", ["%0d%0a", "%0A", "%0D", "%00", "%09", "%FF", "%ED%A0%80"])
def test_what_a_url_cannot_hold_is_refused_with_it(injected: str) -> None:
    query = target_of(f"url=http://a.example/{injected}X:%20y".encode())
    with pytest.raises(BadUrl):
        TargetPolicy().parse(query.url)


def test_the_repr_does_not_show_the_target() -> None:
    assert "canary" not in repr(target_of(b"url=http://canary.example/&isolation=canary"))


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
    assert target_of(urlencode({"isolation": "&", "url": url}).encode() + mark) == ProxyQuery(
        raw, redirected, b"&", kept=((b"isolation", b"&"),)
    )


@given(st.binary())
def test_any_bytes_are_read_or_refused(query: bytes) -> None:
    try:
        assert target_of(query).url
    except TortxdError as error:
        assert error.code in ("bad_request", "not_implemented")

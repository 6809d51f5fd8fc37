from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import RedirectForbidden, TortxdError
from tortxd.policy.query import target_of
from tortxd.policy.redirects import check_redirected, gateway_link, resolve
from tortxd.policy.target import TargetPolicy, parse_alias

POLICY = TargetPolicy()
BASE = POLICY.parse("http://a.example/b/c/d;p?q")


# RFC 3986, section 5.4, with a base whose host is spelled out.
@pytest.mark.parametrize(
    ("reference", "resolved"),
    [
        ("g:h", "g:h"),
        ("g", "http://a.example/b/c/g"),
        ("./g", "http://a.example/b/c/g"),
        ("g/", "http://a.example/b/c/g/"),
        ("/g", "http://a.example/g"),
        ("//g", "http://g"),
        ("?y", "http://a.example/b/c/d;p?y"),
        ("g?y", "http://a.example/b/c/g?y"),
        (";x", "http://a.example/b/c/;x"),
        ("g;x?y", "http://a.example/b/c/g;x?y"),
        ("", "http://a.example/b/c/d;p?q"),
        (".", "http://a.example/b/c/"),
        ("./", "http://a.example/b/c/"),
        ("..", "http://a.example/b/"),
        ("../", "http://a.example/b/"),
        ("../g", "http://a.example/b/g"),
        ("../..", "http://a.example/"),
        ("../../g", "http://a.example/g"),
        ("../../../../g", "http://a.example/g"),
        ("/./g", "http://a.example/g"),
        ("/../g", "http://a.example/g"),
        ("g.", "http://a.example/b/c/g."),
        ("..g", "http://a.example/b/c/..g"),
        ("./../g", "http://a.example/b/g"),
        ("./g/.", "http://a.example/b/c/g/"),
        ("g/./h", "http://a.example/b/c/g/h"),
        ("g/../h", "http://a.example/b/c/h"),
        ("g;x=1/../y", "http://a.example/b/c/y"),
        ("g?y/../x", "http://a.example/b/c/g?y/../x"),
        ("http:g", "http:g"),
        ("/?", "http://a.example/?"),
        ("/x//y", "http://a.example/x//y"),
    ],
)
def test_resolution(reference: str, resolved: str) -> None:
    assert resolve(reference.encode(), BASE) == resolved.encode()


@given(st.text(alphabet="ab./?;=", max_size=12).filter(lambda t: not t.startswith("//")))
def test_resolved_paths_have_no_dots_left_and_resolving_them_again_changes_nothing(
    reference: str,
) -> None:
    url = resolve(reference.encode(), BASE)
    path, mark, query = url.removeprefix(b"http://a.example").partition(b"?")
    assert path.startswith(b"/")
    assert {b".", b".."}.isdisjoint(path.split(b"/"))
    if not path.startswith(b"//"):
        assert resolve(path + mark + query, BASE) == url or not mark


@pytest.mark.parametrize(
    ("location", "url", "redirected"),
    [
        ("http://a.example/x", "http://a.example/x", False),
        ("HTTP://A.EXAMPLE:80/x", "HTTP://A.EXAMPLE:80/x", False),
        ("x?a=b&c=d", "http://a.example/b/c/x?a=b&c=d", False),
        ("\t /x ", "http://a.example/x", False),
        ("https://a.example/x", "https://a.example/x", True),
        ("http://a.example:81/x", "http://a.example:81/x", True),
        ("http://www.a.example/x", "http://www.a.example/x", True),
        ("//other.example/x", "http://other.example/x", True),
        ("http://localhost:3080/health", "http://localhost:3080/health", True),
        ("http://user@a.example/", "http://user@a.example/", True),
        ("javascript:alert(1)", "javascript:alert(1)", True),
        ("http:///x", "http:///x", True),
        ("\\\\other.example\\x", "http:\\\\other.example\\x", True),
        ("/\\other.example", "http:/\\other.example", True),
        ("\\/other.example", "http:\\/other.example", True),
        ("\\x\\..\\y?\\", "http://a.example/y?\\", False),
        ("../%2e%2E/x", "http://a.example/x", False),
        ("/a/%2e%2e/../x", "http://a.example/x", False),
        ("/é", "http://a.example/é", False),
    ],
)
def test_links(location: str, url: str, redirected: bool) -> None:
    link = gateway_link(location.encode(), BASE, POLICY).decode()
    path, _, query = link.partition("?")
    assert path == "/proxy"
    expected = {"url": [url], **({"redirected": ["1"]} if redirected else {})}
    assert parse_qs(query) == expected
    forced = gateway_link(location.encode(), BASE, POLICY, redirected=True).decode()
    assert parse_qs(forced.partition("?")[2]) == {"url": [url], "redirected": ["1"]}


def test_a_key_that_was_a_parameter_stays_one() -> None:
    """Whoever cannot set headers cannot set them for the next hop."""
    kept = [(b"isolation", "a b&é".encode()), (b"sticky", b"5")]
    link = gateway_link(b"//b.example/#x", BASE, POLICY, kept=kept)
    to = b"/proxy?url=http%3A%2F%2Fb.example%2F&redirected=1&isolation=a%20b%26%C3%A9&sticky=5#x"
    assert link == to
    asked = target_of(link.partition(b"?")[2].partition(b"#")[0])
    assert (asked.isolation, asked.redirected) == ("a b&é".encode(), True)


def test_fragments_stay_with_the_browser() -> None:
    link = gateway_link(b"/x#a b\xc3\xa9%20?", BASE, POLICY)
    assert link == b"/proxy?url=http%3A%2F%2Fa.example%2Fx#a%20b%C3%A9%20?"
    assert gateway_link(b"#top", BASE, POLICY).endswith(b"d%3Bp%3Fq#top")


def test_other_encodings_become_escapes() -> None:
    link = gateway_link(b"/caf\xe9", BASE, POLICY)
    assert link == b"/proxy?url=http%3A%2F%2Fa.example%2Fcaf%25E9"


def test_an_aliased_service_that_names_itself_stays_where_it_is() -> None:
    policy = TargetPolicy(aliases=(parse_alias("localhost:8080=a.example:80"),))
    link = gateway_link(b"http://localhost:8080/next", BASE, policy)
    assert b"redirected" not in link


@given(st.binary(max_size=40))
def test_any_location_leads_to_the_gateway_and_nowhere_else(location: bytes) -> None:
    link = gateway_link(location, BASE, POLICY)
    assert link.startswith(b"/proxy?url=")
    for byte in link:
        assert 0x20 < byte < 0x7F
    query = target_of(link.partition(b"?")[2].partition(b"#")[0])
    try:
        target = POLICY.parse(query.url)
    except TortxdError:
        assert query.redirected
    else:
        assert query.redirected == (target.origin != BASE.origin)


def test_what_comes_from_elsewhere_loses_credentials_and_takes_no_body() -> None:
    headers = [(b"Accept", b"*/*"), (b"AUTHORIZATION", b"Bearer x"), (b"X", b"y")]
    assert check_redirected(headers, has_body=False) == [(b"Accept", b"*/*"), (b"X", b"y")]
    with pytest.raises(RedirectForbidden):
        check_redirected(headers, has_body=True)

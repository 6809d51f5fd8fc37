"""Targets, authorities, redirects: what passes is public, and every reader sees the same in it."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import parse_qsl, quote, urljoin, urlsplit

from hyperlink import URL
from hypothesis import event
from hypothesis import strategies as st

from tests.fuzz.addresses import AUTHORITIES, HOSTS, PORTS, REFERENCES, URLS
from tests.fuzz.cutting import SPOILING, Spoiling, spoil
from tests.fuzz.messages import mostly
from tests.fuzz.profile import fuzzed
from tortxd.errors import BadRequest, BadUrl, ForbiddenHost, TargetForbidden, TortxdError
from tortxd.policy.access import AccessPolicy, Audience
from tortxd.policy.query import target_of
from tortxd.policy.redirects import gateway_link
from tortxd.policy.target import WEBSOCKET_SCHEMES, Target, TargetPolicy

GATEWAY = "http://localhost:3080/proxy?url=x"
LOCAL = re.compile(
    r"(.+\.)?(localhost|local|exit|internal|localdomain|(home|resolver|service)\.arpa|lan|home|corp"
    r"|mail|intranet|private|test|invalid|alt)"
)


def parsed(url: bytes | str, schemes: frozenset[str] = WEBSOCKET_SCHEMES) -> Target | None:
    """The target of a URL, if it may be asked for; a policy of its own remembers nothing."""
    try:
        return TargetPolicy().parse(url, schemes)
    except (BadUrl, TargetForbidden):
        return None


def is_public(host: str) -> bool:
    """An opinion that shares nothing with the policy's own tables."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." in host and not LOCAL.fullmatch(host) and host.isascii()
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if any(one is not None for one in inner):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


@fuzzed(250, url=URLS, spoiling=SPOILING)
def test_what_passes_is_public_and_every_reader_sees_the_same_host(
    url: bytes, spoiling: Spoiling
) -> None:
    url = spoil(url, spoiling)
    target = parsed(url)
    event("passes" if target else "is refused")
    if target is None:
        return
    assert is_public(target.host)
    assert parsed(target.url) == target
    default = {"http": 80, "https": 443, "ws": 80, "wss": 443}
    split = urlsplit(target.url)
    assert (split.hostname, split.username, split.fragment) == (target.host, None, "")
    assert (split.port or default[split.scheme]) == target.port
    assert (split.path + (f"?{split.query}" if "?" in target.url else "")).encode() == target.path
    link = URL.from_text(target.url)
    assert (link.host, link.port, link.userinfo) == (target.host, target.port, "")
    # Who reads the URL as it was given, and finds a public host in it, finds that one.
    given = urlsplit(url.decode().strip(" "))
    if given.hostname is not None and given.hostname.isascii():
        assert given.hostname.rstrip(".") in (target.host, f"[{target.host}]") or ":" in target.host


@fuzzed(150, authority=AUTHORITIES)
def test_a_tunnel_and_a_url_agree(authority: bytes) -> None:
    try:
        tunnel = TargetPolicy().tunnel(authority)
    except (BadUrl, TargetForbidden):
        tunnel = None
    target = parsed(b"https://" + authority + b"/")
    event("passes" if tunnel else "is refused")
    if tunnel is None:
        # A URL may leave out the port.
        assert target is None or not re.search(rb":[0-9]+$", authority)
    else:
        assert target is not None
        assert (target.host, target.port) == (tunnel.host, tunnel.port)


@fuzzed(150, host=HOSTS, port=PORTS, spoiling=SPOILING)
def test_rule_02_a_host_that_is_let_in_is_no_name(
    host: bytes, port: bytes, spoiling: Spoiling
) -> None:
    """Whatever stands in Host: what is let in is localhost or an address to another reader as well,
    and none that leads to this machine unbeknown to browsers."""
    value = spoil(host + port, spoiling).strip(b" \t")
    origin = b"http://" + value
    policy = AccessPolicy()
    fields = {b"host": [value]}
    try:
        policy.admit(fields, method=b"GET", audience=Audience.PROXY)
    except (BadRequest, ForbiddenHost):
        event("is refused")
    else:
        event("passes")
        name = urlsplit(origin.decode("ascii")).hostname or ""
        if name != "localhost":
            address = ipaddress.ip_address(name)
            assert not address.is_unspecified
            assert getattr(address, "ipv4_mapped", None) is None
    if policy.allows_origin(origin):
        assert_loopback(origin)


def assert_loopback(origin: bytes) -> None:
    name = urlsplit(origin.decode("ascii")).hostname
    assert name == "localhost" or ipaddress.ip_address(name or "").is_loopback


BASES = st.sampled_from(
    (
        "http://a.example/",
        "https://a.example:8443/b/c;d?e",
        "http://[2606:4700::1]/x//y/",
        "http://93.184.216.34/?",
    )
)


@fuzzed(250, reference=REFERENCES, base=BASES, spoiling=SPOILING, redirected=st.booleans())
def test_rule_05_a_redirect_never_leaves_the_gateway(
    reference: bytes, base: str, spoiling: Spoiling, redirected: bool
) -> None:
    """Any Location becomes a link to /proxy on the host that the client asked, for every reader."""
    reference = spoil(reference, spoiling)
    policy, start = TargetPolicy(), parsed(base)
    assert start is not None
    link = gateway_link(reference, start, policy, redirected=redirected).decode("ascii")
    assert link.isprintable() and " " not in link and "\\" not in link
    for followed in (urljoin(GATEWAY, link), URL.from_text(GATEWAY).click(link).to_text()):
        there = urlsplit(followed)
        assert (there.scheme, there.netloc, there.path) == ("http", "localhost:3080", "/proxy")
    names = [name for name, _ in parse_qsl(urlsplit(link).query, keep_blank_values=True)]
    assert names in (["url"], ["url", "redirected"])
    asked = target_of(urlsplit(link).query.encode())
    target = parsed(asked.url, frozenset({"http", "https"}))
    event("leads on" if target else "leads to an error")
    assert asked.redirected or (target is not None and target.origin == start.origin)
    if redirected:
        assert asked.redirected


QUERIES = st.lists(
    st.tuples(
        mostly(
            (b"url", b"redirected", b"x"),
            (
                b"URL",
                b"u%72l",
                b"ur%6C",
                b"url ",
                b"+url",
                b"",
                b"url%00",
                b"url[]",
                b"\xef\xbb\xbfurl",
            ),
            4,
        ),
        mostly((b"=",), (b"", b"==", b"%3D", b" = "), 8),
        st.one_of(
            URLS.map(lambda url: quote(url, safe="").encode()),
            st.sampled_from((b"", b"0", b"1", b"a+b%2B", b"%zz", b"%", b"%C3", b"a;url=b")),
            URLS,
        ),
        st.sampled_from((b"&", b"&", b"&", b";", b"&&", b"&amp;", b"%26", b"\n")),
    ).map(b"".join),
    max_size=4,
).map(b"".join)


@fuzzed(120, query=QUERIES)
def test_rule_08_a_query_names_one_url_for_every_reader(query: bytes) -> None:
    """Where ``url`` is taken from the query, another reader finds the same one, and no second."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    urls = [value.encode("latin-1") for name, value in pairs if name == "url"]
    try:
        asked = target_of(query)
    except BadRequest:
        event("is refused")
        names = [name for name, _ in pairs]
        known = {"url", "redirected"}.issuperset(names) and len(set(names)) == len(names)
        assert not known or not urls or not urls[0]
    else:
        event("is read")
        assert urls == [asked.url]
        marks = [value for name, value in pairs if name == "redirected"]
        assert asked.redirected or set(marks) <= {"0"}


@fuzzed(100, url=URLS)
def test_rule_21_what_is_refused_is_not_repeated(url: bytes) -> None:
    """No error quotes what was asked for, nor hides it in an error that it comes from."""
    canary = b"cAn4ry"
    for asked in (canary + url, url + canary, url[:9] + canary + url[9:]):
        for ask in (TargetPolicy().parse, TargetPolicy().tunnel):
            try:
                ask(asked)
            except TortxdError as error:
                shown = f"{error!s} {error.as_json()} {error.__context__!r} {error.__cause__!r}"
                assert "can4ry" not in shown.lower()

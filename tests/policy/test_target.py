"""Every way to write a target, and what becomes of it."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import pickle
import traceback

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tortxd.errors import BadUrl, SetupError, TargetForbidden
from tortxd.policy.hosts import canonical_host, judge_host
from tortxd.policy.target import (
    WEBSOCKET_SCHEMES,
    HostPort,
    Target,
    TargetPolicy,
    parse_alias,
)


def onion(seed: bytes, version: bytes = b"\x03") -> str:
    key = hashlib.sha256(seed).digest()
    checksum = hashlib.sha3_256(b".onion checksum" + key + version).digest()[:2]
    return base64.b32encode(key + checksum + version).decode("ascii").lower()


ONION = onion(b"a service")
# The Tor Project's own service: an address that this code has not made.
REAL_ONION = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid"

POLICY = TargetPolicy()


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("http://origin.test.example", "http://origin.test.example/"),
        ("HTTP://Origin.Test.EXAMPLE:80/", "http://origin.test.example/"),
        ("https://a.example:443/x?y=z", "https://a.example/x?y=z"),
        ("https://a.example:80", "https://a.example:80/"),
        ("http://a.example:", "http://a.example/"),
        ("http://a.example:00080/", "http://a.example/"),
        ("http://a.example:65535/", "http://a.example:65535/"),
        ("http://a.example./p", "http://a.example/p"),
        ("http://a.example?q", "http://a.example/?q"),
        ("http://a.example/?", "http://a.example/?"),
        ("http://a.example/p#fragment?x", "http://a.example/p"),
        ("http://a.example#@127.0.0.1/", "http://a.example/"),
        ("  http://a.example/  ", "http://a.example/"),
        ("http://a.example/a/../b/./c//d", "http://a.example/b/c//d"),
        ("http://a.example/%2e%2E/%zz%", "http://a.example/%zz%"),
        ("http://a.example/a b\"<>^`{}|[]'", "http://a.example/a%20b%22%3C%3E%5E%60%7B%7D|[]'"),
        ("http://a.example/?a b\"<>'^`{}|\\", "http://a.example/?a%20b%22%3C%3E%27^`{}|\\"),
        ("http://a.example/é?ü=☃", "http://a.example/%C3%A9?%C3%BC=%E2%98%83"),
        ("http://a.example/x\\y", "http://a.example/x/y"),
        ("http://a.example?\\@b.example", "http://a.example/?\\@b.example"),
        ("http://☃.example/", "http://xn--n3h.example/"),
        ("http://a.example/@user:pw", "http://a.example/@user:pw"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://faß.example/", "http://xn--fa-hia.example/"),
        ("http://ＯＲＩＧＩＮ．test。example/", "http://origin.test.example/"),
        ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"),
        ("http://under_score.-hyphen-.example/", "http://under_score.-hyphen-.example/"),
        ("http://93.184.216.34/", "http://93.184.216.34/"),
        ("http://93.184.216.34./", "http://93.184.216.34/"),
        ("http://93.184.216.３４/", "http://93.184.216.34/"),
        ("http://[2606:2800:220:1:248:1893:25C8:1946]/", None),
        ("http://[2606:4700:0:0:0:0:0:1]:8080/", "http://[2606:4700::1]:8080/"),
        (f"http://{ONION}.onion/", None),
        (f"http://www.{REAL_ONION.upper()}.ONION:81/", f"http://www.{REAL_ONION}.onion:81/"),
        ("http://exit.example/", None),
        ("http://mylocal.example/", None),
        ("http://1.2.example/", None),
    ],
)
def test_public_targets(url: str, canonical: str | None) -> None:
    target = POLICY.parse(url)
    assert target.url == (canonical or url.lower())
    assert POLICY.parse(url.encode()) == target


@pytest.mark.parametrize(
    "url",
    [
        # Schemes
        "ftp://a.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/html,x",
        "ws://a.example/",
        "view-source:http://a.example/",
        # Userinfo
        "http://user@a.example/",
        "http://user:pw@a.example/",
        "http://@a.example/",
        "http://a.example@127.0.0.1/",
        "http://a.example:80@b.example:80/",
        # Ports
        "http://a.example:0/",
        "http://a.example:65536/",
        "http://a.example:99999999999999999999/",
        "http://a.example:" + "1" * 5000 + "/",
        # Local names
        "http://localhost/",
        "http://LOCALHOST./",
        "http://ｌocalhost/",
        "http://x.localhost/",
        "http://localhost.localdomain/",
        "http://printer.local/",
        "http://printer。local/",
        "http://a.example.exit/",
        "http://intranet/",
        "http://com./",
        "http://db.internal/",
        "http://nas.home.arpa/",
        "http://home.arpa/",
        "http://x.RESOLVER.arpa/",
        "http://default.service.arpa/",
        "http://router.lan/",
        "http://router.LAN./",
        "http://ｒouter。ｌan/",
        "http://bücher.lan/",
        "http://router.home/",
        "http://wiki.corp/",
        "http://smtp.mail/",
        "http://wiki.intranet/",
        "http://db.private/",
        "http://app.test/",
        "http://a.b.invalid./",
        "http://gnu.alt/",
        "http://onion/",
        # IPv4
        "http://127.0.0.1/",
        "http://127.255.255.254/",
        "http://１２７.0.0.1/",
        "http://127。0。0。1/",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://172.31.255.255/",
        "http://192.0.0.8/",
        "http://192.0.2.1/",
        "http://192.88.99.1/",
        "http://192.168.0.1/",
        "http://198.18.0.1/",
        "http://198.51.100.1/",
        "http://203.0.113.1/",
        "http://224.0.0.1/",
        "http://239.255.255.250/",
        "http://240.0.0.1/",
        "http://255.255.255.255/",
        # IPv4 in other forms, public ones too
        "http://2130706433/",
        "http://1572395042/",
        "http://0x7f000001/",
        "http://0X7F.1/",
        "http://0177.0.0.1/",
        "http://93.184.216.034/",
        "http://0x5d.184.216.34/",
        "http://127.1/",
        "http://127.0.1/",
        "http://0/",
        "http://0x/",
        "http://1.2.3.0x/",
        "http://99999999999/",
        # IPv6
        "http://[::]/",
        "http://[::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:93.184.216.34]/",
        "http://[::ffff:5db8:d822]/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b:1::10.0.0.1]/",
        "http://[100::1]/",
        "http://[2001::7f00:1]/",
        "http://[2001:20::1]/",
        "http://[2001:db8::1]/",
        "http://[2002:7f00:1::]/",
        "http://[3fff::1]/",
        "http://[5f00::1]/",
        "http://[fc00::1]/",
        "http://[fd12:3456::1]/",
        "http://[fe80::1]/",
        "http://[fe80::1%25eth0]/",
        "http://[2606:4700::1%eth0]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://[ff0e::1]/",
    ],
)
def test_forbidden_targets(url: str) -> None:
    with pytest.raises(TargetForbidden):
        POLICY.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "/relative",
        "//a.example/",
        "a.example/",
        "://a.example/",
        " \u00a0http://a.example/",
        "1http://a.example/",
        "http:",
        "http:a.example",
        "http:/a.example/",
        "http://",
        "http:///a.example/",
        "http://?x",
        "http://:80/",
        "http://.",
        "http://./",
        "http://a..example/",
        "http://.a.example/",
        "http://a.example../",
        "http://a b.example/",
        "http://a%2eexample/",
        "http://%6cocalhost/",
        "http://%31%32%37.0.0.1/",
        "http://a.example%00.example/",
        "http://a,b.example/",
        "http://a*.example/",
        "http://a.example\\@127.0.0.1/",
        "http:\\\\a.example/",
        "http://a.example\\x",
        "http://a.example:80\\x/",
        "http:/\\a.example/",
        "http:\\/a.example/",
        "http://a.example\\",
        "http://a.example:8o/",
        "http://a.example:-1/",
        "http://a.example:+80/",
        "http://a.example:８０/",
        "http://a.example:80:80/",
        "http://::1/",
        "http://2606:4700::1/",
        "http://[::1/",
        "http://::1]/",
        "http://[::1]x/",
        "http://[]/",
        "http://[1.2.3.4]/",
        "http://[v1.x]/",
        "http://[::1/64]/",
        "http://[２606:4700::1]/",
        "http://256.1.1.1/",
        "http://1.2.3.4.5/",
        "http://a.example.1/",
        "http://a.0x7f/",
        "http://a.example/\r\nHost: b",
        "http://a.example/\n",
        "http://a.exa\tmple/",
        "ht\ttp://a.example/",
        "http://a.example/#\x00",
        "http://a.example/\x7f",
        "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 130 + "example/",
        "http://" + "é" * 2000 + ".example/",
        "http://℀.example/",
        "http://a\u200d.example/",
        "http://\ud800.example/",
        f"http://{ONION[:-1]}.onion/",
        f"http://{ONION[:-2]}aa.onion/",
        f"http://a{ONION[1:]}b.onion/",
        f"http://{'b' if ONION[0] == 'a' else 'a'}{ONION[1:]}.onion/",
        f"http://{onion(b'x', bytes([4]))}.onion/",
        "http://expyuzz4wqqyqhjn.onion/",
        f"http://{'1' * 56}.onion/",
    ],
)
def test_malformed_targets(url: str) -> None:
    with pytest.raises(BadUrl):
        POLICY.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "a.example",
        "a.example/a",
        "//a.example/",
        "a.example:443",
        "localhost:8080",
        "localhost:8080/x",
        "localhost:8080?x",
        "93.184.216.34:80/",
        "[::1]:80",
        "a.example:x",
        "nonsense",
    ],
)
def test_a_missing_scheme_is_said(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        POLICY.parse(url)
    assert str(caught.value) == (
        "The target URL must begin with http:// or https://, for example https://example.com/."
    )


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        (b"http://a.example/?a'b", b"/?a'b"),
        (b"http://a.example?x'", b"/?x'"),
        (b"http://a.example", b"/"),
        (b"http://a.example/a/../%2e%2e/./b", b"/a/../%2e%2e/./b"),
        (b"http://a.example/\\..\\x?\\", b"/\\..\\x?\\"),
        (b'http://a.example/"<>^`{|}?"<>^`{|}', b'/"<>^`{|}?"<>^`{|}'),
        (b"http://a.example/%zz%?%", b"/%zz%?%"),
        (b"http://a.example/!$&'()*+,;=:@-._~[]?/?", b"/!$&'()*+,;=:@-._~[]?/?"),
        (b"http://a.example/\xc3\xbcbung?\xe2\x98\x83", b"/%C3%BCbung?%E2%98%83"),
        (b"http://a.example/\xfc?\xff", b"/%FC?%FF"),
        (b"http://a.example/x#y", b"/x"),
    ],
)
def test_a_proxys_target_keeps_path_and_query_as_they_came(asked: bytes, path: bytes) -> None:
    """RFC 9110, section 7.7."""
    target = POLICY.parse_absolute_form(asked)
    assert (target.path, target.authority) == (path, b"a.example")


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#")))
def test_no_byte_of_a_proxys_target_changes(rest: str) -> None:
    target = POLICY.parse_absolute_form(b"http://a.example/" + rest.encode())
    assert target.path == b"/" + rest.encode()
    assert (target.host, target.port) == ("a.example", 80)


@pytest.mark.parametrize(
    "url",
    [
        b"http://a.example\\@b.example/",
        b"http://a.example\\x",
        b"http:\\\\a.example/",
        b"http://a.example/\r\nX: y",
        b"http://a.example/\x7f",
        b"http://\xfc.example/",
        b"a.example:443",
    ],
)
def test_where_a_proxys_target_leads_is_as_clear(url: bytes) -> None:
    with pytest.raises(BadUrl):
        POLICY.parse_absolute_form(url)


@pytest.mark.parametrize("url", [b"http://\xff.example/", b"http://a.example/\xff", b"\x80"])
def test_what_is_not_utf8_is_malformed(url: bytes) -> None:
    with pytest.raises(BadUrl):
        POLICY.parse(url)


def test_a_target_says_what_the_wire_needs() -> None:
    target = POLICY.parse("https://[2606:4700::1]:8443/p?q")
    assert (target.scheme, target.host, target.port) == ("https", "2606:4700::1", 8443)
    assert (target.path, target.authority) == (b"/p?q", b"[2606:4700::1]:8443")
    assert target.origin == "https://[2606:4700::1]:8443"
    assert target.is_address
    assert target.host_is_ipv6
    assert not target.is_onion
    service = POLICY.parse(f"http://x.{ONION}.onion")
    assert service.is_onion
    assert not service.is_address
    assert not service.host_is_ipv6


def test_websockets_need_to_be_asked_for() -> None:
    plain = POLICY.parse("ws://a.example/chat", WEBSOCKET_SCHEMES)
    secure = POLICY.parse("WSS://a.example/chat", WEBSOCKET_SCHEMES)
    assert (plain.scheme, plain.port, plain.websocket) == ("http", 80, True)
    assert (secure.scheme, secure.port, secure.websocket) == ("https", 443, True)
    assert secure.url == "wss://a.example/chat"
    assert secure.origin == "https://a.example"
    with pytest.raises(TargetForbidden):
        POLICY.parse("ws://a.example/chat")


def test_errors_and_reprs_do_not_show_the_target() -> None:
    canary = "canary7f3a"
    bad = ["gopher", "http", "http://[zz", "http://x@y", "http://é é", "http://\ud800", "http://["]
    for start in bad:
        for url in (f"{start}{canary}", f"{start}.{canary}.local/", f"{start}:{canary}"):
            with pytest.raises((BadUrl, TargetForbidden)) as caught:
                POLICY.parse(url)
            assert canary not in str(caught.value)
            # Neither do the errors that it may come from.
            assert caught.value.__context__ is None
            shown = traceback.format_exception_only(caught.value)
            assert canary not in "".join(shown)
    assert canary not in repr(POLICY.parse(f"http://{canary}.example/{canary}"))
    assert canary not in repr(POLICY.tunnel(f"{canary}.example:443".encode()))


def test_the_gateway_does_not_ask_itself() -> None:
    policy = TargetPolicy(
        own_hosts=frozenset({"gw.example", "[2606:4700::5]"}), own_ports=frozenset({3080})
    )
    with pytest.raises(TargetForbidden):
        policy.parse("http://[2606:4700:0::5]:3080/")
    with pytest.raises(TargetForbidden):
        policy.parse("http://GW.example.:3080/health")
    with pytest.raises(TargetForbidden):
        policy.tunnel(b"gw.example:3080")
    assert policy.parse("http://gw.example/").port == 80
    assert policy.parse("http://other.example:3080/").port == 3080


def test_an_alias_is_wholly_the_new_target() -> None:
    policy = TargetPolicy(
        aliases=(
            parse_alias(f"localhost:8080={ONION}.onion:80"),
            parse_alias("127.0.0.1=a.example"),
            parse_alias("myapp = b.example:8443"),
            parse_alias("gone.example=kept.example"),
        )
    )
    target = policy.parse("http://LOCALHOST.:8080/x")
    assert (target.host, target.port) == (f"{ONION}.onion", 80)
    assert target.authority == f"{ONION}.onion".encode()
    assert target.url == f"http://{ONION}.onion/x"
    assert policy.parse("http://127.0.0.1:81/").url == "http://a.example:81/"
    assert policy.parse("https://myapp/").url == "https://b.example:8443/"
    assert policy.tunnel(b"localhost:8080") == HostPort(f"{ONION}.onion", 80)
    for url in ("http://localhost/", "http://127.0.0.2/", "http://0x7f000001/"):
        with pytest.raises(TargetForbidden):
            policy.parse(url)


@pytest.mark.parametrize(
    "host", ["router.lan", "wiki.corp", "nas.home.arpa", "db.internal", "app.test", "x.invalid"]
)
def test_what_an_alias_names_is_served_and_nothing_beside_it(host: str) -> None:
    policy = TargetPolicy(aliases=(parse_alias(f"{host}=a.example:8080"),))
    assert policy.parse(f"http://{host.upper()}./x").url == "http://a.example:8080/x"
    assert policy.tunnel(f"{host}:443".encode()).host == "a.example"
    for other in (f"http://x.{host}/", f"http://x{host}/"):
        with pytest.raises(TargetForbidden, match="--alias"):
            policy.parse(other)


@pytest.mark.parametrize(
    "host",
    [
        "origin.test.example",
        "lan.example",
        "test.example",
        "home.example",
        "www.corporate",
        "a.mailbox",
        "athome.arpa",
        "1.0.0.127.in-addr.arpa",
        "a.internal.example",
        "a.tests",
    ],
)
def test_what_only_resembles_a_local_name_is_served(host: str) -> None:
    assert POLICY.parse(f"http://{host}/").host == host


def test_an_alias_for_the_gateway_is_not_a_way_round() -> None:
    policy = TargetPolicy(
        aliases=(parse_alias("x.example=gw.example:3080"),),
        own_hosts=frozenset({"gw.example"}),
        own_ports=frozenset({3080}),
    )
    with pytest.raises(TargetForbidden):
        policy.parse("http://x.example/")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "=a.example",
        "localhost=",
        "localhost=127.0.0.1",
        "localhost=intranet:80",
        "localhost:0=a.example",
        "localhost:x=a.example",
        "a.example=b.onion",
        "a=b.example=c.example",
        "http://localhost=a.example",
        "x\ny=a.example",
        "\ud800=a.example",
    ],
)
def test_bad_aliases(text: str) -> None:
    with pytest.raises(SetupError, match=r"^`aliases`"):
        parse_alias(text)


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        (b"a.example:443", "a.example", 443),
        (b"A.Example.:1", "a.example", 1),
        (b"[2606:4700::1]:443", "2606:4700::1", 443),
        (b"93.184.216.34:80", "93.184.216.34", 80),
    ],
)
def test_tunnels(authority: bytes, host: str, port: int) -> None:
    assert POLICY.tunnel(authority) == HostPort(host, port)


@pytest.mark.parametrize(
    ("authority", "error"),
    [
        (b"a.example", BadUrl),
        (b"a.example:", BadUrl),
        (b":443", BadUrl),
        (b"", BadUrl),
        (b"a.example:443/", BadUrl),
        (b"http://a.example:443", BadUrl),
        (b"a.example:\xb2", BadUrl),
        (b"2606:4700::1:443", BadUrl),
        (b"user@a.example:443", TargetForbidden),
        (b"localhost:443", TargetForbidden),
        (b"127.1:443", TargetForbidden),
        (b"[::1]:443", TargetForbidden),
        (b"a.example:0", TargetForbidden),
        (b"a.example:65536", TargetForbidden),
    ],
)
def test_forbidden_tunnels(authority: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        POLICY.tunnel(authority)


def test_memory_is_bounded() -> None:
    policy = TargetPolicy()
    short, long = "http://a.example/", "http://a.example/" + "x" * 4096
    assert policy.parse(short) is policy.parse(short)
    assert policy.parse(long) is not policy.parse(long)


def test_values_do_not_depend_on_the_process() -> None:
    target = POLICY.parse("http://a.example/x")
    assert pickle.loads(pickle.dumps(target)) == target


URLS = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=40).map(lambda t: f"http://{t}".encode(errors="replace")),
    st.text(alphabet="0123456789xabcdef.:[]%@\\/?#-_", max_size=30).map(
        lambda t: f"http://{t}".encode()
    ),
    st.ip_addresses().map(lambda a: f"http://{a}/".encode()),
    st.ip_addresses(v=6).map(lambda a: f"http://[{a}]:99/".encode()),
    st.from_regex(rb"\A(https?)://[a-z0-9.-]{1,20}(:[0-9]{1,6})?(/[^#]{0,10})?\Z"),
)


@given(URLS)
@example(b"http://0.0.0.0.:80/")
@example("http://１６９。254．169｡254/".encode())
def test_whatever_passes_is_public_and_stable(url: bytes) -> None:
    try:
        target = TargetPolicy().parse(url)
    except (BadUrl, TargetForbidden):
        return
    assert TargetPolicy().parse(target.url) == target
    assert 1 <= target.port <= 65535
    assert target.host == target.host.lower()
    assert target.host.isascii()
    for byte in target.path + target.authority:
        assert 0x20 < byte < 0x7F
    assert target.path.startswith(b"/")
    assert b"#" not in target.path
    try:
        address = ipaddress.ip_address(target.host)
    except ValueError:
        assert "." in target.host
        assert not target.host.endswith((".localhost", ".local", ".exit", "."))
        assert not target.host.rpartition(".")[2].isdigit()
    else:
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_loopback
        assert not address.is_link_local


@given(st.text(max_size=40), st.binary(max_size=40))
def test_any_host_has_one_form_or_none(text: str, raw: bytes) -> None:
    for given_host in (text.encode(errors="ignore"), raw):
        try:
            host = canonical_host(given_host)
        except (BadUrl, TargetForbidden):
            continue
        bracketed = f"[{host}]" if ":" in host else host
        assert canonical_host(bracketed.encode()) == host
        assert canonical_host(bracketed.upper().encode()) == host


@given(st.ip_addresses(v=4))
def test_every_special_ipv4_address_is_refused(address: ipaddress.IPv4Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved:
        with pytest.raises(TargetForbidden):
            judge_host(str(address))


@given(st.ip_addresses(v=4))
def test_no_embedding_of_ipv4_in_ipv6_passes(address: ipaddress.IPv4Address) -> None:
    high, low = int(address) >> 16, int(address) & 0xFFFF
    for host in (
        f"::ffff:{address}",
        f"::{address}",
        f"64:ff9b::{address}",
        f"64:ff9b:1::{address}",
        f"2002:{high:x}:{low:x}::1",
        f"2001:0:{high:x}:{low:x}::",
        f"2001::{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}",
    ):
        with pytest.raises(TargetForbidden):
            POLICY.parse(f"http://[{host}]/")


@given(st.integers(min_value=0, max_value=2**32 - 1), st.data())
def test_no_other_spelling_of_ipv4_passes(number: int, data: st.DataObject) -> None:
    a, b, c, d = number.to_bytes(4, "big")
    spelling = data.draw(
        st.sampled_from(
            [
                f"{number}",
                f"0x{number:x}",
                f"0{number:o}",
                f"{a}.{number & 0xFFFFFF}",
                f"{a}.{b}.{number & 0xFFFF}",
                f"0{a:o}.{b}.{c}.{d}",
                f"{a}.{b}.{c}.0x{d:X}",
                f"{a}.{b}.0{c:o}.{d}.",
            ]
        )
    )
    with pytest.raises(TargetForbidden):
        POLICY.parse(f"http://{spelling}/")


def test_a_target_can_be_made_by_hand() -> None:
    assert Target("http", "a.example", 80, b"/").authority == b"a.example"

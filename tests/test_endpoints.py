"""Addresses and endpoints, as the configuration takes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet import endpoints

from tests.configuration import load
from tortxd.addresses import SocksAddress
from tortxd.config import DaemonConfig
from tortxd.endpoints import (
    BACKLOG,
    is_local_client,
    is_local_endpoint,
    loopback_http,
    plain,
    split_endpoint,
    with_backlog,
)
from tortxd.errors import SetupError


@pytest.mark.parametrize(
    ("text", "address", "url", "local"),
    [
        ("9150", SocksAddress(port=9150), "socks5h://127.0.0.1:9150", True),
        ("0.0.0.0:1", SocksAddress("0.0.0.0", 1), "socks5h://0.0.0.0:1", False),
        ("[::1]:9050", SocksAddress("::1"), "socks5h://[::1]:9050", True),
        ("[::]:9050", SocksAddress("::"), "socks5h://[::]:9050", False),
        ("localhost:9050", SocksAddress("localhost"), "socks5h://localhost:9050", True),
        ("tor:9050", SocksAddress("tor"), "socks5h://tor:9050", False),
        ("unix:/a b", SocksAddress(path="/a b"), "socks5h://localhost/a b", True),
    ],
)
def test_socks_addresses(text: str, address: SocksAddress, url: str, local: bool) -> None:
    assert SocksAddress.parse(text) == address
    assert address.url == url
    assert address.is_local is local


@pytest.mark.parametrize(
    "text",
    [
        "",
        "auto",
        "0",
        "65536",
        "-1",
        "9050 IsolateDestAddr",
        "127.0.0.1:9050\nControlPort 1",
        "127.0.0.1:9050\n",
        "::1:9050",
        "[fe80::1%eth0]:9050",
        "unix:relative",
        'unix:/a"b',
        "unix:/a\nb",
        "a b:9050",
        ":9050",
    ],
)
def test_bad_socks_addresses(text: str) -> None:
    with pytest.raises(SetupError, match=r"^`socks`"):
        SocksAddress.parse(text)


@pytest.mark.parametrize(
    ("description", "local"),
    [
        ("tcp:3080:interface=127.0.0.1", True),
        ("tcp:port=3080:interface=127.8.9.1", True),
        ("tcp:3080:127.0.0.1", True),
        ("tcp:interface=127.0.0.1:port=3080", True),
        (r"tcp6:3080:interface=\:\:1", True),
        ("tcp:3080:interface=localhost", True),
        ("unix:/run/tortxd.sock", True),
        ("unix:address=/x:mode=660", True),
        ("ssl:443:interface=127.0.0.1", True),
        ("tcp:3080", False),
        ("tcp6:3080", False),
        ("tcp:3080:interface=", False),
        ("tcp:3080:interface=0.0.0.0", False),
        ("tcp:3080:interface=192.168.0.1", False),
        (r"tcp6:3080:interface=\:\:", False),
        (r"tcp6:3080:interface=\:\:ffff\:10.0.0.1", False),
        ("tcp6:3080:interface=::1", False),
        ("ssl:443", False),
        ("haproxy:tcp:3080:interface=127.0.0.1", False),
        ("onion:80", False),
        ("", False),
    ],
)
def test_which_endpoints_are_local(description: str, local: bool) -> None:
    assert is_local_endpoint(description) is local


@pytest.mark.parametrize(
    ("description", "local"),
    [
        ("unix:/run/tor/control", True),
        ("unix:path=/x", True),
        ("tcp:127.0.0.1:9051", True),
        ("tcp:localhost:9051", True),
        ("tcp:port=9051:host=127.0.0.1", True),
        (r"tcp:\:\:1:9051", True),
        ("tcp:tor:9051", False),
        ("tcp:192.168.0.1:9051", False),
        ("tcp:0.0.0.0:9051", False),
        ("tls:localhost:9051", False),
        ("tcp", False),
        ("", False),
    ],
)
def test_which_client_endpoints_are_local(description: str, local: bool) -> None:
    assert is_local_client(description) is local


@pytest.mark.parametrize(
    ("description", "address"),
    [
        ("tcp:3080:interface=127.0.0.1", "127.0.0.1:3080"),
        ("tcp:3080:127.0.0.1", "127.0.0.1:3080"),
        (r"tcp6:3080:50:\:\:1", "[::1]:3080"),
        ("tcp:interface=127.0.0.1:port=3080", "127.0.0.1:3080"),
        (r"tcp6:3080:interface=\:\:1", "[::1]:3080"),
        ("tcp:3080", "0.0.0.0:3080"),
        ("tcp6:3080", "[::]:3080"),
        ("tcp:127.0.0.1:9051", "127.0.0.1:9051"),
        (r"tcp:\:\:1:9051", "[::1]:9051"),
        ("tcp:host=tor:port=9051", "tor:9051"),
        ("tcp:tor:9051", "tor:9051"),
        ("unix:/run/tor/control", "/run/tor/control"),
        (r"unix:/run/a\:b", "/run/a:b"),
        ("unix:path=/run/tor/control", "/run/tor/control"),
        ("unix:address=/x:mode=660", "/x"),
        ("systemd:domain=UNIX:index=0", "systemd:domain=UNIX:index=0"),
    ],
)
def test_addresses_of_endpoints(description: str, address: str) -> None:
    """As people write them, without escapes."""
    assert plain(description) == address


@given(st.text(alphabet="ab:=\\[1", max_size=20))
@example(r"tcp:3080:interface=\:\:1")
@example("tcp:3080:interface=0.0.0.0:interface=127.0.0.1")
@example("tcp:a=b=c")
@example("tcp\\")
def test_descriptions_are_split_as_twisted_splits_them(description: str) -> None:
    """Else an endpoint could look local here and be opened to everyone there."""
    try:
        theirs = endpoints._parse(description)
    except (RuntimeError, StopIteration):  # it ends in a backslash
        return
    positional, named = split_endpoint(description)
    assert (positional, named) == (theirs[0] or [""], theirs[1])


@pytest.mark.parametrize(
    ("given", "http"),
    [
        ("3081", loopback_http(3081)),
        (3081, loopback_http(3081)),
        (" 3081 ", loopback_http(3081)),
        ("localhost:3081", loopback_http(3081)),
        ("127.0.0.1:3081", ("tcp:3081:interface=127.0.0.1",)),
        ("127.8.9.1:3081", ("tcp:3081:interface=127.8.9.1",)),
        ("[::1]:3081", (r"tcp6:3081:interface=\:\:1",)),
        ("/run/a:b", (r"unix:/run/a\:b",)),
        ("tcp:port=3081:interface=127.0.0.1", ("tcp:port=3081:interface=127.0.0.1",)),
        (["3081", "localhost:3081", "/x"], (*loopback_http(3081), "unix:/x")),
    ],
)
def test_where_the_gateway_listens_is_taken_as_it_is_meant(
    given: Any, http: tuple[str, ...]
) -> None:
    config = DaemonConfig(http=given)
    config.check_exposure()
    assert config.http == http
    assert load({"TORTXD_HTTP": ",".join(map(str, given if isinstance(given, list) else [given]))})
    pairs = {loopback_http(port)[1] for port in config.http_ports}
    assert config.http_may_lack == (pairs if "tcp:3081:interface=127.0.0.1" in http[:-1] else set())


@pytest.mark.parametrize(
    "given", ["0.0.0.0:3081", "*:3081", "[::]:3081", "192.0.2.1:3081", "[2001:db8::1]:3081"]
)
def test_addresses_beyond_loopback_are_exposed(given: str) -> None:
    with pytest.raises(SetupError, match="listens on more than loopback"):
        load(http=[given])
    (description,) = load(http=[given], open=True).http
    positional, named = split_endpoint(description)
    assert positional[1] == "3081"
    assert named["interface"] == ("0.0.0.0" if given[0] == "*" else given[:-5].strip("[]"))


@pytest.mark.parametrize(
    "given",
    [
        "http://127.0.0.1:3081",
        "http://localhost:3081/",
        "https://a.example",
        "tcp",
        "tcp:",
        "tcp:abc",
        "tcp:70000",
        "tcp:-1",
        "tcp:127.0.0.1:3081",
        "tcp:3081:interface=::1",
        "tcp:3081:interfaces=127.0.0.1",
        "tcp:3081:127.0.0.1:50:9",
        "tcp:3081:port=3082",
        "foo:bar:baz",
        "nonsense",
        "localhost",
        "127.0.0.1",
        ":3081",
        "::1:3081",
        "[::1:3081",
        "999.0.0.1:3081",
        "app.example:3081",
        "0",
        "65536",
        "0.0.0.0:0",
        "unix:",
        "TCP:3081",
        "\N{SNOWMAN}:3081",
        "x" * 300,
    ],
)
def test_what_is_no_endpoint_is_told_what_one_looks_like(given: str) -> None:
    """Not that it is exposed."""
    with pytest.raises(SetupError) as caught:
        load(http=[given])
    sentence = str(caught.value)
    assert sentence.startswith("--http does not understand ")
    assert "127.0.0.1:3080" in sentence
    assert "tcp:3080:interface=127.0.0.1" in sentence
    assert "more than loopback" not in sentence
    assert sentence.isascii()
    assert len(sentence) < 300


def test_endpoints_of_plugins_are_known() -> None:
    """Whom they serve is not, so they count as exposed."""
    with pytest.raises(SetupError, match="more than loopback"):
        load(http=["stdio:"])


def test_behind_a_balancer_anybody_may_come() -> None:
    """Wherever the endpoint itself listens."""
    endpoint = "haproxy:tcp:3080:interface=127.0.0.1"
    with pytest.raises(SetupError, match=r"whoever a balancer sends to 127\.0\.0\.1:3080"):
        load(http=[endpoint])
    assert load(http=[endpoint], open=True).http == (endpoint,)


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("haproxy:10.0.0.1:3080", "haproxy:tcp:3080:interface=10.0.0.1"),
        ("haproxy:*:3080", "haproxy:tcp:3080:interface=0.0.0.0"),
        ("haproxy:/run/tortxd/http", "haproxy:unix:/run/tortxd/http"),
        ("haproxy:unix:/run/tortxd/http", "haproxy:unix:/run/tortxd/http"),
    ],
)
def test_what_is_behind_a_balancer_is_taken_as_it_is_meant(given: str, endpoint: str) -> None:
    assert load(http=[given], open=True).http == (endpoint,)


@pytest.mark.parametrize(
    "given",
    [
        *("haproxy:", "haproxy:3080", "haproxy:x", "haproxy:tcp:x", "haproxy:tcp:3080:x=1"),
        *("haproxy:ssl:443", "haproxy:haproxy:tcp:3080", "haproxy:onion:80"),
    ],
)
def test_what_no_balancer_can_reach_is_refused(given: str) -> None:
    with pytest.raises(SetupError, match=r"^--http does not understand"):
        load(http=[given], open=True)


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("9051", "tcp:127.0.0.1:9051"),
        (9051, "tcp:127.0.0.1:9051"),
        ("localhost:9051", "tcp:127.0.0.1:9051"),
        ("127.0.0.1:9051", "tcp:127.0.0.1:9051"),
        ("tor:9051", "tcp:tor:9051"),
        ("[::1]:9051", r"tcp:\:\:1:9051"),
        ("/run/tor/control", "unix:/run/tor/control"),
        ("tcp:127.0.0.1:9051", "tcp:127.0.0.1:9051"),
        ("tcp:host=tor:port=9051", "tcp:host=tor:port=9051"),
        ("unix:/run/tor/control", "unix:/run/tor/control"),
        ("unix:path=/run/tor/control", "unix:path=/run/tor/control"),
    ],
)
def test_a_control_port_is_taken_as_it_is_meant(given: Any, endpoint: str) -> None:
    assert DaemonConfig(control=given).control == endpoint
    assert load({"TORTXD_CONTROL": str(given)}).control == endpoint
    endpoints.clientFromString(object(), endpoint)


@pytest.mark.parametrize(
    "given",
    [
        "nonsense",
        "http://127.0.0.1:9051",
        "tcp",
        "tcp:9051",
        "tcp:127.0.0.1:x",
        "tcp:127.0.0.1:0",
        "unix:",
        "foo:bar:baz",
        "*:9051",
        "0",
        "127.0.0.1",
    ],
)
def test_what_is_no_control_port_is_told_what_one_looks_like(given: str) -> None:
    with pytest.raises(SetupError, match=r"--control does not understand .*tcp:127\.0\.0\.1:9051"):
        load(control=given)


@pytest.mark.parametrize(
    ("description", "backlog"),
    [
        *((each, BACKLOG) for each in loopback_http(3080)),
        ("tcp:3080", BACKLOG),
        ("tcp:3080:127.0.0.1", BACKLOG),
        ("tcp:3080:127.0.0.1:7", 7),
        ("tcp:3080:backlog=7", 7),
        ("tcp6:3080:7", 7),
        ("unix:/run/tortxd/http:mode=660", BACKLOG),
        (r"unix:/run/a\:b:660:7", 7),
    ],
)
def test_many_clients_may_wait_unless_it_is_said_how_many(description: str, backlog: int) -> None:
    endpoint: Any = endpoints.serverFromString(object(), with_backlog(description))
    assert endpoint._backlog == backlog


@pytest.mark.parametrize(
    "description", ["ssl:443:k:c:TLSv1_METHOD::7", "systemd:domain=INET:index=0", "onion:80"]
)
def test_what_has_no_backlog_gets_none(description: str) -> None:
    assert with_backlog(description) == description

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet import endpoints

from tortxd.addresses import SocksAddress
from tortxd.config import DEFAULT_HTTP, Config, DaemonConfig, default_data_dir
from tortxd.endpoints import (
    is_local_client,
    is_local_endpoint,
    loopback_http,
    plain,
    split_endpoint,
)
from tortxd.errors import SetupError

HOME = {"HOME": "/home/someone"}


def load(environ: Mapping[str, str] | None = None, /, **options: object) -> DaemonConfig:
    return DaemonConfig.load(options, {**HOME, **(environ or {})})


def toml(path: Path, text: str) -> str:
    file = path / "tortxd.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


# --- the library's --------------------------------------------------------------------------------


def test_library_defaults() -> None:
    config = Config()
    assert config == Config("127.0.0.1:9050", "127.0.0.1:3080", 60.0, True)
    assert config.socks == SocksAddress("127.0.0.1", 9050)
    assert config.gateway == ("127.0.0.1", 3080)
    assert config.check_url == "https://check.torproject.org/api/ip"
    assert config.ip_url == "https://api.ipify.org?format=json"


def test_library_addresses() -> None:
    config = Config(socks_addr="unix:/run/tor/socks", http_gateway_addr="[::1]:80", timeout=5)
    assert config.socks.path == "/run/tor/socks"
    assert config.gateway == ("::1", 80)
    assert config.timeout == 5.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("socks_addr", "nonsense:"),
        ("socks_addr", ""),
        ("http_gateway_addr", "127.0.0.1"),
        ("http_gateway_addr", "127.0.0.1:0"),
        ("http_gateway_addr", "http://127.0.0.1:80"),
        ("timeout", 0),
        ("timeout", True),
        ("timeout", float("inf")),
        ("timeout", float("nan")),
        ("check_url", "ftp://a.example/"),
        ("ip_url", "https://a.example/\r\nX: y"),
    ],
)
def test_bad_library_values(field: str, value: object) -> None:
    with pytest.raises(SetupError, match=f"^`{field}` takes "):
        Config(**{field: value})  # type: ignore[arg-type]


# --- addresses and endpoints ----------------------------------------------------------------------


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
        ("systemd:domain=UNIX:index=0", True),
        ("ssl:443:interface=127.0.0.1", True),
        ("tcp:3080", False),
        ("tcp6:3080", False),
        ("tcp:3080:interface=", False),
        ("tcp:3080:interface=0.0.0.0", False),
        ("tcp:3080:interface=192.168.0.1", False),
        (r"tcp6:3080:interface=\:\:", False),
        (r"tcp6:3080:interface=\:\:ffff\:10.0.0.1", False),
        ("tcp6:3080:interface=::1", False),
        ("systemd:domain=INET:index=0", False),
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
        load(http=["haproxy:tcp:3080:interface=127.0.0.1"])


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


# --- the daemon's ---------------------------------------------------------------------------------


def test_daemon_defaults() -> None:
    config = load()
    assert config == DaemonConfig(data_dir="/home/someone/.local/state/tortxd")
    assert config.http == DEFAULT_HTTP
    assert config.http == ("tcp:3080:interface=127.0.0.1", r"tcp6:3080:interface=\:\:1")
    assert config.http_may_lack == {DEFAULT_HTTP[1]}
    assert config.socks is None
    assert config.control is None
    assert config.token is None
    assert (config.timeout, config.idle_timeout) == (60.0, 300.0)
    assert config.user_agent == "auto"
    assert config.open is False


def test_every_option_from_everywhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("  a-long-enough-token\n", encoding="ascii")
    expected = DaemonConfig(
        http=("tcp:1:interface=127.0.0.1", "unix:/x"),
        socks="127.0.0.2:9999",
        control="unix:/run/tor/control",
        control_password_file=secret,
        data_dir=tmp_path,
        tor="/opt/tor",
        torrc="/etc/torrc",
        token_file=str(secret),
        allow_origins=["https://App.example:443", "http://b.example:81"],
        allow_hosts=["GW.example", "2001:DB8:0::5"],
        aliases={"localhost:8080": "a.example:80", "x": "b.example"},
        open=True,
        timeout=1.5,
        idle_timeout=2,
        user_agent="keep",
        check_url="https://c.example/",
        ip_url="http://i.example/",
    )
    assert expected.token == b"a-long-enough-token"
    assert expected.allow_origins == ("https://app.example", "http://b.example:81")
    assert expected.allow_hosts == ("gw.example", "[2001:db8::5]")
    assert expected.aliases == ("localhost:8080=a.example:80", "x=b.example")
    file = toml(
        tmp_path,
        f"""
        http = ["tcp:1:interface=127.0.0.1", "unix:/x"]
        socks = "127.0.0.2:9999"
        control = "unix:/run/tor/control"
        control_password_file = "{secret}"
        data_dir = "{tmp_path}"
        tor = "/opt/tor"
        torrc = "/etc/torrc"
        token_file = "{secret}"
        allow_origins = ["https://app.example", "http://b.example:81"]
        allow_hosts = ["gw.example", "[2001:db8::5]"]
        open = true
        timeout = 1.5
        idle_timeout = 2
        user_agent = "keep"
        check_url = "https://c.example/"
        ip_url = "http://i.example/"
        [aliases]
        "localhost:8080" = "a.example:80"
        x = "b.example"
        """,
    )
    assert load(config=file) == expected
    assert load({"TORTXD_CONFIG": file}) == expected
    environ = {
        "TORTXD_HTTP": "tcp:1:interface=127.0.0.1, unix:/x",
        "TORTXD_SOCKS": "127.0.0.2:9999",
        "TORTXD_CONTROL": "unix:/run/tor/control",
        "TORTXD_CONTROL_PASSWORD_FILE": str(secret),
        "TORTXD_DATA_DIR": str(tmp_path),
        "TORTXD_TOR": "/opt/tor",
        "TORTXD_TORRC": "/etc/torrc",
        "TORTXD_TOKEN_FILE": str(secret),
        "TORTXD_ALLOW_ORIGINS": "https://app.example,http://b.example:81",
        "TORTXD_ALLOW_HOSTS": "gw.example,[2001:db8::5],",
        "TORTXD_ALIASES": "localhost:8080=a.example:80,x=b.example",
        "TORTXD_OPEN": "1",
        "TORTXD_TIMEOUT": "1.5",
        "TORTXD_IDLE_TIMEOUT": "2",
        "TORTXD_USER_AGENT": "keep",
        "TORTXD_CHECK_URL": "https://c.example/",
        "TORTXD_IP_URL": "http://i.example/",
    }
    assert load(environ) == expected
    assert (
        load(
            http=["tcp:1:interface=127.0.0.1", "unix:/x"],
            socks="127.0.0.2:9999",
            control="unix:/run/tor/control",
            control_password_file=str(secret),
            data_dir=str(tmp_path),
            tor="/opt/tor",
            torrc="/etc/torrc",
            token_file=str(secret),
            allow_origins=["https://app.example", "http://b.example:81"],
            allow_hosts=["gw.example", "[2001:db8::5]"],
            aliases=["localhost:8080=a.example:80", "x=b.example"],
            open=1,
            timeout="1.5",
            idle_timeout="2",
            user_agent="keep",
            check_url="https://c.example/",
            ip_url="http://i.example/",
        )
        == expected
    )


def test_ports() -> None:
    http = ["tcp:1", r"tcp6:port=2:interface=\:\:1", "unix:/3", "tcp:0"]
    assert DaemonConfig(http=http).http_ports == {1, 2}
    assert load().http_ports == {3080}
    assert DaemonConfig(http=()).http_ports == frozenset()
    assert not DaemonConfig(http=()).http_may_lack


def test_precedence(tmp_path: Path) -> None:
    file = toml(tmp_path, 'timeout = 1\nuser_agent = "file"\nallow_hosts = ["f"]\nopen = true\n')
    environ = {"TORTXD_CONFIG": file, "TORTXD_TIMEOUT": "2", "TORTXD_ALLOW_HOSTS": "e1,e2"}
    assert load(environ).timeout == 2.0
    assert load(environ).user_agent == "file"
    assert load(environ, timeout="3").timeout == 3.0
    assert load(environ).allow_hosts == ("e1", "e2")
    assert load(environ, allow_hosts=["o"]).allow_hosts == ("o",)
    # What an option parser says of options that were not given changes nothing.
    assert load(environ, allow_hosts=[], timeout=None, open=0, http=()) == load(environ)
    assert load(environ).open is True
    assert load({**environ, "TORTXD_OPEN": "0"}).open is False
    other = tmp_path / "other.toml"
    other.write_text("timeout = 9", encoding="ascii")
    assert load({"TORTXD_CONFIG": file}, config=str(other)).timeout == 9.0


def test_the_old_names() -> None:
    config = load({"GATEWAY_PORT": "3999", "TOR_SOCKS_PORT": "9150"})
    assert config.http == ("tcp:3999:interface=127.0.0.1", r"tcp6:3999:interface=\:\:1")
    assert config.http_may_lack == {r"tcp6:3999:interface=\:\:1"}
    assert config.socks == SocksAddress(port=9150)
    new = {"TORTXD_HTTP": "unix:/x", "TORTXD_SOCKS": "1"}
    config = load({**new, "GATEWAY_PORT": "3999", "TOR_SOCKS_PORT": "9150"})
    assert config.http == ("unix:/x",)
    assert not config.http_may_lack
    assert config.socks == SocksAddress(port=1)
    assert load({"GATEWAY_PORT": "", "TORTXD_HTTP": "", "TORTXD_OPEN": ""}) == load()


KUBERNETES = {
    "{}_PORT": "tcp://10.0.0.1:3080",
    "{}_SERVICE_HOST": "10.0.0.1",
    "{}_SERVICE_PORT": "3080",
    "{}_SERVICE_PORT_HTTP": "3080",
    "{}_PORT_3080_TCP": "tcp://10.0.0.1:3080",
    "{}_PORT_3080_TCP_ADDR": "10.0.0.1",
    "{}_PORT_3080_TCP_PORT": "3080",
    "{}_PORT_3080_TCP_PROTO": "tcp",
    "{}_PORT_53_UDP": "udp://10.0.0.1:53",
    "{}_PORT_53_UDP_ADDR": "10.0.0.1",
    "{}_PORT_9_SCTP": "sctp://[fd00::1]:9",
    "{}_PORT_9_SCTP_PROTO": "sctp",
}
DOCKER = {
    "{}_NAME": "/app/gateway",
    "{}_ENV_PATH": "/usr/bin",
    "{}_ENV_npm_config": "x",
    "{}_PORT_3080_TCP_START": "tcp://172.17.0.2:3080",
    "{}_PORT_3080_TCP_PORT_END": "3085",
}


@pytest.mark.parametrize("service", ["TORTXD", "TORTXD_SOCKS", "TORTXD_MY_APP", "TORTXD_HTTP"])
def test_links_of_orchestrators_are_passed_over(service: str) -> None:
    links = {name.format(service): value for name, value in (KUBERNETES | DOCKER).items()}
    assert load(links) == load()
    for name, value in links.items():
        assert load({name: value, "TORTXD_TIMEOUT": "5"}) == load(timeout=5), name


@pytest.mark.parametrize("link", ["tcp://10.0.0.1:3080", "udp://10.0.0.1:53", "tcp://[fd00::1]:80"])
def test_the_old_names_may_be_links_too(link: str) -> None:
    """Of services called gateway and tor-socks."""
    assert load({"GATEWAY_PORT": link, "TOR_SOCKS_PORT": link}) == load()


def test_a_port_that_is_no_link_is_told_where_it_belongs() -> None:
    with pytest.raises(SetupError, match=r"TORTXD_PORT\. TORTXD_HTTP .* GATEWAY_PORT"):
        load({"TORTXD_PORT": "3080"})


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"TORTXD_PORTS": "3080"}, "TORTXD_PORTS"),
        ({"TORTXD_TIMEOUTS": "5"}, "TORTXD_TIMEOUTS"),
        ({"TORTXD_NAME": "gateway"}, "TORTXD_NAME"),
        ({"TORTXD_SOCKS_PORT": "9050"}, "TORTXD_SOCKS_PORT"),
        ({"TORTXD_PORT": "http://10.0.0.1:3080"}, "TORTXD_PORT"),
        ({"TORTXD_SERVICE": "x"}, "TORTXD_SERVICE"),
        ({"TORTXD_SERVICE_PORTS": "1"}, "TORTXD_SERVICE_PORTS"),
        ({"TORTXD_PORT_X_TCP": "1"}, "TORTXD_PORT_X_TCP"),
        ({"TORTXD_ENV": "x"}, "TORTXD_ENV"),
        ({"TORTXD_SOCKS": "tcp://10.0.0.1:9050"}, "TORTXD_SOCKS takes"),
        ({"TORTXD_TIMEOT": "1"}, "TORTXD_TIMEOT"),
        ({"TORTXD_timeout": "1"}, "TORTXD_timeout"),
        ({"TORTXD_TOKEN": "x"}, "TORTXD_TOKEN"),
        ({"TORTXD_": "x"}, "TORTXD_"),
        ({"TORTXD_OPEN": "maybe"}, "TORTXD_OPEN"),
        ({"TORTXD_TIMEOUT": "soon"}, "TORTXD_TIMEOUT takes .*, not 'soon'"),
        ({"TORTXD_OPEN": "yes"}, "TORTXD_OPEN takes 1 or 0, not 'yes'"),
        ({"TORTXD_OPEN": "true"}, "TORTXD_OPEN takes 1 or 0"),
        ({"TORTXD_OPEN": "off"}, "TORTXD_OPEN takes 1 or 0"),
        ({"GATEWAY_PORT": "http"}, "GATEWAY_PORT"),
        ({"GATEWAY_PORT": "70000"}, "GATEWAY_PORT"),
        ({"GATEWAY_PORT": "1:2"}, "GATEWAY_PORT"),
        ({"TOR_SOCKS_PORT": "x"}, "TOR_SOCKS_PORT"),
    ],
)
def test_bad_environments(environ: dict[str, str], name: str) -> None:
    with pytest.raises(SetupError, match=name):
        load(environ)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("timeot = 1", "timeot"),
        ("token = 'x'", "token"),
        ("[tortxd]\ntimeout = 1", "tortxd"),
        ("[timeout]\nseconds = 1", "timeout"),
        ("timeout = '1'", "timeout"),
        ("timeout = true", "timeout"),
        ("timeout = -1", "timeout"),
        ("open = 1", "open"),
        ("open = 'yes'", "open"),
        ("http = true", "http"),
        ("http = [1.5]", "http"),
        ("http = 70000", "http in .*tortxd.toml does not understand '70000'"),
        ("control = 1.5", "control"),
        ("http = ['']", "http"),
        ("socks = true", "socks"),
        ("socks = 1.5", "socks"),
        ("data_dir = ['x']", "data_dir"),
        ("aliases = ['a=b']", "aliases"),
        ("[aliases]\na = 1", "aliases"),
        ("[aliases.x]\na = 'b'", "aliases"),
        ("timeout 1", "TOML"),
        (f"timeout = {'9' * 400}", "timeout in .* takes a number"),
        (f"timeout = {'9' * 5000}", "TOML"),
        (f"http = {'[' * 20_000}", "TOML"),
        ("# " + "x" * 1024 * 1024, "File too large"),
        (r'token_file = "/a\u0000b"', "token_file in .* no control characters"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(SetupError, match=name):
        load(config=toml(tmp_path, text))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(SetupError, match=r"--config: /nowhere/x\.toml cannot be read"):
        load(config="/nowhere/x.toml")


def test_a_port_as_a_number_and_a_single_text_for_a_list(tmp_path: Path) -> None:
    config = load(config=toml(tmp_path, "socks = 9150\nhttp = 'unix:/x'\ncontrol = 9151"))
    assert config.socks == SocksAddress(port=9150)
    assert config.http == ("unix:/x",)
    assert config.control == "tcp:127.0.0.1:9151"
    assert load(config=toml(tmp_path, "http = 3081")).http == loopback_http(3081)
    both = load(config=toml(tmp_path, "http = [3081, '/x']"))
    assert both.http == (*loopback_http(3081), "unix:/x")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"bogus": "x"}, "--bogus"),
        ({"token": "x"}, "--token"),
        ({"timeout": "0"}, "--timeout"),
        ({"idle_timeout": "-5"}, "--idle-timeout"),
        ({"timeout": ""}, "--timeout"),
        ({"user_agent": ""}, "--user-agent"),
        ({"user_agent": "x\r\ny"}, "--user-agent"),
        ({"user_agent": "é"}, "--user-agent"),
        ({"control": ""}, "--control"),
        ({"control": "tcp:1\nx"}, "--control"),
        ({"http": ["tcp:1\n"]}, "--http"),
        ({"data_dir": "/a\nb"}, "--data-dir"),
        ({"torrc": "/a\rb"}, "--torrc"),
        ({"tor": "tor\n"}, "--tor"),
        ({"check_url": "gopher://a.example"}, "--check-url"),
        ({"ip_url": "https://"}, "--ip-url"),
        ({"allow_origins": ["*"]}, "--allow-origin"),
        ({"allow_origins": ["null/"]}, "--allow-origin"),
        ({"allow_origins": ["http://null/"]}, "--allow-origin"),
        ({"allow_origins": ["https://a.example/"]}, "--allow-origin"),
        ({"allow_origins": ["a.example"]}, "--allow-origin"),
        ({"allow_hosts": ["a.example:80"]}, "--allow-host"),
        ({"allow_hosts": ["*"]}, "--allow-host"),
        ({"allow_hosts": ["[::1"]}, "--allow-host"),
        ({"aliases": ["a=b\n"]}, "--alias"),
        ({"token_file": "/nowhere/token"}, "--token-file"),
    ],
)
def test_bad_options(options: dict[str, object], name: str) -> None:
    with pytest.raises(SetupError, match=name):
        load(**options)


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"two\nlines", b"\xff\xfe"])
def test_bad_token_files(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SetupError, match="--token-file") as caught:
        load(token_file=str(file))
    assert "two words" not in str(caught.value)


def test_passwords_may_hold_spaces(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes("pass wörd\n".encode())
    assert load(control_password_file=str(file)).control_password == "pass wörd".encode()
    file.write_bytes(b"a\nb")
    with pytest.raises(SetupError, match="--control-password-file"):
        load(control_password_file=str(file))


def test_secrets_do_not_show(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("canary-canary-canary", encoding="ascii")
    config = load(token_file=str(file), control_password_file=str(file))
    assert config.token == config.control_password == b"canary-canary-canary"
    assert "canary" not in repr(config)


# --- exposure (rule 11) ---------------------------------------------------------------------------


def test_exposed_gateways_need_a_token_or_open(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-long-enough-token", encoding="ascii")
    for http in ("tcp:3080", "tcp:3080:interface=0.0.0.0", "systemd:domain=INET:index=0"):
        both = ["tcp:3080:interface=127.0.0.1", http]
        with pytest.raises(SetupError, match="--token-file, or --open"):
            load(http=both)
        assert load(http=both, open=True).open
        assert load(http=both, token_file=str(token)).token
    with pytest.raises(
        SetupError, match=r"^`http` .* 0\.0\.0\.0:3080.* Set `token_file`, or `open`"
    ):
        DaemonConfig(http=["tcp:3080"]).check_exposure()


@pytest.mark.parametrize("given", ["0", "1", "off", "yes", 1, None])
def test_no_text_opens_the_proxy(given: Any) -> None:
    """Rule 11."""
    with pytest.raises(SetupError, match=r"^`open` takes True or False"):
        DaemonConfig(open=given)


def test_exposed_socks_ports_need_open(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-long-enough-token", encoding="ascii")
    nothing: dict[str, object] = {}
    for options in (nothing, {"token_file": str(token)}):
        with pytest.raises(SetupError, match="--socks"):
            load(socks="0.0.0.0:9050", **options)
    assert load(socks="0.0.0.0:9050", open=True).socks == SocksAddress("0.0.0.0")
    # An attached Tor's SOCKS port is only used, not opened.
    assert load(socks="tor:9050", control="tcp:tor:9051").socks == SocksAddress("tor")


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/tortxd", "XDG_STATE_HOME": "/x"}, "/var/lib/tortxd"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ({"XDG_STATE_HOME": "/x"}, "/x/tortxd"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/tortxd"),
        ({"HOME": "/h"}, "/h/.local/state/tortxd"),
    ],
)
def test_where_state_lies(environ: dict[str, str], expected: str) -> None:
    assert default_data_dir(environ) == Path(expected)
    assert DaemonConfig.load({}, environ).data_dir == Path(expected)


def test_without_a_home_the_user_database_knows_it() -> None:
    assert default_data_dir({}).is_absolute()


def test_paths_are_absolute_but_a_bare_executable_is_looked_up() -> None:
    config = load(data_dir="state", torrc="x/torrc", tor="tor-alpha")
    assert config.data_dir == Path.cwd() / "state"
    assert config.torrc == Path.cwd() / "x" / "torrc"
    assert config.tor == Path("tor-alpha")
    assert load(tor="./tor").tor == Path.cwd() / "tor"
    with pytest.raises(SetupError, match="--data-dir"):
        load(data_dir="")


def test_sentences_are_one_line(tmp_path: Path) -> None:
    for options in ({"http": ["tcp:1"]}, {"socks": "0.0.0.0:1"}, {"user_agent": "\n"}):
        with pytest.raises(SetupError) as caught:
            load(**options)
        assert re.fullmatch(r"[^\n]+\.", str(caught.value))

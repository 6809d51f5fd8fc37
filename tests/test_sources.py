"""Where options come from: files, the environment and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.configuration import load, toml
from tortxd.addresses import SocksAddress
from tortxd.config import DaemonConfig
from tortxd.endpoints import loopback_http
from tortxd.errors import SetupError

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

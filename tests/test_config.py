"""The configuration: defaults, exposure, secrets and paths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.configuration import load
from tortxd.addresses import SocksAddress
from tortxd.config import DEFAULT_HTTP, Config, DaemonConfig, default_data_dir
from tortxd.errors import SetupError

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
        ("token", ""),
        ("token", "two words"),
        ("token", "a\r\nX: y"),
        ("token", "ü"),
        ("token", b"bytes"),
    ],
)
def test_bad_library_values(field: str, value: object) -> None:
    with pytest.raises(SetupError, match=f"^`{field}` takes "):
        Config(**{field: value})  # type: ignore[arg-type]


def test_the_librarys_token_shows_nowhere() -> None:
    assert "canary" not in repr(Config(token="canary"))
    with pytest.raises(SetupError) as caught:
        Config(token="canary canary")
    assert "canary" not in str(caught.value)


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


def test_ports() -> None:
    http = ["tcp:1", r"tcp6:port=2:interface=\:\:1", "unix:/3", "tcp:0"]
    assert DaemonConfig(http=http).http_ports == {1, 2}
    assert load().http_ports == {3080}
    assert DaemonConfig(http=()).http_ports == frozenset()
    assert not DaemonConfig(http=()).http_may_lack


@pytest.mark.parametrize(
    ("http", "address"),
    [
        (["haproxy:tcp:3080:interface=0.0.0.0", "tcp:3081:interface=0.0.0.0"], ("127.0.0.1", 3081)),
        (["haproxy:tcp:port=3080", "unix:/run/gateway", "*:3082"], ("127.0.0.1", 3082)),
        (["[::]:3080"], ("::1", 3080)),
        (["10.0.0.1:3080"], ("10.0.0.1", 3080)),
        (["tcp:3080"], ("127.0.0.1", 3080)),
        (["haproxy:tcp:3080", "tcp:0", "ssl:443"], None),
    ],
)
def test_where_probes_ask(http: list[str], address: tuple[str, int] | None) -> None:
    """Not where the PROXY protocol, or TLS, comes before HTTP."""
    assert DaemonConfig(http=http).probe_address == address


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"two\nlines", b"\xff\xfe"])
def test_bad_token_files(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SetupError, match="--token-file") as caught:
        load(token_file=str(file))
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "must hold one line"),
        (b"sixteen and more, in words", "holds more than one word"),
        (b"fifteen-letters\n", "fewer than 16 characters"),
        (b"the-token-of-the-clients\n", "each client would be an operator"),
    ],
)
def test_bad_files_of_the_operators_token(tmp_path: Path, content: bytes, says: str) -> None:
    clients, operators = tmp_path / "clients", tmp_path / "operators"
    clients.write_text("the-token-of-the-clients")
    operators.write_bytes(content)
    with pytest.raises(SetupError, match=rf"^--operator-token-file: .*{says}") as caught:
        load(token_file=str(clients), operator_token_file=str(operators))
    assert "fifteen" not in str(caught.value)


def test_a_file_of_the_operators_token_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"^--operator-token-file: .*No such file or directory"):
        load(operator_token_file=str(tmp_path / "none"))


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
    other = tmp_path / "other"
    other.write_text("canary-of-the-operators", encoding="ascii")
    config = load(
        token_file=str(file), control_password_file=str(file), operator_token_file=str(other)
    )
    assert config.token == config.control_password == b"canary-canary-canary"
    assert config.operator_token == b"canary-of-the-operators"
    assert "canary" not in repr(config)


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_clients": "0"}, "--max-clients takes a whole number from 1 to 1000000, not '0'."),
        (
            {"max_requests": "many"},
            "--max-requests takes a whole number from 1 to 1000000, not 'many'.",
        ),
        (
            {"max_header_size": "8191"},
            "--max-header-size takes a whole number from 8192 to 1048576, not '8191'.",
        ),
        (
            {"client_share": "0"},
            "--client-share takes a number greater than 0 and at most 1, not 0.",
        ),
        (
            {"client_share": "half"},
            "--client-share takes a number greater than 0 and at most 1, not 'half'.",
        ),
        (
            {"keepalive_timeout": "-1"},
            "--keepalive-timeout takes a number of seconds greater than 0, not -1.",
        ),
    ],
)
def test_limits_that_are_none(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(SetupError) as caught:
        load(**options)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("value", [True, 1.5, None, -1])
def test_limits_are_whole_numbers(value: Any) -> None:
    with pytest.raises(SetupError, match=r"^`max_header_size` takes a whole number"):
        DaemonConfig(max_header_size=value)
    assert DaemonConfig(max_clients=None).max_clients is None


# --- exposure (rule 11) ---------------------------------------------------------------------------


def test_exposed_gateways_need_a_token_or_open(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-long-enough-token", encoding="ascii")
    for http in ("tcp:3080", "tcp:3080:interface=0.0.0.0"):
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


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"log_format": "xml"}, "--log-format takes text or json, not 'xml'."),
        (
            {"log_level": "WARN"},
            "--log-level takes debug, info, warn, error or critical, not 'WARN'.",
        ),
    ],
)
def test_a_log_of_no_such_kind(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(SetupError) as caught:
        load(**options)
    assert str(caught.value) == sentence


def test_sentences_are_one_line(tmp_path: Path) -> None:
    for options in ({"http": ["tcp:1"]}, {"socks": "0.0.0.0:1"}, {"user_agent": "\n"}):
        with pytest.raises(SetupError) as caught:
            load(**options)
        assert re.fullmatch(r"[^\n]+\.", str(caught.value))

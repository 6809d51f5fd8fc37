"""What a TorService takes over from another configuration while it runs, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.testing import MemoryReactorClock

from tortxd.config import DaemonConfig
from tortxd.errors import SetupError
from tortxd.options import KEYS, RELOADABLE
from tortxd.service import TorService

Load = Callable[[str], DaemonConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a configuration from a file that holds this."""

    def load(text: str) -> DaemonConfig:
        file = tmp_path / "tortxd.toml"
        file.write_text(text)
        return DaemonConfig.load({"config": str(file), "data_dir": str(tmp_path / "data")}, {})

    return load


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("first-token\n")
    return file


def test_what_may_change_counts_from_now_on(load: Load, token: Path) -> None:
    service = TorService(load(""))
    gateway = service._gateway
    changed, kept = service.reload(
        load(
            f'allow_hosts = ["tor.lan"]\ntoken_file = "{token}"\ntimeout = 5\nidle_timeout = 6\n'
            'user_agent = "keep"\nallow_origins = ["https://app.example"]\ndrain = 30\n'
            "max_clients = 3\nclient_share = 1\n"
            '[aliases]\n"localhost:80" = "a.example:80"\n'
        )
    )
    assert set(changed) == {
        *("allow_hosts", "allow_origins", "aliases", "token_file", "user_agent"),
        *("timeout", "idle_timeout", "drain", "max_clients", "client_share"),
    }
    assert kept == ()
    policy = gateway.policy
    assert (policy.timeout, policy.idle_timeout, service.config.drain) == (5.0, 6.0, 30.0)
    assert (gateway.limits.clients, gateway.limits.share) == (3, 1.0)
    assert policy.access.token == b"first-token"
    assert policy.access.allow_hosts == {b"tor.lan"}
    assert policy.access.allow_origins == {b"https://app.example"}
    assert policy.targets.parse(b"http://localhost/").host == "a.example"


def test_what_cannot_change_stays_and_is_told(load: Load) -> None:
    service = TorService(load("timeout = 5"))
    other = load('timeout = 6\nhttp = 3081\ncheck_url = "https://c.example/"\nuser = "daemon"')
    assert service.reload(other) == (("timeout",), ("check_url", "http", "user"))
    assert service.config.http == DaemonConfig().http
    assert service.config.timeout == 6.0


def test_every_option_either_changes_or_needs_a_restart() -> None:
    assert set(RELOADABLE) < KEYS


def test_a_token_is_read_again_from_the_same_file(load: Load, token: Path) -> None:
    service = TorService(load(f'token_file = "{token}"'))
    assert service.reload(load(f'token_file = "{token}"')) == ((), ())
    token.write_text("second-token\n")
    assert service.reload(load(f'token_file = "{token}"')) == (("token_file",), ())
    assert service._policy.access.token == b"second-token"


def test_the_operators_token_is_read_again_from_its_file(load: Load, tmp_path: Path) -> None:
    file = tmp_path / "operators"
    file.write_text("the-first-of-operators\n")
    text = f'control = 1\noperator_token_file = "{file}"'
    service = TorService(load(text), cast(Any, MemoryReactorClock()))
    service.startService()
    cookie = service._policy.access.operator_cookie
    assert service.reload(load(text)) == ((), ())
    assert service._policy.access.operator_cookie == cookie
    file.write_text("the-second-of-operators\n")
    assert service.reload(load(text)) == (("operator_token_file",), ())
    assert service._policy.access.operator_token == b"the-second-of-operators"
    assert service._policy.access.operator_cookie != cookie
    assert service.reload(load("control = 1")) == (("operator_token_file",), ())
    service.stopService()


def test_where_values_came_from_is_told_anew(load: Load) -> None:
    service = TorService(load("timeout = 5"))
    service.reload(load("idle_timeout = 5"))
    assert service.config.set_as is not None
    assert "timeout" not in service.config.set_as
    assert service.config.set_as["idle_timeout"].startswith("idle_timeout in ")
    assert service.config.set_as["data_dir"] == "--data-dir"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('token_file = "TOKEN"\n[aliases]\n"a" = "b c"', "aliases in "),
        ('token_file = "TOKEN"\n[aliases]\n"check.torproject.org" = "localhost"', "aliases in "),
        ("timeout = 7", "Set --token-file, or --open"),
    ],
)
def test_what_is_refused_changes_nothing(load: Load, token: Path, text: str, says: str) -> None:
    """The last would open a gateway to everyone that a token has guarded."""
    service = TorService(load(f'token_file = "{token}"\nhttp = "*:3080"\ntimeout = 5'))
    config, policy = service.config, service._policy
    with pytest.raises(SetupError) as refused:
        service.reload(load(text.replace("TOKEN", str(token))))
    assert says in str(refused.value)
    assert (service.config, service._policy) == (config, policy)


def test_requests_are_logged_or_not(load: Load) -> None:
    service = TorService(load(""))
    journal: Any = service._gateway.journal
    assert not journal.is_followed
    service.reload(load("log_requests = true"))
    service.reload(load("log_requests = true"))
    assert len(journal._listeners) == 1
    service.reload(load(""))
    assert not journal.is_followed

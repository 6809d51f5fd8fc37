"""What operators are told of the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tortxd.config import DaemonConfig
from tortxd.options import OPTIONS
from tortxd.settings import describe


def by_name(config: DaemonConfig) -> dict[Any, dict[str, object]]:
    return {one["name"]: one for one in json.loads(json.dumps(describe(config)))}


def test_every_option_is_there_with_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "tortxd.toml"
    file.write_text('idle_timeout = 7\n[aliases]\n"a.example" = "b.onion:80"\n')
    options = {"config": str(file), "timeout": 5, "allow_hosts": ["a.example"], "data_dir": "/d"}
    environ = {"TORTXD_USER_AGENT": "keep", "GATEWAY_PORT": "3081", "HOME": "/home/x"}
    told = by_name(DaemonConfig.load(options, environ))
    assert list(told) == [option.key for option in OPTIONS if option.key != "config"]

    def of(name: str) -> tuple[object, object, object]:
        return told[name]["value"], told[name]["source"], told[name]["set"]

    assert of("timeout") == (5.0, "option", "--timeout")
    assert of("allow_hosts") == (["a.example"], "option", "--allow-host")
    assert of("user_agent") == ("keep", "environment", "TORTXD_USER_AGENT")
    assert of("http")[1:] == ("environment", "GATEWAY_PORT")
    assert of("idle_timeout") == (7.0, "file", f"idle_timeout in {file}")
    assert of("aliases") == (["a.example=b.onion:80"], "file", f"aliases in {file}")
    assert of("open") == (False, "default", None)
    assert of("tor") == (None, "default", None)
    assert told["circuit_rate"]["option"] == "--circuit-rate"


def test_a_program_may_have_set_it(tmp_path: Path) -> None:
    told = by_name(DaemonConfig(data_dir=tmp_path, timeout=5))
    assert (told["timeout"]["source"], told["idle_timeout"]["source"]) == ("program", "default")


def test_secrets_are_left_out(tmp_path: Path) -> None:
    token, password = tmp_path / "token", tmp_path / "password"
    operators = tmp_path / "operators"
    token.write_text("token-canary")
    operators.write_text("operator-token-canary")
    password.write_text("password-canary")
    config = DaemonConfig(
        data_dir=tmp_path,
        token_file=token,
        operator_token_file=operators,
        control_password_file=password,
        control="9051",
    )
    told = json.dumps(describe(config))
    assert str(token) in told
    assert "canary" not in told.replace(str(tmp_path), "")

"""The table of options agrees with itself, and with the configuration that is made of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from attrs import fields

from tools.options_table import DOCUMENT, TABLE, table
from tortxd.config import DaemonConfig
from tortxd.options import BY_KEY, FLAG, KEYS, OPTIONS, Option
from tortxd.tap import Options, help_text

each = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)


def test_names_are_told_apart() -> None:
    variables = [variable.name for option in OPTIONS for variable in option.variables]
    for names in ([*BY_KEY], [option.flag for option in OPTIONS], variables):
        assert len(names) == len(set(names)) >= len(OPTIONS)


def test_every_option_has_its_field() -> None:
    assert {field.name for field in fields(DaemonConfig) if field.init} == KEYS
    assert BY_KEY.keys() - KEYS == {"config"}


def test_the_command_line_has_every_option() -> None:
    known = {name.rstrip("=") for name in Options().longOpt}
    assert known - {"version", "help", "h"} == {option.flag for option in OPTIONS}


@each
def test_what_takes_no_value_is_a_flag(option: Option) -> None:
    assert (option.metavar is None) == (option.kind is FLAG) == (option.default is False)
    assert (option.flag in Options().longOpt) == (option.metavar is None)


@each
def test_every_variable_is_known(option: Option, tmp_path: Path) -> None:
    """One that is empty counts as not set."""
    unset = dict.fromkeys((variable.name for variable in option.variables), "")
    loaded = DaemonConfig.load({"data_dir": tmp_path}, unset)
    assert loaded == DaemonConfig(data_dir=tmp_path)


@each
def test_what_is_shown_as_the_default_is_the_default(option: Option, tmp_path: Path) -> None:
    if option.default in (None, (), False):
        assert option.default_text != f"`{option.default}`"
        return
    shown = re.findall(r"`([^`]+)`", option.default_text)[0]
    given: dict[str, Any] = {"data_dir": tmp_path, option.key: shown}
    assert DaemonConfig(**given) == DaemonConfig(data_dir=tmp_path)


def test_what_a_running_daemon_can_take_anew() -> None:
    """Nothing that listens, and nothing that Tor was started with."""
    assert {option.key for option in OPTIONS if option.reloadable} == {
        "token_file",
        "operator_token_file",
        "allow_origins",
        "allow_hosts",
        "aliases",
        "timeout",
        "idle_timeout",
        "drain",
        "user_agent",
        "log_level",
        "log_requests",
        "max_clients",
        "max_requests",
        "client_share",
        "max_header_size",
        "header_timeout",
        "keepalive_timeout",
    }


@each
def test_texts_are_sentences_that_both_can_show(option: Option) -> None:
    assert option.help.endswith(".")
    assert not option.note or option.note.endswith(".")
    assert "|" not in option.purpose + option.note + option.default_text
    assert "](" not in option.purpose + option.default_text, "a terminal shows no links"
    assert "`" not in help_text()


def test_the_reference_is_written_from_the_table() -> None:
    """Else: .venv/bin/python tools/options_table.py"""
    (written,) = TABLE.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert written == table()

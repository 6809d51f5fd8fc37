from __future__ import annotations

import pytest

from tortxd.nearest import did_you_mean, nearest

KNOWN = ("data_dir", "token_file", "idle_timeout", "timeout", "http", "socks")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("data-dir", "data_dir"),
        ("DATA_DIR", "data_dir"),
        ("datadir", "data_dir"),
        ("data_dri", "data_dir"),
        ("tokenfile", "token_file"),
        ("token", "token_file"),
        ("timeuot", "timeout"),
        ("timeout", "timeout"),
        ("sock", "socks"),
    ],
)
def test_a_slip_finds_what_was_meant(name: str, meant: str) -> None:
    assert nearest(name, KNOWN) == meant
    assert did_you_mean(name, KNOWN) == f" Did you mean {meant}?"


@pytest.mark.parametrize("name", ["", "colour", "x", "_", "-", "\udcff", "z" * 5000])
def test_what_is_like_none_of_them_finds_nothing(name: str) -> None:
    assert nearest(name, KNOWN) is None
    assert did_you_mean(name, KNOWN) == ""


def test_where_nothing_is_known_there_is_nothing_to_find() -> None:
    assert did_you_mean("timeout", ()) == ""


def test_names_are_given_as_they_are_written() -> None:
    assert nearest("exit_country", ["Exit-Country"]) == "Exit-Country"
    assert nearest("timeout", (name for name in KNOWN)) == "timeout"

"""Rates as they are written."""

from __future__ import annotations

import pytest

from tortxd.errors import SetupError
from tortxd.rates import Rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5:300", Rate(5.0, 300)),
        ("5", Rate(5.0, 300)),
        (" 0.5:1 ", Rate(0.5, 1)),
        ("0.001", Rate(0.001, 1)),
        ("unlimited", None),
        ("Unlimited", None),
    ],
)
def test_what_is_read(text: str, rate: Rate | None) -> None:
    assert Rate.parse(text, "`circuit_rate`") == rate


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "0.0:5", "-1", "5:", ":5", "5:0", "5:1.5", "1e9", "nan", "inf", "٣", "5/300"),
        *("none", "9" * 400, "5:" + "9" * 400),
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(
        SetupError, match=r"^`circuit_rate` takes .*, for example 5:300, or unlimited, not"
    ):
        Rate.parse(text, "`circuit_rate`")


def test_it_is_written_as_it_is_read() -> None:
    assert [str(Rate(5.0, 300)), str(Rate(0.5, 1))] == ["5:300", "0.5:1"]

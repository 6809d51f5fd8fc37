"""What Tor's reasons mean."""

from __future__ import annotations

import pytest

from tortxd.errors import ConnectRefused, ExitPolicyRejected, ResolveFailed, TorTimeout
from tortxd.tor.reasons import DONE, reason


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("CONNECTREFUSED", ConnectRefused),
        ("EXITPOLICY", ExitPolicyRejected),
        ("NOROUTE", ResolveFailed),
        ("RESOLVEFAILED", ResolveFailed),
        ("TIMEOUT", TorTimeout),
    ],
)
def test_reasons_that_say_more_than_a_socks_reply(name: str, error: type[Exception]) -> None:
    assert reason(name).error is error
    assert reason(name).is_relays


@pytest.mark.parametrize("name", [DONE, "MISC", "DESTROY", "CONNRESET", "TORPROTOCOL"])
def test_reasons_of_relays_that_say_no_more(name: str) -> None:
    assert reason(name).error is None
    assert reason(name).is_relays


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("CONNECTREFUSED", "A guard or bridge refused the connection."),
        ("IOERROR", "The connection to a guard or bridge broke off."),
        ("DIR_ALL_UNREACHABLE", "No directory can be reached."),
        ("MISC", None),
    ],
)
def test_reasons_why_tor_does_not_get_on(name: str, sentence: str | None) -> None:
    assert reason(name).connecting == sentence


@pytest.mark.parametrize("name", ["END", "PRIVATE_ADDR", "CANT_ATTACH", "SOMETHING_NEW"])
def test_reasons_of_the_local_tor(name: str) -> None:
    assert reason(name).error is None
    assert not reason(name).is_relays

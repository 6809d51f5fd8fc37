from __future__ import annotations

import pytest

from tortxd.errors import BadRequest
from tortxd.policy.request import (
    UNKNOWN,
    check_names,
    gateway_fields,
    read_by_gateway,
    single,
)


def test_only_what_the_gateway_knows_is_picked() -> None:
    headers = [(b"HOST", b"a"), (b"Accept", b"*/*"), (b"host", b"b"), (b"Tor-Else", b"x")]
    assert gateway_fields(headers) == {b"host": [b"a", b"b"]}


def test_of_what_nobody_knows_the_names_are_picked() -> None:
    headers = [(b"Host", b"a"), (b"Tortxd-Else", b"canary"), (b"TORTXD-more", b"canary")]
    fields = gateway_fields(headers)
    assert fields == {b"host": [b"a"], UNKNOWN: [b"Tortxd-Else", b"TORTXD-more"]}
    # The control plane gets them too, and judges alike.
    handed_over = read_by_gateway([*headers, (b"Tor-Else", b"x"), (b"X-Else", b"y")])
    assert gateway_fields(handed_over) == fields
    assert b"canary" not in b"".join(value for _, value in handed_over)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (b"Tortxd-Isolation", "Tor-Stream-Isolation"),
        (b"tortxd-isolaton", "Tor-Stream-Isolation"),
        (b"Tortxd-Stream-Isolation", "Tor-Stream-Isolation"),
        (b"Tortxd_Isolation", "Tor-Stream-Isolation"),
        (b"X-Tortxd-Isolation", "Tor-Stream-Isolation"),
        (b"Tor-Isolation", "Tor-Stream-Isolation"),
        (b"Tor-Stream-Isolaton", "Tor-Stream-Isolation"),
        (b"Tor-Stream-Islation", "Tor-Stream-Isolation"),
        (b"Tor_Stream_Isolation", "Tor-Stream-Isolation"),
        (b"X_Tor_Stream_Isolation", "Tor-Stream-Isolation"),
        (b"TorStreamIsolation", "Tor-Stream-Isolation"),
        (b"X-Tor-Isolation-Key", "Tor-Stream-Isolation"),
        (b"Tortxd-Tokn", "Tortxd-Token"),
        (b"Tortxd-Time-Out", "Tortxd-Timeout"),
        (b"Tortxd-Retries", "Tortxd-Retry"),
        (b"Tortxd-Exit-Contry", "Tortxd-Exit-Country"),
        (b"Tortxd-Country", "Tortxd-Exit-Country"),
        (b"Tortxd-Stick", "Tortxd-Sticky"),
    ],
)
def test_a_name_that_nobody_knows_is_refused_with_the_nearest(name: bytes, meant: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_names(gateway_fields([(b"Host", b"x"), (name, b"canary")]))
    assert str(caught.value) == (
        f"{name.decode()} is not a header that tortxd knows. Did you mean {meant}?"
    )


@pytest.mark.parametrize("name", [b"Tortxd-Else", b"Tortxd-", b"Tortxd", b"Tortxd-X-Y"])
def test_a_name_that_is_like_none_is_refused_by_itself(name: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        check_names(gateway_fields([(name, b"canary")]))
    assert str(caught.value) == f"{name.decode()} is not a header that tortxd knows."


@pytest.mark.parametrize("name", [b"Tortxd-" + b"canary" * 6, b"Tortxd-canary~", b"tortxd.canary"])
def test_a_name_that_is_not_plain_is_not_repeated(name: bytes) -> None:
    with pytest.raises(BadRequest, match="none that tortxd knows") as caught:
        check_names(gateway_fields([(name, b"x")]))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *(b"Tor-Stream-Isolation", b"x-tor-stream-isolation", b"TORTXD-TOKEN", b"Tortxd-Timeout"),
        *(b"Tortxd-Retry", b"Tortxd-Exit", b"Tortxd-Exit-Country", b"Tortxd-Sticky"),
        # Tor's names are Tor's to make, and what has nothing to do with us is not ours to judge.
        *(
            b"Tor-Capabilities",
            b"Tor-Family-Preference",
            b"X-Tor-Else",
            b"Torrent",
            b"X-Isolation",
        ),
    ],
)
def test_other_names_pass(name: bytes) -> None:
    check_names(gateway_fields([(b"Host", b"x"), (name, b"1")]))


def test_single() -> None:
    assert single({}, b"origin") is None
    assert single({b"origin": [b"a", b"a"]}, b"origin") == b"a"
    with pytest.raises(BadRequest, match="Origin"):
        single({b"origin": [b"canary", b"b"]}, b"origin")

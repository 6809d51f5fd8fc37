from __future__ import annotations

from base64 import b64encode

import pytest

from tortxd.errors import BadRequest, NotServed
from tortxd.policy.request import (
    UNKNOWN,
    Directives,
    check_names,
    gateway_fields,
    read_by_gateway,
    read_directives,
    single,
    with_key,
)


def read(*headers: tuple[bytes, bytes]) -> Directives:
    return read_directives(gateway_fields(headers))


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


def test_nothing_asked() -> None:
    assert read((b"Host", b"x"), (b"Tor-Other", b"1")) == Directives()


@pytest.mark.parametrize("name", [b"Tor-Stream-Isolation", b"X-TOR-stream-isolation"])
@pytest.mark.parametrize("key", [b"k", b"x" * 256, b"\xff \x80"])
def test_isolation(name: bytes, key: bytes) -> None:
    assert read((name, key)) == Directives(isolation=key)
    assert "canary" not in repr(read((name, b"canary")))


def test_the_same_key_twice_is_one_key() -> None:
    both = ((b"Tor-Stream-Isolation", b"k"), (b"X-Tor-Stream-Isolation", b"k"))
    assert read(*both).isolation == b"k"


def basic(text: bytes) -> tuple[bytes, bytes]:
    return b"Proxy-Authorization", b"Basic " + b64encode(text)


def test_isolation_as_proxy_credentials() -> None:
    """Proposal 365: user tor-iso, and the key as the password."""
    assert read(basic(b"tor-iso:a:b")).isolation == b"a:b"
    assert read(basic(b"tor-iso:k"), (b"Tor-Stream-Isolation", b"k")).isolation == b"k"
    assert read(basic(b"someone:k")).isolation is None
    assert read((b"Proxy-Authorization", b"Bearer x")).isolation is None


@pytest.mark.parametrize(
    "headers",
    [
        [basic(b"tor-iso:a"), (b"Tor-Stream-Isolation", b"b")],
        [basic(b"tor-iso:")],
        [basic(b"tor-iso:a"), basic(b"tor-iso:b")],
        [(b"Proxy-Authorization", b"Basic %%%")],
        [(b"Tor-Stream-Isolation", b"")],
        [(b"Tor-Stream-Isolation", b"x" * 257)],
        [(b"Tor-Stream-Isolation", b"a"), (b"Tor-Stream-Isolation", b"b")],
        [(b"Tor-Stream-Isolation", b"a"), (b"X-Tor-Stream-Isolation", b"b")],
        [(b"Tortxd-Timeout", b"1"), (b"Tortxd-Timeout", b"2")],
    ],
)
def test_bad_directives(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadRequest):
        read(*headers)


@pytest.mark.parametrize(("text", "seconds"), [(b"1", 1.0), (b"0.25", 0.25), (b"090", 90.0)])
def test_timeout(text: bytes, seconds: float) -> None:
    assert read((b"tortxd-timeout", text)).timeout == seconds


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"0.0",
        b"-1",
        b"+1",
        b"1e3",
        b"inf",
        b"nan",
        b"1s",
        b".5",
        b"1.",
        b" 1",
        b"1" * 10,
    ],
)
def test_bad_timeouts(text: bytes) -> None:
    with pytest.raises(BadRequest, match="Tortxd-Timeout"):
        read((b"Tortxd-Timeout", text))


@pytest.mark.parametrize(
    "name", [b"Tortxd-Retry", b"Tortxd-Exit-Country", b"TORTXD-EXIT", b"Tortxd-Sticky"]
)
def test_what_is_not_served_is_not_ignored(name: bytes) -> None:
    with pytest.raises(NotServed):
        read((name, b"de"))


def test_single() -> None:
    assert single({}, b"origin") is None
    assert single({b"origin": [b"a", b"a"]}, b"origin") == b"a"
    with pytest.raises(BadRequest, match="Origin"):
        single({b"origin": [b"canary", b"b"]}, b"origin")


def test_a_key_beside_the_headers_is_one_of_them() -> None:
    assert with_key(Directives(), b"k") == Directives(b"k")
    assert with_key(Directives(b"k", 5.0), b"k") == Directives(b"k", 5.0)
    assert with_key(Directives(), b"k" * 256).isolation == b"k" * 256
    with pytest.raises(BadRequest, match="different isolation keys"):
        with_key(Directives(b"k"), b"l")
    for key in (b"", b"k" * 257):
        with pytest.raises(BadRequest, match="1 to 256 bytes"):
            with_key(Directives(), key)

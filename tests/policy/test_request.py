from __future__ import annotations

from base64 import b64encode

import pytest

from tortxd.errors import BadRequest, NotServed
from tortxd.policy.request import Directives, directives, gateway_fields, single, with_key


def read(*headers: tuple[bytes, bytes]) -> Directives:
    return directives(gateway_fields(headers))


def test_only_what_the_gateway_knows_is_picked() -> None:
    headers = [(b"HOST", b"a"), (b"Accept", b"*/*"), (b"host", b"b"), (b"Tortxd-Else", b"x")]
    assert gateway_fields(headers) == {b"host": [b"a", b"b"]}


def test_nothing_asked() -> None:
    assert read((b"Host", b"x"), (b"Tortxd-Unknown", b"1"), (b"Tor-Other", b"1")) == Directives()


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


@pytest.mark.parametrize("name", [b"Tortxd-Retry", b"Tortxd-Exit-Country", b"TORTXD-EXIT"])
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

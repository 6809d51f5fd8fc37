"""The SOCKS5 handshake, byte by byte."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import (
    BadUrl,
    ConnectFailed,
    ConnectRefused,
    ExitPolicyRejected,
    InternalError,
    OnionAuthRequired,
    OnionUnreachable,
    ResolveFailed,
    TorDown,
    TorTimeout,
    TortxdError,
)
from tortxd.wire.socks5 import Handshake, Reply, refusal, request

OPEN = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
AUTH = b"\x01\x00"
METHOD = b"\x05\x02"


def test_request_to_a_name() -> None:
    assert request("example.com", 443, b"user", b"pw") == (
        b"\x05\x01\x02\x01\x04user\x02pw\x05\x01\x00\x03\x0bexample.com\x01\xbb"
    )


@pytest.mark.parametrize(
    ("host", "encoded"),
    [
        ("1.2.3.4", b"\x01\x01\x02\x03\x04"),
        ("2001:db8::1", b"\x04" + IPv6Address("2001:db8::1").packed),
        ("::ffff:1.2.3.4", b"\x04" + IPv6Address("::ffff:1.2.3.4").packed),
        ("a" * 255, b"\x03\xff" + b"a" * 255),
    ],
)
def test_addresses(host: str, encoded: bytes) -> None:
    assert request(host, 80, b"u", b"p").endswith(b"\x05\x01\x00" + encoded + b"\x00P")


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("", 80),
        ("a" * 256, 80),
        ("a b", 80),
        ("a\r\nb", 80),
        ("a\0b", 80),
        ("bücher.example", 80),
        ("example.com", 0),
        ("example.com", 65536),
    ],
)
def test_what_socks_cannot_carry(host: str, port: int) -> None:
    with pytest.raises(BadUrl) as caught:
        request(host, port, b"u", b"p")
    assert not host or host not in str(caught.value)


@pytest.mark.parametrize(("username", "password"), [(b"", b"p"), (b"u", b""), (b"u" * 256, b"p")])
def test_credentials_have_1_to_255_bytes(username: bytes, password: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        request("example.com", 80, username, password)


@given(
    method=st.booleans(),
    bound=st.one_of(
        st.ip_addresses(v=4), st.ip_addresses(v=6), st.text(alphabet="abc.", max_size=255)
    ),
    port=st.integers(0, 65535),
    leftover=st.binary(max_size=40),
    cuts=st.lists(st.integers(1, 400), max_size=8),
)
def test_reply_in_any_pieces(
    method: bool,
    bound: IPv4Address | IPv6Address | str,
    port: int,
    leftover: bytes,
    cuts: list[int],
) -> None:
    if isinstance(bound, IPv4Address):
        address = b"\x01" + bound.packed
    elif isinstance(bound, IPv6Address):
        address = b"\x04" + bound.packed
    else:
        address = b"\x03" + bytes((len(bound),)) + bound.encode()
    answer = METHOD * method + AUTH + b"\x05\x00\x00" + address + port.to_bytes(2, "big")
    whole = answer + leftover
    handshake = Handshake()
    start = 0
    for end in sorted({*(cut for cut in cuts if cut < len(whole)), len(whole)}):
        reply = handshake.receive(whole[start:end])
        if reply is not None:
            assert reply == Reply((str(bound), port), whole[len(answer) : end])
            assert end >= len(answer)
            return
        assert end < len(answer)
        start = end
    raise AssertionError("no reply")


@pytest.mark.parametrize("method", [METHOD, b""], ids=["all answers", "greeting's answer replaced"])
def test_one_byte_at_a_time(method: bytes) -> None:
    handshake = Handshake()
    whole = method + AUTH + OPEN
    replies = [handshake.receive(bytes((byte,))) for byte in whole]
    assert replies == [None] * (len(whole) - 1) + [Reply(("0.0.0.0", 0), b"")]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0x01, ConnectFailed),
        (0x02, ExitPolicyRejected),
        (0x03, ResolveFailed),
        (0x04, ResolveFailed),
        (0x05, ConnectRefused),
        (0x06, TorTimeout),
        (0x07, InternalError),
        (0x08, InternalError),
        (0xF0, OnionUnreachable),
        (0xF1, OnionUnreachable),
        (0xF2, OnionUnreachable),
        (0xF3, OnionUnreachable),
        (0xF4, OnionAuthRequired),
        (0xF5, OnionAuthRequired),
        (0xF6, BadUrl),
        (0xF7, OnionUnreachable),
        (0x42, ConnectFailed),
    ],
)
@pytest.mark.parametrize("before", [METHOD + AUTH, AUTH, b""])
def test_refusals(code: int, kind: type[TortxdError], before: bytes) -> None:
    """With and without the answers that a later one replaces."""
    assert type(refusal(code)) is kind
    with pytest.raises(kind) as caught:
        feed(Handshake(), before + bytes((5, code, 0, 1)) + bytes(6))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "answer",
    [
        b"\x05\x00",
        b"\x05\xff",
        b"\x05\x00\x00\x01" + bytes(6),
        METHOD + b"\x01\x01",
        METHOD + b"\x07",
        AUTH + b"\x04\x00",
        AUTH + b"\x05\x00\x00\x09\x00",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x00\x5a",
    ],
)
def test_what_is_not_tor(answer: bytes) -> None:
    """A server that asks for no credentials would not isolate, so even its success is none."""
    with pytest.raises(TorDown):
        feed(Handshake(), answer)


@given(st.binary(max_size=64))
def test_any_bytes_end_in_a_reply_or_an_error_of_ours(data: bytes) -> None:
    whole, pieces = outcome([data]), outcome([bytes((byte,)) for byte in data])
    assert whole == pieces


def feed(handshake: Handshake, data: bytes) -> Reply | None:
    for byte in data:
        reply = handshake.receive(bytes((byte,)))
        if reply is not None:
            return reply
    return None


def outcome(chunks: list[bytes]) -> object:
    handshake = Handshake()
    for chunk in chunks:
        try:
            reply = handshake.receive(chunk)
        except TortxdError as error:
            return type(error)
        if reply is not None:
            return reply.bound
    return None


def test_what_came_behind_the_reply_is_not_kept() -> None:
    """With many streams that stand still it would add up."""
    handshake = Handshake()
    reply = handshake.receive(METHOD + AUTH + OPEN + bytes(60_000))
    assert reply is not None
    assert len(reply.leftover) == 60_000
    assert not [it for it in vars(handshake).values() if isinstance(it, bytes) and it]

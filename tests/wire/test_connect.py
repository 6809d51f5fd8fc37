"""CONNECT with the gateway, as bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import ConnectRefused, ExitUnavailable, TorDown, TortxdError, Unauthorized
from tortxd.wire.connect import ConnectHandshake, Opened, connect_request

OK = b"HTTP/1.1 200 OK\r\nTortxd-Circuit: 7\r\n\r\n"


def refusal(status: bytes, value: object, *headers: bytes) -> bytes:
    body = json.dumps(value).encode()
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


def receive(data: bytes, size: int = 1 << 20) -> Opened | None:
    handshake = ConnectHandshake()
    opened = None
    for begin in range(0, len(data), size):
        opened = handshake.receive(data[begin : begin + size])
    return opened


def test_what_is_asked() -> None:
    assert connect_request("a.example", 443, [(b"Tortxd-Retry", b"1")]) == (
        b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nTortxd-Retry: 1\r\n\r\n"
    )
    asked = connect_request("2001:db8::1", 80, [])
    assert asked.startswith(b"CONNECT [2001:db8::1]:80 HTTP/1.1\r\n")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_tunnel_is_open(size: int) -> None:
    opened = receive(OK, size)
    assert opened == Opened([(b"Tortxd-Circuit", b"7")], b"")


def test_what_comes_behind_it_is_the_destinations() -> None:
    opened = receive(OK + b"SSH-2.0")
    assert opened is not None and opened.leftover == b"SSH-2.0"


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (b"503 x", "exit_unavailable", ExitUnavailable),
        (b"502 x", "connect_refused", ConnectRefused),
        (b"407 x", "unauthorized", Unauthorized),
    ],
)
def test_a_refusal_is_the_error_that_the_gateway_says(
    size: int, status: bytes, code: str, kind: type[TortxdError]
) -> None:
    told = {"error": "It says why.", "code": code, "retryable": True}
    with pytest.raises(kind) as caught:
        receive(refusal(status, told, b"Tortxd-Attempts: 2"), size)
    assert type(caught.value) is kind
    assert str(caught.value) == "It says why."
    assert (caught.value.retryable, caught.value.attempts) == (True, 2)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        refusal(b"502 x", ["a list"]),
        refusal(b"502 x", {"code": "of no kind"}),
        refusal(b"502 x", {"code": 7}),
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 502 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 502 x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 70_000,
    ],
)
def test_what_is_no_gateway_is_told_apart(data: bytes) -> None:
    with pytest.raises(TorDown, match="does not answer as tortxd does"):
        receive(data)


@given(st.binary(max_size=200))
def test_no_answer_breaks_it(data: bytes) -> None:
    for begin in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 502 x\r\n"):
        try:
            receive(begin + data)
        except TortxdError:
            continue

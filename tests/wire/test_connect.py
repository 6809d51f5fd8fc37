"""CONNECT as a client of the gateway, byte by byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortxd.errors import (
    ConnectRefused,
    InternalError,
    TorDown,
    TorNotReady,
    TortxdError,
    Unauthorized,
    kinds,
)
from tortxd.wire.connect import ConnectHandshake, Opened

OK = b"HTTP/1.1 200 OK\r\nTortxd-Attempts: 2\r\n\r\n"


def handshake() -> ConnectHandshake:
    return ConnectHandshake("example.com", 443, [(b"Tortxd-Retry", b"1")])


def feed(shaking: ConnectHandshake, data: bytes) -> Opened | None:
    """All of it, one byte at a time."""
    for at in range(len(data)):
        opened = shaking.receive(data[at : at + 1])
        if opened is not None:
            assert at == len(data) - 1
            return opened
    return None


def refused(answer: bytes, *, ends: bool = False) -> TortxdError:
    """What an answer means, however it is cut."""
    errors = []
    for whole in (True, False):
        shaking = handshake()
        try:
            assert (shaking.receive(answer) if whole else feed(shaking, answer)) is None
            assert ends, "it waits for more"
            errors.append(shaking.lost())
        except TortxdError as error:
            errors.append(error)
    first, second = errors
    assert (type(first), str(first), vars(first)) == (type(second), str(second), vars(second))
    return first


def answer(status: int, body: object, *fields: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Some", f"Content-Length: {len(data)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + data


@pytest.mark.parametrize(
    ("host", "authority"),
    [("example.com", b"example.com:443"), ("2001:db8::1", b"[2001:db8::1]:443")],
)
def test_what_is_asked(host: str, authority: bytes) -> None:
    fields = [(b"Tor-Stream-Isolation", b"al\xffice")]
    assert ConnectHandshake(host, 443, fields).request == (
        b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nTor-Stream-Isolation: al\xffice\r\n\r\n"
        % (authority, authority)
    )


def test_it_is_open() -> None:
    shaking = handshake()
    assert feed(shaking, OK) == Opened(b"")
    assert shaking.headers == [(b"Tortxd-Attempts", b"2")]


def test_what_follows_is_the_destinations_whatever_the_head_says_of_it() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    assert handshake().receive(head + b"220 ready\r\n") == Opened(b"220 ready\r\n")
    assert handshake().receive(b"HTTP/1.1 102 Wait\r\n\r\n" + OK + b"\0") == Opened(b"\0")


@pytest.mark.parametrize("code", sorted(kinds()))
def test_an_error_of_the_gateway_is_that_error(code: str) -> None:
    body = {"error": "It is so.", "code": code, "retryable": True, "bootstrap": {"progress": 5}}
    error = refused(answer(599, body, f"Tortxd-Error: {code}", "Retry-After: 7"))
    assert type(error) is kinds()[code]
    assert (error.code, error.status, error.retryable, error.retry_after) == (code, 599, True, 7)
    assert error.details == {"bootstrap": {"progress": 5}}
    assert str(error) == "It is so." or isinstance(error, Unauthorized)


def test_tors_own_reason_is_passed_on() -> None:
    body = {"error": "No.", "code": "connect_refused", "retryable": True}
    fields = ["Tortxd-Error: connect_refused", "Tor-Request-Failed: end/CONNECTREFUSED"]
    error = refused(answer(502, body, *fields))
    assert isinstance(error, ConnectRefused)
    assert error.tor_reason == "CONNECTREFUSED"
    strange = refused(answer(502, body, fields[0], "Tor-Request-Failed: x"))
    assert strange.tor_reason is None


def test_an_error_that_is_newer_than_this_library() -> None:
    error = refused(answer(503, {"error": "New.", "code": "new"}, "Tortxd-Error: new"))
    assert type(error) is TortxdError
    assert (str(error), error.status, error.retryable) == ("New.", 503, False)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 10_000, b"[]", b'{"error": 1}'])
def test_an_error_without_a_sentence_has_its_own(body: bytes) -> None:
    error = refused(answer(503, body, "Tortxd-Error: tor_not_ready"))
    assert isinstance(error, TorNotReady)
    assert str(error) == "Tor is not ready yet."


def test_a_sentence_is_text_for_people_and_not_too_long() -> None:
    body = {"error": "a\x1b[2J\n" + "b" * 5000}
    sentence = str(refused(answer(500, body, "Tortxd-Error: internal")))
    assert sentence.startswith("a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}bb")
    assert len(sentence) == 1000


def test_who_lacks_the_token_hears_where_it_goes() -> None:
    error = refused(answer(407, {"error": "Basic!"}, "Tortxd-Error: unauthorized"))
    assert isinstance(error, Unauthorized)
    assert (error.status, "`token`" in str(error)) == (407, True)


@pytest.mark.parametrize("status", [302, 403, 502])
def test_what_another_server_says_is_not_repeated(status: int) -> None:
    error = refused(answer(status, b"canary"))
    assert isinstance(error, TorDown)
    assert str(error) == "What listens at the gateway's address is no gateway of tortxd."


def test_an_error_that_breaks_off_is_one_all_the_same() -> None:
    whole = answer(500, {"error": "Broken."}, "Tortxd-Error: internal")
    error = refused(whole[:-5], ends=True)
    assert isinstance(error, InternalError)
    assert str(error) == InternalError.sentence
    until_close = whole.replace(b"Content-Length", b"X-Length")
    assert str(refused(until_close, ends=True)) == "Broken."


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_a_gateway_that_hangs_up(data: bytes) -> None:
    error = refused(data, ends=True)
    assert isinstance(error, TorDown)
    assert str(error) == "The gateway ended the connection without an answer."


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH",
        b"\x05\x00",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_gateway(data: bytes) -> None:
    error = refused(data)
    assert isinstance(error, TorDown)
    assert str(error) == "What listens at the gateway's address does not speak HTTP."


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 65_536,
        b"HTTP/1.1 500 No\r\n\r\n" + b"a" * 65_537,
        b"HTTP/1.1 500 No\r\nContent-Length: 70000\r\n\r\n" + b"a" * 65_537,
    ],
)
def test_nobody_fills_our_memory(data: bytes) -> None:
    with pytest.raises(TorDown, match="more than a gateway does"):
        handshake().receive(data)


@given(st.binary(max_size=80))
def test_nothing_else_comes_of_any_bytes(data: bytes) -> None:
    for start in (b"", b"HTTP/1.1 ", b"HTTP/1.1 503 A\r\nTortxd-Error: tor_down\r\n"):
        shaking = handshake()
        try:
            shaking.receive(start + data)
            assert isinstance(shaking.lost(), TortxdError)
        except TortxdError:
            pass


def test_what_came_behind_the_answer_is_not_kept() -> None:
    shaking = handshake()
    opened = shaking.receive(OK + bytes(60_000))
    assert opened is not None
    assert len(opened.leftover) == 60_000
    assert not shaking._reader.rest

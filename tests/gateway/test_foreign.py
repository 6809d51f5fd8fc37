"""Clients that speak TLS, SOCKS or HTTP/2 to the port, which speaks http."""

from __future__ import annotations

import ssl

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock

from tests.gateway.conftest import Gateway, Policy, Warnings
from tests.web_client import Reply
from tortxd.gateway.front.foreign import recognise
from tortxd.policy.access import AccessPolicy
from tortxd.tor.repeats import INTERVAL, Repeats


def client_hello() -> bytes:
    """The first that a client of TLS says."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


TLS = client_hello()
SOCKS5 = b"\x05\x01\x00"
SOCKS5_WITH_LOGIN = b"\x05\x02\x00\x02"
SOCKS5_WITH_TEN_METHODS = b"\x05\x0a" + bytes(range(10))
SOCKS4 = b"\x04\x01\x00\x50\x00\x00\x00\x01\x00canary.example\x00"


async def answer_to(gateway: Gateway, *pieces: bytes) -> Reply:
    """What a client is answered that sends these bytes, and sees the connection end in order."""
    wire = await gateway.connect()
    for piece in pieces:
        wire.send(piece)
    reply = await wire.reply()
    await wire.lost
    assert wire.closed is not None
    assert wire.closed.check(ConnectionDone)
    assert reply.whole
    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    assert reply["Connection"] == "close"
    return reply


@pytest.mark.parametrize("pieces", [(TLS,), (TLS[:1], TLS[1:]), (TLS[:2], TLS[2:]), (TLS[:1],)])
@ensureDeferred
async def test_tls(gateway: Gateway, warnings: Warnings, pieces: tuple[bytes, ...]) -> None:
    reply = await answer_to(gateway, *pieces)
    assert reply.json["error"] == (
        "This port speaks http, not TLS. Use http:// instead of https:// for it."
    )
    assert warnings.lines == [
        "A client spoke TLS to the gateway, which speaks http. "
        "Use http:// instead of https:// for it."
    ]


@pytest.mark.parametrize(
    "greeting", [SOCKS5, SOCKS5_WITH_LOGIN, SOCKS5_WITH_TEN_METHODS, SOCKS4, SOCKS5[:1]]
)
@ensureDeferred
async def test_socks(gateway: Gateway, warnings: Warnings, greeting: bytes) -> None:
    address = gateway.link.socks_address
    assert address is not None
    reply = await answer_to(gateway, greeting)
    remedy = f"Use it as an http:// proxy, or SOCKS on socks5h://127.0.0.1:{address.port}."
    assert reply.json["error"] == f"This port speaks http, not SOCKS. {remedy}"
    assert warnings.lines == [f"A client spoke SOCKS to the gateway, which speaks http. {remedy}"]
    assert not gateway.socks.served


@ensureDeferred
async def test_where_socks_is_spoken_may_be_unknown_or_not_for_everyone(
    gateway: Gateway, make_policy: Policy
) -> None:
    where = "or SOCKS on Tor's own SOCKS port."
    gateway.core.policy = make_policy(access=AccessPolicy(token=b"clients"))
    assert (await answer_to(gateway, SOCKS5)).json["error"].endswith(where)
    gateway.core.policy = make_policy()
    gateway.link.socks_address = None
    assert (await answer_to(gateway, SOCKS5)).json["error"].endswith(where)


@ensureDeferred
async def test_the_log_says_it_once_a_minute(gateway: Gateway, warnings: Warnings) -> None:
    clock = Clock()
    gateway.factory._repeats = Repeats(clock)
    for _ in range(3):
        await answer_to(gateway, TLS)
    await answer_to(gateway, SOCKS5)
    assert len(warnings.lines) == 2
    clock.advance(INTERVAL)
    assert len(warnings.lines) == 3
    assert warnings.lines[-1].endswith("for it. (2 times more in the last minute)")


@ensureDeferred
async def test_http_2(gateway: Gateway, warnings: Warnings) -> None:
    reply = await answer_to(gateway, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
    assert reply.json["error"] == "The gateway speaks HTTP/1.1 and HTTP/1.0."
    assert not warnings.lines


@pytest.mark.parametrize("data", [b"\x00\x01", b"\x16\x02\x00", b"\x03\x00", b"SSH-2.0-x\r\n"])
@ensureDeferred
async def test_what_is_not_recognised(gateway: Gateway, warnings: Warnings, data: bytes) -> None:
    reply = await answer_to(gateway, data)
    assert "not TLS" not in reply.json["error"]
    assert "not SOCKS" not in reply.json["error"]
    assert not warnings.lines


@ensureDeferred
async def test_behind_a_request_as_well(gateway: Gateway) -> None:
    wire = await gateway.connect()
    wire.send(f"GET {gateway.path('/')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() + TLS)
    assert (await wire.reply()).status == 200
    reply = await wire.reply()
    assert reply.json["error"].startswith("This port speaks http, not TLS.")


def test_nothing_is_recognised_in_a_request() -> None:
    for first in (b"", b"GE", b"PR", b"HT"):
        assert recognise(first, None) is None

"""Destinations over TLS."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from tests.gateway.conftest import Gateway
from tortxd.testing import pattern
from tortxd.tor.tls import ClientTls


@pytest.fixture
def secure(either: Gateway) -> Gateway:
    """The gateway, before an origin over TLS whose authority it trusts."""
    either.socks.origin = either.origin.https_port
    either.plane.tls = ClientTls()
    either.plane.tls.context.load_verify_locations(str(either.origin.ca_file))
    return either


def url(path: str) -> str:
    return f"https://origin.test.example{path}"


@ensureDeferred
async def test_pages_and_bodies(secure: Gateway) -> None:
    assert (await secure.fetch(url("/bytes/200000"))).body == pattern(200_000)
    reply = await secure.fetch(url("/upload"), method="POST", body=pattern(300_000))
    assert reply.json["length"] == 300_000
    # Both went over one connection.
    assert len(secure.socks.served) == 1


@ensureDeferred
async def test_only_the_client_hello_goes_early(secure: Gateway) -> None:
    """Rule 28."""
    secure.socks.held = True
    asking = Deferred.fromCoroutine(secure.fetch(url("/upload"), method="POST", body=b"x"))
    served = await secure.socks.asked()
    while not served.received:
        turn: Deferred[None] = Deferred()
        secure.reactor.callLater(0, turn.callback, None)
        await turn
    early = served.received
    served.answer()
    assert (await asking).status == 200
    assert early[:1] == b"\x16"  # a handshake record (RFC 8446, section 5.1)
    assert b"origin.test.example" in early


@ensureDeferred
async def test_an_authority_that_is_not_trusted(secure: Gateway) -> None:
    secure.plane.tls = ClientTls()
    reply = await secure.fetch(url("/"))
    assert reply.status == 502
    assert reply.json["code"] == "tls_failed"
    assert "origin.test.example" not in reply.json["error"]


@ensureDeferred
async def test_a_certificate_for_another_name(secure: Gateway) -> None:
    reply = await secure.fetch("https://other.test.example/")
    assert reply.json["code"] == "tls_failed"
    assert "another name" in reply.json["error"]


@ensureDeferred
async def test_a_destination_that_does_not_speak_tls(secure: Gateway) -> None:
    secure.socks.origin = None
    secure.socks.behind = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    reply = await secure.fetch(url("/"))
    assert reply.json["code"] == "tls_failed"


@ensureDeferred
async def test_tls_says_how_a_body_until_close_ended(secure: Gateway) -> None:
    """Rule 14: close_notify, which no relay on the way can forge, and nothing less."""
    secure.link.reason = "DONE"
    reply = await secure.fetch(url("/close/5000"))
    assert reply.whole
    assert reply.body == pattern(5000)

    wire = await secure.connect()
    path = secure.path(url("/close/5000?cut=3000&ending=hang"))
    wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await wire.when_came(pattern(3000)[-10:])
    secure.socks.served[-1].transport.loseConnection()
    reply = await wire.reply()
    assert not reply.whole

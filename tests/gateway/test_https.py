"""Destinations over TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from OpenSSL import SSL
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.certificates import NEEDED, ONION, SENTENCE, VERSIONS, Authority
from tests.gateway.asking import forward
from tests.gateway.conftest import Gateway, port_of
from tests.web_client import Reply
from tortxd.policy.target import TargetPolicy, parse_alias
from tortxd.relay.upstream import Upstream
from tortxd.testing import pattern
from tortxd.tor.tls import ClientTls


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
    secure.core.tls = ClientTls()
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
    assert "speaks plain http on this port" in reply.json["error"]
    assert "origin.test.example" not in reply.json["error"]


ALERT = bytes.fromhex("15030100020228")
"""How TLS complains of what is no record. OpenSSL itself says nothing to http, and closes."""


@pytest.mark.parametrize("method", ["GET", "POST"])
@ensureDeferred
async def test_a_destination_that_speaks_tls_where_http_was_asked_for(
    secure: Gateway, method: str
) -> None:
    secure.socks.origin = None
    secure.socks.behind = ALERT
    reply = await secure.fetch("http://origin.test.example:443/", method=method, body=b"x")
    assert (reply.status, reply.json["code"]) == (502, "bad_response")
    assert "speaks TLS on this port" in reply.json["error"]
    assert "https:// might be meant" in reply.json["error"]
    assert "origin.test.example" not in reply.json["error"]


@ensureDeferred
async def test_the_same_in_proxy_mode(gateway: Gateway) -> None:
    gateway.socks.origin = None
    gateway.socks.behind = ALERT
    reply = await forward(gateway, "http://origin.test.example:443/")
    assert reply.json["code"] == "bad_response"
    assert "speaks TLS on this port" in reply.json["error"]


# --- onion services -------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [ONION, f"www.{ONION}"])
@ensureDeferred
async def test_an_onion_service_may_have_any_certificate(either: Gateway, host: str) -> None:
    """The origin's is for another name, and of an authority that nobody trusts."""
    either.socks.origin = either.origin.https_port
    reply = await either.fetch(f"https://{host}/bytes/5")
    assert reply.status == 200
    assert reply.body == pattern(5)
    assert either.socks.served[0].target == (host, 443)


@ensureDeferred
async def test_an_alias_of_an_onion_service_is_that_service(either: Gateway) -> None:
    either.socks.origin = either.origin.https_port
    targets = TargetPolicy((parse_alias(f"app.example={ONION}"),))
    either.core.policy = evolve(either.core.policy, targets=targets)
    assert (await either.fetch("https://app.example/bytes/5")).status == 200
    assert (await either.fetch("https://other.example/bytes/5")).json["code"] == "tls_failed"


# --- client certificates --------------------------------------------------------------------------


class Greets(Protocol):
    """A destination that answers whatever it is asked."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")


@asynccontextmanager
async def asking_for_certificates(
    gateway: Gateway, folder: Path, wants: int, version: int
) -> AsyncIterator[None]:
    """Such a destination behind the SOCKS server, whose authority the gateway trusts."""
    authority = Authority(folder)
    server = authority.server("origin.test.example", wants=wants, version=version)
    factory = TLSMemoryBIOFactory(server, False, Factory.forProtocol(Greets))
    factory.noisy = False
    port = gateway.reactor.listenTCP(0, factory, interface="127.0.0.1")
    gateway.socks.origin = port_of(port)
    gateway.core.tls = ClientTls()
    gateway.core.tls.context.load_verify_locations(str(authority.file))
    try:
        yield
    finally:
        await maybeDeferred(port.stopListening)


def assert_wants_a_certificate(reply: Reply) -> None:
    assert (reply.status, reply["Tortxd-Error"]) == (502, "tls_failed")
    assert (reply.json["error"], reply.json["retryable"]) == (SENTENCE, False)
    assert reply["Proxy-Status"] == "tortxd; error=tls_protocol_error"


@VERSIONS
@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", b"x" * 100_000)])
@ensureDeferred
async def test_a_destination_that_needs_a_client_certificate(
    either: Gateway, tmp_path: Path, version: int, method: str, body: bytes
) -> None:
    async with asking_for_certificates(either, tmp_path, NEEDED, version):
        reply = await either.fetch(url("/"), method=method, body=body)
    assert_wants_a_certificate(reply)
    assert len(either.socks.served) == 1


@VERSIONS
@ensureDeferred
async def test_a_proxys_client_reads_the_same(
    gateway: Gateway, tmp_path: Path, version: int
) -> None:
    async with asking_for_certificates(gateway, tmp_path, NEEDED, version):
        assert_wants_a_certificate(await forward(gateway, url("/")))


@VERSIONS
@ensureDeferred
async def test_a_destination_that_would_like_one_goes_on(
    either: Gateway, tmp_path: Path, version: int
) -> None:
    async with asking_for_certificates(either, tmp_path, SSL.VERIFY_PEER, version):
        for _ in range(2):
            assert (await either.fetch(url("/"))).body == b"hi"
    assert len(either.socks.served) == 1


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


@ensureDeferred
async def test_records_that_come_together_go_on_together(
    secure: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    received = Upstream.dataReceived

    def note(upstream: Upstream, data: bytes) -> None:
        sizes.append(len(data))
        received(upstream, data)

    monkeypatch.setattr(Upstream, "dataReceived", note)
    assert (await secure.fetch(url("/bytes/3000000"))).body == pattern(3_000_000)
    assert max(sizes) > 2**14  # no record holds more

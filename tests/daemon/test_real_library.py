"""The library on a real Tor: what it steers, as the destination sees it."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.daemon.process import installed, soon
from tests.daemon.steering import exits_in
from tortxd import (
    Config,
    DaemonConfig,
    ExitUnavailable,
    TorHttpClient,
    TorInfo,
    TorService,
    TreqClient,
)
from tortxd.testing import Origin, PrivateNetwork
from tortxd.tor.tls import ClientTls

COUNTRIES = ("de", "fr", "nl", "se")


@frozen
class Library:
    """An app with a Tor of its own, whose gateway it opens, and a client of that."""

    tor: TorService
    network: PrivateNetwork
    origin: Origin
    client: TorHttpClient

    def check(self, way: TorInfo, country: str, ip: str) -> None:
        """See that what is told of the way is so, as far as the destination sees it."""
        (expected,) = exits_in(self.network, country)
        assert way.exit is not None
        assert (way.exit.fingerprint, way.exit.country) == (expected, country)
        assert way.exit.address == ip
        assert (way.circuit is not None, way.attempts, way.exit_changed) == (True, 1, False)


@pytest_twisted.async_yield_fixture(scope="module")
async def library(
    tor_network: PrivateNetwork, tor_origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Library]:
    place = tmp_path_factory.mktemp("library")
    torrc = tor_network.write_client_torrc(place / "client.torrc")
    tor = TorService(DaemonConfig(data_dir=place / "state", torrc=torrc, http=()), installed())
    tor._gateway.tls.context.load_verify_locations(str(tor_origin.ca_file))
    tor.startService()
    port = installed().listenTCP(0, tor.gateway_factory(), interface="127.0.0.1")
    await soon(tor.when_ready())
    config = Config(http_gateway_addr=f"127.0.0.1:{port.getHost().port}")
    tls = ClientTls()
    tls.context.load_verify_locations(str(tor_origin.ca_file))
    yield Library(tor, tor_network, tor_origin, TorHttpClient(config, installed(), tls=tls))
    await port.stopListening()
    await tor.stopService()


@ensureDeferred
async def test_agents_leave_where_they_are_told_to(library: Library) -> None:
    for country in COUNTRIES:
        client = TreqClient(library.tor.agent("alice", exit_country=country, sticky=60))
        for base in (library.origin.http, library.origin.https):
            response = await soon(client.get(base + "/ip"))
            library.check(response.tor, country, (await response.json())["ip"])


class Asking(Protocol):
    """Asks for a page by hand."""

    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.answer: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(b"GET /ip HTTP/1.0\r\nHost: origin.test.example\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.answer.callback(self.heard.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("tls", [False, True])
@ensureDeferred
async def test_streams_leave_where_they_are_told_to(library: Library, tls: bool) -> None:
    port = library.origin.https_port if tls else library.origin.http_port
    for exit in (*exits_in(library.network, "fr"), *exits_in(library.network, "se")):
        endpoint = library.tor.endpoint(
            library.origin.names[0], port, isolation="bob", tls=tls, exit=exit, retry=1
        )
        protocol: Any = await soon(endpoint.connect(Factory.forProtocol(Asking)))
        ip = json.loads(await soon(protocol.answer))["ip"]
        relay = next(one for one in library.network.relays if one.fingerprint == exit)
        assert ip == relay.address
    with pytest.raises(ExitUnavailable):
        endpoint = library.tor.endpoint(library.origin.names[0], port, exit_country="us")
        await soon(endpoint.connect(Factory.forProtocol(Asking)))


@ensureDeferred
async def test_a_client_beside_it_leaves_where_it_is_told_to(library: Library) -> None:
    for country in COUNTRIES:
        client = library.client.isolated("carol", exit_country=country, sticky=60, retry=1)
        for base in (library.origin.http, library.origin.https):
            response = await soon(client.get(base + "/ip"))
            library.check(response.tor, country, (await response.json())["ip"])
    with pytest.raises(ExitUnavailable):
        await soon(library.client.isolated("carol", exit_country="us").get(library.origin.http))

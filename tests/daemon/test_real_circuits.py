"""What shares a circuit, where requests end that reach nothing, and onion services."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet.protocol import Factory, Protocol

from tests.daemon.onions import control_of, publish, unknown_onion
from tests.daemon.process import Daemon, Launcher, installed, soon
from tests.daemon.servers import destination
from tests.tor.lone_tor import free_port
from tests.web_client import Reply
from tortxd.errors import TortxdError
from tortxd.testing import Origin, PrivateNetwork

if TYPE_CHECKING:
    pass

# --- who shares a circuit -------------------------------------------------------------------------


async def circuit_for(daemon: Daemon, url: str, *headers: str) -> str:
    reply = await daemon.fetch_told(url, *headers)
    assert reply.status == 200, reply.body
    return reply["Tortxd-Circuit"]


@ensureDeferred
async def test_rule_09_keys_decide_who_shares_a_circuit(daemon: Daemon, tor_origin: Origin) -> None:
    """Rule 9."""
    urls = [tor_origin.http + "/", tor_origin.https + "/"]
    found = []
    for key in ("alice canary", "bob canary", "carol canary"):
        header = f"Tor-Stream-Isolation: {key}"
        found.append({await circuit_for(daemon, url, header) for url in urls * 2})
    assert sum(map(len, found)) == len(set.union(*found))


@ensureDeferred
async def test_rule_09_the_same_key_of_another_calling_origin_is_another(
    daemon: Daemon, tor_origin: Origin
) -> None:
    """Rule 9: keys of different callers are different keys."""
    key = "Tor-Stream-Isolation: shared canary"
    pages = ["http://localhost:1", "http://localhost:2"]
    url = tor_origin.http + "/"
    found = [await circuit_for(daemon, url, key, f"Origin: {page}") for page in pages]
    assert found[0] != found[1]


@ensureDeferred
async def test_rule_09_sites_never_share_a_circuit(
    tor_network: PrivateNetwork, sites: Daemon, tor_origin: Origin
) -> None:
    """Rule 9, where no key is given."""
    port = tor_origin.http_port
    names = ("one.test.example", "two.test.example", "another-example.org")
    one, two, other = [await circuit_for(sites, f"http://{name}:{port}/") for name in names]
    assert other not in (one, two)


@pytest_twisted.async_yield_fixture
async def sites(
    tor_network: PrivateNetwork, tor_origin: Origin, tmp_path: Path
) -> AsyncIterator[Daemon]:
    """A daemon for which several names stand for this machine."""
    launch = Launcher(tor_network, tor_origin, tmp_path)
    torrc = tor_network.write_client_torrc(tmp_path / "torrc")
    names = ("one.test.example", "two.test.example", "another-example.org")
    torrc.write_text(torrc.read_text() + "".join(f"MapAddress {n} 127.0.0.1\n" for n in names))
    launch.secrets += names
    daemon = launch(torrc=torrc)
    await daemon.when_ready()
    yield daemon
    await launch.stop()


# --- what reaches nothing -------------------------------------------------------------------------


def check_error(reply: Reply, status: int, code: str) -> None:
    """Whether it is this error of the contract, whole, and tells nothing of the target."""
    assert (reply.status, reply.json["code"]) == (status, code)
    assert reply["Tortxd-Error"] == code
    assert reply["Proxy-Status"].startswith("tortxd; error=")
    assert isinstance(reply.json["retryable"], bool)
    assert b"example" not in reply.body
    assert b"canary" not in reply.body


@pytest.mark.parametrize("scheme", ["http", "https"])
@ensureDeferred
async def test_a_name_that_no_exit_can_resolve(daemon: Daemon, scheme: str) -> None:
    reply = await daemon.fetch(f"{scheme}://canary.nowhere.example/canary")
    check_error(reply, 502, "resolve_failed")


@pytest.mark.parametrize("scheme", ["http", "https"])
@ensureDeferred
async def test_a_port_where_nothing_listens(daemon: Daemon, scheme: str) -> None:
    reply = await daemon.fetch(f"{scheme}://origin.test.example:{free_port()}/canary")
    # The exits of tor 0.4.9 say MISC where the kernel refuses at once, as it does on loopback.
    assert reply.json["code"] in ("connect_refused", "connect_failed")
    check_error(reply, 502, reply.json["code"])


class Plain(Protocol):
    """A server that answers whatever comes in plain HTTP."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@ensureDeferred
async def test_tls_to_a_server_that_speaks_none(daemon: Daemon) -> None:
    factory = Factory.forProtocol(Plain)
    listening = installed().listenTCP(0, factory, interface="127.0.0.1")
    try:
        port = listening.getHost().port
        reply = await daemon.fetch(f"https://origin.test.example:{port}/canary")
        check_error(reply, 502, "tls_failed")
    finally:
        await listening.stopListening()


@ensureDeferred
async def test_a_certificate_that_nobody_trusts(daemon: Daemon, tmp_path: Path) -> None:
    stranger = Origin(installed(), tmp_path)
    await stranger.start()
    try:
        reply = await daemon.fetch(stranger.https + "/canary")
        check_error(reply, 502, "tls_failed")
        assert not stranger.requests
    finally:
        await stranger.stop()


# --- onion services -------------------------------------------------------------------------------


@ensureDeferred
async def test_rule_14_a_circuit_that_dies_shows(launch: Launcher, tor_origin: Origin) -> None:
    """Rule 14, and the fault "circuit dies mid-body", however the body is framed."""
    daemon = launch()
    await daemon.when_ready()
    wires = [
        await daemon.get_unread(f"{tor_origin.http}/{framing}/200000000")
        for framing in ("bytes", "chunked", "close")
    ]
    async with destination() as server:
        through = await daemon.connect()
        through.send(f"CONNECT origin.test.example:{server.port} HTTP/1.1\r\n\r\n".encode())
        for wire in (*wires, through):
            await soon(wire.when_came(b"\r\n\r\n"))
        broken = [wire.reply() for wire in wires]
        control = await control_of(daemon.data_dir / "tor" / "control.socket")
        for circuit in (await daemon.told("/circuits"))["circuits"]:
            # Of two legs of one path, the second may go with the first.
            with suppress(TortxdError):
                await control.tell(f"CLOSECIRCUIT {circuit['id']}")
        for reply in broken:
            assert not (await soon(reply)).whole
        await soon(through.lost)
        control.close()


@ensureDeferred
async def test_an_onion_service(
    daemon: Daemon, tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    client = await tor_network.start_client()
    try:
        name = await publish(client, tor_origin.http_port)
        reply = await daemon.fetch(f"http://{name}/echo?canary", method="POST", body=b"hello")
        assert reply.status == 200, reply.body
        assert base64.b64decode(reply.json["body"]) == b"hello"
        assert dict(reply.json["headers"])["Host"] == name
        assert "Tortxd-Circuit" in reply
        # Nobody leaves Tor on the way to an onion service.
        for header in ("Tortxd-Exit", "Tortxd-Exit-Address", "Tortxd-Exit-Country"):
            assert header not in reply
        assert name not in daemon.text
    finally:
        await client.stop()


@ensureDeferred
async def test_an_onion_service_may_have_any_certificate(
    daemon: Daemon, tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    """Its address is its key; this certificate is for other names."""
    client = await tor_network.start_client()
    try:
        name = await publish(client, tor_origin.https_port)
        reply = await daemon.fetch(f"https://{name}:80/echo?canary")
        assert reply.status == 200, reply.body
        assert dict(reply.json["headers"])["Host"] == f"{name}:80"
    finally:
        await client.stop()


@ensureDeferred
async def test_an_onion_service_that_does_not_exist(daemon: Daemon) -> None:
    name = unknown_onion()
    reply = await daemon.fetch(f"http://{name}/canary", "Tortxd-Timeout: 30")
    check_error(reply, 502, "onion_unreachable")
    assert name.encode() not in reply.body
    assert name not in daemon.text


@ensureDeferred
async def test_an_onion_name_that_is_none(daemon: Daemon) -> None:
    reply = await daemon.fetch(f"http://{'a' * 56}.onion/canary", "Tortxd-Timeout: 30")
    check_error(reply, 400, "bad_url")

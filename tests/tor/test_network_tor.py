"""The daemon on the private network: circuits, streams, exits and reasons as Tor shows them."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import threads

from tests.tor.daemons import Started
from tests.tor.lone_tor import free_socks
from tortxd.addresses import SocksAddress
from tortxd.testing.network import PrivateNetwork
from tortxd.testing.origin import Origin
from tortxd.tor.status import Ready
from tortxd.tor.supervisor import AttachSettings, LaunchSettings, TorSupervisor
from tortxd.wire.socks5 import request


@pytest_twisted.async_yield_fixture
async def start() -> AsyncIterator[Started]:
    started = Started()
    yield started
    await started.stop()


def fetch(socks: SocksAddress, host: str, port: int, user: bytes) -> tuple[tuple[str, int], bytes]:
    """One plain request over SOCKS, blocking; the source of its connection and the answer."""
    with socket.create_connection((socks.host, socks.port), timeout=60) as link:
        source = link.getsockname()
        link.sendall(request(host, port, user, b"1"))
        head = f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        link.sendall(head.encode())
        answer = b""
        while piece := link.recv(65536):
            answer += piece
    return source[:2], answer


async def check(daemon: TorSupervisor, network: PrivateNetwork, origin: Origin) -> None:
    await daemon.when_ready()
    assert daemon.status == Ready()
    assert daemon.network == "private"
    socks = await daemon.when_usable()
    port = int(origin.http.rpartition(":")[2].rstrip("/"))
    source, answer = await threads.deferToThread(
        fetch, socks, "origin.test.example", port, b"alice"
    )
    assert b"HTTP/1.1 200 OK" in answer
    assert await daemon.close_reason(source, 1.0) == "DONE"
    circuit = daemon.circuit_of(source)
    assert circuit is not None
    assert len(circuit.path) >= 3
    assert circuit.exit is not None
    relay = next(r for r in network.relays if r.fingerprint == circuit.exit.fingerprint)
    assert (circuit.exit.nickname, circuit.exit.address, circuit.exit.country) == (
        relay.nickname,
        relay.address,
        relay.country,
    )
    assert any(known.id == circuit.id for known in daemon.circuits())
    await daemon.new_identity()
    assert await daemon.close_reason(("127.0.0.1", 1), 0.01) is None


@ensureDeferred
async def test_launched(
    start: Started, tmp_path: Path, tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    lines = tuple(tor_network.client_torrc())
    settings = LaunchSettings(tmp_path / "data", socks=free_socks(), torrc_lines=lines)
    daemon = start(settings)
    await check(daemon, tor_network, tor_origin)
    await daemon.stop()
    again = start(settings)
    await again.when_usable()
    await again.when_ready()


@ensureDeferred
async def test_attached(start: Started, tor_network: PrivateNetwork, tor_origin: Origin) -> None:
    client = await tor_network.start_client()
    try:
        daemon = start(AttachSettings(f"unix:{client.control_socket}"))
        await check(daemon, tor_network, tor_origin)
    finally:
        await client.stop()

"""WebSockets on real circuits, spoken by somebody else's client and server: inside CONNECT, and by
``/proxy``."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from tests.daemon.process import Daemon, Launcher
from tests.daemon.websocket_client import speak
from tests.websocket_server import WebSocketServer, trusted
from tortxd.testing import Origin, PrivateNetwork


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebSocketServer]:
    folder = tmp_path_factory.mktemp("websocket")
    with WebSocketServer(folder, greeting="server first", subprotocols=("chat",)) as server:
        yield server


@pytest_twisted.async_yield_fixture
async def trusting(
    tor_network: PrivateNetwork, tor_origin: Origin, server: WebSocketServer, tmp_path: Path
) -> AsyncIterator[Daemon]:
    """A daemon that trusts the WebSocket server's CA too."""
    launch = Launcher(tor_network, tor_origin, tmp_path)
    both = trusted(tmp_path / "ca.pem", tor_origin.ca_file, server.ca_file)
    daemon = launch(environ={"SSL_CERT_FILE": str(both)})
    await daemon.when_ready()
    yield daemon
    await launch.stop()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@ensureDeferred
async def test_inside_connect(daemon: Daemon, server: WebSocketServer, scheme: str) -> None:
    """What passes is the client's affair: the handshake arrives as it was."""
    url = f"{getattr(server, scheme)}/canary?x=1"
    names = await speak(server, url, f"http://127.0.0.1:{daemon.port}")
    handshake = server.handshakes[-1]
    assert handshake.tls is (scheme == "wss")
    assert handshake.path == "/canary?x=1"
    assert handshake.all("Origin") == ["http://localhost:8000"]
    assert handshake.all("Cookie") == ["canary=1"]
    assert not [name for name, _ in handshake.headers if name.lower().startswith("proxy-")]
    assert not [name for name in names if name.startswith("tortxd-")]


@ensureDeferred
async def test_rule_06_by_proxy(trusting: Daemon, server: WebSocketServer) -> None:
    """A WebSocket whose URL is the gateway's own; what identifies the client stays behind, and the
    answer says which circuit carries it."""
    for url in (server.ws, server.wss):
        wanted = quote(f"{url}/canary?x=1", safe="")
        names = await speak(server, f"ws://127.0.0.1:{trusting.port}/proxy?url={wanted}")
        assert "tortxd-circuit" in names
        handshake = server.handshakes[-1]
        assert handshake.tls is url.startswith("wss:")
        assert handshake.path == "/canary?x=1"
        assert handshake.all("Host") == [url.partition("://")[2]]
        for name in ("Origin", "Cookie"):
            assert name not in handshake

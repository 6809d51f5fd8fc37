"""A real Chromium before the daemon, with a wire tap between the two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from attrs import frozen

from tests.browser.chromium import Chromium
from tests.browser.firefox import Firefox
from tests.browser.screen import complaints
from tests.browser.tap import Tap
from tests.daemon.process import Daemon, Launcher, installed, run
from tests.websocket_server import WebSocketServer, trusted
from tortxd.testing import Origin, PrivateNetwork

HOSTS = ("*.example", "evil.localhost")
"""What Chromium takes for loopback. Pages and canaries are there; ``origin.test.example`` as well,
so that going there directly would succeed, and be seen."""
CLIENT_TOKEN = "canary-token-of-clients"


@pytest.fixture(scope="package")
def websockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebSocketServer]:
    """A WebSocket server that is a destination."""
    with WebSocketServer(tmp_path_factory.mktemp("websockets")) as server:
        yield server


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """The web server of the pages from which the gateway is called, under whatever name."""
    pages = Origin(installed(), tmp_path_factory.mktemp("site"), names=("app.example",))
    run(pages.start)
    yield pages
    run(pages.stop)


@frozen
class Gateways:
    """Two daemons, which get ready at the same time."""

    free: Daemon
    """It allows ``http://app.example:PORT``, besides loopback."""
    guarded: Daemon
    """It wants a token of its clients."""


@pytest.fixture(scope="package")
def gateways(
    tor_network: PrivateNetwork,
    tor_origin: Origin,
    websockets: WebSocketServer,
    site: Origin,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateways]:
    folder = tmp_path_factory.mktemp("gateways")
    authorities = trusted(folder / "authorities.pem", tor_origin.ca_file, websockets.ca_file)
    environ = {"SSL_CERT_FILE": str(authorities)}
    token = folder / "token"
    token.write_text(CLIENT_TOKEN + "\n")
    token.chmod(0o600)
    launch = Launcher(tor_network, tor_origin, folder)
    try:
        both = Gateways(
            launch(f"--allow-origin=http://app.example:{site.http_port}", environ=environ),
            launch(f"--token-file={token}", environ=environ),
        )
        run(both.free.when_ready)
        run(lambda: _said_ready(both.guarded))
        yield both
    finally:
        run(launch.stop)


async def _said_ready(daemon: Daemon) -> None:
    # Its /health wants the token, too.
    await daemon.when_said("Tor is ready.")


def _tapped(to: int) -> Iterator[Tap]:
    tap = Tap(to)
    run(tap.start)
    yield tap
    run(tap.stop)


@pytest.fixture(scope="package")
def wire(gateways: Gateways) -> Iterator[Tap]:
    """Between the browser that uses no proxy and the daemon that wants no token."""
    yield from _tapped(gateways.free.port)


@pytest.fixture(scope="module")
def proxy_wire(gateways: Gateways) -> Iterator[Tap]:
    """Between the browser whose proxy it is and the same daemon."""
    yield from _tapped(gateways.free.port)


@pytest.fixture(scope="package")
def guarded_wire(gateways: Gateways) -> Iterator[Tap]:
    """Between the browser and the daemon that wants one."""
    yield from _tapped(gateways.guarded.port)


@pytest.fixture
def tap(wire: Tap) -> Tap:
    """The one of the browser that uses no proxy, having seen nothing yet."""
    wire.clear()
    return wire


@pytest.fixture
def proxy_tap(proxy_wire: Tap) -> Tap:
    """The one of the browser whose proxy is the gateway, having seen nothing yet."""
    proxy_wire.clear()
    return proxy_wire


@pytest.fixture
def gateway(tap: Tap) -> str:
    """The gateway as a user of Chromium knows it, without a slash at the end."""
    return f"http://localhost:{tap.port}"


def _started(browser: Chromium) -> Iterator[Chromium]:
    try:
        run(browser.start)
        yield browser
    finally:
        browser.stop()


@pytest.fixture(scope="package")
def direct_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser that uses no proxy, for all tests that leave no more than tabs."""
    yield from _started(Chromium(tmp_path_factory.mktemp("direct"), HOSTS))


@pytest_twisted.async_yield_fixture
async def browser(direct_browser: Chromium) -> AsyncIterator[Chromium]:
    """The same, with one tab only, and nothing in it."""
    yield direct_browser
    await direct_browser.close_other_tabs()


@pytest_twisted.async_yield_fixture
async def fresh(browser: Chromium) -> AsyncIterator[Chromium]:
    """The browser without cookies, before and afterwards (where it has one, Chromium fetches
    nothing ahead, which others test), and with no complaint so far."""
    await browser.devtools("Storage.clearCookies")
    await complaints(browser)
    yield browser
    await browser.devtools("Emulation.clearDeviceMetricsOverride")
    await browser.devtools("Emulation.setEmulatedMedia", features=[])
    await browser.devtools("Storage.clearCookies")


@pytest.fixture(scope="module")
def proxied_browser(
    proxy_wire: Tap, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chromium]:
    """A browser whose HTTP proxy is the gateway, for loopback too."""
    folder = tmp_path_factory.mktemp("proxied")
    yield from _started(Chromium(folder, HOSTS, proxy=f"http://127.0.0.1:{proxy_wire.port}"))


@pytest.fixture(scope="package")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """A Firefox that uses no proxy, for all tests that leave no more than tabs."""
    browser = Firefox(tmp_path_factory.mktemp("firefox"))
    try:
        run(browser.start)
        yield browser
    finally:
        browser.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A browser's own, in tests that start one."""
    return tmp_path / "chromium"

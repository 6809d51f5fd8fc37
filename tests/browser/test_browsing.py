"""Chromium with the gateway as its HTTP proxy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from selenium.common.exceptions import WebDriverException

from tests.browser.canary import Canary
from tests.browser.chromium import Chromium
from tests.browser.conftest import HOSTS
from tests.browser.pages import canned, put
from tests.browser.scripts import WEBSOCKET
from tests.browser.tap import Tap
from tests.websocket_server import WebSocketServer
from tortxd.testing import Origin


@pytest.mark.parametrize("scheme", ["http", "https"])
@ensureDeferred
async def test_rule_01_pages_come_through_tor(
    proxied_browser: Chromium, proxy_tap: Tap, tor_origin: Origin, scheme: str
) -> None:
    """The origin sees an exit, for pages and what they fetch; the browser asks the proxy alone."""
    origin = getattr(tor_origin, scheme)
    mark = f"?browsing-{scheme}"
    await proxied_browser.open(f"{origin}/{mark}")
    assert await proxied_browser.do(lambda driver: driver.title) == "It works"
    told = await proxied_browser.call(
        "fetch('/api/ip' + location.search).then(response => response.text())"
    )
    assert json.loads(told)["IsTor"] is True
    targets = [f"/{mark}".encode(), f"/api/ip{mark}".encode()]
    seen = [one for one in tor_origin.requests if one.target in targets]
    assert [one.target for one in seen] == targets
    assert {one.tls for one in seen} == {scheme == "https"}
    # What the browser says of itself it says to the origin, as it would without a proxy.
    assert b"Chrome" in (seen[0].header(b"user-agent") or b"")
    assert not [one for one in proxy_tap.exchanges if one.target.startswith("/")]


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@ensureDeferred
async def test_websockets_go_through_tunnels(
    proxied_browser: Chromium,
    proxy_tap: Tap,
    tor_origin: Origin,
    websockets: WebSocketServer,
    scheme: str,
) -> None:
    """Both ways, to their proper end; the page's Origin is the destination's to judge."""
    await proxied_browser.open(tor_origin.http + "/")
    text = "ä" * 70_000
    url = getattr(websockets, scheme) + "/tunnel"
    assert await proxied_browser.call(WEBSOCKET, url, text) == [[text, [0, 255, 10]], 1000, True]
    handshake = websockets.handshakes[-1]
    assert (handshake.path, handshake.tls) == ("/tunnel", scheme == "wss")
    assert handshake.all("Origin") == [tor_origin.http]
    authority = url.split("/")[2]
    assert [one.status for one in proxy_tap.of(authority) if one.method == "CONNECT"] == [200]


@ensureDeferred
async def test_rule_03_pages_do_not_reach_the_users_own_machine(
    proxied_browser: Chromium, proxy_tap: Tap, tor_origin: Origin
) -> None:
    """A page that asks for loopback, or for the gateway itself, gets the gateway's refusal."""
    canary = Canary().start()
    try:
        page = f"""<!DOCTYPE html><title>page</title>
            <img src="http://127.0.0.1:{canary.port}/image">
            <img src="http://localhost:{canary.port}/image">
            <img src="http://localhost:{proxy_tap.port}/health">"""
        put(tor_origin, "/loopback", canned(page))
        await proxied_browser.open(tor_origin.http + "/loopback")
        local = (f"127.0.0.1:{canary.port}", f"localhost:{canary.port}", "/health")
        await proxy_tap.when_answered(*local)
        for one in (one for mark in local for one in proxy_tap.of(mark)):
            assert (one.status, one.error) == (403, "target_forbidden"), one.target
        assert canary.connections == 0
    finally:
        await canary.stop()


@ensureDeferred
async def test_without_the_token_nothing_is_reached(
    guarded_wire: Tap, tor_origin: Origin, folder: Path
) -> None:
    """Every request and every tunnel is answered 407."""
    browser = Chromium(folder, HOSTS, proxy=f"http://127.0.0.1:{guarded_wire.port}")
    try:
        await browser.start()
        for url in (tor_origin.http, tor_origin.https):
            try:
                await browser.open(url + "/without-token")
            except WebDriverException as error:
                assert "net::ERR_" in str(error)
        name = tor_origin.names[0]
        await guarded_wire.when_answered(
            f"{name}:{tor_origin.http_port}", f"{name}:{tor_origin.https_port}"
        )
    finally:
        browser.stop()
    asked = guarded_wire.of(tor_origin.names[0])
    assert {one.method for one in asked} == {"GET", "CONNECT"}
    answers = {(one.status, one.error) for one in asked}
    # What the browser asked for at its very end may have no answer.
    assert answers - {(None, None)} == {(407, "unauthorized")}
    assert not [one for one in tor_origin.requests if one.target == b"/without-token"]

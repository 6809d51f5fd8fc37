"""A page of an allowed web origin uses ``/proxy``, in a real browser."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from tests.browser.chromium import Chromium
from tests.browser.pages import canned, put
from tests.browser.scripts import WEBSOCKET
from tests.browser.tap import Tap
from tests.daemon.process import Daemon, Launcher, run
from tests.websocket_server import WebSocketServer
from tortxd.policy.headers import TOR_BROWSER_LANGUAGE, TOR_BROWSER_USER_AGENT
from tortxd.testing import Origin, PrivateNetwork

FETCH = """fetch(...a).then(async response => ({
    status: response.status, type: response.type, url: response.url,
    redirected: response.redirected, headers: Object.fromEntries(response.headers),
    body: await response.text()}))"""


@pytest_twisted.async_fixture(params=["127.0.0.1", "app.example"])
async def page(request: pytest.FixtureRequest, browser: Chromium, site: Origin) -> str:
    """A page is open whose origin, which this is, may call: a loopback one, one allowed by name."""
    put(site, "/app", canned("<!DOCTYPE html><title>app</title>"))
    origin = f"http://{request.param}:{site.http_port}"
    await browser.open(f"{origin}/app")
    return origin


def proxied(gateway: str, url: str) -> str:
    return f"{gateway}/proxy?url={quote(url, safe='')}"


@ensureDeferred
async def test_rule_04_an_allowed_page_reads_what_it_fetches(
    page: str,
    browser: Chromium,
    gateway: str,
    tap: Tap,
    tor_network: PrivateNetwork,
    tor_origin: Origin,
) -> None:
    """Allowed origins get CORS headers that name that origin: body, status and ``Tortxd-*``."""
    url = proxied(gateway, tor_origin.https + "/ip")
    got = await browser.call(FETCH, url)
    while "tortxd-exit" not in got["headers"]:  # the control port has not told of it yet
        got = await browser.call(FETCH, url)
    assert (got["status"], got["type"], got["redirected"]) == (200, "cors", False)
    (relay,) = [
        one for one in tor_network.relays if one.fingerprint == got["headers"]["tortxd-exit"]
    ]
    assert relay.is_exit
    assert json.loads(got["body"])["ip"] == relay.address == got["headers"]["tortxd-exit-address"]
    assert got["headers"]["tortxd-exit-country"] == relay.country
    assert got["headers"]["tortxd-circuit"].isdecimal()
    assert "tortxd-error" not in got["headers"]
    seen = tap.of(tor_origin.names[0])[-1]
    assert seen.asked["origin"] == seen.answered["access-control-allow-origin"] == page


@ensureDeferred
async def test_rule_04_an_allowed_page_reads_every_header(
    page: str, browser: Chromium, gateway: str, tor_origin: Origin
) -> None:
    """Chromium hides what is not listed; rule 5: what would make it connect is not there."""
    given = {"X-Own": "1", "ETag": '"a"', "Accept-Ranges": "none", "Content-Disposition": "inline"}
    lines = [f"{name}: {value}" for name, value in given.items()]
    link = "Link: <http://canary.example/>; rel=preconnect"
    put(tor_origin, "/headers", canned("canary", "text/plain", *lines, link))
    got = await browser.call(FETCH, proxied(gateway, tor_origin.http + "/headers"))
    assert {name.lower(): value for name, value in given.items()}.items() <= got["headers"].items()
    assert {"tortxd-circuit", "proxy-status", "x-content-type-options"} < got["headers"].keys()
    assert "link" not in got["headers"]
    got = await browser.call(FETCH, gateway + "/nope")
    assert (got["status"], got["headers"]["tortxd-error"]) == (404, "not_found")
    assert {"date", "x-content-type-options", "referrer-policy"} < got["headers"].keys()


@pytest.fixture(scope="module")
def lenient(
    tor_network: PrivateNetwork, tor_origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """A daemon that lets pages call that have no web origin."""
    launch = Launcher(tor_network, tor_origin, tmp_path_factory.mktemp("lenient"))
    try:
        daemon = launch("--allow-origin=null")
        run(daemon.when_ready)
        yield daemon
    finally:
        run(launch.stop)


@ensureDeferred
async def test_rule_04_a_sandboxed_page_may_call_where_null_is_allowed(
    browser: Chromium, gateway: str, lenient: Daemon, site: Origin, tor_origin: Origin
) -> None:
    """Clients' routes alone; elsewhere it is refused."""
    sandboxed = canned(
        "<!DOCTYPE html><title>app</title>",
        "text/html",
        "Content-Security-Policy: sandbox allow-scripts",
    )
    put(site, "/sandboxed", sandboxed)
    await browser.open(f"http://127.0.0.1:{site.http_port}/sandboxed")
    assert await browser.call("self.origin") == "null"
    allowing = f"http://localhost:{lenient.port}"
    url = tor_origin.http + "/status/404"
    got = await browser.call(FETCH, proxied(allowing, url))
    assert (got["status"], got["body"]) == (404, "404\n")
    assert "tortxd-circuit" in got["headers"]
    assert (await browser.call(FETCH, f"{allowing}/health"))["status"] == 200
    refused = "fetch(...a).then(() => 'read', error => error.name)"
    for address in (f"{allowing}/circuits", proxied(gateway, url)):
        assert await browser.call(refused, address) == "TypeError"


@ensureDeferred
async def test_rule_04_an_allowed_page_posts_after_a_preflight(
    page: str, browser: Chromium, gateway: str, tap: Tap, tor_origin: Origin
) -> None:
    """Preflights are answered for allowed origins; rule 6: nothing of the browser's goes along."""
    body = json.dumps({"canary": "ä" * 1000})
    headers = {
        "Content-Type": "application/json",
        "X-Canary": "1",
        "Authorization": "Bearer canary",
    }
    options = {"method": "POST", "headers": headers, "body": body}
    got = await browser.call(FETCH, proxied(gateway, tor_origin.http + "/echo?a=1"), options)
    assert got["status"] == 200
    echoed = json.loads(got["body"])
    assert (echoed["method"], echoed["target"]) == ("POST", "/echo?a=1")
    assert base64.b64decode(echoed["body"]).decode() == body
    arrived = {name.lower(): value for name, value in echoed["headers"]}
    assert arrived["content-type"] == "application/json"
    assert arrived["x-canary"] == "1"
    assert arrived["authorization"] == "Bearer canary"
    assert arrived["user-agent"] == TOR_BROWSER_USER_AGENT.decode()
    assert arrived.get("accept-language") in (None, TOR_BROWSER_LANGUAGE.decode())
    unwanted = {"origin", "referer", "cookie", "x-forwarded-for", "via", "forwarded"}
    assert not [name for name in arrived if name in unwanted or name.startswith("sec-")]
    asked = [(one.method, one.status) for one in tap.of(tor_origin.names[0])]
    assert asked == [("OPTIONS", 204), ("POST", 200)]


@ensureDeferred
async def test_rule_04_an_allowed_page_reads_errors(
    page: str, browser: Chromium, gateway: str, tor_origin: Origin
) -> None:
    """The gateway's own errors, and the destination's, which are told apart (rule 27)."""
    got = await browser.call(FETCH, proxied(gateway, "http://127.0.0.1/"))
    assert (got["status"], got["headers"]["tortxd-error"]) == (403, "target_forbidden")
    assert json.loads(got["body"])["code"] == "target_forbidden"
    got = await browser.call(FETCH, proxied(gateway, tor_origin.http + "/status/404"))
    assert (got["status"], got["body"]) == (404, "404\n")
    assert "tortxd-error" not in got["headers"]


@ensureDeferred
async def test_rule_05_an_allowed_page_follows_redirects_through_the_gateway(
    page: str, browser: Chromium, gateway: str, tap: Tap, tor_origin: Origin
) -> None:
    """A redirect to another origin stays on ``/proxy``, and loses Authorization on the way."""
    to = tor_origin.https + "/echo?canary=1"
    url = f"{tor_origin.http}/redirect?to={quote(to, safe='')}"
    options = {"headers": {"Authorization": "Bearer canary"}}
    got = await browser.call(FETCH, proxied(gateway, url), options)
    assert (got["status"], got["redirected"]) == (200, True)
    assert got["url"] == proxied(gateway, to) + "&redirected=1"
    echoed = json.loads(got["body"])
    assert echoed["target"] == "/echo?canary=1"
    assert "authorization" not in [name.lower() for name, _ in echoed["headers"]]
    asked = {one.target.partition("?")[0] for one in tap.of(tor_origin.names[0])}
    assert asked == {"/proxy"}


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@ensureDeferred
async def test_rule_04_an_allowed_page_opens_a_websocket(
    page: str, browser: Chromium, gateway: str, websockets: WebSocketServer, scheme: str
) -> None:
    """Text and bytes both ways, the closing handshake, and no Origin that would name the page."""
    destination = getattr(websockets, scheme) + "/canary?a=1"
    text = "ä" * 70_000
    url = proxied(gateway, destination).replace("http://", "ws://", 1)
    assert await browser.call(WEBSOCKET, url, text) == [[text, [0, 255, 10]], 1000, True]
    handshake = websockets.handshakes[-1]
    assert handshake.tls is (scheme == "wss")
    assert handshake.path == "/canary?a=1"
    assert handshake.all("User-Agent") == [TOR_BROWSER_USER_AGENT.decode()]
    assert "Origin" not in handshake
    assert "Cookie" not in handshake

"""Where a browser gets by embedding what comes through ``/proxy``, and by following redirects."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from tests.browser.canary import Canary
from tests.browser.chromium import Chromium
from tests.browser.hostile import hostile
from tests.browser.pages import canned, put
from tests.browser.tap import Tap
from tortxd.testing import Origin


@pytest_twisted.async_yield_fixture
async def canary() -> AsyncIterator[Canary]:
    one = Canary().start()
    yield one
    await one.stop()


POST = """new Promise(done => {
    const frame = Object.assign(document.createElement("iframe"), {name: "framed"});
    const form = Object.assign(document.createElement("form"),
        {method: "post", action: a[0], target: "framed"});
    document.body.append(frame, form);
    frame.onload = () => done(null);
    form.submit();
})"""


@pytest.mark.parametrize(
    ("page", "content_type"), [("page", "text/html"), ("svg", "image/svg+xml")]
)
@ensureDeferred
async def test_rule_05_a_page_in_an_allowed_pages_frame_is_dead(
    browser: Chromium,
    gateway: str,
    tap: Tap,
    site: Origin,
    tor_origin: Origin,
    canary: Canary,
    page: str,
    content_type: str,
) -> None:
    """A form can be posted into a frame, with the page's Origin: what comes is shown as text."""
    where = f"http://canary.example:{canary.port}"
    body, headers, _ = hostile(
        page, canary=where, preconnect=where, gateway=gateway, cookie="canary-framed"
    )
    put(tor_origin, f"/framed-{page}", canned(body, content_type, *headers))
    put(site, "/frames", canned("<!DOCTYPE html><title>frames</title><body>"))
    await browser.open(f"http://127.0.0.1:{site.http_port}/frames")
    target = "/proxy?url=" + quote(f"{tor_origin.http}/framed-{page}", safe="")
    await browser.call(POST, gateway + target)
    (one,) = tap.of(target)
    assert (one.status, one.asked["sec-fetch-dest"]) == (200, "iframe")
    await browser.do(lambda driver: driver.switch_to.frame("framed"))
    assert await browser.call("document.contentType") == "text/plain"
    assert "Read me." in await browser.text()
    # The frame's page without its guard would by now have come to this, as a control page does.
    body, headers, live = hostile(
        page, canary=where, preconnect=where, gateway=gateway, cookie="control"
    )
    assert canary.connections == 0
    put(site, f"/control-{page}", canned(body, content_type, *headers))
    control = f"http://direct.example:{site.http_port}/control-{page}"
    await browser.do(lambda driver: driver.switch_to.default_content())
    await browser.call(FRAME, control)
    await canary.when_reached(live)
    assert not tap.of("canary-framed=")
    assert "canary-framed" not in await browser.cookies()


FRAME = """void document.body.append(
    Object.assign(document.createElement("iframe"), {src: a[0]}))"""


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@ensureDeferred
async def test_rule_05_redirects_to_another_origin_stay_on_the_gateway(
    browser: Chromium, gateway: str, tap: Tap, tor_origin: Origin, status: int
) -> None:
    """The browser, which could go there by itself, goes there through Tor."""
    to = tor_origin.https + "/api/ip"
    first = f"{tor_origin.http}/redirect?status={status}&to={quote(to, safe='')}"
    await browser.open(f"{gateway}/proxy?url={quote(first, safe='')}")
    assert await browser.url() == f"{gateway}/proxy?url={quote(to, safe='')}&redirected=1"
    assert json.loads(await browser.text())["IsTor"] is True
    asked = [one.target.partition("?")[0] for one in tap.of(tor_origin.names[0])]
    assert asked == ["/proxy", "/proxy"]


@pytest.mark.parametrize(
    ("to", "error"),
    [
        ("{gateway}/health?canary", "target_forbidden"),
        ("http://127.0.0.1:{canary}/", "target_forbidden"),
        ("//localhost:{canary}/", "target_forbidden"),
        ("data:text/html,<script>document.title='owned'</script>", "target_forbidden"),
        ("javascript:document.title='owned'", "target_forbidden"),
        ("file:///etc/hostname", "target_forbidden"),
        ("ftp://canary.example:{canary}/", "target_forbidden"),
        ("http:\\\\canary.example:{canary}\\", "bad_url"),
        ("http:/canary.example:{canary}/", "bad_url"),
    ],
)
@ensureDeferred
async def test_rule_05_redirects_to_nowhere_stay_on_the_gateway(
    browser: Chromium,
    gateway: str,
    tap: Tap,
    tor_origin: Origin,
    canary: Canary,
    to: str,
    error: str,
) -> None:
    """What may not be followed is the gateway's error, to which the browser was sent (rule 3)."""
    to = to.format(gateway=gateway, canary=canary.port)
    first = f"{tor_origin.http}/redirect?to={quote(to, safe='')}"
    await browser.open(f"{gateway}/proxy?url={quote(first, safe='')}")
    assert json.loads(await browser.text())["code"] == error
    assert (await browser.url()).startswith(f"{gateway}/proxy?url=")
    assert await browser.do(lambda driver: driver.title) != "owned"
    asked = [one for one in tap.exchanges if one.target.startswith("/proxy?")]
    assert [(one.status, one.error) for one in asked] == [(302, None), (asked[1].status, error)]
    assert canary.connections == 0


@ensureDeferred
async def test_rule_02_a_name_that_points_to_loopback_is_refused(
    browser: Chromium, tap: Tap, tor_origin: Origin
) -> None:
    """DNS rebinding: for the browser, the attacker's page and the gateway would be one origin."""
    target = "/canary-rebinding"
    name = f"http://rebinding.example:{tap.port}"
    for path in ("/health", "/proxy?url=" + quote(tor_origin.http + target, safe="")):
        await browser.open(name + path)
        assert json.loads(await browser.text())["code"] == "forbidden_host"
    await browser.open(name + "/")
    assert (await tap.when_answered_to("/")).error == "forbidden_host"
    assert "does not answer to this Host" in await browser.text()
    assert "Tor is" not in await browser.text()
    assert not [one for one in tor_origin.requests if one.target == target.encode()]

"""The page at ``/`` in a browser: it can be read, renews itself, and nothing in it can do harm."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define
from pytest_twisted import ensureDeferred
from twisted.internet.defer import maybeDeferred

from tests.browser.chromium import Chromium
from tests.browser.screen import complaints, show_as
from tests.browser.tap import Tap
from tests.daemon.process import installed, soon
from tests.gateway.conftest import OPERATOR, FakeLink, policy
from tortxd.addresses import SocksAddress
from tortxd.gateway.front.listener import FrontFactory
from tortxd.gateway.gateway import Gateway as Core
from tortxd.policy.access import AccessPolicy
from tortxd.tor.status import Bootstrapping, Ready

BOOTSTRAPPING = Bootstrapping(
    45, "requesting_descriptors", "Asking for relay descriptors", "A guard refused the connection."
)
SHOTS = os.environ.get("SCREENSHOTS")
"""A folder into which the pages are photographed, for people to look at."""


@define
class Here:
    """A gateway in this process, over no Tor at all."""

    link: FakeLink
    core: Core
    tap: Tap

    @property
    def url(self) -> str:
        return f"http://localhost:{self.tap.port}/"

    @property
    def operators_url(self) -> str:
        return f"{self.url}?token={OPERATOR.decode()}"

    def pages(self) -> list[int]:
        """The statuses of the answers that there were for the page."""
        return [one.status for one in self.tap.to("/") if one.status is not None]


@pytest_twisted.async_yield_fixture
async def here() -> AsyncIterator[Here]:
    from tortxd.gateway.control.app import Api

    link = FakeLink(socks_address=SocksAddress("127.0.0.1", 9050), network="public")
    access = AccessPolicy(operator_token=OPERATOR, operator_cookie=b"cookie-of-this-process")
    core = Core(installed(), link, policy(access=access))
    api = Api(core, "https://check.example/api/ip", "https://ip.example/")
    factory = FrontFactory(core, lambda: api)
    port = installed().listenTCP(0, factory, interface="127.0.0.1")
    tap = Tap(port.getHost().port)
    await tap.start()
    yield Here(link, core, tap)
    await tap.stop()
    await maybeDeferred(port.stopListening)
    for front in list(factory.connections):
        front.transport.abortConnection()
    core.stop()


async def photograph(browser: Chromium, name: str) -> None:
    if SHOTS is not None:
        shot = await browser.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        (Path(SHOTS) / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


MEASURE = """({
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    cut: [...document.querySelectorAll("main *")]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName),
    small: [...document.querySelectorAll("main *")]
        .filter(e => parseFloat(getComputedStyle(e).fontSize) < 13).map(e => e.tagName),
    back: getComputedStyle(document.body).backgroundColor,
    front: getComputedStyle(document.body).color,
})"""


def brightness(colour: str) -> int:
    """Of ``rgb(1, 2, 3)``."""
    return sum(int(part) for part in colour.partition("(")[2].rstrip(")").split(","))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("state", ["bootstrapping", "ready"])
@ensureDeferred
async def test_it_can_be_read(
    fresh: Chromium, here: Here, state: str, width: int, scheme: str
) -> None:
    if state == "bootstrapping":
        here.link.status, here.link.network = BOOTSTRAPPING, "private"
    await show_as(fresh, width, scheme)
    await fresh.open(here.url)
    text = await fresh.text()
    for words in (
        "Tor is ready" if state == "ready" else "Tor is 45 % ready",
        "the public Tor network" if state == "ready" else "no anonymity",
        f"curl http://localhost:{here.tap.port}/health",
        "operator-token",
    ):
        assert words in text
    seen: Any = await fresh.call(MEASURE)
    assert (seen["wide"], seen["cut"], seen["small"]) == (0, [], [])
    darker, brighter = sorted((seen["back"], seen["front"]), key=brightness)
    assert brightness(darker) < 120 < 600 < brightness(brighter)
    assert (seen["back"] == darker) is (scheme == "dark")
    await photograph(fresh, f"{state}-{width}-{scheme}")
    assert await complaints(fresh) == []


def renewals(here: Here) -> list[str]:
    """What each answer for the page said of renewing itself."""
    answers = [one for one in here.tap.to("/") if one.status is not None]
    return [one.answered.get("refresh", "no") for one in answers]


@ensureDeferred
async def test_it_renews_itself_until_tor_is_ready(fresh: Chromium, here: Here) -> None:
    here.link.status = BOOTSTRAPPING
    await fresh.open(here.url)
    assert "45 % ready" in await fresh.text()
    await soon(here.tap.when(lambda: len(here.pages()) > 1))
    here.link.status = Ready()
    number = len(here.pages())
    # Two more, since one may have been on its way: none of them is the last while it renews itself.
    await soon(here.tap.when(lambda: renewals(here)[-1] == "no"))
    assert len(here.pages()) <= number + 2
    assert set(renewals(here)[:-1]) == {"2"}
    # Each time it was its own page that asked.
    assert {one.asked["sec-fetch-site"] for one in here.tap.to("/")} == {"none", "same-origin"}
    assert await complaints(fresh) == []


async def follow(browser: Chromium, link: str) -> None:
    await browser.do(lambda driver: driver.find_element("link text", link).click())


@ensureDeferred
async def test_its_links_lead_on(fresh: Chromium, here: Here) -> None:
    await fresh.open(here.url)
    await follow(fresh, "/health")
    one = await here.tap.when_answered_to("/health")
    assert one.status == 200
    assert one.asked["sec-fetch-site"] == "same-origin"
    assert (await fresh.url()) == here.url + "health"
    assert (await fresh.text()).startswith("{\n  ")
    assert await complaints(fresh) == []


HOSTILE = "<img src=x onerror=document.title='canary'><script>document.title='canary'</script>"


@ensureDeferred
async def test_what_tor_says_is_text(fresh: Chromium, here: Here) -> None:
    here.link.status = Bootstrapping(1, "x", HOSTILE, HOSTILE)
    await fresh.open(here.url)
    assert f"It does not get on: {HOSTILE}" in await fresh.text()
    assert await fresh.call("document.title") == "Tor is 1 % ready - tortxd"
    assert await fresh.call("document.querySelectorAll('img, script').length") == 0
    assert await complaints(fresh) == []


@ensureDeferred
async def test_its_policy_would_hold_what_escaping_let_through(fresh: Chromium, here: Here) -> None:
    """Scripts, other styles and whatever would be loaded."""
    await fresh.open(here.url)
    tried = await fresh.call(
        """new Promise(done => {
            const refused = new Set();
            document.addEventListener("securitypolicyviolation", violation => {
                refused.add(violation.effectiveDirective);
                if (refused.size === 4) done([...refused].sort());
            });
            for (const html of ["<img src='/health'>", "<style>b{}</style>", "<b style='x:y'>",
                                "<iframe src='/health'></iframe>"])
                document.body.insertAdjacentHTML("beforeend", html);
        })"""
    )
    assert tried == ["frame-src", "img-src", "style-src-attr", "style-src-elem"]
    assert not here.tap.to("/health")


@ensureDeferred
async def test_where_a_token_is_set_the_browser_says_how_to_go_on(
    fresh: Chromium, here: Here
) -> None:
    access = AccessPolicy(token=b"clients", operator_token=OPERATOR, operator_cookie=b"a-cookie")
    here.core.policy = policy(access=access)
    await fresh.open(here.url)
    assert here.pages() == [401]
    text = await fresh.text()
    assert "A token is needed." in text
    assert "?token=TOKEN" in text
    await photograph(fresh, "token-needed")
    await fresh.open(here.operators_url)
    assert await fresh.url() == here.url  # the token is not in sight
    assert "For operators" not in await fresh.text()
    assert await fresh.call("document.getElementById('circuits') !== null")

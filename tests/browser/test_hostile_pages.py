"""Hostile pages, opened through ``/proxy`` in a real browser: rule 5.

All are first opened through the gateway, each in a tab and with canaries of its own, then some of
them directly. When the latter have reached all that such pages reach, the former have had their
time. What is here is markup, and types that are spelled oddly; every other type is in
``test_documents.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from attrs import define, field, frozen

from tests.browser.canary import Canary
from tests.browser.chromium import Chromium
from tests.browser.hostile import hostile
from tests.browser.pages import canned, put
from tests.browser.tap import Exchange, Tap
from tests.daemon.process import run
from tortxd.testing import Origin

SHOWN = "text/plain"

CASES: dict[str, tuple[str, str | None, str | None]] = {
    # page, its type, what it is shown as; None: a download
    "html": ("page", "text/html; charset=utf-8", SHOWN),
    "xhtml": ("page", "application/xhtml+xml", SHOWN),
    "xml": ("page", "text/xml", SHOWN),
    "application-xml": ("page", "application/xml; charset=utf-8", SHOWN),
    "svg": ("svg", "image/svg+xml", SHOWN),
    "svg-as-xml": ("svg", "text/xml", SHOWN),
    "no-type": ("page", None, None),
    "upper-case": ("page", "TEXT/HTML", SHOWN),
    "two-types": ("page", "text/html;x, text/plain", SHOWN),
    "two-types-reversed": ("page", "text/plain, text/html", SHOWN),
    "space": ("page", " text/html ;charset=utf-7", SHOWN),
    "quoted": ("page", 'text/html;charset="utf-8', SHOWN),
    "any": ("page", "*/*", None),
    "no-slash": ("page", "html", None),
    "meta-refresh": ("meta-refresh", "text/html", SHOWN),
    "refresh-header": ("refresh-header", "text/html", SHOWN),
    "refresh-header-of-text": ("refresh-header", "text/plain", SHOWN),
}
LIVE = (
    "html",
    "xhtml",
    "xml",
    "svg",
    "no-type",
    "meta-refresh",
    "refresh-header",
)
"""Those that are opened directly, too."""


@frozen
class Outcome:
    """What became of a page that was opened."""

    title: str
    url: str
    content_type: str
    text: str


@define
class Visit:
    """A hostile page, opened in a tab."""

    browser: Chromium
    page: str
    mark: str
    gateway: str
    canary: Canary = field(factory=Canary)
    preconnect: Canary = field(factory=Canary)
    live: frozenset[str] = frozenset()
    tab: str = ""

    async def open(self, origin: Origin, url: str, content_type: str | None) -> None:
        """Open it at ``url``, where ``{path}`` is that at which ``origin`` has it."""
        one, other = (
            f"http://canary.example:{canary.start().port}"
            for canary in (self.canary, self.preconnect)
        )
        body, headers, self.live = hostile(
            self.page, canary=one, preconnect=other, gateway=self.gateway, cookie=self.mark
        )
        put(origin, f"/hostile-{self.mark}", canned(body, content_type, *headers))
        self.tab = await self.browser.open_tab(url.format(path=f"hostile-{self.mark}"))

    async def look(self) -> Outcome:
        """See what has become of it."""
        await self.browser.switch(self.tab)
        title = await self.browser.do(lambda driver: str(driver.title))
        url, content_type = await self.browser.url(), await self.browser.content_type()
        return Outcome(title, url, content_type, await self.browser.text())

    async def stop(self) -> None:
        """Take the canaries away."""
        await self.canary.stop()
        await self.preconnect.stop()


@frozen
class Visits:
    """All of them, and what was seen once the live ones were done."""

    proxied: dict[str, Visit]
    outcomes: dict[str, Outcome]
    cookies: set[str]
    exchanges: list[Exchange]
    failures: dict[str, AssertionError]
    """Of those opened directly, the ones that did not reach what they should."""


async def open_all(
    browser: Chromium, wire: Tap, tor_origin: Origin, site: Origin, opened: list[Visit]
) -> Visits:
    """Open all pages through the gateway, then the live ones directly."""
    gateway = f"http://localhost:{wire.port}"
    through = f"{gateway}/proxy?url={quote(tor_origin.http + '/', safe='')}{{path}}"
    directly = f"http://direct.example:{site.http_port}/{{path}}"
    wire.clear()
    proxied = {name: Visit(browser, CASES[name][0], f"canary-{name}", gateway) for name in CASES}
    for name, visit in proxied.items():
        opened.append(visit)
        await visit.open(tor_origin, through, CASES[name][1])
    failures = {}
    for name in LIVE:
        page, content_type, _ = CASES[name]
        visit = Visit(browser, page, f"control-{name}", gateway)
        opened.append(visit)
        await visit.open(site, directly, content_type)
        try:
            await visit.canary.when_reached(visit.live)
            if page == "page":
                await visit.preconnect.when_reached(())
        except AssertionError as error:
            failures[name] = error
    outcomes = {name: await visit.look() for name, visit in proxied.items()}
    return Visits(proxied, outcomes, await browser.cookies(), wire.exchanges, failures)


@pytest.fixture(scope="module")
def visits(
    direct_browser: Chromium, wire: Tap, tor_origin: Origin, site: Origin
) -> Iterator[Visits]:
    opened: list[Visit] = []

    async def close() -> None:
        await direct_browser.close_other_tabs()
        for visit in opened:
            await visit.stop()
            tor_origin.canned.pop(f"/hostile-{visit.mark}".encode(), None)

    try:
        yield run(lambda: open_all(direct_browser, wire, tor_origin, site, opened))
    finally:
        run(close)


@pytest.mark.parametrize("name", CASES)
def test_rule_05_a_page_opened_through_the_gateway_is_dead(visits: Visits, name: str) -> None:
    """No script of it runs, nothing is asked for or connected to, no API is reached, no cookie is
    kept; markup is shown as text, and what has no type at all is a download.
    """
    visit, outcome, shown = visits.proxied[name], visits.outcomes[name], CASES[name][2]
    assert (visit.canary.connections, visit.canary.asked) == (0, set())
    assert visit.preconnect.connections == 0
    asked = [one for one in visits.exchanges if one.target.endswith(visit.mark)]
    assert [(one.status, one.asked["sec-fetch-site"]) for one in asked] == [(200, "none")]
    assert not [one for one in visits.exchanges if f"?{visit.mark}=" in one.target]
    assert not [cookie for cookie in visits.cookies if cookie.startswith(visit.mark)]
    assert outcome.title != "owned"
    if shown is None:
        assert outcome.url.startswith(("data:", "about:"))  # it has gone nowhere
    else:
        assert outcome.content_type == shown
        assert outcome.url == f"{visit.gateway}{asked[0].target}"
    if shown == SHOWN:
        assert "Read me." in outcome.text
        assert "<" in outcome.text


@pytest.mark.parametrize("name", LIVE)
def test_the_same_page_opened_directly_is_alive(visits: Visits, name: str) -> None:
    """Control: script runs, all canaries are reached, the API is called, the cookie is kept."""
    assert name not in visits.failures, visits.failures[name]
    if CASES[name][0] in ("page", "svg"):
        assert {f"control-{name}", f"control-{name}-script"} <= visits.cookies
        called = [one for one in visits.exchanges if f"?control-{name}=" in one.target]
        assert {one.target.partition("?")[0] for one in called} >= {"/health", "/identity/new"}

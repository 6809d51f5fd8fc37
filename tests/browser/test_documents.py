"""Everything that a browser might open as a document, in Chromium and in Firefox: rule 5.

The application that embeds it shares the gateway's origin, as it does where the gateway is mounted
into a site or stands behind a reverse proxy: nobody else can (rule 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from attrs import define, field

from tests.browser.canary import Canary
from tests.browser.chromium import Chromium
from tests.browser.firefox import Firefox
from tests.browser.hostile import hostile
from tests.browser.pages import canned, put
from tests.browser.tap import Tap
from tests.daemon.process import run
from tortxd.testing import Origin

Browser = Chromium | Firefox

TEXT = "text/plain"
DOWNLOAD = "application/octet-stream"

TYPES: dict[str, tuple[str, str, str]] = {
    # page, its type, what the browser gets
    "html": ("page", "text/html", TEXT),
    "xhtml": ("page", "application/xhtml+xml", TEXT),
    "svg": ("svg", "image/svg+xml", TEXT),
    "mathml": ("page", "application/mathml+xml", TEXT),
    "rdf": ("page", "text/rdf", TEXT),
    "rdf-xml": ("page", "application/rdf+xml", TEXT),
    "entity": ("page", "text/xml-external-parsed-entity", TEXT),
    "application-entity": ("page", "application/xml-external-parsed-entity", TEXT),
    "xsl": ("page", "text/xsl", TEXT),
    "replace": ("parts", "multipart/x-mixed-replace; boundary=x", TEXT),
    "mixed": ("parts", "multipart/mixed; boundary=x", TEXT),
    "byteranges": ("parts", "multipart/byteranges; boundary=x", TEXT),
    "archive": ("parts", "multipart/related; boundary=x; type=text/html", TEXT),
    "message": ("parts", "message/rfc822", TEXT),
    "index": ("index", "application/http-index-format", TEXT),
    "json": ("page", "application/json", TEXT),
    "json-lines": ("page", "application/ld+json", TEXT),
    "javascript": ("page", "text/javascript", TEXT),
    "stylesheet": ("page", "text/css", TEXT),
    "captions": ("page", "text/vtt", TEXT),
    "manifest": ("page", "text/cache-manifest", TEXT),
    "proxy-configuration": ("page", "application/x-ns-proxy-autoconfig", TEXT),
    "plain": ("page", "text/plain", TEXT),
    "pdf": ("pdf", "application/pdf", DOWNLOAD),
    "playlist": ("playlist", "application/vnd.apple.mpegurl", DOWNLOAD),
    "audio-playlist": ("playlist", "audio/x-mpegurl", DOWNLOAD),
    "exchange": ("page", "application/signed-exchange;v=b3", DOWNLOAD),
    "extension": ("page", "application/x-xpinstall", DOWNLOAD),
    "unknown": ("page", "application/x-of-tomorrow", DOWNLOAD),
    "image": ("page", "image/png", "image/png"),
    "video": ("playlist", "video/mp4", "video/mp4"),
}
WAYS = {"document": "", "iframe": "src", "object": "data", "embed": "src"}
"""Values of Sec-Fetch-Dest, and the attribute by which such an element refers."""

CONTROLS = ("document", "iframe", "object", "embed")

EMBEDDER = b"""<!DOCTYPE html><title>embedder</title><body></body>"""
EMBED = """void document.body.append(...a[0].map(([tag, name, url]) => Object.assign(
    document.createElement(tag), {[name]: url})))"""

FRAMES = """Array.from({length: window.length}, (_, i) => window[i].document).map(one => ({
    url: one.documentURI, type: one.contentType, title: one.title,
    markup: one.querySelectorAll("script, iframe, form, svg").length}))"""


@define
class Visit:
    """A hostile page that is opened in one way."""

    mark: str
    way: str
    url: str
    live: frozenset[str]
    canary: Canary = field(factory=Canary)
    tab: str = ""


@define
class Visits:
    """All of them in one browser, and what was seen once a live one of each way was done."""

    wire: Tap
    all: dict[tuple[str, str], Visit]
    cookies: set[str]
    documents: dict[str, Any]
    frames: list[dict[str, Any]] | None
    """The documents in frames, where the driver shows them."""
    failures: dict[str, AssertionError] = field(factory=dict)


def visit(origin: Origin, page: str, content_type: str, way: str, mark: str, url: str) -> Visit:
    """A page that lies at ``origin`` now, under a path that goes into ``url``."""
    canary = Canary().start()
    where = f"http://canary.example:{canary.port}"
    gateway = url.partition("/proxy")[0]
    body, headers, live = hostile(
        page, canary=where, preconnect=where, gateway=gateway, cookie=mark
    )
    put(origin, f"/{mark}", canned(body, content_type, *headers))
    return Visit(mark, way, url.format(mark=mark), live, canary)


async def open_all(
    browser: Browser, wire: Tap, tor_origin: Origin, site: Origin, opened: list[Visit]
) -> Visits:
    """Open all types in all ways through the gateway, then a live page in each way directly."""
    gateway = f"http://localhost:{wire.port}"
    through = f"{gateway}/proxy?url={quote(tor_origin.http + '/', safe='')}{{mark}}"
    directly = f"http://direct.example:{site.http_port}/{{mark}}"
    wire.clear()
    wire.pages[b"/embedder"] = EMBEDDER
    visits = {}
    for name, (page, content_type, _) in TYPES.items():
        for way in WAYS:
            # A mark is the beginning of no other one.
            one = visit(tor_origin, page, content_type, way, f"canary-{name}-{way}.", through)
            visits[name, way] = one
            opened.append(one)
    for one in visits.values():
        if one.way == "document":
            one.tab = await browser.open_tab(one.url)
    embedder = await browser.open_tab(gateway + "/embedder")
    await until_it_is(browser, "document.title", "embedder")
    elements = [(one.way, WAYS[one.way], one.url) for one in visits.values() if WAYS[one.way]]
    await browser.call(EMBED, elements)
    await wire.when_answered(*[one.mark for one in visits.values()])
    failures = {}
    controls = {
        way: visit(site, "page", "text/html", way, f"control-{way}.", directly) for way in CONTROLS
    }
    opened += controls.values()
    await browser.open_tab(f"http://direct.example:{site.http_port}/control-embedder")
    await until_it_is(browser, "document.title", "embedder")
    await browser.call(EMBED, [(w, WAYS[w], one.url) for w, one in controls.items() if WAYS[w]])
    await browser.open_tab(controls["document"].url)
    for way, one in controls.items():
        try:
            await one.canary.when_reached({"inline-script", "script", "image", "iframe", "import"})
        except AssertionError as error:
            failures[way] = error
    documents = {}
    for (name, _), one in visits.items():
        if one.tab:
            await browser.switch(one.tab)
            if TYPES[name][2] == TEXT:
                await until_it_is(browser, "document.documentURI", one.url)
            documents[one.mark] = await browser.call(
                "({url: document.documentURI, type: document.contentType, title: document.title})"
            )
    await browser.switch(embedder)
    frames = await browser.call(FRAMES) if isinstance(browser, Firefox) else None
    return Visits(wire, visits, await browser.cookies(), documents, frames, failures)


async def until_it_is(browser: Browser, expression: str, value: object) -> None:
    """Wait for what a page says of itself; a navigation may still be under way."""
    for _ in range(600):
        if (said := await browser.call(expression)) == value:
            return
        await browser.call("new Promise(done => setTimeout(done, 50))")
    raise AssertionError(f"{expression} is {said!r}, not {value!r}")


def seen(browser: Browser, wire: Tap, tor_origin: Origin, site: Origin) -> Iterator[Visits]:
    """What became of it all, in one browser."""
    opened: list[Visit] = []
    put(site, "/control-embedder", canned(EMBEDDER.decode()))

    async def close() -> None:
        wire.pages.clear()
        for one in opened:
            await one.canary.stop()
            for origin in (tor_origin, site):
                origin.canned.pop(f"/{one.mark}".encode(), None)

    try:
        yield run(lambda: open_all(browser, wire, tor_origin, site, opened))
    finally:
        run(close)


@pytest.fixture(scope="module")
def in_chromium(
    direct_browser: Chromium, wire: Tap, tor_origin: Origin, site: Origin
) -> Iterator[Visits]:
    try:
        yield from seen(direct_browser, wire, tor_origin, site)
    finally:
        run(direct_browser.close_other_tabs)


@pytest.fixture(scope="module")
def in_firefox(firefox: Firefox, wire: Tap, tor_origin: Origin, site: Origin) -> Iterator[Visits]:
    yield from seen(firefox, wire, tor_origin, site)


@pytest.fixture(params=["chromium", "firefox"], scope="module")
def visits(request: pytest.FixtureRequest) -> Visits:
    """What became of it all."""
    found: Visits = request.getfixturevalue(f"in_{request.param}")
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TYPES)
def test_rule_05_no_type_is_alive_in_any_browser(visits: Visits, name: str, way: str) -> None:
    """No script of it runs, nothing is connected to, no cookie is kept; and it was no markup."""
    one, shown = visits.all[name, way], TYPES[name][2]
    assert (one.canary.connections, one.canary.asked) == (0, set())
    answers = [seen for seen in visits.wire.of(one.mark) if seen.target.startswith("/proxy?url=")]
    assert {answer.status for answer in answers} == {200}
    assert {answer.asked["sec-fetch-dest"] for answer in answers} == {way}
    assert {answer.answered["content-type"].partition(";")[0] for answer in answers} == {shown}
    assert not [other for other in visits.wire.exchanges if f"?{one.mark}=" in other.target]
    assert not [cookie for cookie in visits.cookies if cookie.startswith(one.mark)]
    looks = [look for look in visits.frames or () if look["url"] == one.url]
    if way == "document":
        looks = [visits.documents[one.mark]]
    for look in looks:
        assert look["title"] != "owned"
        assert not look.get("markup")
        if shown == TEXT:
            assert (look["url"], look["type"]) == (one.url, TEXT)
        elif shown == DOWNLOAD:
            assert look["url"].startswith(("about:", "data:"))
    if shown == TEXT and visits.frames is not None:
        assert len(looks) == 1


@pytest.mark.parametrize("way", CONTROLS)
def test_a_page_that_is_opened_directly_is_alive(visits: Visits, way: str) -> None:
    """Control, by which the others have had their time."""
    assert way not in visits.failures, visits.failures[way]

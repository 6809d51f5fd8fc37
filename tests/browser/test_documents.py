"""Everything that a browser might open as a document, in Chromium and in Firefox: rule 5.

The application that embeds it shares the gateway's origin, as it does where the gateway is mounted
into a site or stands behind a reverse proxy: nobody else can (rule 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any
from urllib.parse import quote

import pytest
from attrs import define, field
from twisted.internet.task import deferLater

from tests.browser.canary import PATIENCE, Canary
from tests.browser.chromium import Chromium
from tests.browser.firefox import Firefox
from tests.browser.hostile import hostile
from tests.browser.pages import canned, put
from tests.browser.tap import Tap
from tests.daemon.process import installed, run
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
WAYS = {
    "document": "<script>open('{url}')</script>",
    "iframe": '<iframe src="{url}"></iframe>',
    "object": '<object data="{url}"></object>',
    "embed": '<embed src="{url}">',
}
"""Values of Sec-Fetch-Dest, and how a page has a browser ask with each of them."""

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

    @property
    def markup(self) -> str:
        """What opens it."""
        return WAYS[self.way].format(url=self.url)


@define
class Visits:
    """All of them in one browser, and what was seen once a live one of each way was done."""

    wire: Tap
    all: dict[tuple[str, str], Visit]
    cookies: set[str]
    tabs: list[dict[str, Any]]
    """The documents in tabs."""
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
    visits = {}
    for name, (page, content_type, _) in TYPES.items():
        for way in WAYS:
            # A mark is the beginning of no other one.
            one = visit(tor_origin, page, content_type, way, f"canary-{name}-{way}.", through)
            visits[name, way] = one
            opened.append(one)
    wire.pages[b"/embedder"] = embedder(visits.values()).encode()
    embedding = await browser.open_tab(gateway + "/embedder")
    await wire.when_answered(*[one.mark for one in visits.values()])
    controls = {
        way: visit(site, "page", "text/html", way, f"control-{way}.", directly) for way in WAYS
    }
    opened += controls.values()
    put(site, "/control-embedder", canned(embedder(controls.values())))
    await browser.open_tab(f"http://direct.example:{site.http_port}/control-embedder")
    failures = {}
    for way, one in controls.items():
        try:
            await one.canary.when_reached({"inline-script", "script", "image", "iframe", "import"})
        except AssertionError as error:
            failures[way] = error
    shown = {
        one.url
        for (name, way), one in visits.items()
        if way == "document" and TYPES[name][2] == TEXT
    }
    tabs = await until_shown(browser, shown)
    await browser.switch(embedding)
    frames = await browser.call(FRAMES) if isinstance(browser, Firefox) else None
    return Visits(wire, visits, await browser.cookies(), tabs, frames, failures)


def embedder(visits: Iterable[Visit]) -> str:
    """A page that opens all of these at once."""
    markup = "\n".join(one.markup for one in visits)
    return f"<!DOCTYPE html><title>embedder</title><body>{markup}</body>"


async def until_shown(browser: Browser, urls: set[str]) -> list[dict[str, Any]]:
    """The documents of all tabs, once these are among them; navigations may still be under way."""
    latest = monotonic() + PATIENCE
    while True:
        tabs = await browser.tabs()
        if urls <= {tab["url"] for tab in tabs} or monotonic() > latest:
            return tabs
        await deferLater(installed(), 0.05)


def seen(browser: Browser, wire: Tap, tor_origin: Origin, site: Origin) -> Iterator[Visits]:
    """What became of it all, in one browser."""
    opened: list[Visit] = []

    async def close() -> None:
        wire.pages.clear()
        site.canned.pop(b"/control-embedder", None)
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
def test_rule_05_no_type_is_alive_in_any_browser(visits: Visits, way: str) -> None:
    """No script of it runs, nothing is connected to, no cookie is kept; and it was no markup."""
    wrong = [f"{name}: {what}" for name in TYPES for what in what_is_wrong(visits, name, way)]
    assert not wrong, "; ".join(wrong)


def what_is_wrong(visits: Visits, name: str, way: str) -> list[str]:
    """What a page of this type did, or was taken for, that it must not."""
    one, shown = visits.all[name, way], TYPES[name][2]
    answers = [seen for seen in visits.wire.of(one.mark) if seen.target.startswith("/proxy?url=")]
    looks = [
        look
        for look in (visits.tabs if way == "document" else visits.frames or ())
        if look["url"] == one.url
    ]
    dead = {
        "it reached the network": not one.canary.connections and not one.canary.asked,
        "its status": {answer.status for answer in answers} == {200},
        "its Sec-Fetch-Dest": {answer.asked["sec-fetch-dest"] for answer in answers} == {way},
        "its Content-Type": {
            answer.answered["content-type"].partition(";")[0] for answer in answers
        }
        == {shown},
        "it called the gateway": not [
            other for other in visits.wire.exchanges if f"?{one.mark}=" in other.target
        ],
        "it keeps a cookie": not [
            cookie for cookie in visits.cookies if cookie.startswith(one.mark)
        ],
        "its script ran": all(look["title"] != "owned" for look in looks),
        "it is markup": not any(look.get("markup") for look in looks),
    }
    if way == "document" or visits.frames is not None:
        if shown == TEXT:
            dead["it is not shown as text"] = [look["type"] for look in looks] == [TEXT]
        elif shown == DOWNLOAD:
            dead["it is shown"] = not looks
    return [what for what, holds in dead.items() if not holds]


def test_pages_that_are_opened_directly_are_alive(visits: Visits) -> None:
    """Control, by which the others have had their time."""
    assert not visits.failures, visits.failures

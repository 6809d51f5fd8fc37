"""What of Chromium's and Firefox's headers a destination gets by ``/proxy``: rule 6."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from attrs import frozen
from twisted.internet.task import deferLater

from tests.browser.chromium import Chromium
from tests.browser.firefox import Firefox
from tests.browser.pages import canned, put
from tests.browser.tap import Tap
from tests.daemon.arrivals import arrivals, arrived
from tests.daemon.process import installed, run
from tortxd.policy.headers import TOR_BROWSER_LANGUAGE, TOR_BROWSER_USER_AGENT
from tortxd.testing import Origin

CALLS = {
    "fetch": "fetch(a[0], {headers: {'X-Own': 'mine', Authorization: 'mine'}})",
    "fetch-post": "fetch(a[0], {method: 'POST', body: '{}',"
    " headers: {'Content-Type': 'application/json', 'X-Own': 'mine'}})",
    "credentials": "fetch(a[0], {credentials: 'include'}).catch(() => null)",
    "beacon": "navigator.sendBeacon(a[0], 'canary')",
    "keepalive": "fetch(a[0], {keepalive: true, method: 'POST', body: 'x'})",
    "ping": "Object.assign(document.body.appendChild(document.createElement('a')),"
    " {href: '#here', ping: a[0]}).click()",
    "image": "void (new Image().src = a[0])",
    "xhr": "new Promise(done => { const one = new XMLHttpRequest(); one.onloadend = done;"
    " one.open('PROPFIND', a[0]); one.setRequestHeader('X-Requested-With', 'XMLHttpRequest');"
    " one.send(); })",
    "dictionary": "(async () => { await fetch(a[0] + 'first'); await fetch(a[0]); })()",
}
"""The ways in which a page of the gateway's own origin, or of another one, calls ``/proxy``."""
FOREIGN = tuple(name for name in CALLS if name != "image")
"""Those that may come from another origin: an image brings none (rule 4)."""

HARMLESS = {
    *("host", "user-agent", "accept", "accept-encoding", "accept-language", "content-type"),
    *("content-length", "transfer-encoding", "cache-control", "pragma", "priority"),
    *("authorization", "x-own", "x-requested-with"),
}
"""What says nothing of who asks, or was the page's own to say."""


@frozen
class Seen:
    """What a browser sent, and what of it arrived."""

    asked: dict[str, str]
    names: set[str]
    head: bytes


async def call_all(
    browser: Chromium | Firefox, wire: Tap, tor_origin: Origin, site: Origin, mark: str
) -> dict[str, Seen]:
    """Call the gateway in every way, from a page of its own origin and from an allowed one."""
    gateway = f"http://localhost:{wire.port}"
    page = "<!DOCTYPE html><title>canary</title><body></body>"
    wire.pages[b"/canary-page?canary=1"] = page.encode()
    put(site, "/canary-page?canary=1", canned(page))
    # What a later request could say of it: a cookie, a dictionary, client hints.
    answer = canned(
        "canary " * 100,
        "text/plain",
        "Set-Cookie: canary=1",
        'Use-As-Dictionary: match="/*", id="canary"',
        "Accept-CH: DPR, Device-Memory, Viewport-Width, Sec-CH-UA-Model",
        "Cache-Control: max-age=600",
    )
    found = {}
    ways = [
        ("own", gateway, CALLS.keys()),
        ("other", f"http://127.0.0.1:{site.http_port}", FOREIGN),
    ]
    for whose, origin, names in ways:
        shown = (f"{origin}/canary-page?canary=1", "canary")
        await browser.open(shown[0])
        # A page that is about to go cannot be asked whether the next one is there.
        while shown not in [(tab["url"], tab["title"]) for tab in await browser.tabs()]:
            await deferLater(installed(), 0.05)
        for name in names:
            marked = f"{mark}-{whose}-{name}."
            put(tor_origin, f"/?{marked}", answer)
            put(tor_origin, f"/?{marked}first", answer)
            url = f"{gateway}/proxy?url={quote(f'{tor_origin.http}/?{marked}', safe='')}"
            await browser.call(f"void await ({CALLS[name]})", url)
            await arrivals(tor_origin, marked)
            request = arrived(tor_origin, marked)[-1]
            (asked,) = [
                one.asked
                for one in wire.of(marked)
                if one.method != "OPTIONS" and one.target.endswith(quote(marked, safe=""))
            ]
            names_there = {field.decode().lower() for field, _ in request.headers}
            found[f"{whose}-{name}"] = Seen(asked, names_there, request.head)
    return found


def seen_in(
    browser: Chromium | Firefox, wire: Tap, tor_origin: Origin, site: Origin, mark: str
) -> Iterator[dict[str, Seen]]:
    wire.clear()
    try:
        yield run(lambda: call_all(browser, wire, tor_origin, site, mark))
    finally:
        wire.pages.clear()


@pytest.fixture(scope="module")
def in_chromium(
    direct_browser: Chromium, wire: Tap, tor_origin: Origin, site: Origin
) -> Iterator[dict[str, Seen]]:
    try:
        yield from seen_in(direct_browser, wire, tor_origin, site, "leaves-chromium")
    finally:
        run(direct_browser.close_other_tabs)


@pytest.fixture(scope="module")
def in_firefox(
    firefox: Firefox, wire: Tap, tor_origin: Origin, site: Origin
) -> Iterator[dict[str, Seen]]:
    yield from seen_in(firefox, wire, tor_origin, site, "leaves-firefox")


@pytest.fixture(params=["chromium", "firefox"], scope="module")
def found(request: pytest.FixtureRequest) -> dict[str, Seen]:
    """What came of all calls."""
    of_all: dict[str, Seen] = request.getfixturevalue(f"in_{request.param}")
    return of_all


@pytest.mark.parametrize(
    "way", [*(f"own-{name}" for name in CALLS), *(f"other-{name}" for name in FOREIGN)]
)
def test_rule_06_of_a_browser_nothing_leaves_that_identifies(
    found: dict[str, Seen], way: str
) -> None:
    """The page's address is in what the browser sent, and in nothing that arrived."""
    seen = found[way]
    assert any(name.startswith("sec-fetch-") for name in seen.asked)
    assert seen.names <= HARMLESS
    assert b"canary" not in seen.head.lower()
    assert b"localhost" not in seen.head
    assert TOR_BROWSER_USER_AGENT in seen.head
    if "accept-language" in seen.asked:
        assert b"anguage: " + TOR_BROWSER_LANGUAGE in seen.head
    if way.endswith("fetch-post"):
        assert {"content-type", "x-own"} <= seen.names
    if way.endswith("-ping"):
        assert seen.asked["ping-to"].endswith("#here")

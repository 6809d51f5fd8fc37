"""Pages of web origins that are not allowed, in a real browser: rule 4.

The gateway's refusal is what is tested, not a browser's good manners: what the pages try is seen on
the wire to the gateway, and the same attacks on a server that lets everybody in do succeed.
"""

from __future__ import annotations

from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from tests.browser.attacks import NAMES, SPECULATION
from tests.browser.chromium import Chromium
from tests.browser.conftest import Gateways
from tests.browser.foreign import FOREIGN, open_foreign
from tests.browser.tap import Tap
from tests.daemon.process import soon
from tortxd.testing import Origin

ROUTES = {
    "proxy": "/proxy?url={destination}%3F{mark}",
    "health": "/health?{mark}=1",
    "ip": "/ip?{mark}=1",
    "identity": "/identity/new?{mark}=1",
    "circuits": "/circuits?{mark}=1",
}


def mark(which: str, route: str, name: str) -> str:
    return f"canary.{which}.{route}.{name}."


def arrived(origin: Origin, *marks: str) -> list[bytes]:
    """The targets with one of these marks that have been asked of ``origin``."""
    targets = [one.target for one in origin.requests]
    return [target for target in targets if any(mark.encode() in target for mark in marks)]


@pytest.mark.parametrize(
    ("which", "route"),
    [
        *(("http", route) for route in ROUTES),
        *((which, route) for which in list(FOREIGN)[1:] for route in ("proxy", "identity")),
    ],
)
@ensureDeferred
async def test_rule_04_a_foreign_page_gets_nowhere(
    browser: Chromium,
    gateway: str,
    gateways: Gateways,
    tap: Tap,
    site: Origin,
    tor_origin: Origin,
    which: str,
    route: str,
) -> None:
    """Whatever it tries is 403 ``forbidden_origin``, tells the page nothing, and does nothing."""
    origin = await open_foreign(which, browser, site)
    destination = quote(tor_origin.http + "/canary", safe="")
    marks = {name: mark(which, route, name) for name in NAMES}
    urls = {
        name: gateway + ROUTES[route].format(destination=destination, mark=marks[name])
        for name in NAMES
    }
    learnt = await browser.call("attack(a[0])", urls)
    await tap.when_answered(*marks.values())
    assert {name: what for name, what in learnt.items() if what} == {}
    tried = tap.of(f"canary.{which}.")
    answers = {(one.target, one.status, one.error) for one in tried}
    assert {(status, error) for _, status, error in answers} == {(403, "forbidden_origin")}
    assert not [one for one in tried if "access-control-allow-origin" in one.answered]
    # Some carry no Origin, and some, from https to http, "null": those are refused as well.
    named = {one.asked.get("origin") for one in tried}
    assert {None, origin} <= named <= {None, origin, "null"}
    # What was let through would have got there before this.
    reply = await gateways.free.fetch(tor_origin.http + "/after")
    assert reply.status == 404
    assert arrived(tor_origin, *marks.values()) == []


@ensureDeferred
async def test_the_same_attacks_succeed_where_everybody_is_let_in(
    browser: Chromium, site: Origin
) -> None:
    """Control: each of them makes the browser ask, and what can be read is read."""
    await open_foreign("http", browser, site)
    elsewhere = f"http://elsewhere.example:{site.http_port}/respond?body=open"
    for name in ("Origin: *", "Headers: *, Content-Type, Tor-Stream-Isolation", "Methods: *"):
        elsewhere += "&header=" + quote(f"Access-Control-Allow-{name}")
    urls = {name: f"{elsewhere}&{mark('http', 'control', name)}=1" for name in NAMES}
    del urls["fetch-credentials"]  # for which "*" is nobody
    before = len(site.requests)
    learnt = await browser.call("attack(a[0])", urls)

    def missing() -> list[str]:
        asked = b" ".join(one.target for one in site.requests[before:]).decode()
        return [name for name in urls if mark("http", "control", name) not in asked]

    while missing():  # what the page is told nothing of may come later
        await soon(site.when_requested(len(site.requests) + 1))
    read = ("fetch", "fetch-post", "fetch-json", "fetch-delete", "xhr", "xhr-post")
    assert {name: learnt[name] for name in read} == dict.fromkeys(read, "open")


NAVIGATIONS = {
    "location": "void (location.href = a[0])",
    "form": """void document.body.appendChild(Object.assign(document.createElement("form"),
        {action: a[0], method: "post"})).submit()""",
    "refresh": """void document.head.appendChild(Object.assign(document.createElement("meta"),
        {httpEquiv: "refresh", content: "0;url=" + a[0]}))""",
}


@pytest.mark.parametrize(
    ("which", "route", "how"),
    [
        *(("http", "proxy", how) for how in NAVIGATIONS),
        ("null", "proxy", "location"),
        ("http", "identity", "form"),
        ("null", "identity", "form"),
    ],
)
@ensureDeferred
async def test_rule_04_a_foreign_page_sends_the_user_nowhere(
    browser: Chromium,
    gateway: str,
    tap: Tap,
    site: Origin,
    tor_origin: Origin,
    which: str,
    route: str,
    how: str,
) -> None:
    """Navigations of the whole window, by GET and by POST, are refused as well."""
    await open_foreign(which, browser, site)
    destination = quote(tor_origin.http + "/canary", safe="")
    target = ROUTES[route].format(destination=destination, mark=mark(which, route, how))
    await browser.call(NAVIGATIONS[how], gateway + target)
    await tap.when_answered(mark(which, route, how))
    (tried,) = tap.of(mark(which, route, how))
    assert (tried.status, tried.error) == (403, "forbidden_origin")
    assert tried.asked["sec-fetch-dest"] == "document"
    assert arrived(tor_origin, mark(which, route, how)) == []


@pytest.mark.parametrize("which", FOREIGN)
@ensureDeferred
async def test_rule_04_a_foreign_page_has_nothing_fetched_ahead(
    browser: Chromium,
    gateway: str,
    gateways: Gateways,
    tap: Tap,
    site: Origin,
    tor_origin: Origin,
    which: str,
) -> None:
    """Speculation rules: Chromium says ``Sec-Fetch-Site: none`` of what it prefetches for a page of
    another site, as if the user had asked for it; ``Sec-Purpose: prefetch`` tells the two apart.
    """
    await open_foreign(which, browser, site)
    name = mark(which, "proxy", "speculation")
    destination = quote(f"{tor_origin.http}/canary?{name}", safe="")
    await browser.call(SPECULATION, f"{gateway}/proxy?url={destination}", "prefetch")
    await tap.when_answered(name)
    assert {(one.status, one.error) for one in tap.of(name)} == {(403, "forbidden_origin")}
    await gateways.free.fetch(tor_origin.http + "/after")
    assert arrived(tor_origin, name) == []

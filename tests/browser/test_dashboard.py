"""The dashboard in a browser: it shows what is there, does what it is told, and can be used by
everyone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from pytest_twisted import ensureDeferred
from selenium.webdriver.common.keys import Keys
from twisted.internet.defer import maybeDeferred
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.browser.chromium import Chromium
from tests.browser.operated import (
    ACCESS,
    READY,
    Json,
    Operated,
    busy,
    circuit,
    crowd,
    failure,
    operated,
    relay,
    stream,
)
from tests.browser.screen import complaints, show_as
from tests.daemon.process import installed, soon
from tests.gateway.conftest import OPERATOR, policy, port_of

AXE = (files("axe_core_python") / "axe.min.js").read_text("utf-8")
HOSTILE = "<img src=x onerror=document.title='canary'><script>document.title='canary'</script>"


@pytest_twisted.async_yield_fixture
async def here(tmp_path: Path) -> AsyncIterator[Operated]:
    async with operated(tmp_path) as one:
        yield one


async def sees(browser: Chromium, *words: str) -> str:
    """The page's text, as soon as all of these are in it."""
    wanted = (
        "new Promise(done => { const look = () => a[0].every("
        "one => document.body.innerText.includes(one)) ? done(document.body.innerText)"
        " : setTimeout(look, 20); look(); setTimeout(() => done(null), 10000); })"
    )
    text = await browser.call(wanted, words)
    assert text is not None, (words, await browser.text())
    return str(text)


async def show(browser: Chromium, here: Operated, **told: Any) -> None:
    """Open the dashboard, where this much is going on."""
    here.told = {**here.told, **told}
    await browser.open(here.operators_url)
    circuits = len(here.told["circuits"])
    await sees(browser, "Live", f"{circuits} circuit")


async def press(browser: Chromium, *keys: str) -> None:
    """Type on the keyboard, wherever the focus is."""
    await browser.do(lambda driver: driver.switch_to.active_element.send_keys(*keys))


CLICK = """new Promise(done => {
    const named = () => [...document.querySelectorAll("button")]
        .find(one => (one.ariaLabel ?? one.innerText) === a[0]);
    const look = () => named() ? done(named().click()) : setTimeout(look, 20);
    look();
})"""


async def click(browser: Chromium, name: str) -> None:
    """Click the button of this name, as screen readers have it, as soon as it is there."""
    await browser.call(CLICK, name)


# --- for everyone ---------------------------------------------------------------------------------


async def violations(browser: Chromium) -> Any:
    """What axe-core finds wrong in the page as it is now. It comes by DevTools, which the page's
    policy does not concern."""
    await browser.devtools("Runtime.evaluate", expression=f"{AXE}; 0")
    return await browser.call(
        """axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations.map(
            one => [one.id, one.nodes.map(node => node.html.slice(0, 200)).slice(0, 3)]))"""
    )


MEASURE = """({
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    cut: [...document.querySelectorAll("body *")].filter(one => !one.closest(".hidden, .skip")
        && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML),
    small: [...document.querySelectorAll("main *")]
        .filter(one => parseFloat(getComputedStyle(one).fontSize) < 13).map(one => one.tagName),
    back: getComputedStyle(document.body).backgroundColor,
})"""


@pytest.mark.parametrize(("circuits", "streams"), [(0, 0), (3, 5), (200, 600)])
@ensureDeferred
async def test_everyone_can_use_it(
    fresh: Chromium, here: Operated, circuits: int, streams: int
) -> None:
    """On a screen and on a phone, in light and dark: axe-core finds nothing, nothing is cut."""
    here.told = crowd(circuits, streams)
    if circuits:
        here.requests = busy()
    await show(fresh, here)
    await sees(fresh, f"{circuits} circuits, {streams} streams", "Tor is ready")
    here.tell("circuit", circuit(500, age=0))
    here.tell("circuit", {**circuit(500, state="FAILED"), "reason": "TIMEOUT"})
    await sees(fresh, "failed", "timeout")
    await fresh.call("document.querySelectorAll('details').forEach(one => one.open = true)")
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            await show_as(fresh, width, scheme)
            seen: Any = await fresh.call(MEASURE)
            assert (seen["wide"], seen["cut"], seen["small"]) == (0, [], [])
            assert (seen["back"] == "rgb(18, 16, 23)") is (scheme == "dark")
            assert await violations(fresh) == []
    assert await complaints(fresh) == []


FOCUSED = """(() => {
    const one = document.activeElement, style = getComputedStyle(one);
    return [one.ariaLabel || one.labels?.[0]?.firstChild.textContent.trim() || one.innerText
        || one.id, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
})()"""


@ensureDeferred
async def test_the_keyboard_reaches_whatever_can_be_done(fresh: Chromium, here: Operated) -> None:
    here.requests = busy()
    await show(fresh, here, **crowd(3, 5))
    await sees(fresh, "Show 10 more")
    reached = []
    for _ in range(30):
        await press(fresh, Keys.TAB)
        name, visible = await fresh.call(FOCUSED)
        assert visible, name
        reached.append(name)
        if name == "What the daemon was started with":
            break
    assert reached == [
        "Skip to the circuits",
        "Throughput as a table",
        "Latency as a table",
        "URL",
        "Isolation key",
        "Fetch through Tor",
        "Show 10 more",
        "New identity for everyone",
        "Filter",
        "Rotate the key of circuit 1",
        "Close circuit 1",
        "Rotate the key of circuit 2",
        "Close circuit 2",
        "Close circuit 3",
        "What the daemon was started with",
    ]


@ensureDeferred
async def test_the_focus_stays_near_a_circuit_that_goes(fresh: Chromium, here: Operated) -> None:
    await show(fresh, here, **crowd(2, 0))
    await fresh.call("""void document.querySelector("[aria-label='Close circuit 1']").focus()""")
    here.tell("circuit", {**circuit(1, state="CLOSED"), "reason": "REQUESTED"})
    await sees(fresh, "requested")
    assert (await fresh.call(FOCUSED))[0] == "Rotate the key of circuit 2"


@ensureDeferred
async def test_it_does_not_talk_all_the_time(fresh: Chromium, here: Operated) -> None:
    """Of what is read out by itself there is one place, and traffic does not get there."""
    await show(fresh, here, **crowd(3, 5))
    live = "[aria-live], [role=status], [role=alert], [role=log], output"
    script = """new Promise(done => {
        const places = [...document.querySelectorAll(a[0])], talk = [];
        new MutationObserver(seen => talk.push(...seen)).observe(places[0],
            {childList: true, characterData: true, subtree: true});
        setTimeout(() => done([places.map(one => one.id), talk.length]), 1500);
    })"""
    talked = fresh.call(script, live)
    for number in range(20):
        here.tell("bandwidth", {"read": 1000 * number, "written": 10})
        here.tell("stream", stream(number + 10, "1"))
    assert await talked == [["said"], 0]


# --- what it shows --------------------------------------------------------------------------------


@ensureDeferred
async def test_circuits_are_paths_with_their_streams(fresh: Chromium, here: Operated) -> None:
    paths = [relay(3), relay(4), relay(1)]
    await show(
        fresh,
        here,
        circuits=[circuit(7, path=paths, isolation="0123abcd"), circuit(8, isolation=None)],
        streams=[stream(1, "7", target="a.example:443", way="connect")],
    )
    text = await sees(fresh, "2 circuits, 1 stream")
    row = text[text.index("\n7\n") : text.index("\n8\n")]
    words = " ".join(word for word in row.split() if word[0] not in "·0123456789")
    assert words == (
        "s old built in s France, FR Aramis Netherlands, NL NTH13R3 Germany, DE F3Netze Key"
        " a.example:443 open CONNECT s Rotate key Close Circuit"
    )
    path = await fresh.call(
        "[...document.querySelectorAll('.circuit .path')[0].children].map(one => one.textContent)"
    )
    assert path == [
        "GuardFrance, FRAramis",
        "MiddleNetherlands, NLNTH13R3",
        "ExitGermany, DEF3Netze",
    ]


@ensureDeferred
async def test_what_changes_is_shown_and_the_rest_left_alone(
    fresh: Chromium, here: Operated
) -> None:
    await show(fresh, here, **crowd(3, 0))
    await fresh.call("document.querySelectorAll('.circuit').forEach(one => one.mark = 1)")
    here.tell("circuit", circuit(9, state="EXTENDED", path=[relay(3)], buildTime=None, age=0))
    await sees(fresh, "building", "4 circuits")
    here.tell("circuit", circuit(9, path=[relay(3), relay(1), relay(9)], age=1))
    here.tell("stream", stream(5, "9", state="SENTCONNECT", target="late.example:80"))
    await sees(fresh, "marylou1", "late.example:80", "connecting", "1 stream")
    here.tell("stream", stream(5, "9", state="CLOSED"))
    ended = {"reason": "DESTROYED", "remoteReason": "FINISHED"}
    here.tell("circuit", {**circuit(9, state="CLOSED", path=[]), **ended})
    text = await sees(fresh, "closed", "destroyed, remote: finished", "3 circuits, 0 streams")
    assert "late.example" not in text
    assert "marylou1" in text
    here.tell("status", {**READY, "status": "degraded", "reasons": ["The disk is full."]})
    await sees(fresh, "Tor is ready, but something is wrong", "The disk is full.")
    here.tell("bandwidth", {"read": 1_234_000, "written": 56_000})
    await sees(fresh, "1.23 MB/s", "56.0 kB/s")
    kept = await fresh.call("[...document.querySelectorAll('.circuit')].map(one => one.mark ?? 0)")
    assert sorted(kept) == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (
            {
                "status": "bootstrapping",
                "bootstrap": {"progress": 45, "tag": "x", "summary": "Asking for descriptors"},
                "warning": "A guard refused the connection.",
            },
            ["Tor is 45 % ready", "Asking for descriptors.", "It does not get on: A guard refused"],
        ),
        (
            {"status": "down", "reason": "Tor died.", "retryIn": 4.2, "network": "private"},
            ["Tor is down", "Tor died.", "tried again in 4.20 s", "no anonymity"],
        ),
    ],
)
@ensureDeferred
async def test_why_tor_does_not_get_on(
    fresh: Chromium, here: Operated, health: Json, words: list[str]
) -> None:
    await show(fresh, here, status={**READY, **health})
    await sees(fresh, *words)
    assert await fresh.call("document.title") == f"{words[0]} - tortxd"


@ensureDeferred
async def test_whose_fault_failures_are(fresh: Chromium, here: Operated) -> None:
    here.requests = busy()
    await show(fresh, here, **crowd(3, 5))
    text = " ".join((await sees(fresh, "The most recent")).split())
    for words in (
        "Destination 12 Tor 3 Client 1 tortxd 0",
        "resolve_failed destination 12",
        "tor_timeout at fault: Tor Tor did not connect in time.",
        "Tor says RESOLVEFAILED · circuit 2 · exit Aramis, France · trying again may help",
        "CONNECT · trying again will not help",
        "Requests 2,067 Under way 3",
    ):
        assert words in text


TABLE = "[...document.querySelector(a[0]).tBodies[0].rows].map(row => row.innerText.split('\\t'))"


@ensureDeferred
async def test_tables_say_what_plots_show(fresh: Chromium, here: Operated) -> None:
    here.requests = busy()
    await show(fresh, here, **crowd(3, 5))
    await sees(fresh, "2,067")
    marks = "[...document.querySelectorAll(a[0] + ' ' + a[1])].length"
    assert await fresh.call(marks, "#throughput", "path.line") == 2
    assert await fresh.call(marks, "#latency", "line.median") == 52
    assert await fresh.call(marks, "#latency", "rect.failed") == 4
    await fresh.call("document.querySelectorAll('details').forEach(one => one.open = true)")
    await sees(fresh, "per second, 15 seconds each")
    latency = await fresh.call(TABLE, "#latency-table table")
    assert len(latency) == 52
    assert latency[0][1:] == ["5", "0", "350 ms", "767 ms"]
    throughput = await fresh.call(TABLE, "#throughput-table table")
    assert len(throughput) == 19
    assert all(row[1].endswith("kB/s") for row in throughput)
    counted = float(throughput[3][1].split()[0])
    assert 100 < counted < 400


@ensureDeferred
async def test_what_the_daemon_was_started_with(fresh: Chromium, here: Operated) -> None:
    await show(fresh, here)
    await fresh.call("document.querySelectorAll('details').forEach(one => one.open = true)")
    text = " ".join((await sees(fresh, "--allow-origin")).split())
    for words in (
        "Listening on http://127.0.0.1:3080 and http://[::1]:3080.",
        "option: --allow-origin",
        "environment: TORTXD_TIMEOUT",
        "3 options set, 7 as by default",
        "localhost:8080 = name.onion:80",
    ):
        assert words in text


@ensureDeferred
async def test_what_comes_from_tor_is_text(fresh: Chromium, here: Operated) -> None:
    evil = {"fingerprint": HOSTILE, "nickname": HOSTILE, "address": HOSTILE, "country": HOSTILE}
    names = {"id": HOSTILE, "purpose": HOSTILE, "isolation": HOSTILE, "path": [evil] * 3}
    here.requests = {
        **busy(),
        "counts": [{"way": HOSTILE, "outcome": HOSTILE, "count": 1}],
        "failures": [failure(0, HOSTILE, error=HOSTILE, fault=HOSTILE, torReason=HOSTILE)],
    }
    await show(
        fresh,
        here,
        status={**READY, "status": "degraded", "reasons": [HOSTILE], "version": HOSTILE},
        circuits=[circuit(1, **names)],
        streams=[stream(1, HOSTILE, target=HOSTILE, state=HOSTILE, way=HOSTILE)],
    )
    here.tell("circuit", {**circuit(1, **names), "state": "FAILED", "reason": HOSTILE})
    text = await sees(fresh, HOSTILE, HOSTILE.lower(), "failed", "at fault")
    assert text.count(HOSTILE) >= 8
    assert await fresh.call("document.title") == "Tor is ready, but something is wrong - tortxd"
    assert await fresh.call("document.querySelectorAll('img, script:not([src])').length") == 0
    assert await complaints(fresh) == []


@ensureDeferred
async def test_it_stays_quick_however_much_goes_on(fresh: Chromium, here: Operated) -> None:
    """With 200 circuits and 3,000 streams that change, little of it is drawn, and seldom."""
    await show(fresh, here, **crowd(200, 3000))
    await sees(fresh, "3,000 streams", "Show 50 more of 180 that are not shown")
    await fresh.call(
        """void (window.longest = 0, new PerformanceObserver(seen => {
            for (const one of seen.getEntries()) longest = Math.max(longest, one.duration);
        }).observe({type: "longtask"}))"""
    )
    for state in ("SENTCONNECT", "SUCCEEDED"):
        for number in range(3000):
            here.tell("stream", stream(number, str(1 + number % 200), state=state))
    here.tell("circuit", circuit(999, path=[relay(9)] * 3, age=0))
    await sees(fresh, "201 circuits, 3,000 streams")
    assert await fresh.call("document.querySelectorAll('*').length") < 2500
    assert await fresh.call("longest") < 1000
    await fresh.call("void document.getElementById('more-circuits').click()")
    assert await fresh.call("document.querySelectorAll('.circuit').length") == 70


@ensureDeferred
async def test_a_filter_finds_circuits(fresh: Chromium, here: Operated) -> None:
    target = stream(1, "9", target="rare.example:443")
    await show(fresh, here, circuits=crowd(9, 0)["circuits"], streams=[target])
    for words, number in (("rare.ex", "1 found"), ("luxembourg", "2 found"), ("zzz", "0 found")):
        await fresh.call("void document.getElementById('filter').select()")
        await press(fresh, words)
        await sees(fresh, number)
    await sees(fresh, "No circuit has that.")


# --- what it does ---------------------------------------------------------------------------------


async def posted(here: Operated, path: str, body: Json) -> None:
    await soon(here.watch.when(lambda: (path, body) in here.posted), 10)


@ensureDeferred
async def test_circuits_are_closed_keys_rotated_identities_renewed(
    fresh: Chromium, here: Operated
) -> None:
    await show(fresh, here, **crowd(3, 0))
    await click(fresh, "Close circuit 2")
    await posted(here, "/circuits/2/close", {})
    await sees(fresh, "Circuit 2 is closed.")
    await click(fresh, "Rotate the key of circuit 1")
    await posted(here, "/identity/new", {"circuit": "1"})
    await sees(fresh, "gets new circuits from its next request on. 1 connection retired.")
    assert "The guard, the first relay, stays." in await fresh.text()
    await click(fresh, "New identity for everyone")
    await posted(here, "/identity/new", {})
    await sees(fresh, "Every request uses new circuits from now on.")
    await sees(fresh, "2 keys renewed, 1 connection retired. Tor makes the next in 10 s.")
    # What is refused is said as well.
    await click(fresh, "Close circuit 3")
    await sees(fresh, "There is no such circuit.")
    assert len(here.posted) == 4


@ensureDeferred
async def test_a_url_is_fetched_and_its_path_shown(fresh: Chromium, here: Operated) -> None:
    path = [relay(3), relay(4), relay(1)]
    await show(fresh, here, circuits=[circuit(7, path=path)])
    await fresh.call("void document.getElementById('fetch-key').focus()")
    await press(fresh, "alice")
    await fresh.call("void document.getElementById('fetch-url').focus()")
    await press(fresh, "http://origin.test.example/echo?<b>x</b>", Keys.ENTER)
    text = await sees(fresh, "200", "after", "Circuit 7, seen by the destination as 192.0.2.7")
    assert "http://origin.test.example/echo?<b>x</b>" in text
    shown = await fresh.call("document.querySelector('#fetched .path').textContent")
    assert "Aramis" in shown and "NTH13R3" in shown and "F3Netze" in shown
    body = await fresh.call("document.querySelector('#fetched pre').textContent")
    assert "/echo?" in body
    (request,) = [one for one in here.origin.requests if one.target.startswith(b"/echo")]
    assert request.method == b"GET"
    # What fails says why, and whose error it is.
    await press(fresh, Keys.CONTROL + "a", Keys.NULL, "http://localhost/", Keys.ENTER)
    await sees(fresh, "403 target_forbidden", "Local names are not sent to Tor.")


@ensureDeferred
async def test_where_clients_need_a_token_it_is_asked_for(fresh: Chromium, here: Operated) -> None:
    """The operator's cookie does not count on ``/proxy``."""
    here.core.policy = policy(access=evolve(ACCESS, token=b"of-clients"))
    await show(fresh, here)
    assert not await fresh.call("document.getElementById('fetch-token').checkVisibility()")
    await fresh.call("void document.getElementById('fetch-url').focus()")
    await press(fresh, "http://origin.test.example/echo", Keys.ENTER)
    await sees(fresh, "401 unauthorized", "Access token")
    await fresh.call("void document.getElementById('fetch-token').focus()")
    await press(fresh, "of-clients", Keys.ENTER)
    await sees(fresh, "200\nafter")
    assert "of-clients" not in await fresh.text()


@ensureDeferred
async def test_it_works_wherever_it_is_mounted(fresh: Chromium, here: Operated) -> None:
    """With every route of the gateway below the path of a ``Site``."""
    here.told = crowd(3, 5)
    root, tools = Resource(), Resource()
    root.putChild(b"tools", tools)
    tools.putChild(b"tor", here.api.resource())
    port = installed().listenTCP(0, Site(root), interface="127.0.0.1")
    url = f"http://localhost:{port_of(port)}/tools/tor"
    await fresh.open(f"{url}?token={OPERATOR.decode()}")
    await sees(fresh, "Live", "3 circuits, 5 streams")
    assert (await fresh.do(lambda driver: driver.current_url)) == f"{url}/"
    await click(fresh, "New identity for everyone")
    await posted(here, "/identity/new", {})
    await fresh.open("about:blank")
    await maybeDeferred(port.stopListening)


# --- the connection -------------------------------------------------------------------------------


@ensureDeferred
async def test_a_lost_connection_is_said_and_healed(fresh: Chromium, here: Operated) -> None:
    await show(fresh, here, **crowd(3, 5))
    here.refuses = True
    here.hang_up()
    await sees(fresh, "Connection lost, reconnecting", "3 circuits")
    assert await violations(fresh) == []
    here.told = crowd(2, 0)
    here.refuses = False
    await soon(here.watch.when(lambda: bool(here.readers)), 10)
    await sees(fresh, "Live", "Connected again.", "2 circuits, 0 streams")


@ensureDeferred
async def test_whoever_is_no_operator_any_more_is_told_how_to_go_on(
    fresh: Chromium, here: Operated
) -> None:
    """Another daemon knows another cookie."""
    await show(fresh, here)
    await fresh.devtools("Storage.clearCookies")
    here.hang_up()
    await sees(fresh, "Signed out", "tortxd dashboard")


@ensureDeferred
async def test_its_policy_would_hold_what_got_through(fresh: Chromium, here: Operated) -> None:
    """Text that is read as HTML is refused, and so are scripts and styles of whatever source."""
    await show(fresh, here)
    refused = await fresh.call(
        """new Promise(done => {
            const refused = new Set();
            document.addEventListener("securitypolicyviolation", violation => {
                refused.add(violation.effectiveDirective);
                if (refused.size === 4) done([...refused].sort());
            });
            try { document.body.innerHTML = "<b>x</b>"; } catch {}
            for (const [tag, name, value] of [["script", "src", "proxy?url=http://a.example/"],
                    ["link", "href", "dashboard/dashboard.css"], ["img", "src", "health"]]) {
                const one = document.createElement(tag);
                try { one[name] = value; one.rel = "stylesheet"; } catch {}
                document.body.append(one);
            }
            document.body.setAttribute("style", "color: red");
        })"""
    )
    assert refused == [
        "img-src",
        "require-trusted-types-for",
        "style-src-attr",
        "style-src-elem",
    ]
    assert await fresh.call("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"

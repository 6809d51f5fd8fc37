"""The gateway's own pages in a browser: who may go there, and who may frame them."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from tests.browser.chromium import Chromium
from tests.browser.foreign import open_foreign
from tests.browser.pages import canned, put
from tests.browser.tap import Tap
from tortxd.testing import Origin


@pytest.mark.parametrize("which", ["http", "https", "null"])
@ensureDeferred
async def test_rule_04_a_foreign_page_may_send_the_user_to_the_page(
    browser: Chromium, gateway: str, tap: Tap, site: Origin, which: str
) -> None:
    """Only a top-level navigation to ``GET /`` passes."""
    await open_foreign(which, browser, site)
    await browser.call("void (location.href = a[0])", gateway + "/")
    one = await tap.when_answered_to("/")
    assert one.asked["sec-fetch-site"] == "cross-site"
    assert (one.status, one.error) == (200, None)
    # What a link leads to shows nothing of operators.
    assert "cookie" not in one.asked
    text = await browser.text()
    assert "Tor is ready" in text
    assert "operator-token" in text
    assert "frame-ancestors 'none'" in one.answered["content-security-policy"]


FRAME = """new Promise(done => {
    const frame = Object.assign(document.createElement(a[1]), {name: "framed", [a[2]]: a[0]});
    frame.onload = frame.onerror = () => done(null);
    document.body.append(frame);
    if (a[1] === "embed") done(null);
})"""


@pytest.mark.parametrize(
    ("tag", "attribute"), [("iframe", "src"), ("object", "data"), ("embed", "src")]
)
@pytest.mark.parametrize(
    ("page", "path"),
    [
        ("http://evil.example", "/"),
        ("http://127.0.0.1", "/"),
        ("http://127.0.0.1", "/proxy?url={hostile}"),
    ],
)
@ensureDeferred
async def test_rule_04_nobody_frames_the_gateway(
    browser: Chromium,
    gateway: str,
    tap: Tap,
    site: Origin,
    tor_origin: Origin,
    page: str,
    tag: str,
    attribute: str,
    path: str,
) -> None:
    """Frames, objects and embeds are refused to allowed origins as well: they carry no Origin."""
    put(site, "/frames", canned("<!DOCTYPE html><title>frames</title><body>"))
    await browser.open(f"{page}:{site.http_port}/frames")
    url = path.format(hostile=quote(tor_origin.http + "/hostile-framed", safe=""))
    await browser.call(FRAME, gateway + url, tag, attribute)
    one = await tap.when_answered_to(url)
    assert (one.status, one.error) == (403, "forbidden_origin")
    assert one.asked["sec-fetch-dest"] == tag
    assert "frame-ancestors 'none'" in one.answered["content-security-policy"]
    assert not [one for one in tor_origin.requests if one.target == b"/hostile-framed"]

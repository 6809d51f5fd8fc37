"""The page among the documentation's examples does what it says."""

from __future__ import annotations

import json

from pytest_twisted import ensureDeferred

from tests.browser.chromium import Chromium
from tests.browser.pages import canned, put
from tests.browser.scripts import SUBMIT
from tests.docs.documents import read
from tortxd.testing import Origin, PrivateNetwork


@ensureDeferred
async def test_the_page_fetches_through_tor(
    browser: Chromium,
    gateway: str,
    site: Origin,
    tor_network: PrivateNetwork,
    tor_origin: Origin,
) -> None:
    page = read("docs/examples/browser.html")
    assert page.count('"http://localhost:3080"') == 1
    put(site, "/browser.html", canned(page.replace("http://localhost:3080", gateway)))
    await browser.open(f"http://127.0.0.1:{site.http_port}/browser.html")
    first, _, body = (await browser.call(SUBMIT, tor_origin.https + "/ip")).partition("\n")
    address = json.loads(body)["ip"]
    (country,) = {relay.country for relay in tor_network.relays if relay.address == address}
    assert first == f"200, exit in {country}"
    refused = await browser.call(SUBMIT, "http://127.0.0.1/")
    assert refused.startswith("Error: target_forbidden: ")

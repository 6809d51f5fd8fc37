"""The dashboard before a daemon on the private network: what happens is what it shows."""

from __future__ import annotations

from pytest_twisted import ensureDeferred

from tests.browser.chromium import Chromium
from tests.browser.conftest import Gateways
from tests.browser.tap import Tap
from tortxd.testing import Origin

FETCH = """new Promise(done => {
    const before = document.querySelectorAll("#fetched > li").length;
    document.getElementById("fetch-url").value = a[0];
    document.getElementById("fetch-key").value = "of-the-dashboard";
    document.querySelector("#fetch button").click();
    const look = () => {
        const all = document.querySelectorAll("#fetched > li");
        if (all.length === before) return setTimeout(look, 50);
        const row = all[0].innerText;
        done([row, [...all[0].querySelectorAll(".nickname")].map(one => one.textContent)]);
    };
    look();
})"""
ROTATE = """new Promise(done => {
    const look = () => {
        const row = [...document.querySelectorAll(".circuit")]
            .find(one => one.querySelector("h3").textContent === "Circuit " + a[0]);
        const button = row?.querySelector("[aria-label^=Rotate]:not([hidden])");
        if (!button) return setTimeout(look, 50);
        button.click();
        said();
    };
    const said = () => {
        const text = document.getElementById("said").textContent;
        text.includes("key") ? done(text) : setTimeout(said, 50);
    };
    look();
})"""


@ensureDeferred
async def test_a_key_is_rotated_and_its_circuit_changes(
    fresh: Chromium, gateways: Gateways, gateway: str, tap: Tap, tor_origin: Origin
) -> None:
    """And a request that fails is among those that failed, with the reason."""
    await fresh.open(f"{gateway}/?token={gateways.free.token}")
    url = f"{tor_origin.http}/echo"
    circuits = []
    for _ in range(2):
        text, path = await fresh.call(FETCH, url)
        assert "200" in text
        assert len(path) == 3, text
        circuit = text.partition("Circuit ")[2].partition(",")[0]
        circuits.append(circuit)
        said = await fresh.call(ROTATE, circuit)
        begin = f"The key of circuit {circuit} gets new circuits from its next request on."
        assert said.startswith(begin)
    assert circuits[0] != circuits[1]
    text, _ = await fresh.call(FETCH, "http://no-such-name.example/")
    assert "502 resolve_failed" in text
    failed = await fresh.call(
        """new Promise(done => { const look = () => {
            const first = document.querySelector("#failures > li");
            first ? done(first.innerText) : setTimeout(look, 50); }; look(); })"""
    )
    assert "resolve_failed" in failed
    assert "at fault: destination" in failed
    assert {one.status for one in tap.to("/events")} == {200}

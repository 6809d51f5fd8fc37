"""A browser's screen and console, as tests of pages set and read them."""

from __future__ import annotations

from tests.browser.chromium import Chromium


async def complaints(browser: Chromium) -> list[str]:
    """What the console says: errors, refusals by the page's own policy."""
    return await browser.do(lambda driver: [one["message"] for one in driver.get_log("browser")])


async def show_as(browser: Chromium, width: int, scheme: str) -> None:
    """Be a screen of this width, whose user wants it light or dark."""
    await browser.devtools(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=900,
        deviceScaleFactor=1,
        mobile=width < 500,
    )
    preference = {"name": "prefers-color-scheme", "value": scheme}
    await browser.devtools("Emulation.setEmulatedMedia", features=[preference])

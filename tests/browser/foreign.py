"""Pages of web origins that no gateway was told to allow."""

from __future__ import annotations

from tests.browser.attacks import PAGE
from tests.browser.chromium import Chromium
from tests.browser.pages import canned, put
from tortxd.testing import Origin

FOREIGN = {
    "http": ("http://evil.example:{http}", ()),
    "https": ("https://evil.example:{https}", ()),
    # Chromium and the world's resolvers take it for loopback; it is not localhost.
    "subdomain": ("http://evil.localhost:{http}", ()),
    # A page of an allowed origin, but sandboxed: its origin is "null".
    "null": (
        "http://127.0.0.1:{http}",
        ("Content-Security-Policy: sandbox allow-scripts allow-forms",),
    ),
}


async def open_foreign(which: str, browser: Chromium, site: Origin) -> str:
    """Open a foreign page, and return its origin as it should be named to others."""
    origin, headers = FOREIGN[which]
    origin = origin.format(http=site.http_port, https=site.https_port)
    put(site, f"/attack-{which}", canned(PAGE, "text/html; charset=utf-8", *headers))
    await browser.open(f"{origin}/attack-{which}")
    return "null" if which == "null" else origin

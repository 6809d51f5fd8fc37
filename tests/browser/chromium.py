"""A headless Chromium, driven with selenium from a thread while the reactor goes on serving."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import define, field
from selenium import webdriver
from selenium.common.exceptions import NoSuchWindowException
from selenium.webdriver.chrome.service import Service
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from tests.daemon.process import arguments, children, installed
from tests.tor.lone_tor import until_gone

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # Chromium's own sandbox is not to be had as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    # What it would ask the world for by itself; where it has a proxy, it would ask that. Port 9 is
    # one to which Chromium never connects.
    "--disable-background-networking",
    "--disable-component-update",
    "--component-updater=url-source=http://127.0.0.1:9/",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--gaia-url=http://127.0.0.1:9",
    "--disable-features=NetworkTimeServiceQuerying,OptimizationHints",
    # The certificates here are those of a CA that no browser knows.
    "--ignore-certificate-errors",
)
PREFERENCES = {
    "default_search_provider.enabled": False,
    "safebrowsing.enabled": False,
    "search.suggest_enabled": False,
    "session.restore_on_startup": 4,  # the pages that follow
    "session.startup_urls": ["about:blank"],
    "signin.allowed": False,
    "signin.allowed_on_next_startup": False,
}
"""For the same end."""
PATIENCE = 60
"""Seconds that one command to the browser may take."""
ENDS_WITHIN = 5.0

_DOCUMENT = """return {
    url: document.documentURI, type: document.contentType, title: document.title}"""

_T = TypeVar("_T")


def program(name: str, packages: str = "chromium chromium-driver") -> str:
    """Where a program is. Its absence is a failure: what only a browser shows must be shown."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: apt-get install {packages}", pytrace=False)
    return found


@define(eq=False)
class Chromium:
    """One browser, with an empty profile. :meth:`start` it, and :meth:`stop` it in any case.

    ``hosts`` maps the names of web servers to loopback: no look-up leaves the machine.
    """

    folder: Path
    hosts: Iterable[str] = ()
    flags: Iterable[str] = ()
    proxy: str | None = None
    """The HTTP proxy to use, for loopback addresses too; None: connect directly, whatever the
    environment says."""
    driver: Any = None
    _pool: ThreadPool = field(init=False)

    async def start(self) -> Chromium:
        """Start it."""
        self._pool = ThreadPool(1, 1, "chromium")
        self._pool.start()
        await self._in_thread(self._start)
        return self

    def stop(self) -> None:
        """End it, and see that nothing of it is left, even if the reactor has stopped."""
        try:
            self._end()
        finally:
            self._pool.stop()

    async def do(self, work: Callable[[Any], _T]) -> _T:
        """Let ``work`` have the driver, in the browser's thread."""
        return await self._in_thread(lambda: work(self.driver))

    async def open(self, url: str) -> None:
        """Go to ``url`` as if the user had typed it, and wait until it is loaded."""
        await self.do(lambda driver: driver.get(url))

    async def open_tab(self, url: str) -> str:
        """The same in a new tab, whose handle this is; the other tabs go on."""

        def work(driver: Any) -> str:
            driver.switch_to.new_window("tab")
            handle: str = driver.current_window_handle
            driver.get(url)
            return handle

        return await self.do(work)

    async def switch(self, handle: str) -> None:
        """Let what follows concern the tab with this handle."""
        await self.do(lambda driver: driver.switch_to.window(handle))

    async def tabs(self) -> list[dict[str, str]]:
        """The documents of all tabs: url, type, title."""

        def work(driver: Any) -> list[dict[str, str]]:
            found = []
            for handle in driver.window_handles:
                with suppress(NoSuchWindowException):  # one of a download, which goes by itself
                    driver.switch_to.window(handle)
                    document = driver.execute_script(_DOCUMENT)
                    if document is not None:  # it is just being replaced by the next one
                        found.append(document)
            return found

        return await self.do(work)

    async def close_other_tabs(self) -> None:
        """Leave one empty tab."""

        def work(driver: Any) -> None:
            kept, *others = driver.window_handles
            driver.switch_to.window(kept)
            for handle in others:  # handles are the ids of targets
                driver.execute_cdp_cmd("Target.closeTarget", {"targetId": handle})
            driver.get("about:blank")

        await self.do(work)

    async def call(self, expression: str, *arguments: object) -> Any:
        """What an expression of JavaScript gives in the page, awaited if it is a promise.

        Its arguments are called ``a``.
        """
        script = (
            "const a = Array.from(arguments), done = a.pop();"
            f"(async () => ({expression}))().then(done, e => done('failed: ' + e))"
        )
        return await self.do(lambda driver: driver.execute_async_script(script, *arguments))

    async def text(self) -> str:
        """The text that the page shows."""

        def work(driver: Any) -> str:
            text: str = driver.find_element("css selector", "body, :root").text
            return text

        return await self.do(work)

    async def url(self) -> str:
        """Where the tab is."""

        def work(driver: Any) -> str:
            url: str = driver.current_url
            return url

        return await self.do(work)

    async def devtools(self, command: str, **parameters: object) -> Any:
        """What a command of the DevTools protocol gives."""
        return await self.do(lambda driver: driver.execute_cdp_cmd(command, parameters))

    async def cookies(self) -> set[str]:
        """The names of all cookies that it holds, whosever they are."""
        found = await self.devtools("Storage.getCookies")
        return {cookie["name"] for cookie in found["cookies"]}

    async def content_type(self) -> str:
        """What it takes the tab's document for."""
        tree = await self.devtools("Page.getFrameTree")
        mime_type: str = tree["frameTree"]["frame"]["mimeType"]
        return mime_type

    # --- in the thread ----------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        result: _T = await deferToThreadPool(installed(), self._pool, work)
        return result

    def _start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        options = webdriver.ChromeOptions()
        # With both named, selenium looks for nothing and downloads nothing.
        options.binary_location = program("chromium")
        service = Service(program("chromedriver"), env=self._environment())
        for flag in (*FLAGS, f"--user-data-dir={self.folder / 'profile'}", *self.flags):
            options.add_argument(flag)
        rules = ", ".join(f"MAP {host} 127.0.0.1" for host in self.hosts)
        options.add_argument(f"--host-resolver-rules={rules}")
        if self.proxy is None:
            options.add_argument("--no-proxy-server")
        else:
            options.add_argument(f"--proxy-server={self.proxy}")
            options.add_argument("--proxy-bypass-list=<-loopback>")
        downloads = {"download.default_directory": str(self.folder / "downloads")}
        options.add_experimental_option("prefs", {**PREFERENCES, **downloads})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(PATIENCE)
        self.driver.set_script_timeout(PATIENCE)

    def _environment(self) -> Mapping[str, str]:
        """Its home is the test's, for crash reports and the like; selenium asks nobody."""
        home = {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        os.environ.setdefault("SE_OFFLINE", "true")
        os.environ.setdefault("SE_AVOID_STATS", "true")
        return {**os.environ, **home}

    def _end(self) -> None:
        if self.driver is None:
            return
        service = self.driver.service.process.pid
        left = {pid: arguments(pid) for pid in family(service)}
        try:
            self.driver.quit()
        finally:
            for pid, command in left.items():
                if not until_gone(pid, ENDS_WITHIN) and arguments(pid) == command:
                    os.kill(pid, signal.SIGKILL)


def family(pid: int) -> list[int]:
    """A process and all that came of it."""
    return [pid, *(one for child in children(pid) for one in family(child))]

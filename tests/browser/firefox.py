"""A headless Firefox, driven over Marionette, its own protocol: no driver is needed for that.

Messages are JSON, each behind its length: ``[0, id, command, parameters]`` and
``[1, id, error, result]``; the commands are WebDriver's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from tests.browser.chromium import ENDS_WITHIN, PATIENCE, family, program
from tests.daemon.process import arguments, installed, soon, until
from tests.tor.lone_tor import until_gone

PREFERENCES = {
    "marionette.port": 0,  # a free one
    "network.proxy.type": 0,
    # No look-up leaves the machine: every name is loopback, for what it does by itself as well.
    "network.dns.forceResolve": "127.0.0.1",
    "network.dns.disableIPv6": True,
    "network.trr.mode": 5,
    "network.http.http3.enable": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "app.normandy.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.search.update": False,
    "browser.region.network.url": "",
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "nimbus.rollouts.enabled": False,
    "services.settings.server": "data:,#nowhere",
    "toolkit.telemetry.unified": False,
    # A first start shows nothing but an empty page.
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "termsofuse.bypassNotification": True,
    # What a download is, is saved unasked.
    "browser.download.folderList": 2,
    "browser.download.useDownloadDir": True,
    "browser.download.always_ask_before_handling_new_types": False,
    "browser.send_pings": True,
    # A page may open as many tabs as it wants.
    "dom.disable_open_during_load": False,
}


@define(eq=False)
class Firefox:
    """One browser, with an empty profile. :meth:`start` it, and :meth:`stop` it in any case.

    It takes every name for loopback.
    """

    folder: Path
    _process: subprocess.Popen[bytes] | None = None
    _wire: _Marionette = field(factory=lambda: _Marionette())

    async def start(self) -> Firefox:
        """Start it."""
        profile = self.folder / "profile"
        profile.mkdir(parents=True)
        own = {"browser.download.dir": str(self.folder)}
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
            for name, value in {**PREFERENCES, **own}.items()
        ]
        (profile / "user.js").write_text("".join(lines))
        # If this process is killed, it goes too.
        command = [program("setpriv", "util-linux"), "--pdeathsig", "KILL"]
        command += [program("firefox-esr", "firefox-esr"), "--headless", "--no-remote"]
        command += ["--marionette", "--remote-allow-system-access", "--profile", str(profile)]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self._environment(), stdout=log, stderr=log, start_new_session=True
            )
        port = profile / "MarionetteActivePort"
        await until(lambda: port.exists() and port.read_text().strip().isdigit(), PATIENCE)
        endpoint = TCP4ClientEndpoint(installed(), "127.0.0.1", int(port.read_text()))
        await connectProtocol(endpoint, self._wire)
        await self._wire.greeted
        wishes = {"acceptInsecureCerts": True}
        await self.command("WebDriver:NewSession", capabilities={"alwaysMatch": wishes})
        await self.command("WebDriver:SetTimeouts", script=PATIENCE * 1000)
        return self

    def stop(self) -> None:
        """End it, and see that nothing of it is left, even if the reactor has stopped."""
        if self._process is None:
            return
        left = {pid: arguments(pid) for pid in family(self._process.pid)}
        self._process.terminate()
        try:
            self._process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(ENDS_WITHIN)
        finally:
            for pid, command in left.items():
                if not until_gone(pid, ENDS_WITHIN) and arguments(pid) == command:
                    os.kill(pid, signal.SIGKILL)

    async def command(self, name: str, **parameters: object) -> Any:
        """What a command gives."""
        return await soon(self._wire.send(name, parameters), PATIENCE)

    async def open(self, url: str) -> None:
        """Send the tab to ``url``, as if the user had typed it. What becomes a download never
        loads, and WebDriver's own command would wait for that."""
        await self.of_the_browser(
            "void gBrowser.selectedBrowser.fixupAndLoadURIString(a[0], {triggeringPrincipal:"
            " Services.scriptSecurityManager.getSystemPrincipal()})",
            url,
        )

    async def open_tab(self, url: str) -> str:
        """The same in a new tab, whose handle this is; the other tabs go on."""
        new = await self.command("WebDriver:NewWindow", type="tab", focus=False)
        handle: str = new["handle"]
        await self.switch(handle)
        await self.open(url)
        return handle

    async def switch(self, handle: str) -> None:
        """Let what follows concern the tab with this handle."""
        await self.command("WebDriver:SwitchToWindow", handle=handle, focus=True)

    async def call(self, expression: str, *arguments: object) -> Any:
        """What an expression of JavaScript gives in the page, awaited if it is a promise.

        Its arguments are called ``a``. It may look into frames of other origins.
        """
        script = (
            "const a = Array.from(arguments), done = a.pop();"
            f"(async () => ({expression}))().then(done, e => done('failed: ' + e))"
        )
        result = await self.command(
            "WebDriver:ExecuteAsyncScript", script=script, args=arguments, sandbox="system"
        )
        return result["value"]

    async def tabs(self) -> list[dict[str, str]]:
        """The documents of all tabs: url, type, title."""
        shown: list[dict[str, str]] = await self.of_the_browser(
            "gBrowser.browsers.map(one => ({url: one.currentURI.spec,"
            " type: one.documentContentType, title: one.contentTitle}))"
        )
        return shown

    async def cookies(self) -> set[str]:
        """The names of all cookies that it holds, whosever they are."""
        return set(await self.of_the_browser("Services.cookies.cookies.map(one => one.name)"))

    async def of_the_browser(self, expression: str, *arguments: object) -> Any:
        """The same as :meth:`call`, in the browser itself instead of a page."""
        await self.command("Marionette:SetContext", value="chrome")
        try:
            return await self.call(expression, *arguments)
        finally:
            await self.command("Marionette:SetContext", value="content")

    def _environment(self) -> Mapping[str, str]:
        """Its home is the test's."""
        home = {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        quiet = {"MOZ_CRASHREPORTER_DISABLE": "1", "MOZ_DISABLE_AUTO_SAFE_MODE": "1"}
        return {**os.environ, **home, **quiet}


class _Marionette(Protocol):
    """The connection to it."""

    transport: Any

    def __init__(self) -> None:
        self.greeted: Deferred[None] = Deferred()
        self._waiting: dict[int, Deferred[Any]] = {}
        self._number = 0
        self._received = b""

    def send(self, name: str, parameters: Mapping[str, object]) -> Deferred[Any]:
        """Give a command; fires with what it gives."""
        self._number += 1
        message = json.dumps([0, self._number, name, parameters]).encode()
        self.transport.write(b"%d:%b" % (len(message), message))
        answer = self._waiting[self._number] = Deferred()
        return answer

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        while b":" in self._received[:12]:
            size, _, behind = self._received.partition(b":")
            if len(behind) < int(size):
                return
            self._received = behind[int(size) :]
            self._take(json.loads(behind[: int(size)]))

    def _take(self, message: Any) -> None:
        if isinstance(message, dict):
            self.greeted.callback(None)
            return
        _, number, error, result = message
        answer = self._waiting.pop(number)
        if error is None:
            answer.callback(result)
        else:
            answer.errback(AssertionError(f"Firefox: {error['error']}: {error['message']}"))

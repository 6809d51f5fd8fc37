"""Makes the pictures of the documentation: the dashboard before the private network of the demo.

usage: .venv/bin/python -m tools.screenshots [SECONDS]

It starts what ``make demo`` does, sends requests through it for SECONDS (280, so that plots have
something to show), some of which fail, and photographs the dashboard in a headless Chromium. It
writes docs/images/dashboard.png, dashboard-phone.png and, of the command in a terminal, top.png.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.chromium import FLAGS, program
from tests.tor.lone_tor import free_port
from tools import terminal_pictures
from tools.small_png import with_palette
from tortxd.cli.gateways import Gateway

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
PATIENCE = 120
"""Seconds that the demonstration's start, or its end, may take."""
MOST = 200_000
"""Bytes of one picture."""

SITES = ("https://example.com/", "https://api.example.com/data", "https://api.ipify.org/")
FAILING = ("https://no-such-name.example/", "https://example.com:81/", "http://localhost/")
KEYS = ("alice", "bob", "carol")


_ORIGIN = re.compile(r"url=(http://origin\.test\.example:\d+)/")


@contextmanager
def demonstration(port: int) -> Iterator[tuple[Path, str]]:
    """The demonstration: its daemon's data directory, and the address of its web server."""
    command = [sys.executable, "-m", "tortxd.testing.demo", "--port", str(port)]
    running = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        overdue = threading.Timer(PATIENCE, os.killpg, (running.pid, signal.SIGTERM))
        overdue.start()
        data, origin = _started(running)
        overdue.cancel()
        yield data, origin
    finally:
        os.killpg(running.pid, signal.SIGINT)
        running.communicate(timeout=PATIENCE)


def _started(running: subprocess.Popen[str]) -> tuple[Path, str]:
    """The same, once everything is up."""
    assert running.stdout is not None
    environment = origin = None
    for line in running.stdout:
        if line.startswith("  . /"):
            environment = line.split()[1]
        if match := _ORIGIN.search(line):
            origin = match[1]
        if "until Ctrl-C" in line and environment and origin:
            read = '. "$1" && printf %s "$TORTXD_DATA_DIR"'
            shell = ["sh", "-c", read, "sh", environment]
            data = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
            return Path(data), origin
    raise SystemExit("The demonstration did not start.")


def ask(port: int, url: str, key: str) -> None:
    """Fetch ``url`` through the gateway, whatever comes of it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    target = f"/proxy?url={quote(url, safe='')}"
    with suppress(OSError, HTTPException):
        connection.request("GET", target, headers={"Tor-Stream-Isolation": key})
        connection.getresponse().read()
    connection.close()


def make_traffic(port: int, origin: str, over: threading.Event, seed: int) -> None:
    """Send requests, one after the other, until it is over."""
    chance = random.Random(seed)  # noqa: S311
    while not over.wait(chance.uniform(0.2, 2.5)):
        key = chance.choice(KEYS)
        if chance.random() < 0.015:
            ask(port, chance.choice(FAILING), key)
        elif chance.random() < 0.5:
            ask(port, f"{origin}/bytes/{chance.randrange(5_000, 250_000)}", key)
        else:
            ask(port, chance.choice(SITES), key)


@contextmanager
def browser(folder: str) -> Iterator[Any]:
    """A Chromium with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    for flag in (*FLAGS, f"--user-data-dir={folder}/profile", "--no-proxy-server"):
        options.add_argument(flag)
    environment = {**os.environ, "HOME": folder, "SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
    driver = webdriver.Chrome(
        options=options, service=Service(program("chromedriver"), env=environment)
    )
    try:
        yield driver
    finally:
        driver.quit()


def photograph(driver: Any, name: str, width: int, height: int, scheme: str) -> None:
    """Write what a screen of this size shows to a file."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    preference = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [preference]})
    driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    driver.execute_script("scrollTo(0, 0)")
    time.sleep(1)  # for the plots to be drawn in their new size
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    shot = with_palette(b64decode(shot))
    if len(shot) > MOST:
        raise SystemExit(f"{name} has {len(shot)} bytes, which is too much for a repository.")
    (IMAGES / name).write_bytes(shot)
    print(f"docs/images/{name}: {len(shot)} bytes", flush=True)


def fetch(driver: Any) -> None:
    """Fetch something in the dashboard's box."""
    driver.find_element("id", "fetch-url").send_keys(SITES[0])
    driver.find_element("id", "fetch-key").send_keys(KEYS[0])
    driver.find_element("css selector", "#fetch button").click()
    fetched = "#fetched .path"
    WebDriverWait(driver, 60).until(lambda _: driver.find_elements("css selector", fetched))
    driver.execute_script("document.activeElement.blur()")


def main(seconds: float) -> None:
    """Make all of them."""
    IMAGES.mkdir(exist_ok=True)
    port, over = free_port(), threading.Event()
    with demonstration(port) as (data, origin), tempfile.TemporaryDirectory() as folder:
        for seed in range(4):
            threading.Thread(
                target=make_traffic, args=(port, origin, over, seed), daemon=True
            ).start()
        try:
            with browser(folder) as driver:
                token = (data / "operator-token").read_text().strip()
                driver.get(f"http://localhost:{port}/?token={token}")
                time.sleep(seconds)
                fetch(driver)
                photograph(driver, "dashboard.png", 1280, 1000, "light")
                photograph(driver, "dashboard-phone.png", 390, 844, "dark")
                gateway = Gateway(f"http://127.0.0.1:{port}", data / "operator-token")
                driver.get(f"data:text/html,{quote(terminal_pictures.top(gateway))}")
                photograph(driver, "top.png", 1000, 620, "dark")
        finally:
            over.set()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 280)

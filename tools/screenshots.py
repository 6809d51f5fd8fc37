"""Makes the pictures of the documentation: the dashboard before the private network of the demo.

usage: .venv/bin/python -m tools.screenshots [SECONDS]

It starts what ``make demo`` does, sends requests through it for SECONDS (120, so that plots have
something to show), some of which fail, and photographs the dashboard in a headless Chromium. It
writes docs/images/dashboard.png and docs/images/dashboard-phone.png.
"""

from __future__ import annotations

import os
import random
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

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
PATIENCE = 120
"""Seconds that the demonstration's start, or its end, may take."""
MOST = 200_000
"""Bytes of one picture."""

ORIGIN = "origin.test.example"
SITES = (f"http://{ORIGIN}/bytes/60000", f"http://{ORIGIN}/echo", "http://example.com/")
FAILING = ("http://no-such-name.example/", f"http://{ORIGIN}:81/", "http://localhost/")
KEYS = ("alice", "bob", "carol")


@contextmanager
def demonstration(port: int) -> Iterator[Path]:
    """The demonstration, with the data directory of its daemon."""
    command = [sys.executable, "-m", "tortxd.testing.demo", "--port", str(port)]
    running = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        overdue = threading.Timer(PATIENCE, os.killpg, (running.pid, signal.SIGTERM))
        overdue.start()
        yield _data_directory(running)
    finally:
        overdue.cancel()
        os.killpg(running.pid, signal.SIGINT)
        running.communicate(timeout=PATIENCE)


def _data_directory(running: subprocess.Popen[str]) -> Path:
    """Where the operator token lies, once everything is up."""
    assert running.stdout is not None
    environment = None
    for line in running.stdout:
        if line.startswith("  . /"):
            environment = line.split()[1]
        if "until Ctrl-C" in line and environment is not None:
            read = '. "$1" && printf %s "$TORTXD_DATA_DIR"'
            shell = ["sh", "-c", read, "sh", environment]
            return Path(subprocess.run(shell, capture_output=True, text=True, check=True).stdout)
    raise SystemExit("The demonstration did not start.")


def ask(port: int, url: str, key: str | None) -> None:
    """Fetch ``url`` through the gateway, whatever comes of it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {} if key is None else {"Tor-Stream-Isolation": key}
    with suppress(OSError, HTTPException):
        connection.request("GET", f"/proxy?url={quote(url, safe='')}", headers=headers)
        connection.getresponse().read()
    connection.close()


def make_traffic(port: int, over: threading.Event, seed: int) -> None:
    """Send requests, one after the other, until it is over."""
    chance = random.Random(seed)  # noqa: S311
    while not over.wait(chance.uniform(0.2, 2.5)):
        key = chance.choice(KEYS)
        ask(port, chance.choice(FAILING if chance.random() < 0.04 else SITES), key)


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
    time.sleep(1)  # for the plots to be drawn in their new size
    shot = b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
    if len(shot) > MOST:
        raise SystemExit(f"{name} has {len(shot)} bytes, which is too much for a repository.")
    (IMAGES / name).write_bytes(shot)
    print(f"docs/images/{name}: {len(shot)} bytes", flush=True)


def show(driver: Any, port: int, data: Path) -> None:
    """Open the dashboard, and fetch something in its box."""
    token = (data / "operator-token").read_text().strip()
    driver.get(f"http://localhost:{port}/?token={token}")
    driver.find_element("id", "fetch-url").send_keys(f"http://{ORIGIN}/echo")
    driver.find_element("id", "fetch-key").send_keys(KEYS[0])
    driver.find_element("css selector", "#fetch button").click()
    fetched = "#fetched .path"
    WebDriverWait(driver, 60).until(lambda _: driver.find_elements("css selector", fetched))
    driver.execute_script("document.activeElement.blur()")


def main(seconds: float) -> None:
    """Make all of them."""
    IMAGES.mkdir(exist_ok=True)
    port, over = free_port(), threading.Event()
    with demonstration(port) as data, tempfile.TemporaryDirectory() as folder:
        for seed in range(4):
            threading.Thread(target=make_traffic, args=(port, over, seed), daemon=True).start()
        try:
            with browser(folder) as driver:
                time.sleep(seconds)
                show(driver, port, data)
                photograph(driver, "dashboard.png", 1280, 1000, "light")
                photograph(driver, "dashboard-phone.png", 390, 844, "dark")
        finally:
            over.set()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 120)

"""The examples in docs/examples, run as their readers run them, on a private Tor network."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted
from attrs import define, field
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure

from tests.daemon.process import Launcher
from tests.daemon.steering import exits_in
from tests.docs.programs import environment
from tests.web_client import ask
from tortxd.testing import Origin, PrivateNetwork
from tortxd.testing.origin_routes import PAGE

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
"""twistd of this interpreter, wherever its script may be."""
reactor: Any = installed


@define
class Outcome:
    """What a program printed, and how it ended."""

    out: str
    err: str
    code: int


@define
class Runner:
    """Runs examples against the origin, over one Tor client."""

    origin: Origin
    socks_addr: str

    async def __call__(self, example: str, *arguments: str) -> Outcome:
        out, err, code = await getProcessOutputAndValue(
            sys.executable,
            [str(EXAMPLES / example), *arguments],
            env=environment(self.origin, SOCKS_ADDR=self.socks_addr),
            reactor=reactor,
        )
        return Outcome(out.decode(), err.decode(), code)


@pytest_twisted.async_yield_fixture(scope="module")
async def run(tor_network: PrivateNetwork, tor_origin: Origin) -> AsyncIterator[Runner]:
    client = await tor_network.start_client()
    host, port = client.socks
    yield Runner(tor_origin, f"{host}:{port}")
    await client.stop()


@ensureDeferred
async def test_simple_client(run: Runner) -> None:
    done = await run("simple_client.py", f"{run.origin.https}/")

    assert (done.code, done.err) == (0, "")
    assert done.out == f"200, {len(PAGE)} characters\n{PAGE.decode()}\nPOST: 200\n"


@ensureDeferred
async def test_simple_client_says_what_went_wrong(run: Runner) -> None:
    done = await run("simple_client.py", "http://127.0.0.1/")

    assert done.code == 1
    assert done.err.startswith("target_forbidden: ")


@ensureDeferred
async def test_asyncio_client(run: Runner) -> None:
    urls = [f"{run.origin.https}/", f"{run.origin.http}/bytes/1000"]
    done = await run("asyncio_client.py", *urls)

    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"200 {len(PAGE)} bytes from {urls[0]}",
        f"200 1000 bytes from {urls[1]}",
    ]


@ensureDeferred
async def test_socks_client(run: Runner) -> None:
    name, port = run.origin.names[0], str(run.origin.http_port)
    done = await run("socks_client.py", name, port)

    assert (done.code, done.err) == (0, "")
    first, second, third = done.out.splitlines()
    assert first == "SOCKS port answers: True"
    assert int(second.removesuffix(" bytes in reply")) > len(PAGE)
    assert re.fullmatch(r"HTTP/1\.[01] 200 OK", third)


@ensureDeferred
async def test_steered_client(
    tor_network: PrivateNetwork, tor_origin: Origin, tmp_path: Path
) -> None:
    launch = Launcher(tor_network, tor_origin, tmp_path)
    try:
        daemon = launch()
        await daemon.when_ready()
        out, err, code = await getProcessOutputAndValue(
            sys.executable,
            [str(EXAMPLES / "steered_client.py"), f"{tor_origin.https}/", "de", "us", "fr"],
            env=environment(tor_origin, GATEWAY_ADDR=f"127.0.0.1:{daemon.port}"),
            reactor=reactor,
        )
    finally:
        await launch.stop()

    (de,), (fr,) = exits_in(tor_network, "de"), exits_in(tor_network, "fr")
    assert (code, err) == (0, b"")
    assert out.decode().splitlines() == [
        f"de: 200, {len(PAGE)} bytes",
        f"  by {de} in de, at try 1",
        "us: No exit that was asked for is there now and carries traffic to this port.",
        f"fr: 200, {len(PAGE)} bytes",
        f"  by {fr} in fr, at try 1",
    ]


@define(eq=False)
class Twistd(ProcessProtocol):
    """An application under twistd, from its start to its end."""

    ended: Deferred[None] = field(factory=Deferred)
    printed: str = ""
    _waiting: list[tuple[str, Deferred[str]]] = field(factory=list)

    def when_printed(self, pattern: str) -> Deferred[str]:
        """Fire with the first group of ``pattern``, once it is found in what was printed."""
        found: Deferred[str] = Deferred()
        self._waiting.append((pattern, found))
        self._look()
        return found.addTimeout(60, reactor)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.printed += data.decode("utf-8", "replace")
        self._look()

    def _look(self) -> None:
        for waiting in list(self._waiting):
            match = re.search(waiting[0], self.printed)
            if match:
                self._waiting.remove(waiting)
                waiting[1].callback(match[1])

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None)


@ensureDeferred
async def test_embedded_app(
    tor_network: PrivateNetwork, tor_origin: Origin, tmp_path: Path
) -> None:
    further = {
        "PAGE": f"{tor_origin.https}/",
        "LISTEN": "tcp:0:interface=127.0.0.1",
        "DATA_DIR": str(tmp_path / "state"),
        "TORRC": str(tor_network.write_client_torrc(tmp_path / "client.torrc")),
        "PYTHONUNBUFFERED": "1",
    }
    twistd = Twistd()
    process = reactor.spawnProcess(
        twistd,
        sys.executable,
        [sys.executable, "-c", TWISTD, "-ny", str(EXAMPLES / "embedded_app.py"), "--pidfile="],
        env=environment(tor_origin, **further),
        path=str(tmp_path),
    )
    try:
        port = int(await twistd.when_printed(r"QuietSite starting on (\d+)"))

        # It is served at once; what needs Tor waits for it.
        page = await ask(reactor, port, "/page")
        assert (page.status, bytes(page.body)) == (200, PAGE)

        paths = await ask(reactor, port, "/paths")
        names = {relay.nickname for relay in tor_network.relays}
        hops = [line.split(" > ") for line in paths.body.decode().splitlines()]
        assert any(len(path) == 3 and set(path) <= names for path in hops)

        health = await ask(reactor, port, "/tor/health")
        assert health.json["network"] == "private"

        target = f"/tor/proxy?url={tor_origin.http}/redirect?to=/echo"
        redirect = await ask(reactor, port, target)
        assert redirect.status == 302
        assert redirect["Location"].startswith("/tor/proxy?url=")
        assert "Tortxd-Circuit" in redirect

        echo = await ask(reactor, port, redirect["Location"], method="POST", body=b"\x00\xff")
        assert echo.json["length"] == 2
    finally:
        process.signalProcess("TERM")
        await twistd.ended.addTimeout(10, reactor)

    assert "Traceback" not in twistd.printed
    assert tor_origin.names[0] not in twistd.printed, "the log holds no URL"


def test_every_example_is_run() -> None:
    here = Path(__file__)
    tests = {".py": here, ".html": here.parents[1] / "browser" / "test_example_page.py"}
    for example in EXAMPLES.iterdir():
        if example.suffix in tests:
            assert example.name in tests[example.suffix].read_text()

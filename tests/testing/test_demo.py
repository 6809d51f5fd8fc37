"""The demonstration: what it shows, where it fails, and that it leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred

from tests.browser.chromium import Chromium
from tests.browser.scripts import SUBMIT
from tests.docs.documents import ROOT
from tests.tor.lone_tor import free_port
from tortxd.testing import WARNING, Origin, PrivateNetwork
from tortxd.testing.demo import (
    ORIGIN,
    Demo,
    Options,
    check_port,
    evidence_lines,
    invite,
    path_lines,
)
from tortxd.testing.demo_daemon import DaemonProcess, DemoError, daemon_environment
from tortxd.testing.screen import Screen, printable

reactor: Any = installed
HOPS: list[dict[str, Any]] = [
    {"nickname": "authority1", "address": "127.1.2.10", "country": "at"},
    {"nickname": "exit1", "address": "127.1.2.13", "country": "de"},
    {"nickname": None, "address": "127.1.2.140", "country": None},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# --- the screen -----------------------------------------------------------------------------------


def test_progress_is_one_line_on_a_terminal() -> None:
    written = Terminal()
    screen = Screen(written, {"NO_COLOR": "1"})
    screen.progress("network", 50, "exit1 is up.")
    screen.progress("network", 60, "exit2 is up.")
    screen.say("Well.")
    lines = written.getvalue().split("\r\x1b[K")
    assert lines[1] == f"network  {'█' * 12}{'░' * 12}   50 %  exit1 is up."
    assert lines[3] == "Well.\n"
    assert written.getvalue().count("\n") == 1


def test_finished_progress_stays_on_the_terminal() -> None:
    written = Terminal()
    screen = Screen(written, {"NO_COLOR": "1"})
    screen.progress("network", 100, "Up.")
    screen.say("Well.")
    assert written.getvalue().endswith("Up.\nWell.\n")


def test_progress_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (1, 10, 40, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        written = Terminal()
        Screen(written, {"NO_COLOR": "1"}).progress("network", 50, "A long sentence. " * 9)
        assert len(written.getvalue().removeprefix("\r\x1b[K")) <= max(columns, 6)


def test_elsewhere_progress_is_a_line_now_and_then() -> None:
    written = io.StringIO()
    screen = Screen(written, {})
    for percent in (0, 1, 9, 10, 15, 99, 100, 100):
        screen.progress("network", percent, "Going.")
    assert re.findall(r"network: +(\d+) %  Going\.\n", written.getvalue()) == [
        *("0", "10", "99", "100"),
    ]
    assert "\x1b" not in written.getvalue()


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"NO_COLOR": ""}, True),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
    ],
)
def test_colour_is_for_terminals(
    stream: type[io.StringIO], environ: dict[str, str], coloured: bool
) -> None:
    assert ("\x1b[32m" in Screen(stream(), environ).good("yes")) is coloured


def test_a_stream_that_is_not_utf_8_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    Screen(stream, {}).say("exit1 → exit2")
    assert raw.getvalue() == b"exit1 > exit2\n"


def test_nothing_commands_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x9b") == "a?[2Jb?"


# --- what is shown --------------------------------------------------------------------------------


def test_a_path_is_shown_hop_by_hop() -> None:
    assert path_lines(HOPS) == [
        "1  guard   authority1  127.1.2.10   AT",
        "2  middle  exit1       127.1.2.13   DE",
        "3  exit    ?           127.1.2.140  ?",
    ]


def test_a_longer_path_has_no_roles() -> None:
    assert path_lines([*HOPS, HOPS[0]])[3] == "4    authority1  127.1.2.10   AT"


@pytest.mark.parametrize(
    ("service", "sentence"),
    [
        ({"answered": True, "isTor": True, "error": None}, "came from an exit of the Tor network"),
        ({"answered": True, "isTor": False, "error": None}, "did not come from Tor"),
        ({"answered": False, "isTor": None, "error": "tor_timeout"}, "no answer (tor_timeout)"),
    ],
)
def test_evidence_is_shown_in_sentences(service: dict[str, Any], sentence: str) -> None:
    shown = {"streamOnCircuit": True, "circuit": {"id": "7", "path": HOPS}}
    told = {"exitIp": "192.0.2.1", "evidence": {"controlPort": shown, "checkService": service}}
    control, check = evidence_lines(told)
    assert control.endswith("was on built circuit 7: authority1 → exit1 → ?")
    assert sentence in check


def test_missing_evidence_is_said() -> None:
    shown = {"streamOnCircuit": False, "circuit": None}
    service = {"answered": False, "isTor": None, "error": "tor_timeout"}
    told = {"exitIp": None, "evidence": {"controlPort": shown, "checkService": service}}
    assert "was not seen" in evidence_lines(told)[0]


# --- what it starts with --------------------------------------------------------------------------


def test_options() -> None:
    assert Options.parse([]) == Options(3080, False)
    assert Options.parse(["--once", "--port", "81"]) == Options(81, True)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "", "²"])
def test_a_bad_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Options.parse([f"--port={port}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "a port is a number from 1 to 65535" in said
    assert 'make demo ARGS="[--port PORT] [--once]"' in said
    assert "python -m tortxd.testing.demo [--port PORT]" in said


def test_the_daemon_is_not_configured_by_the_user() -> None:
    theirs = ("TORTXD_OPEN", "TOR_SOCKS_PORT", "GATEWAY_PORT", "SSL_CERT_FILE", "SSL_CERT_DIR")
    environ = {"PATH": "/bin", **dict.fromkeys(theirs, "1")}
    assert daemon_environment(environ, 3081, Path("/ca.pem")) == {
        "PATH": "/bin",
        "GATEWAY_PORT": "3081",
        "SSL_CERT_FILE": "/ca.pem",
    }


def test_a_taken_port_is_told_before_anything_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(DemoError, match=f"Port {port} .* it is taken"):
            check_port(port)
    check_port(port)


# --- on the private network -----------------------------------------------------------------------


class Borrowed:
    """The session's network, which neither starts nor ends with the demonstration."""

    def __init__(self, network: PrivateNetwork) -> None:
        self.directory = network.directory
        self.exit_of = network.exit_of
        self.write_client_torrc = network.write_client_torrc

    async def start(self) -> None:
        """It runs already."""

    async def stop(self) -> None:
        """Others need it."""


@ensureDeferred
async def test_once_it_shows_pages_paths_and_evidence_and_no_more(
    tor_network: PrivateNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tortxd.testing.demo.PrivateNetwork", lambda *_, **__: Borrowed(tor_network)
    )
    port = free_port()
    written = io.StringIO()
    demo = Demo(reactor, Screen(written, {}), Options(port, once=True))
    await demo.run()
    assert demo.shown
    check_port(port)
    text = written.getvalue()
    assert "tortxd: 100 %  Tor is ready." in text
    assert len(re.findall(rf"\n  https?://{ORIGIN}:\d+/  200, ", text)) == 2
    exits = "|".join(
        f"{relay.nickname} +{relay.address} +{relay.country.upper()}"
        for relay in tor_network.relays
        if relay.is_exit
    )
    assert re.search(rf"\n    3  exit +({exits})\n", text)
    assert re.search(
        r"\n    1  guard  (.*  127[.\d]+  [A-Z]{2})\n    2  middle (.*  127[.\d]+  [A-Z]{2})\n",
        text,
    )
    assert re.search(r"which leaves Tor in (DE|FR|NL|SE)\n", text)
    assert "/verify-tor says: verified\n" in text
    assert text.splitlines()[-1].startswith("  check service  the request came from an exit")
    assert "stream was on built circuit" in text


def invitation(tmp_path: Path, port: int, page: str | None) -> str:
    daemon: Any = SimpleNamespace(port=port, token_file=tmp_path / "operator-token")
    written = io.StringIO()
    invite(
        Screen(written, {}),
        daemon,
        Origin(reactor, tmp_path),
        socks="socks5h://127.0.0.1:9050",
        page=page,
        shell_file=tmp_path / "env",
    )
    return written.getvalue()


def test_what_there_is_to_try(tmp_path: Path) -> None:
    text = invitation(tmp_path, 3080, "http://127.0.0.1:4000/")
    assert "\n  curl http://localhost:3080/health\n" in text
    assert str(tmp_path / "operator-token") in text
    assert re.search(r"\n  http://localhost:3080/ +the gateway's own page\n", text)
    assert re.search(r"\n  http://127\.0\.0\.1:4000/ +a page that fetches", text)
    assert text.endswith(f"once you have typed\n  . {tmp_path}/env\n")


def test_what_to_write_for_another_port(tmp_path: Path) -> None:
    text = invitation(tmp_path, 3081, None)
    assert text.endswith("  Write 3081 where they say 3080.\n")
    assert "a page that" not in text, "it is not installed"


def test_curl_is_asked_for_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hint = "  These need curl, which is missing: apt-get install curl\n"
    assert hint not in invitation(tmp_path, 3080, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hint in invitation(tmp_path, 3080, None)


@ensureDeferred
async def test_a_daemon_that_ends_by_itself_ends_the_show(
    tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        daemon = DaemonProcess(reactor, tor_network, tor_origin, port)
        with pytest.raises(DemoError, match=f"by itself. The gateway cannot .*{port}"):
            await daemon.unless_it_ends(_never())
    await daemon.stop()


async def _never() -> None:
    await Deferred[None]()


# --- as a program ---------------------------------------------------------------------------------


@contextmanager
def program(*arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [sys.executable, "-m", "tortxd.testing.demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environ},
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def lines_until(running: subprocess.Popen[str], text: str) -> list[str]:
    assert running.stdout is not None
    assert running.stderr is not None
    lines: list[str] = []
    for line in running.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"no {text!r} in {lines}: {running.stderr.read()}")


@ensureDeferred
async def test_it_serves_what_it_names_until_it_is_stopped_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    port = free_port()
    its_own = tmp_path / "demo"
    its_own.mkdir()
    with program("--port", str(port), TMPDIR=str(its_own)) as demo:
        lines = lines_until(demo, "until Ctrl-C")
        assert WARNING + "\n" in lines
        assert list(its_own.iterdir())
        opener = build_opener(ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/health", timeout=60) as response:
            health = json.load(response)
        assert (health["status"], health["network"]) == ("ok", "private")
        check_the_readme(after("  . ", lines))
        await check_the_page(after("  http://127.0.0.1:", lines), tmp_path / "chromium")
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    assert "Stopping." in out
    assert not list(its_own.iterdir())
    check_port(port)


def after(start: str, lines: list[str]) -> str:
    """The first word, from ``start`` on, of the line that begins so."""
    (line,) = (line for line in lines if line.startswith(start))
    return line.removeprefix("  . ").split()[0]


def check_the_readme(env_file: str) -> None:
    """Its commands work as they stand."""
    ran = subprocess.run(
        [sys.executable, ROOT / "tools" / "try-readme", env_file],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("\n$ ") > 12
    assert "stands in for example.com" in ran.stdout
    assert "\n$ node: " in ran.stdout, "node is missing"


async def check_the_page(url: str, folder: Path) -> None:
    """The example page fetches through the gateway what it proposes itself."""
    browser = Chromium(folder)
    try:
        await browser.start()
        await browser.open(url)
        proposed = await browser.call('document.querySelector("input").value')
        shown = await browser.call(SUBMIT, proposed)
    finally:
        browser.stop()
    first, _, body = shown.partition("\n")
    assert re.fullmatch(r"200, exit in (de|fr|nl|se)", first), shown
    assert json.loads(body)["IsTor"] is True


def test_a_signal_before_everything_was_shown_is_no_success(tmp_path: Path) -> None:
    with program("--port", str(free_port()), TMPDIR=str(tmp_path)) as demo:
        lines_until(demo, "network: ")
        demo.send_signal(signal.SIGTERM)
        _, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (128 + signal.SIGTERM, "")
    assert not list(tmp_path.iterdir())


def test_a_taken_port_ends_it_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with program("--port", str(port)) as demo:
            _, err = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert err.startswith(f"tortxd demo: Port {port} of 127.0.0.1 cannot be had: it is taken.")
    assert err.count("\n") == 1

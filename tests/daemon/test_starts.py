"""Starts that cannot succeed, and starts that cannot succeed yet."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from attrs import field, frozen
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.task import deferLater

from tests.daemon.process import PATIENCE, POLL, Daemon, Launcher, installed, run, soon
from tests.tor.lone_tor import NOWHERE
from tortxd.testing import Origin, PrivateNetwork

# --- starts that cannot succeed -------------------------------------------------------------------


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    """A port where something else listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def written(name: str, text: str, mode: int = 0o600) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        file = folder / name
        file.write_text(text)
        file.chmod(mode)
        return str(file)

    return write


OLD_TOR = written("old-tor", "#!/bin/sh\necho 'Tor version 0.4.5.1.'\n", 0o700)
NO_TOR = written("no-tor", "#!/bin/sh\necho 'GNU tar'\n", 0o700)
UNKNOWN_KEY = written("unknown.toml", "sockz = 9050\n")
NOT_TOML = written("not.toml", "socks 9050\n")
LOCAL = "\n".join(NOWHERE)
OWNED = written("owned-torrc", f"{LOCAL}\ncontrolport 9051\n")
REFUSED = written("refused-torrc", f"{LOCAL}\nNoSuchTorOption 1\n")
BAD_VALUE = written("bad-torrc", f"{LOCAL}\nNumCPUs many\n")


@frozen
class Start:
    """One way to start wrongly, and the words that the last line then has."""

    id: str
    options: tuple[str, ...]
    says: tuple[str, ...]
    environ: dict[str, str] = field(factory=dict)
    file: Callable[[Path], str] | None = None
    """Writes the file whose name stands for ``FILE`` in the options."""


STARTS = [
    Start("http port taken", ("--http=tcp:TAKEN:interface=127.0.0.1",), ("TAKEN", "--http")),
    Start("socks port taken", ("--socks=TAKEN",), ("TAKEN", "in use")),
    Start("url to listen on", ("--http=http://localhost:3081",), ("--http", "127.0.0.1:3080")),
    Start("bad port", ("--http=tcp:x:interface=127.0.0.1",), ("tcp:x", "--http")),
    Start("no folder", ("--http=unix:/nonexistent/socket",), ("/nonexistent/socket", "--http")),
    Start("no tor", ("--tor=/nonexistent",), ("/nonexistent", "install")),
    Start("old tor", ("--tor=FILE",), ("0.4.5", "0.4.7"), file=OLD_TOR),
    Start("another program", ("--tor=FILE",), ("--version", "--tor"), file=NO_TOR),
    Start("unknown option", ("--no-such-option",), ("no-such-option",)),
    Start("word too many", ("canteen",), ("",)),
    Start("bad number", ("--timeout=soon",), ("--timeout", "seconds")),
    Start("bad socks", ("--socks=nowhere",), ("socks",)),
    Start("bad alias", ("--alias=nothing",), ("alias",)),
    Start("bad origin", ("--allow-origin=*",), ("--allow-origin",)),
    Start("unknown environment", (), ("TORTXD_X",), {"TORTXD_X": "1"}),
    Start("bad environment", (), ("TORTXD_OPEN",), {"TORTXD_OPEN": "perhaps"}),
    Start("unknown toml key", ("--config=FILE",), ("sockz", "unknown.toml"), file=UNKNOWN_KEY),
    Start("not toml", ("--config=FILE",), ("not.toml",), file=NOT_TOML),
    Start("no toml", ("--config=/nonexistent",), ("/nonexistent",)),
    Start("owned torrc line", ("--torrc=FILE",), ("ControlPort", "remove"), file=OWNED),
    Start("unknown torrc line", ("--torrc=FILE",), ("NoSuchTorOption",), file=REFUSED),
    Start("bad torrc line", ("--torrc=FILE",), ("NumCPUs",), file=BAD_VALUE),
    Start("no torrc", ("--torrc=/nonexistent",), ("--torrc", "/nonexistent")),
    Start("exposed gateway", ("--http=tcp:0",), ("--http", "--token-file", "--open")),
    Start("exposed socks", ("--socks=0.0.0.0:9050",), ("--socks", "--open")),
    Start("no token", ("--token-file=/nonexistent",), ("--token-file", "/nonexistent")),
    Start("directory is a file", ("--data-dir=FILE",), ("--data-dir",), file=NOT_TOML),
    Start("no password", ("--control-password-file=/nonexistent",), ("/nonexistent",)),
    Start("local service", ("--ip-url=http://127.0.0.1/",), ("--ip-url", "public addresses")),
    Start("malformed service", ("--check-url=http://[/",), ("--check-url",)),
    Start("bad control", ("--control=nonsense",), ("--control", "tcp:127.0.0.1:9051")),
]


async def end_of(start: Start, launch: Launcher, folder: Path, taken: int) -> Daemon:
    """The daemon, once it has ended."""
    folder.mkdir()
    file = start.file(folder) if start.file is not None else ""
    options = [one.replace("TAKEN", str(taken)).replace("FILE", file) for one in start.options]
    replaced = any(one.startswith("--control=") for one in options)
    torrc = folder / "torrc"
    torrc.write_text(LOCAL + "\n")
    daemon = launch(*options, torrc=torrc, launch=not replaced, environ=start.environ)
    await daemon.when_ended()
    return daemon


Ends = dict[str, "Deferred[Daemon]"]


@pytest.fixture(scope="module")
def ends(
    request: pytest.FixtureRequest,
    tor_network: PrivateNetwork,
    tor_origin: Origin,
    tmp_path_factory: pytest.TempPathFactory,
    taken: int,
) -> Iterator[Ends]:
    """How each of the starts that are to be tested ends, by its id. Every core has one to do."""
    folder = tmp_path_factory.mktemp("starts")
    launch = Launcher(tor_network, tor_origin, folder)
    cores = DeferredSemaphore(os.cpu_count() or 1)

    def end(start: Start) -> Deferred[Daemon]:
        own = folder / start.id.replace(" ", "-")
        return cores.run(lambda: Deferred.fromCoroutine(end_of(start, launch, own, taken)))

    wanted = [
        cast(Start, item.callspec.params["start"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module.__name__ == __name__
        and "ends" in item.fixturenames
    ]
    yield {start.id: end(start) for start in wanted}
    run(launch.stop)


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.id)
@ensureDeferred
async def test_a_start_that_cannot_succeed(ends: Ends, taken: int, start: Start) -> None:
    """It ends with a non-zero status and one line that says why; rule 11 is among the reasons."""
    daemon = await ends[start.id]
    assert daemon.status, daemon.text
    assert daemon.status > 0, daemon.text
    last = daemon.lines[-1]
    for word in start.says:
        assert word.replace("TAKEN", str(taken)) in last, daemon.text
    assert "Traceback" not in daemon.text
    assert len(last.partition("tortxd: ")[2]) < 300
    assert not await daemon.reachable()


# --- starts that cannot succeed yet ---------------------------------------------------------------


async def until_private(daemon: Daemon) -> None:
    """Wait until the control port has said which network this is."""
    deadline = installed().seconds() + PATIENCE
    while (await daemon.ask("/health")).json["network"] != "private":
        assert installed().seconds() < deadline
        await deferLater(installed(), POLL)


@ensureDeferred
async def test_no_network(launch: Launcher, tmp_path: Path) -> None:
    """The fault "network down": 503 with progress, and no restart of a Tor that is on its way."""
    torrc = tmp_path / "torrc"
    torrc.write_text(LOCAL + "\n")
    daemon = launch(torrc=torrc)
    await daemon.when_listening()
    await daemon.when_said("% ready")
    tor = daemon.tor_pid
    health = await daemon.ask("/health")
    assert health.status == 503
    assert health.json["status"] == "bootstrapping"
    progress = health.json["bootstrap"]["progress"]
    assert isinstance(progress, int)
    assert 0 <= progress < 100
    assert health.json["bootstrap"]["tag"]
    assert health.json["bootstrap"]["summary"]
    await until_private(daemon)
    begun = installed().seconds()
    for url in ("http://canary.example/", "https://canary.example/"):
        reply = await daemon.fetch(url, "Tortxd-Timeout: 0.5")
        assert (reply.status, reply.json["code"]) == (503, "tor_not_ready")
        assert reply.json["retryable"] is True
        assert isinstance(reply.json["bootstrap"]["progress"], int)
        assert reply["Retry-After"].isdecimal()
        assert reply["Tortxd-Error"] == "tor_not_ready"
    assert installed().seconds() - begun < 5
    for route in ("/verify-tor", "/ip"):
        reply = await daemon.ask(route, "Tortxd-Timeout: 0.5")
        assert (reply.status, reply.json["code"]) == (503, "tor_not_ready")
    assert daemon.status is None
    assert daemon.tor_pid == tor is not None


@ensureDeferred
async def test_health_names_the_cause(launch: Launcher, tmp_path: Path) -> None:
    torrc = launch.network.write_client_torrc(tmp_path / "torrc")
    with torrc.open("a") as file:
        file.write("ExitNodes {us}\n")
    daemon = launch(torrc=torrc)
    await daemon.when_said("change ExitNodes in the torrc file")
    health = await daemon.ask("/health")
    assert (health.status, health.json["status"]) == (503, "bootstrapping")
    assert "ExitNodes" in health.json["warning"]
    assert health.json["bootstrap"]["tag"] == "loading_descriptors"
    reply = await daemon.fetch("http://canary.example/", "Tortxd-Timeout: 0.5")
    assert (reply.status, reply.json["code"]) == (503, "tor_not_ready")
    assert "ExitNodes" in reply.json["error"]


@ensureDeferred
async def test_requests_before_tor_is_up_are_served_once_it_is(
    launch: Launcher, tor_origin: Origin
) -> None:
    daemon = launch()
    await daemon.when_listening()
    early = [
        Deferred.fromCoroutine(daemon.fetch(f"{url}/echo", method=method, body=body))
        for url in (tor_origin.http, tor_origin.https)
        for method, body in (("GET", None), ("POST", b"early"))
    ]
    health = await daemon.ask("/health")
    assert (health.status, health.json["status"]) in ((503, "starting"), (503, "bootstrapping"))
    assert not any(one.called for one in early)
    for one in early:
        reply = await soon(one)
        assert reply.status == 200, reply.body

"""Starts that cannot succeed, and starts that cannot succeed yet."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.task import deferLater

from tests.daemon.mistakes import LOCAL, STARTS, Start
from tests.daemon.process import PATIENCE, POLL, Daemon, Launcher, installed, run, soon
from tortxd.testing import Origin, PrivateNetwork

# --- starts that cannot succeed -------------------------------------------------------------------


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    """A port where something else listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@frozen
class End:
    """How a start ended."""

    daemon: Daemon
    line: str
    """With which it was to."""


async def end_of(start: Start, launch: Launcher, folder: Path, taken: int) -> End:
    folder.mkdir()
    file = "" if start.file is None else start.file(folder)

    def fill(text: str) -> str:
        return text.replace("TAKEN", str(taken)).replace("FILE", file)

    options = [fill(one) for one in start.options]
    replaced = any(one.startswith("--control=") for one in options)
    torrc = folder / "torrc"
    torrc.write_text(LOCAL + "\n")
    daemon = launch(*options, torrc=torrc, launch=not replaced, environ=start.environ)
    await daemon.when_ended()
    return End(daemon, fill(start.line))


Ends = dict[str, "Deferred[End]"]


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

    def end(start: Start) -> Deferred[End]:
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
async def test_a_start_that_cannot_succeed(ends: Ends, start: Start) -> None:
    """It ends with a non-zero status, and all that it says is one line, on standard error, which
    says why; rule 11 is among the reasons."""
    end = await ends[start.id]
    assert end.daemon.status == 1, end.daemon.text
    assert end.daemon.text == f"tortxd: {end.line}\n"
    assert end.daemon.errors == end.daemon.output
    assert not await end.daemon.reachable()


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

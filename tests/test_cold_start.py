"""What a start loads before the gateway listens and Tor is launched, and what it loads later."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from tortxd.config import DaemonConfig
from tortxd.daemon import LATER, Daemon
from tortxd.process import loading

PROGRAM = """
import gc, json, socket, sys
from tortxd.config import DaemonConfig
from tortxd.tap import make_daemon

def spawn(*_, **__):
    with socket.create_connection((port.host, port.port)):
        print(json.dumps((sorted(sys.modules), gc.get_freeze_count())))
    reactor.stop()
    raise OSError("This Tor is not to be started.")

daemon = make_daemon(DaemonConfig(data_dir=sys.argv[1], http="tcp:0:interface=127.0.0.1"))
from twisted.internet import reactor
reactor.spawnProcess = spawn
daemon.startService()
port = daemon._ports[0].getHost()
reactor.run()
"""
"""Connects to the gateway where Tor would be launched, and says what is loaded by then."""

UNNEEDED = (
    *("klein", "werkzeug", "prometheus_client", "tortxd.gateway.control"),
    *("txtorcon", "tortxd.tor.control"),
    *("twisted.web", "treq", "tortxd.client.http"),
    *("publicsuffixlist", "statistics"),
    *("tortxd.relay", "tortxd.gateway.front", "tortxd.gateway.gateway", "tortxd.wire.http1"),
)


@pytest.fixture(scope="module")
def at_launch(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], int]:
    """The modules that are loaded when Tor is launched and the gateway listens, and how many
    objects no collection of garbage looks at."""
    folder = tmp_path_factory.mktemp("data")
    command = [sys.executable, "-c", PROGRAM, str(folder / "data")]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=30).stdout
    modules, frozen = json.loads(said.splitlines()[0])
    return set(modules), frozen


@pytest.mark.parametrize("name", UNNEEDED)
def test_what_tor_does_not_need_is_loaded_when_it_was_launched(
    at_launch: tuple[set[str], int], name: str
) -> None:
    modules, _ = at_launch
    assert "tortxd.tor.launched" in modules
    assert not {one for one in modules if f"{one}.".startswith(f"{name}.")}


def test_what_is_loaded_is_no_garbage(at_launch: tuple[set[str], int]) -> None:
    assert at_launch[1] > 10_000


@pytest.fixture
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thawed")
def test_garbage_is_collected_again_when_something_was_loaded() -> None:
    assert gc.isenabled()
    with pytest.raises(ImportError), loading():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()


@pytest.fixture
def reactor() -> Any:
    return MemoryReactorClock()


@pytest.fixture
def daemon(tmp_path: Path, reactor: Any) -> Daemon:
    """It has just begun to listen, and attaches, so that nothing is launched."""
    http = "tcp:0:interface=127.0.0.1"
    config = DaemonConfig(data_dir=tmp_path, http=http, control="tcp:127.0.0.1:1")
    daemon = Daemon(config, reactor, lambda _: None)
    daemon.startService()
    return daemon


def test_the_control_plane_is_loaded_when_the_first_requests_are_gone(
    daemon: Daemon, reactor: Any
) -> None:
    assert "_front" not in vars(daemon)
    reactor.advance(0)
    front = daemon._front
    assert front.gateway.endpoints
    reactor.pump([0, LATER / 2])
    assert "control" not in vars(front)
    reactor.advance(LATER / 2)
    assert "control" in vars(front)
    daemon.stopService()


def test_who_comes_early_is_served(daemon: Daemon, reactor: Any) -> None:
    door = reactor.tcpServers[0][1]
    assert type(door.buildProtocol(None)) is type(daemon._front.buildProtocol(None))
    daemon.stopService()


def test_a_gateway_that_cannot_be_loaded_ends_the_daemon(
    daemon: Daemon, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would listen, and answer nobody."""
    failed: list[Exception] = []
    monkeypatch.setattr(daemon, "_on_failure", failed.append)
    monkeypatch.setattr(daemon.tor, "gateway_factory", lambda: 1 / 0)
    reactor.advance(0)
    (error,) = failed
    assert str(error) == "The gateway could not be loaded; the log says why."
    daemon.stopService()


@pytest.mark.parametrize("turns", [0, 1])
def test_nothing_is_loaded_once_it_stops(daemon: Daemon, reactor: Any, turns: int) -> None:
    reactor.pump([0] * turns)
    daemon.stopService()
    reactor.pump([0, LATER])
    front = vars(daemon).get("_front")
    assert (front is not None) == bool(turns)
    assert front is None or "control" not in vars(front)

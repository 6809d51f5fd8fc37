"""Launching real tor processes, none of which can reach any network."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from tests.tor.daemons import Started, reachable, reactor, when_control, when_status
from tests.tor.lone_tor import NOWHERE, alive, free_port, free_socks, pause, until_gone
from tortxd.addresses import SocksAddress
from tortxd.errors import SetupError, TorDown, TorNotReady
from tortxd.tor.ports import unavailable
from tortxd.tor.session import Watch
from tortxd.tor.status import BackingOff, Bootstrapping, Failed, Launching, Status, Stopped
from tortxd.tor.supervisor import LaunchSettings, TorSupervisor

ROOT = Path(__file__).resolve().parents[2]


@pytest_twisted.async_yield_fixture
async def start() -> AsyncIterator[Started]:
    started = Started()
    yield started
    await started.stop()


@ensureDeferred
async def test_it_launches_and_stops(start: Started, tmp_path: Path) -> None:
    data_dir = tmp_path / "deep" / "dä ta#\"dir'\\"
    socks = free_socks()
    statuses: list[Status] = []
    daemon = start(data_dir, socks)
    daemon.on_status(statuses.append)
    statuses.append(daemon.status)
    assert await daemon.when_usable() == socks
    assert await reachable(socks)
    await when_control(daemon)
    assert statuses[0] == Launching()
    assert any(isinstance(status, Bootstrapping) for status in statuses)
    assert daemon.txtorcon.protocol is not None
    assert await daemon.txtorcon.get_config()
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((data_dir / "torrc").stat().st_mode) == 0o600
    pid = daemon.pid
    assert pid is not None
    begun = time.monotonic()
    waiting = daemon.when_ready()
    await daemon.stop()
    assert time.monotonic() - begun < 3
    assert not alive(pid)
    assert statuses[-1] == Stopped()
    assert daemon.socks_address is None
    with pytest.raises(TorDown):
        await waiting
    with pytest.raises(TorNotReady):
        _ = daemon.txtorcon


@ensureDeferred
async def test_bootstrap_trouble_shows(start: Started, tmp_path: Path) -> None:
    daemon = start(tmp_path / "data")
    for _ in range(3000):
        if isinstance(daemon.status, Bootstrapping) and daemon.status.warning:
            break
        await pause(0.02)
    assert isinstance(daemon.status, Bootstrapping)
    assert daemon.status.warning == "A guard or bridge refused the connection."
    assert daemon.network == "private"
    assert daemon.circuits() == ()
    await daemon.new_identity()


@pytest.mark.parametrize("deep", [False, True])
@ensureDeferred
async def test_a_path_too_long_for_a_socket(
    start: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: bool
) -> None:
    """TMPDIR's may be, too."""
    if deep:
        folder = tmp_path / ("deep" * 30)
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
    daemon = start(tmp_path / ("long" * 30))
    await when_control(daemon)


@ensureDeferred
async def test_socks_on_a_unix_socket(start: Started, tmp_path: Path) -> None:
    folder = tmp_path / "socks#dir"
    folder.mkdir(mode=0o700)
    socks = SocksAddress(path=str(folder / "s"))
    daemon = start(tmp_path / "data", socks)
    assert await daemon.when_usable() == socks
    assert await reachable(socks)


@ensureDeferred
async def test_a_second_daemon_is_refused_and_the_first_unharmed(
    start: Started, tmp_path: Path
) -> None:
    first = start(tmp_path / "data")
    await when_control(first)
    second = TorSupervisor(reactor, LaunchSettings(tmp_path / "data", socks=free_socks()))
    with pytest.raises(SetupError, match="Another tortxd"):
        second.start()
    await first.control.ask("version")
    await second.stop()
    assert first.pid is not None


@ensureDeferred
async def test_the_directory_is_free_after_stop(start: Started, tmp_path: Path) -> None:
    first = start(tmp_path / "data")
    await first.when_usable()
    await first.stop()
    second = start(tmp_path / "data")
    await second.when_usable()


@pytest.fixture
def taken() -> Iterator[SocksAddress]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield SocksAddress(port=listener.getsockname()[1])


def test_a_port_that_was_asked_for_and_is_taken(tmp_path: Path, taken: SocksAddress) -> None:
    daemon = TorSupervisor(reactor, LaunchSettings(tmp_path / "data", socks=taken))
    with pytest.raises(SetupError, match=f"{taken.port}.*in use"):
        daemon.start()
    assert daemon.status == Stopped()
    other = TorSupervisor(reactor, LaunchSettings(tmp_path / "data", socks=taken))
    with pytest.raises(SetupError, match="in use"):
        other.start()


@ensureDeferred
async def test_the_usual_port_is_left_to_others(
    start: Started, tmp_path: Path, taken: SocksAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tortxd.tor.ports.USUAL", taken)
    daemon = TorSupervisor(reactor, LaunchSettings(tmp_path / "data", torrc_lines=NOWHERE))
    start.daemons.append(daemon)
    daemon.start()
    address = await daemon.when_usable()
    assert address.port not in (taken.port, 0)
    pid = daemon.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await when_status(daemon, BackingOff)
    assert daemon.socks_address is None
    assert await daemon.when_usable() == address


@ensureDeferred
async def test_a_port_lost_to_another_between_look_and_bind(
    start: Started, tmp_path: Path, taken: SocksAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tortxd.tor.ports.USUAL", taken)
    monkeypatch.setattr("tortxd.tor.ports.unavailable", lambda _: None)
    daemon = TorSupervisor(reactor, LaunchSettings(tmp_path / "data", torrc_lines=NOWHERE))
    start.daemons.append(daemon)
    daemon.start()
    status = await when_status(daemon, BackingOff)
    assert isinstance(status, BackingOff)
    assert "Address already in use" in status.reason
    monkeypatch.setattr("tortxd.tor.ports.unavailable", unavailable)
    assert (await daemon.when_usable()).port != taken.port


@ensureDeferred
async def test_a_torrc_that_tor_refuses_is_hopeless(start: Started, tmp_path: Path) -> None:
    with pytest.raises(SetupError) as refused:
        start(tmp_path / "data", None, "NoSuchOption 1")
    assert str(refused.value) == "The torrc file, line 3: Unknown option 'NoSuchOption'."


@ensureDeferred
async def test_what_only_a_running_tor_finds_is_hopeless(start: Started, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        daemon = start(tmp_path / "data", None, f"HTTPTunnelPort {taken}")
        error = await daemon.when_failed()
    assert isinstance(error, SetupError)
    with pytest.raises(TorDown):
        await daemon.when_usable()
    assert str(error).startswith(f"Tor ended: Could not bind to {taken}: Address already in use")
    assert daemon.status == Failed(str(error))
    assert str(await daemon.when_failed()) == str(error)


def test_owned_lines_are_refused_at_once(tmp_path: Path) -> None:
    settings = LaunchSettings(tmp_path / "data", torrc_lines=("+controlport 9051",))
    with pytest.raises(SetupError, match="ControlPort"):
        TorSupervisor(reactor, settings).start()
    assert not (tmp_path / "data").exists()


@ensureDeferred
async def test_a_crash_is_mended(start: Started, tmp_path: Path) -> None:
    daemon = start(tmp_path / "data")
    address = await daemon.when_usable()
    await when_control(daemon)
    pid = daemon.pid
    assert pid is not None
    os.kill(pid, signal.SIGSEGV)
    status = await when_status(daemon, BackingOff)
    assert isinstance(status, BackingOff)
    assert 0.5 <= status.seconds <= 1.0
    assert await daemon.when_usable() == address
    await when_control(daemon)
    assert daemon.pid != pid


@ensureDeferred
async def test_a_hang_is_noticed_and_mended(start: Started, tmp_path: Path) -> None:
    daemon = start(tmp_path / "data", watch=Watch(interval=0.2, patience=2))
    await when_control(daemon)
    pid = daemon.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    status = await when_status(daemon, BackingOff)
    assert isinstance(status, BackingOff)
    assert status.reason == "Tor does not answer on its control port."
    assert not alive(pid)
    await daemon.when_usable()


@ensureDeferred
async def test_a_stopped_tor_is_killed_at_stop(start: Started, tmp_path: Path) -> None:
    daemon = start(tmp_path / "data")
    await when_control(daemon)
    pid = daemon.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    await daemon.stop()
    assert time.monotonic() - begun < 5
    assert not alive(pid)


HELPER = """
import sys
from pathlib import Path
from twisted.internet import reactor
from tests.tor.lone_tor import NOWHERE
from tortxd.addresses import SocksAddress
from tortxd.tor.supervisor import LaunchSettings, TorSupervisor
daemon = TorSupervisor(reactor, LaunchSettings(
    Path(sys.argv[1]), socks=SocksAddress(port=int(sys.argv[2])), torrc_lines=NOWHERE))
daemon.start()
daemon.when_usable().addCallback(lambda _: print("usable", daemon.pid, flush=True))
def look():
    try:
        daemon.control
    except Exception:
        reactor.callLater(0.02, look)
    else:
        daemon.control.ask("version")
        reactor.callLater(0.2, print, "control", daemon.pid, flush=True)
look()
reactor.run()
"""


def run_helper(data_dir: Path, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HELPER, str(data_dir), str(port)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("moment", ["usable", "control"])
@ensureDeferred
async def test_a_killed_daemon_leaves_no_tor_and_can_be_followed(
    start: Started, tmp_path: Path, moment: str
) -> None:
    port = free_port()
    with run_helper(tmp_path / "data", port) as helper:
        assert helper.stdout is not None
        pid = next(int(x.split()[1]) for x in helper.stdout if x.startswith(moment))
        helper.kill()
    begun = time.monotonic()
    follower = start(tmp_path / "data", SocksAddress(port=port))
    assert await follower.when_usable() == SocksAddress(port=port)
    assert time.monotonic() - begun < 20
    assert until_gone(pid, 0.5)
    assert follower.pid != pid

"""Faults of a daemon that serves on the private network: what its clients see, and how it comes
back. Those for which a supervised Tor in this process will do are at the end."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import resource
import shlex
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest_twisted
from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.daemon.process import Daemon, Launcher, installed, memory, soon, until
from tests.fault_times import Client, FaultTimes
from tests.tor.daemons import Started, when_status
from tests.tor.lone_tor import alive, free_socks
from tortxd.testing import Origin, PrivateNetwork
from tortxd.testing.processes import find_program, search_path
from tortxd.tor.choosing import NO_COUNTRIES
from tortxd.tor.silence import SILENT
from tortxd.tor.status import BackingOff
from tortxd.tor.supervisor import LaunchSettings


@frozen
class Struck:
    """A daemon that is struck by one fault after the other."""

    daemon: Daemon
    tor: Path
    """Its tor executable."""
    url: str

    def client(self, patience: float = 20.0) -> Client:
        return Client(self.daemon, self.url, patience)

    @property
    def tor_pid(self) -> int:
        pid = self.daemon.tor_pid
        assert pid is not None
        return pid

    @property
    def tor_dir(self) -> Path:
        return self.daemon.data_dir / "tor"

    async def kill_tor(self) -> None:
        """Have Tor die."""
        pid = self.tor_pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))


def through(path: Path, *environ: str) -> Path:
    """A tor executable of the test's own, which is replaced at once."""
    fresh = path.with_name("fresh")
    words = shlex.join((*environ, find_program("tor", search_path())))
    fresh.write_text(f'#!/bin/sh\nexec env {words} "$@"\n')
    fresh.chmod(0o755)
    return fresh.replace(path)


@pytest_twisted.async_fixture
async def struck(launch: Launcher, tor_origin: Origin, tmp_path: Path) -> Struck:
    """One for each test: Tors that die soon after one another are waited for ever longer."""
    tor = through(tmp_path / "tor")
    one = Struck(launch(f"--tor={tor}"), tor, f"{tor_origin.http}/ip")
    await one.daemon.when_ready()
    return one


@ensureDeferred
async def test_tor_dies(struck: Struck, fault_times: FaultTimes) -> None:
    client = struck.client()
    os.kill(struck.tor_pid, signal.SIGSEGV)
    told = await client.until(lambda told: told["status"] == "down")
    assert told["reason"] == "Tor was ended by signal 6."  # by its own hand, once it has said why
    assert (await client.ask()).json["code"] == "tor_down"
    await fault_times.until_served("Tor dies", client)


@ensureDeferred
async def test_tor_is_short_of_memory(struck: Struck, fault_times: FaultTimes) -> None:
    """What it cannot have ends it; the next one has room again."""
    client, pid = struck.client(), struck.tor_pid
    size = memory(pid, "VmSize")
    resource.prlimit(pid, resource.RLIMIT_AS, (size // 2, size // 2))
    while alive(pid):
        keys = [f"Tor-Stream-Isolation: {number}" for number in range(20)]
        await gatherResults([Deferred.fromCoroutine(client.ask(key)) for key in keys])
    await client.until(lambda told: told["status"] == "down")
    await fault_times.until_served("Tor is short of memory", client)


@ensureDeferred
async def test_tor_is_upgraded_while_it_runs(struck: Struck, fault_times: FaultTimes) -> None:
    """The next launch has the new one, and one that cannot be run is told and tried again."""
    client = struck.client()
    struck.tor.unlink()
    struck.tor.write_bytes(b"\x7fELF no tor")
    struck.tor.chmod(0o755)
    assert (await client.ask()).status == 200
    await struck.kill_tor()
    told = await client.until(lambda told: "cannot be run" in told.get("reason", ""))
    assert told["status"] == "down"
    assert (await client.ask()).json["code"] == "tor_down"
    through(struck.tor, "UPGRADED=1")
    await fault_times.until_served("Tor is upgraded, at first to one that does not run", client)
    assert b"UPGRADED=1" in Path(f"/proc/{struck.tor_pid}/environ").read_bytes()


@ensureDeferred
async def test_tor_s_state_is_damaged(struck: Struck, fault_times: FaultTimes) -> None:
    client, state = struck.client(), struck.tor_dir / "state"
    size = state.stat().st_size
    os.kill(struck.tor_pid, signal.SIGSTOP)  # so that it does not write it meanwhile
    state.write_bytes(bytes(size))
    await struck.kill_tor()
    await client.until(lambda told: told["status"] == "down")
    await fault_times.until_served("Tor's state file is damaged", client)
    await struck.daemon.when_said(
        "Tor's state is damaged: it is set aside as state.damaged.1. Tor chooses new guards."
    )
    assert (struck.tor_dir / "state.damaged.1").read_bytes() == bytes(size)


@ensureDeferred
async def test_what_tor_has_cached_is_damaged(struck: Struck, fault_times: FaultTimes) -> None:
    client = struck.client()
    struck.daemon.kill(signal.SIGSTOP)  # so that no Tor writes any of it meanwhile
    pid = struck.tor_pid
    os.kill(pid, signal.SIGKILL)
    cached = sorted(struck.tor_dir.glob("cached-*"))
    assert len(cached) >= 3
    for place, one in enumerate(cached):
        one.write_bytes((b"", os.urandom(3000), one.read_bytes()[:500])[place % 3])
    struck.daemon.kill(signal.SIGCONT)
    await client.until(lambda told: told["status"] == "down")
    await fault_times.until_served(
        "The cached consensus, certificates and microdescriptors are damaged", client
    )


@ensureDeferred
async def test_no_descriptor_is_left_for_a_launch(struck: Struck, fault_times: FaultTimes) -> None:
    client, pid = struck.client(), struck.daemon.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    os.kill(struck.tor_pid, signal.SIGKILL)
    await client.until(lambda told: told["status"] == "down")
    used = {int(one) for one in os.listdir(f"/proc/{pid}/fd")}
    _, _, third, *_ = (number for number in range(len(used) + 4) if number not in used)
    # Clients have the first two, one at a time; a launch wants more.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (third, before[1]))
    told = await client.until(lambda told: "Too many open files" in told.get("reason", ""))
    assert told["status"] == "down"
    assert (await client.ask()).json["code"] == "tor_down"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    await fault_times.until_served("No descriptor is left to launch Tor", client)


@ensureDeferred
async def test_the_daemon_and_tor_are_stopped_for_a_while(
    struck: Struck, fault_times: FaultTimes
) -> None:
    """As by a container's pause. The same Tor goes on."""
    client, pid = struck.client(), struck.tor_pid
    for one in (struck.daemon.pid, pid):
        os.kill(one, signal.SIGSTOP)
    asked = Deferred.fromCoroutine(client.ask())
    await deferLater(installed(), 2)
    assert not asked.called
    for one in (struck.daemon.pid, pid):
        os.kill(one, signal.SIGCONT)
    begun = installed().seconds()
    assert (await soon(asked)).status == 200
    seconds = installed().seconds() - begun
    await client.look()
    fault_times.note("Daemon and Tor are stopped and go on", client.words, seconds)
    assert struck.daemon.tor_pid == pid


@contextmanager
def stopped(network: PrivateNetwork) -> Iterator[None]:
    """No relay answers."""
    pids = [process.pid for process in network.processes.values() if process.running]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@ensureDeferred
async def test_the_network_is_gone_for_a_while(
    struck: Struck, fault_times: FaultTimes, launch: Launcher, tor_network: PrivateNetwork
) -> None:
    """For one that serves, and for one that is on its way. Neither restarts its Tor."""
    client, pid = struck.client(patience=1.0), struck.tor_pid
    with stopped(tor_network):
        fresh = launch()
        await fresh.when_listening()
        late = Client(fresh, struck.url, patience=1.0)
        assert (await client.ask()).status == 504
        waiting = Deferred.fromCoroutine(struck.client(patience=60.0).ask())
        told = await client.until(lambda told: told["status"] == "degraded")
        assert SILENT in told["reasons"]
        told = await late.until(lambda told: told["status"] == "bootstrapping")
        assert told["bootstrap"]["progress"] < 100
        assert (await late.ask()).json["code"] == "tor_not_ready"
        own = fresh.tor_pid
    both = [Deferred.fromCoroutine(one.until_served()) for one in (client, late)]
    seconds = [await soon(one) for one in both]
    await soon(waiting)
    await client.until(lambda told: SILENT not in told.get("reasons", ()))
    fault_times.note("The network is gone and back", client.words, seconds[0])
    fault_times.note("The bootstrap stalls and goes on", late.words, seconds[1])
    assert (struck.daemon.tor_pid, fresh.tor_pid) == (pid, own)


@ensureDeferred
async def test_no_geoip(
    launch: Launcher, tor_network: PrivateNetwork, tor_origin: Origin, tmp_path: Path
) -> None:
    """Countries are unknown, and everything else is as ever."""
    lines = [line for line in tor_network.client_torrc() if not line.startswith("GeoIP")]
    torrc = tmp_path / "torrc"
    torrc.write_text("\n".join((*lines, "GeoIPFile /nowhere/a", "GeoIPv6File /nowhere/b", "")))
    daemon = launch(torrc=torrc)
    await daemon.when_ready()
    reply = await daemon.fetch_told(f"{tor_origin.http}/ip", told="Tortxd-Exit-Address")
    assert "Tortxd-Exit-Country" not in reply
    chosen = await daemon.fetch(f"{tor_origin.http}/ip", f"Tortxd-Exit: {reply['Tortxd-Exit']}")
    assert (chosen.status, chosen["Tortxd-Exit"]) == (200, reply["Tortxd-Exit"])
    refused = await daemon.fetch(f"{tor_origin.http}/ip", "Tortxd-Exit-Country: de")
    assert (refused.status, refused.json["code"]) == (503, "exit_unavailable")
    assert refused.json["error"] == NO_COUNTRIES
    circuits = (await daemon.told("/circuits"))["circuits"]
    assert all(hop["address"] for one in circuits for hop in one["path"])


@ensureDeferred
async def test_the_clock_jumps(
    launch: Launcher, tor_origin: Origin, tmp_path: Path, fault_times: FaultTimes
) -> None:
    """As Tor sees it also after a suspension: it gives its circuits up, and so do we what waits on
    them."""
    faketime = shutil.which("faketime")
    assert faketime is not None, "the package faketime is needed"
    asked = subprocess.run(
        [faketime, "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
    )
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    tor = through(
        tmp_path / "tor",
        f"LD_PRELOAD={asked.stdout.strip()}",
        f"FAKETIME_TIMESTAMP_FILE={offset}",
        "FAKETIME_NO_CACHE=1",
    )
    daemon = launch(f"--tor={tor}")
    await daemon.when_ready()
    client = Client(daemon, f"{tor_origin.http}/ip")
    assert (await client.ask()).status == 200
    before = {one["id"] for one in (await daemon.told("/streams"))["streams"]}
    assert before
    offset.write_text("+4000\n")
    await client.until(lambda told: told["status"] != "ok")
    seconds = await client.until_served()
    told = await client.until(lambda told: told["status"] == "degraded")
    fault_times.note("The clock jumps, or the machine was suspended", client.words, seconds)
    assert any("clock jumped some 67 minutes ahead" in one for one in told["reasons"])
    after = {one["id"] for one in (await daemon.told("/streams"))["streams"]}
    assert not after & before


@pytest_twisted.async_yield_fixture
async def start() -> AsyncIterator[Started]:
    started = Started()
    yield started
    await started.stop()


@ensureDeferred
async def test_the_control_connection_is_lost(
    start: Started, tor_network: PrivateNetwork, tmp_path: Path, fault_times: FaultTimes
) -> None:
    """A supervised Tor of this process's: it ends with its controller, and another is launched."""
    daemon = start(
        LaunchSettings(
            tmp_path / "data",
            socks=free_socks(),
            torrc_lines=tuple(tor_network.client_torrc()),
        )
    )
    await soon(daemon.when_ready())
    pid = daemon.pid
    daemon.control._protocol.transport.abortConnection()
    status = await when_status(daemon, BackingOff)
    assert isinstance(status, BackingOff)
    assert status.reason == "The control connection to Tor was lost."
    begun = installed().seconds()
    await soon(daemon.when_ready())
    seconds = installed().seconds() - begun
    fault_times.note("The control connection is lost", "503 `tor_down`; health `down`", seconds)
    assert daemon.pid not in (None, pid)

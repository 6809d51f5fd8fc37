"""Starts that do not get on, and why, as real tor processes show it."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults

from tests.tor.daemons import Started, when_control
from tests.tor.lone_tor import bare_tor, free_port, free_socks
from tortxd.testing.network import PrivateNetwork
from tortxd.tor.status import Bootstrapping, Degraded, Ready, Status
from tortxd.tor.supervisor import AttachSettings, LaunchSettings, TorSupervisor

BRIDGE = "127.0.0.1:{} " + "A" * 40


@pytest_twisted.async_yield_fixture
async def start() -> AsyncIterator[Started]:
    started = Started()
    yield started
    await started.stop()


def when_told(daemon: TorSupervisor, text: str) -> Deferred[Status]:
    """Fire with the first status that gives ``text`` as a cause, the present one included."""
    told: Deferred[Status] = Deferred()

    def look(status: Status) -> None:
        match status:
            case Bootstrapping(warning=str(words)):
                pass
            case Degraded(reasons):
                words = " ".join(reasons)
            case _:
                return
        if text in words and not told.called:
            leave()
            told.callback(status)

    leave = daemon.on_status(look)
    look(daemon.status)
    return told.addTimeout(40, installed)


def on_network(
    folder: Path, network: PrivateNetwork, *lines: str, tor: str | None = None
) -> LaunchSettings:
    return LaunchSettings(
        folder / "data",
        socks=free_socks(),
        torrc_lines=(*network.client_torrc(), *lines),
        tor=tor,
    )


@ensureDeferred
async def test_relays_that_nobody_is(
    start: Started, tmp_path: Path, tor_network: PrivateNetwork
) -> None:
    """All at once: each Tor looks at its directory only now and then."""

    async def check(option: str, value: str) -> None:
        daemon = start(on_network(tmp_path / option, tor_network, f"{option} {value}"))
        status = await when_told(daemon, option)
        assert isinstance(status, Bootstrapping)
        assert status.progress < 75
        await daemon.control.tell(f"SETCONF {option}")
        await daemon.when_ready()
        assert daemon.status == Ready()

    wanted = {"ExitNodes": "{us}", "EntryNodes": "A" * 40, "MiddleNodes": "192.0.2.0/24"}
    await gatherResults([Deferred.fromCoroutine(check(*each)) for each in wanted.items()])


@ensureDeferred
async def test_relays_that_are_all_excluded(
    start: Started, tmp_path: Path, tor_network: PrivateNetwork
) -> None:
    """Tor takes itself for ready all the same."""
    exits = ",".join(relay.fingerprint for relay in tor_network.relays if relay.is_exit)
    daemon = start(on_network(tmp_path, tor_network, f"ExcludeExitNodes {exits}", "StrictNodes 1"))
    status = await when_told(daemon, "ExcludeExitNodes")
    assert isinstance(status, Bootstrapping | Degraded)


@ensureDeferred
async def test_a_transport_that_is_missing_and_then_ends(start: Started, tmp_path: Path) -> None:
    program = tmp_path / "obfs4proxy"
    daemon = start(
        tmp_path / "data",
        None,
        "UseBridges 1",
        f"Bridge obfs4 {BRIDGE.format(free_port())}",
        f"ClientTransportPlugin obfs4 exec {program}",
    )
    await when_told(daemon, "obfs4proxy is missing.")
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o700)
    status = await when_told(daemon, "obfs4proxy ends by itself, with status 3.")
    assert isinstance(status, Bootstrapping)


@ensureDeferred
async def test_a_transport_that_nobody_starts(start: Started, tmp_path: Path) -> None:
    bridge = f"Bridge obfs4 {BRIDGE.format(free_port())}"
    daemon = start(tmp_path / "data", None, "UseBridges 1", bridge)
    await when_told(daemon, "needs the pluggable transport obfs4, which is not running")


@ensureDeferred
async def test_a_bridge_that_refuses(
    start: Started, tmp_path: Path, tor_network: PrivateNetwork
) -> None:
    bridge = f"Bridge {BRIDGE.format(free_port())}"
    daemon = start(on_network(tmp_path, tor_network, "UseBridges 1", bridge))
    await when_told(daemon, "A guard or bridge refused the connection.")
    await when_control(daemon)
    await daemon.control.tell("SETCONF UseBridges=0 Bridge")
    await daemon.when_ready()
    assert daemon.status == Ready()


@ensureDeferred
async def test_an_attached_tor_tells_as_much(start: Started, tmp_path: Path) -> None:
    control = f'ControlPort unix:"{tmp_path}/control"'
    bridges = ("UseBridges 1", f"Bridge obfs4 {BRIDGE.format(free_port())}")
    plugin = f"ClientTransportPlugin obfs4 exec {tmp_path}/obfs4proxy"
    lines = (control, "CookieAuthentication 1", f"SocksPort {free_port()}", *bridges, plugin)
    with bare_tor(tmp_path, *lines):
        daemon = start(AttachSettings(f"unix:{tmp_path}/control"))
        await when_told(daemon, "obfs4proxy is missing, or ends by itself.")
        await daemon.stop()


@pytest.mark.parametrize(
    ("offset", "says"),
    [
        ("-3d", "3 days behind the network's"),
        ("+3d", "certificates of relays do not count as valid now"),
        ("+2h", "2 hours ahead of the network's"),
    ],
)
@ensureDeferred
async def test_a_clock_that_is_off(
    start: Started, tmp_path: Path, tor_network: PrivateNetwork, offset: str, says: str
) -> None:
    """Tor's own; ours is right."""
    faketime = shutil.which("faketime")
    assert faketime is not None, "the package faketime is needed"
    tor = tmp_path / "tor"
    tor.write_text(f'#!/bin/sh\nexec {faketime} -f {offset} tor "$@"\n')
    tor.chmod(0o700)
    daemon = start(on_network(tmp_path, tor_network, tor=str(tor)))
    status = await when_told(daemon, says)
    assert isinstance(status, Bootstrapping | Degraded)

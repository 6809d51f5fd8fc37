"""An attached Tor whose operator changes it while it is used; none can reach any network."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint

from tests.tor.daemons import Started, reactor, when_control, when_status
from tests.tor.lone_tor import bare_tor, free_port, hashed, pause
from tortxd.addresses import SocksAddress
from tortxd.tor.attached import OFF
from tortxd.tor.control import Control
from tortxd.tor.status import BackingOff, Bootstrapping, Failed, Status
from tortxd.tor.supervisor import AttachSettings, TorSupervisor


@pytest_twisted.async_yield_fixture
async def start() -> AsyncIterator[Started]:
    started = Started()
    yield started
    await started.stop()


class Operator:
    """Who runs that Tor, by a control connection of their own."""

    control: Control

    def control_lost(self, reason: str) -> None:
        """It is not waited for."""

    @classmethod
    async def of(cls, folder: Path) -> Operator:
        operator = cls()
        endpoint = UNIXClientEndpoint(reactor, str(folder / "control"))
        operator.control = await Control.connect(reactor, endpoint, operator, name="it")
        return operator


def lines(folder: Path, *further: str) -> tuple[str, ...]:
    return (f'ControlPort unix:"{folder}/control"', "CookieAuthentication 1", *further)


def when_down(daemon: TorSupervisor, says: str) -> Deferred[None]:
    """Fire when it is down for that reason; it must not have given up."""
    down: Deferred[None] = Deferred()

    def look(status: Status) -> None:
        assert not isinstance(status, Failed)
        if isinstance(status, BackingOff) and says in status.reason and not down.called:
            down.callback(None)

    daemon.on_status(look)
    look(daemon.status)
    return down.addTimeout(60, reactor)


async def when_socks_at(daemon: TorSupervisor, port: int) -> None:
    for _ in range(3000):
        if daemon.socks_address == SocksAddress(port=port):
            return
        await pause(0.02)
    raise AssertionError(f"{daemon.socks_address}, {daemon.status}")


@ensureDeferred
async def test_its_socks_port_moves(start: Started, tmp_path: Path) -> None:
    """By SETCONF, and by a torrc file that is read again; one that goes on is not left."""
    first, second, third = free_port(), free_port(), free_port()
    with bare_tor(tmp_path, *lines(tmp_path, f"SocksPort {first}")) as pid:
        daemon = start(AttachSettings(f"unix:{tmp_path}/control"))
        named = start(AttachSettings(f"unix:{tmp_path}/control", socks=SocksAddress(port=first)))
        await when_control(daemon)
        await when_control(named)
        operator = await Operator.of(tmp_path)
        await operator.control.tell(f"SETCONF SocksPort={second} SocksPort={first}")
        await daemon.control.ask("version")
        await when_socks_at(daemon, first)
        await operator.control.tell(f"SETCONF SocksPort={second}")
        await when_socks_at(daemon, second)
        torrc = tmp_path / "bare-torrc"
        torrc.write_text(torrc.read_text().replace(f"SocksPort {first}", f"SocksPort {third}"))
        os.kill(pid, signal.SIGHUP)
        await when_socks_at(daemon, third)
        assert isinstance(daemon.status, Bootstrapping)
        assert (daemon.runs, named.runs) == (1, 1)
        assert named.socks_address == SocksAddress(port=first)
        operator.control.close()


@ensureDeferred
async def test_a_socks_port_that_will_not_do_any_more(start: Started, tmp_path: Path) -> None:
    """It is left at once, whatever kept it from being used, and the next that will do is found."""
    good, mixing = free_port(), free_port()
    with bare_tor(tmp_path, *lines(tmp_path, f"SocksPort {good}")):
        daemon = start(AttachSettings(f"unix:{tmp_path}/control"))
        await when_control(daemon)
        operator = await Operator.of(tmp_path)
        for change, says, back in (
            (f'SocksPort="{mixing} NoIsolateSOCKSAuth"', "NoIsolateSOCKSAuth", f"SocksPort={good}"),
            ("SocksPort=0", "no SOCKS port open", f"SocksPort={good}"),
            ("DisableNetwork=1", OFF, "DisableNetwork=0"),
        ):
            await operator.control.tell(f"SETCONF {change}")
            await when_down(daemon, says)
            assert daemon.socks_address is None
            await operator.control.tell(f"SETCONF {back}")
            await when_socks_at(daemon, good)
            await when_control(daemon)
        operator.control.close()


@ensureDeferred
async def test_a_tor_that_is_switched_off_is_waited_for(start: Started, tmp_path: Path) -> None:
    port = free_port()
    with bare_tor(tmp_path, *lines(tmp_path, f"SocksPort {port}", "DisableNetwork 1")):
        daemon = start(AttachSettings(f"unix:{tmp_path}/control"))
        await when_down(daemon, OFF)
        operator = await Operator.of(tmp_path)
        await operator.control.tell("SETCONF DisableNetwork=0")
        await when_socks_at(daemon, port)
        operator.control.close()


@ensureDeferred
async def test_its_password_changes(start: Started, tmp_path: Path) -> None:
    """The file is read for each connection, and named where what it holds is refused."""
    file, port = tmp_path / "password", free_port()
    file.write_text("old\n")

    def torrc(password: str) -> tuple[str, ...]:
        return (
            f"ControlPort {port}",
            f"HashedControlPassword {hashed(password)}",
            "SocksPort auto",
        )

    settings = AttachSettings(f"tcp:127.0.0.1:{port}", password="old", password_file=file)
    with bare_tor(tmp_path, *torrc("old")):
        daemon = start(settings)
        await when_control(daemon)
    await when_status(daemon, BackingOff)
    with bare_tor(tmp_path, *torrc("new")):
        await when_down(daemon, f"see what `control_password_file` ({file}) holds")
        file.write_text("new\n")
        await daemon.when_usable()
        await when_control(daemon)
        file.unlink()
    await when_status(daemon, BackingOff)
    with bare_tor(tmp_path, *torrc("old")):
        await daemon.when_usable()  # what it held at first counts, where it holds nothing now

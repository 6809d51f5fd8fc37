"""Daemons on real tor processes, started by a test and stopped after it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from tests.tor.lone_tor import NOWHERE, free_socks, pause
from tortxd._types import Reactor
from tortxd.addresses import SocksAddress
from tortxd.tor.attached import endpoint_to
from tortxd.tor.session import Watch
from tortxd.tor.status import Status
from tortxd.tor.supervisor import AttachSettings, LaunchSettings, TorSupervisor

reactor = cast(Reactor, installed)
"""The installed one, as what it is."""


class Started:
    """Starts daemons; :meth:`stop` stops them all."""

    def __init__(self) -> None:
        self.daemons: list[TorSupervisor] = []

    def __call__(
        self,
        settings: LaunchSettings | AttachSettings | Path,
        socks: SocksAddress | None = None,
        *lines: str,
        watch: Watch | None = None,
    ) -> TorSupervisor:
        if isinstance(settings, Path):
            settings = LaunchSettings(
                settings, socks=socks or free_socks(), torrc_lines=(*NOWHERE, *lines)
            )
        daemon = TorSupervisor(reactor, settings, watch)
        self.daemons.append(daemon)
        daemon.start()
        return daemon

    async def stop(self) -> None:
        for daemon in self.daemons:
            await daemon.stop()


def when_status(daemon: TorSupervisor, kind: type[Status]) -> Deferred[Status]:
    """Fire with the first status of this kind, the present one included."""
    seen: Deferred[Status] = Deferred()
    if isinstance(daemon.status, kind):
        seen.callback(daemon.status)
        return seen

    def look(status: Status) -> None:
        if isinstance(status, kind) and not seen.called:
            seen.callback(status)

    daemon.on_status(look)
    return seen.addTimeout(60, installed)


async def when_control(daemon: TorSupervisor) -> None:
    """Wait until the control connection stands and has been told all that was there already."""
    for _ in range(3000):
        if daemon.network != "unknown":
            await daemon.control.ask("version")
            return
        await pause(0.02)
    raise AssertionError("no control connection")


async def reachable(address: SocksAddress) -> bool:
    """Whether something listens there."""
    probe = await endpoint_to(reactor, address).connect(Factory.forProtocol(Protocol))
    assert isinstance(probe, Protocol)
    assert probe.transport is not None
    probe.transport.loseConnection()
    return True

"""Attaching again and again, in memory: when it is tried, and what is left of each connection."""

from __future__ import annotations

import gc
from typing import Any, cast
from weakref import WeakSet

import pytest
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IConnector
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect

from tests.tor.hostile_control import TRICKS, HostileControl, Trick, greeting_socks, offering
from tortxd._types import Reactor
from tortxd.tor.lifecycle import RESTORING
from tortxd.tor.session import Session
from tortxd.tor.settings import AttachSettings
from tortxd.tor.status import BackingOff, Degraded, Ready
from tortxd.tor.supervisor import TorSupervisor

CONTROL, SOCKS = 9051, 9050
REFUSED = Trick("", {**offering("HASHEDPASSWORD"), "AUTHENTICATE": b"515 No\r\n"})


class Machine:
    """A machine on which a Tor listens, or none, and a daemon that attaches to it."""

    def __init__(self, *tricks: Trick) -> None:
        self.reactor = MemoryReactorClock()
        self.tor: HostileControl | None = HostileControl(*tricks, socks=SOCKS)
        self.socks = greeting_socks()
        self.pumps: dict[int, IOPump] = {}
        """The last connection to each port."""
        self.protocols: WeakSet[Any] = WeakSet()
        """Ours, of all that there are still."""
        self.daemon = TorSupervisor(
            cast(Reactor, self.reactor),
            AttachSettings(f"tcp:127.0.0.1:{CONTROL}", password="canary"),
        )
        self.daemon.start()
        self.settle()

    def settle(self) -> None:
        """Have all that is connected to answer, and all that is said arrive."""
        while self.reactor.tcpClients:
            _, port, factory, *_ = self.reactor.tcpClients.pop(0)
            server = self.tor if port == CONTROL else self.socks
            if self.tor is None or server is None:
                refused = Failure(ConnectionRefusedError())
                factory.clientConnectionFailed(cast(IConnector, None), refused)
                continue
            ours: Any = factory.buildProtocol(None)
            self.protocols.add(ours)
            theirs: Any = server.buildProtocol(None)
            self.pumps[port] = connect(
                theirs, FakeTransport(theirs, True), ours, FakeTransport(ours, False)
            )
            self.pumps[port].flush()

    def pass_time(self, seconds: float) -> None:
        self.reactor.advance(seconds)
        self.settle()

    def cut(self) -> None:
        """That Tor hangs up, and lives on."""
        pump = self.pumps[CONTROL]
        pump.serverIO.abortConnection()
        pump.flush()
        self.settle()

    def check_delays(self, *delays: float) -> None:
        """Whether so long is waited for each of the next tries."""
        for delay in delays:
            tries = self.daemon.runs
            self.pass_time(delay - 0.5)
            assert self.daemon.runs == tries
            self.pass_time(0.5)
            assert self.daemon.runs == tries + 1


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays are as long as they can be."""
    monkeypatch.setattr("tortxd.tor.lifecycle.JITTER", 0.0)


def test_a_tor_that_is_away_is_looked_for_often() -> None:
    machine = Machine(Trick(""))
    assert machine.daemon.status == Ready()
    machine.tor = None
    machine.cut()
    assert isinstance(machine.daemon.status, BackingOff)
    machine.check_delays(1, 2, 4, 5, 5, 5)
    machine.tor = HostileControl(Trick(""), socks=SOCKS)
    machine.pass_time(5)
    assert machine.daemon.status == Ready()


@pytest.mark.parametrize("trick", [REFUSED, TRICKS["a reply to no command"]])
def test_one_that_refuses_us_or_is_not_believed_is_not_hammered(trick: Trick) -> None:
    machine = Machine(Trick(""), trick)
    machine.tor, tor = None, machine.tor
    machine.cut()
    machine.tor = tor
    machine.check_delays(1, 2, 4, 8, 16, 32, 60, 60)


def test_a_hundred_connections_leave_nothing() -> None:
    machine = Machine(Trick(""))

    def held() -> tuple[int, ...]:
        machine.pumps.pop(SOCKS, None)  # a greeting that is over
        gc.collect()
        table = machine.daemon._table
        return (
            # Of which nothing is kept here: warnings about what is collected keep this frame.
            sum(isinstance(one, Session) and one._table is table for one in gc.get_objects()),
            len(machine.protocols),
            sum(map(len, table._listeners._listeners.values())),
            len(machine.reactor.getDelayedCalls()),
        )

    before = held()
    for _ in range(100):
        machine.cut()
        status = machine.daemon.status
        assert isinstance(status, Degraded)
        assert status.reasons == (f"The control connection to Tor was lost. {RESTORING}",)
        assert machine.daemon.socks_address is not None
        machine.pass_time(5)
        assert isinstance(machine.daemon.status, Ready)
    assert machine.daemon.runs == 101
    assert held() == before

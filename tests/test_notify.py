"""What a service manager is told, on a socket as systemd has it; time is a Clock's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tortxd.notify import RETRY, Notifier


class Manager:
    """The service manager's end."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(address)

    def read(self) -> list[str]:
        """What has been told since it read last, each time that something was."""
        told = []
        while True:
            try:
                told.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return told


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    yield manager
    manager.socket.close()


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1.5)
    return clock


@pytest.fixture
def notifier(address: str, clock: Clock, manager: Manager) -> Iterator[Notifier]:
    pid = str(os.getpid())
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": pid}
    notifier = Notifier(environ, clock)
    assert not environ, "Tor's environment would have it too"
    yield notifier
    notifier.close()
    assert not clock.getDelayedCalls()


def test_a_life(notifier: Notifier, manager: Manager) -> None:
    notifier.status("Tor is 5 % ready: Connecting.")
    notifier.ready()
    notifier.reloading()
    notifier.ready()
    notifier.stopping(12.5)
    assert manager.read() == [
        "STATUS=Tor is 5 % ready: Connecting.",
        "READY=1",
        "RELOADING=1\nMONOTONIC_USEC=1500000",
        "READY=1",
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=12500000",
    ]


def test_a_status_is_one_line_that_fits(notifier: Notifier, manager: Manager) -> None:
    notifier.status("Tor is 5 % ready.\nREADY=1\0\x1b[2J")
    notifier.status("\N{SNOWMAN}" * 5000)
    notifier.status("\ud800")
    first, second, third = manager.read()
    assert first.startswith("STATUS=Tor is 5 % ready.")
    assert first.isprintable()
    assert 1000 < len(second.encode()) < 4096
    assert third.startswith("STATUS=")


def test_abstract_sockets(clock: Clock) -> None:
    name = f"tortxd-test-{os.getpid()}"
    manager = Manager(b"\0" + name.encode())
    notifier = Notifier({"NOTIFY_SOCKET": f"@{name}"}, clock)
    notifier.ready()
    assert manager.read() == ["READY=1"]
    notifier.close()
    manager.socket.close()


@pytest.mark.parametrize("named", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_who_has_no_manager_tells_nobody(named: dict[str, str], clock: Clock) -> None:
    notifier = Notifier({**named, "WATCHDOG_USEC": "1000"}, clock)
    notifier.ready()
    notifier.stopping(1)
    notifier.watch(lambda: True)
    assert not clock.getDelayedCalls()
    notifier.close()


def test_a_manager_that_is_gone_does_no_harm(
    notifier: Notifier, manager: Manager, address: str, clock: Clock
) -> None:
    manager.socket.close()
    notifier.ready()
    Path(address).unlink()
    notifier.ready()
    assert not clock.getDelayedCalls()
    again = Manager(address)
    notifier.ready()
    assert again.read() == ["READY=1"]
    again.socket.close()


def test_a_manager_that_is_behind_is_told_later(
    notifier: Notifier, manager: Manager, clock: Clock
) -> None:
    """The kernel holds some ten datagrams for it."""
    for number in range(1000):
        notifier.status(f"{number}")
    notifier.ready()
    notifier.status("ready")
    early = manager.read()
    assert early == [f"STATUS={number}" for number in range(len(early))]
    clock.advance(RETRY)
    assert manager.read() == ["STATUS=999", "READY=1", "STATUS=ready"]
    assert not clock.getDelayedCalls()


def test_what_waits_is_bounded_and_ends(notifier: Notifier, clock: Clock) -> None:
    for _ in range(1000):
        notifier.ready()
    assert len(notifier._waiting) < 30
    notifier.close()
    assert not clock.getDelayedCalls()
    notifier.ready()


# --- the watchdog ---------------------------------------------------------------------------------


def test_a_sign_of_life_at_half_of_the_time(
    notifier: Notifier, manager: Manager, clock: Clock
) -> None:
    notifier.watch(lambda: True)
    assert manager.read() == ["WATCHDOG=1"]
    clock.advance(14.9)
    assert manager.read() == []
    clock.advance(0.1)
    assert manager.read() == ["WATCHDOG=1"]
    clock.pump([15.0] * 4)
    assert manager.read() == ["WATCHDOG=1"] * 4


def test_no_sign_while_a_restart_would_help(
    notifier: Notifier, manager: Manager, clock: Clock
) -> None:
    live = True
    notifier.watch(lambda: live)
    manager.read()
    live = False
    clock.pump([15.0] * 4)
    assert manager.read() == []
    live = True
    clock.advance(15.0)
    assert manager.read() == ["WATCHDOG=1"]


def test_signs_of_life_are_not_kept_for_later(
    notifier: Notifier, manager: Manager, clock: Clock
) -> None:
    notifier.watch(lambda: True)
    clock.pump([15.0] * 1000)
    held = manager.read()
    assert set(held) == {"WATCHDOG=1"}
    assert len(held) < 1000
    clock.advance(15.0)
    assert manager.read() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_sign_for_who_wants_none(
    wanted: dict[str, str], address: str, manager: Manager, clock: Clock
) -> None:
    environ = {"NOTIFY_SOCKET": address, **wanted}
    notifier = Notifier(environ, clock)
    assert not environ
    notifier.watch(lambda: True)
    assert manager.read() == []
    assert not clock.getDelayedCalls()
    notifier.close()

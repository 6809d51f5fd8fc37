"""A daemon under a service manager: what it tells it, and the sockets that it is passed."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import deferLater

from tests.daemon.process import Launcher, arguments, installed, until
from tests.tor.lone_tor import state_of

WATCHDOG = 0.4
"""Seconds within which the manager wants a sign of life."""


class Manager:
    """systemd's end of the protocol."""

    def __init__(self, address: Path) -> None:
        self.told: list[str] = []
        """All that was said to it, apart from signs of life."""
        self.signs = 0
        self.environ = {
            "NOTIFY_SOCKET": str(address),
            "WATCHDOG_USEC": f"{WATCHDOG * 1e6:.0f}",
        }
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(address))

    def read(self) -> None:
        while True:
            try:
                told = self._socket.recv(4096).decode()
            except BlockingIOError:
                return
            if told == "WATCHDOG=1":
                self.signs += 1
            else:
                self.told.append(told)

    def has(self, told: str) -> bool:
        self.read()
        return told in self.told

    def has_sign(self) -> bool:
        """Whether there was one since it was asked last."""
        self.read()
        signs, self.signs = self.signs, 0
        return signs > 0

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Of both loopback addresses, on one port."""
    first = socket.create_server(("127.0.0.1", 0))
    second = socket.create_server(("::1", first.getsockname()[1]), family=socket.AF_INET6)
    yield first, second
    first.close()
    second.close()


def environment(pid: int) -> set[str]:
    """The names of a process's variables when it was started."""
    words = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return {word.partition("=")[0] for word in words if word}


def open_sockets(pid: int) -> set[str]:
    found = (os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir())
    return {name for name in found if name.startswith("socket:")}


@ensureDeferred
async def test_a_life_under_systemd(
    launch: Launcher, manager: Manager, sockets: tuple[socket.socket, socket.socket]
) -> None:
    """It listens where it was told to at once, says so, and how far Tor is; signs of life come
    while it runs, and only then; it can be reloaded; and it leaves the sockets to systemd."""
    both = ("--http=systemd:domain=INET:index=0", "--http=systemd:domain=INET6:index=1")
    daemon = launch(*both, sockets=sockets, environ=manager.environ)
    daemon.port = sockets[0].getsockname()[1]
    await until(lambda: manager.has("STATUS=Tor is ready."))
    assert manager.told[:2] == ["STATUS=Tor is starting.", "READY=1"]
    assert any(" % ready: " in told for told in manager.told)
    assert (await daemon.ask("/health")).status == 200

    assert f"http://127.0.0.1:{daemon.port} and http://[::1]:{daemon.port}." in daemon.text

    tor = daemon.tor_pid
    assert tor is not None and "-f" in arguments(tor)
    assert environment(tor) == {"HOME", "PATH", "LC_ALL"}
    passed = {f"socket:[{os.fstat(one.fileno()).st_ino}]" for one in sockets}
    assert passed <= open_sockets(daemon.pid)
    assert not passed & open_sockets(tor)

    await until(manager.has_sign)
    await until(manager.has_sign)
    daemon.kill(signal.SIGSTOP)
    await until(lambda: state_of(daemon.pid) == "T")
    manager.has_sign()
    await deferLater(installed(), 3 * WATCHDOG)  # nothing is to come: there is nothing to await
    assert not manager.has_sign()
    daemon.kill(signal.SIGCONT)
    await until(manager.has_sign)

    manager.told.clear()
    daemon.kill(signal.SIGHUP)
    await until(lambda: manager.has("READY=1"))
    assert manager.told[0].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert manager.told[1:] == ["READY=1"]
    assert "Reloaded; nothing has changed." in daemon.text

    manager.told.clear()
    await daemon.stop()
    manager.read()
    assert manager.told[0].startswith("STOPPING=1\nEXTEND_TIMEOUT_USEC=")
    with socket.create_connection(sockets[0].getsockname(), timeout=10):
        pass  # the next daemon's


@ensureDeferred
async def test_an_exposed_socket_needs_a_token(launch: Launcher) -> None:
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        daemon = launch("--http=systemd:domain=INET:index=0", sockets=[everywhere])
        assert await daemon.when_ended() == 1
    assert daemon.text.startswith("tortxd: --http listens on more than loopback, at 0.0.0.0:")


@ensureDeferred
async def test_a_socket_that_was_not_passed(launch: Launcher) -> None:
    daemon = launch("--http=systemd:domain=INET:index=0")
    assert await daemon.when_ended() == 1
    reason = "systemd has passed no such socket"
    assert daemon.lines == [
        f"tortxd: --http: systemd:domain=INET:index=0 cannot be used: {reason}."
    ]

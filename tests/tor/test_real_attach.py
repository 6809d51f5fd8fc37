"""Attaching to real tor processes, none of which can reach any network."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher

from tests.tor.daemons import Started, reactor, when_control, when_status
from tests.tor.lone_tor import alive, bare_tor, free_port, hashed
from tortxd.addresses import SocksAddress
from tortxd.errors import SetupError, TorNotReady
from tortxd.tor.replies import CommandRefused
from tortxd.tor.session import Watch
from tortxd.tor.status import BackingOff, Bootstrapping, Failed, Status
from tortxd.tor.supervisor import AttachSettings, TorSupervisor

PASSWORD = 'canary "pass\\word" ß'


@pytest_twisted.async_yield_fixture
async def start() -> AsyncIterator[Started]:
    started = Started()
    yield started
    await started.stop()


def unix_control(folder: Path) -> tuple[str, str]:
    return f'ControlPort unix:"{folder}/control"', f"unix:{folder}/control"


@ensureDeferred
async def test_cookie_over_a_unix_socket(start: Started, tmp_path: Path) -> None:
    line, control = unix_control(tmp_path)
    port = free_port()
    with bare_tor(tmp_path, line, "CookieAuthentication 1", f"SocksPort {port}") as pid:
        daemon = start(AttachSettings(control))
        assert await daemon.when_usable() == SocksAddress(port=port)
        assert isinstance(await when_status(daemon, Bootstrapping), Bootstrapping)
        await daemon.new_identity()
        assert daemon.network == "private"
        with pytest.raises(CommandRefused) as refused:
            await daemon.control.tell("CLOSECIRCUIT 999")
        assert refused.value.reply_code == 552
        await daemon.stop()
        assert alive(pid)


@ensureDeferred
async def test_password_over_tcp_and_nothing_of_it_in_logs(start: Started, tmp_path: Path) -> None:
    port = free_port()
    observer = EventLoggingObserver()
    globalLogPublisher.addObserver(observer)
    try:
        with bare_tor(
            tmp_path,
            f"ControlPort {port}",
            f"HashedControlPassword {hashed(PASSWORD)}",
            "SocksPort auto",
        ):
            daemon = start(AttachSettings(f"tcp:127.0.0.1:{port}", password=PASSWORD))
            assert (await daemon.when_usable()).host == "127.0.0.1"
            await when_control(daemon)
    finally:
        globalLogPublisher.removeObserver(observer)
    assert "canary" not in repr(list(observer))


@ensureDeferred
async def test_a_wrong_password_is_hopeless(start: Started, tmp_path: Path) -> None:
    line, control = unix_control(tmp_path)
    with bare_tor(tmp_path, line, f"HashedControlPassword {hashed(PASSWORD)}", "SocksPort auto"):
        daemon = start(AttachSettings(control, password="wrong"))
        assert "`control_password_file`" in str(await daemon.when_failed())
        other = start(AttachSettings(control))
        assert "`control_password_file`" in str(await other.when_failed())


@ensureDeferred
async def test_a_socks_port_that_mixes_users_is_refused(start: Started, tmp_path: Path) -> None:
    line, control = unix_control(tmp_path)
    port = free_port()
    with bare_tor(tmp_path, line, "CookieAuthentication 1", f"SocksPort {port} NoIsolateSOCKSAuth"):
        daemon = start(AttachSettings(control))
        assert "NoIsolateSOCKSAuth" in str(await daemon.when_failed())
        assert isinstance(daemon.status, Failed)
        wanted = start(AttachSettings(control, socks=SocksAddress(port=port)))
        assert "NoIsolateSOCKSAuth" in str(await wanted.when_failed())


@ensureDeferred
async def test_the_isolating_one_of_two_ports_is_used(start: Started, tmp_path: Path) -> None:
    line, control = unix_control(tmp_path)
    mixing, isolating = free_port(), free_port()
    with bare_tor(
        tmp_path,
        line,
        "CookieAuthentication 1",
        f"SocksPort {mixing} NoIsolateSOCKSAuth",
        f"SocksPort {isolating}",
    ):
        daemon = start(AttachSettings(control))
        assert await daemon.when_usable() == SocksAddress(port=isolating)


@ensureDeferred
async def test_one_that_lets_us_in_no_more_is_tried_again(start: Started, tmp_path: Path) -> None:
    """Who runs that Tor may be about to mend it, and the daemon has served before."""
    port = free_port()
    with bare_tor(tmp_path, f"ControlPort {port}", "CookieAuthentication 1", "SocksPort auto"):
        daemon = start(AttachSettings(f"tcp:127.0.0.1:{port}"))
        await when_control(daemon)
        daemon._lives.established()  # nothing here can build a circuit
    wanted: Deferred[None] = Deferred()

    def look(status: Status) -> None:
        assert not isinstance(status, Failed)
        if isinstance(status, BackingOff) and "wants a password" in status.reason:
            forget()
            wanted.callback(None)

    forget = daemon.on_status(look)
    password = f"HashedControlPassword {hashed(PASSWORD)}"
    with bare_tor(tmp_path, f"ControlPort {port}", password, "SocksPort auto"):
        await wanted.addTimeout(60, reactor)


@ensureDeferred
async def test_a_tor_without_socks_is_hopeless(start: Started, tmp_path: Path) -> None:
    line, control = unix_control(tmp_path)
    with bare_tor(tmp_path, line, "CookieAuthentication 1", "SocksPort 0"):
        daemon = start(AttachSettings(control))
        assert "no SOCKS port" in str(await daemon.when_failed())


@ensureDeferred
async def test_a_tor_that_comes_later_and_goes_and_comes(start: Started, tmp_path: Path) -> None:
    line, control = unix_control(tmp_path)
    lines = (line, "CookieAuthentication 1", f"SocksPort {free_port()}")
    daemon = start(AttachSettings(control))
    assert isinstance(await when_status(daemon, BackingOff), BackingOff)
    with bare_tor(tmp_path, *lines):
        await daemon.when_usable()
        await when_control(daemon)
    await when_status(daemon, BackingOff)
    assert daemon.socks_address is None
    with pytest.raises(TorNotReady):
        _ = daemon.control
    with bare_tor(tmp_path, *lines):
        await daemon.when_usable()


@ensureDeferred
async def test_a_hang_is_down_and_mends(start: Started, tmp_path: Path) -> None:
    line, control = unix_control(tmp_path)
    with bare_tor(tmp_path, line, "CookieAuthentication 1", "SocksPort auto") as pid:
        daemon = start(AttachSettings(control), watch=Watch(interval=0.1, patience=2))
        await when_control(daemon)
        daemon._lives.established()  # nothing here can build a circuit
        os.kill(pid, signal.SIGSTOP)
        down = await when_status(daemon, BackingOff)
        assert isinstance(down, BackingOff)
        assert down.reason == "Tor does not answer on its control port."
        assert daemon.socks_address is None  # its port takes connections, and says nothing
        assert alive(pid)
        os.kill(pid, signal.SIGCONT)
        await when_status(daemon, Bootstrapping)
        await when_control(daemon)


@pytest.mark.parametrize("control", ["", "nonsense:x", "tcp:", "tcp:127.0.0.1:port"])
def test_a_malformed_endpoint(control: str) -> None:
    with pytest.raises(SetupError, match=r"^`control` does not understand .*tcp:127\.0\.0\.1:9051"):
        TorSupervisor(reactor, AttachSettings(control)).start()

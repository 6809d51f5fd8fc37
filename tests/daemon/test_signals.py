"""What signals have a running daemon do."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import pwd
import signal
import site
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.daemon.arrivals import arrivals, mark
from tests.daemon.process import ROOT, TWISTD, Daemon, Launcher, run, soon, until
from tests.tor.lone_tor import NOWHERE, alive
from tortxd.testing import Origin, PrivateNetwork

AS_LAN = "GET /health HTTP/1.1\r\nHost: tor.lan\r\n\r\n"


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torrc of a Tor that starts fast, and reaches nothing."""
    file = tmp_path_factory.mktemp("nowhere") / "torrc"
    file.write_text("\n".join(NOWHERE) + "\n")
    return file


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The daemon's file."""
    return tmp_path_factory.mktemp("settings") / "tortxd.toml"


@pytest.fixture(scope="module")
def running(
    tor_network: PrivateNetwork,
    tor_origin: Origin,
    tmp_path_factory: pytest.TempPathFactory,
    nowhere: Path,
    settings: Path,
) -> Iterator[Daemon]:
    """A daemon that listens, with a file of its own."""
    launch = Launcher(tor_network, tor_origin, tmp_path_factory.mktemp("signals"))
    settings.write_text('log_level = "info"\n')
    daemon = launch(f"--config={settings}", torrc=nowhere)
    run(lambda: soon(daemon.when_listening()))
    yield daemon
    run(launch.stop)


@ensureDeferred
async def test_sighup_has_the_file_read_again(running: Daemon, settings: Path) -> None:
    assert (await running.say(AS_LAN)).status == 403
    settings.write_text('allow_hosts = ["tor.lan"]\nlog_level = "debug"\ncircuit_rate = 1\n')
    said = running.when_said("count from the next start on: circuit_rate in")
    running.kill(signal.SIGHUP)
    await said
    assert "Reloaded: allow_hosts in" in running.text
    assert (await running.say(AS_LAN)).status == 503

    settings.write_text('log_level = "loud"\n')
    said = running.when_said("Nothing was reloaded, and all is as it was: log_level in")
    running.kill(signal.SIGHUP)
    await said
    assert (await running.say(AS_LAN)).status == 503

    settings.write_text('log_level = "info"\n')
    said = running.when_said("Reloaded: --allow-host, log_level in")
    running.kill(signal.SIGHUP)
    await said
    assert (await running.say(AS_LAN)).status == 403


@ensureDeferred
async def test_an_operator_token_that_was_removed_is_made_anew(running: Daemon) -> None:
    before = running.token
    (running.data_dir / "operator-token").unlink()
    said = running.when_said("Reloaded: operator-token.")
    running.kill(signal.SIGHUP)
    await said
    assert running.token != before
    assert (await running.ask("/circuits", f"Tortxd-Token: {before}")).status == 401
    assert (await running.ask("/circuits", f"Tortxd-Token: {running.token}")).status == 200


@ensureDeferred
async def test_sigusr1_logs_a_line_of_state(running: Daemon) -> None:
    said = running.when_said("descriptors: ")
    running.kill(signal.SIGUSR1)
    await said
    (line,) = [line for line in running.lines if "descriptors: " in line]
    assert "Requests under way: 0" in line
    assert "Tor is " in line


@ensureDeferred
async def test_a_terminal_that_is_closed_ends_the_daemon(launch: Launcher, nowhere: Path) -> None:
    daemon = launch(torrc=nowhere, terminal=True)
    await daemon.when_listening()
    await until(lambda: daemon.tor_pid is not None)
    tor = daemon.tor_pid
    assert tor is not None
    daemon.transport.loseConnection()  # the terminal's other end
    assert await daemon.when_ended(5.0) in (0, -signal.SIGHUP, -signal.SIGTERM)
    await until(lambda: not alive(tor))


@ensureDeferred
async def test_a_second_signal_ends_a_long_drain(launch: Launcher, tor_origin: Origin) -> None:
    daemon = launch("--drain=300")
    await daemon.when_ready()
    marked = mark("drained")
    busy = await daemon.get_unread(f"{tor_origin.http}/hang?{marked}")
    await arrivals(tor_origin, marked)
    stopping = daemon.when_said("tortxd is stopping.")
    daemon.kill(signal.SIGTERM)
    await stopping
    assert (await daemon.when_health(503)).json["status"] == "stopping"
    assert (await daemon.fetch(f"{tor_origin.http}/echo")).status == 200
    daemon.kill(signal.SIGTERM)
    assert (await soon(busy.reply())).json["code"] == "tor_down"
    assert await daemon.when_ended(5.0) in (0, -signal.SIGTERM)


@ensureDeferred
async def test_root_becomes_another_user(launch: Launcher, nowhere: Path) -> None:
    """And who is not root cannot."""
    user = pwd.getpwnam("nobody")
    if os.geteuid() != 0:
        refused = launch("--user=nobody", torrc=nowhere)
        assert await refused.when_ended() == 1
        assert "--user: only root can become nobody." in refused.lines[-1]
        return
    for folder in (nowhere.parent, launch.folder, *launch.folder.parents[:3]):
        folder.chmod(0o755)
    daemon = launch.bare(
        environ={"PYTHONPATH": os.pathsep.join([str(ROOT), *site.getsitepackages()])}
    )
    daemon.command = [
        *(python_of_everyone(), TWISTD, "-n", "--pidfile=", "tortxd", "--user=nobody"),
        *(f"--http={daemon.port}", f"--data-dir={daemon.data_dir}", f"--socks={daemon.socks}"),
        f"--torrc={nowhere}",
    ]
    daemon.start()
    await daemon.when_listening()
    await until(lambda: daemon.tor_pid is not None)
    for pid in (daemon.pid, daemon.tor_pid):
        assert os.stat(f"/proc/{pid}").st_uid == user.pw_uid
    assert os.stat(daemon.data_dir).st_uid == user.pw_uid
    assert "runs as root" not in daemon.text


def python_of_everyone() -> str:
    """A Python that other users may run, too: the one here may lie in root's own folder."""
    path = Path(sys.executable).resolve()
    shared = all(os.stat(folder).st_mode & 0o001 for folder in path.parents)
    return sys.executable if shared else "/usr/bin/python3"

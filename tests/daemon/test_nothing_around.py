"""Nothing goes round Tor, and logs know nothing: what the kernel and the log say of a busy life."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from attrs import define, frozen
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from tests.daemon.life import CANARY, Life
from tests.daemon.process import Daemon, Launcher, installed, run, soon
from tests.daemon.traces import Trace, inet, read_trace, strace
from tests.websocket_server import WebSocketServer, trusted
from tortxd.testing import Client, Origin, PrivateNetwork
from tortxd.testing.processes import TorProcess, find_program, search_path


def test_a_trace_is_read_for_the_daemon_alone(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text(
        """\
10 execve("/bin/python3", ["python3"], 0x7ffd /* 5 vars */) = 0
10 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88 <unfinished ...>
10 <... clone3 resumed> => {parent_tid=[11]}, 88) = 11
11 connect(5, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (None)
10 vfork() = 12
12 connect(6, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("8.8.8.8")}, 16) = 0
12 execve("/usr/bin/tor", ["tor", "-f"], 0x7ffd /* 3 vars */) = 0
12 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD) = 13
13 connect(7, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
10 sendto(5, "x", 1, 0, NULL, 0) = 1
10 sendto(8, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(53)}, 16) = 1
10 sendmsg(8, {msg_name={sa_family=AF_INET}, msg_namelen=16, msg_iovlen=1}, 0) = 1
10 sendmsg(9, {msg_name=NULL, msg_namelen=0, msg_iovlen=1}, 0) = 1
13 sendto(7, "x", 1, 0, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 1
13 sendto(7, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(9)}, 16) = 1
11 openat(AT_FDCWD, "/etc/resolv.conf", O_RDONLY|O_CLOEXEC) = 12
10 openat(AT_FDCWD, "/lib/x86_64-linux-gnu/libnss_dns.so.2", O_RDONLY|O_CLOEXEC) = 12
10 openat(AT_FDCWD, "/etc/hostname", O_RDONLY|O_CLOEXEC) = 12
13 openat(AT_FDCWD, "/etc/hosts", O_RDONLY|O_CLOEXEC) = 12
"""
    )
    trace = read_trace(file)
    assert [to.rpartition("(")[2] for to in trace.connects] == [
        'sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"',
        '"8.8.8.8")',
    ]
    assert [call.partition("(")[0] for call in trace.addressed] == ["sendto", "sendmsg"]
    assert trace.programs == {"/usr/bin/tor"}
    assert [call.split('"')[1].rpartition("/")[2] for call in trace.looked_up] == [
        "resolv.conf",
        "libnss_dns.so.2",
    ]
    assert [inet("127.0.0.1", 9) in to or "sendto" in to for to in trace.others] == [True, True]


@pytest.fixture(scope="module")
def websockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebSocketServer]:
    with WebSocketServer(tmp_path_factory.mktemp("websockets")) as server:
        yield server


@pytest.fixture(scope="module")
def trust(
    tor_origin: Origin, websockets: WebSocketServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment of a daemon that trusts both servers."""
    file = tmp_path_factory.mktemp("trust") / "ca.pem"
    trusted(file, tor_origin.ca_file, websockets.ca_file)
    return {"SSL_CERT_FILE": str(file)}


def check_trace(trace: Trace, socks: str, control: str) -> None:
    """Whether the daemon has connected to these alone, and to both (regular expressions)."""
    either = re.compile(f"{socks}|{control}")
    assert not [to for to in trace.connects if not either.fullmatch(to)]
    assert not trace.addressed
    assert not trace.looked_up
    assert sum(bool(re.fullmatch(socks, to)) for to in trace.connects) > 100
    assert any(re.fullmatch(control, to) for to in trace.connects)


@frozen
class Lived:
    """A daemon that has had a busy life, and what is left of it."""

    daemon: Daemon
    launch: Launcher
    trace: Trace
    temporary: Path
    """Where it would have put temporary files."""


@pytest.fixture(scope="module")
def lived(
    tor_network: PrivateNetwork,
    tor_origin: Origin,
    websockets: WebSocketServer,
    trust: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Lived:
    """The life of a daemon that launches Tor, and launches it again, from its start to its stop."""
    folder = tmp_path_factory.mktemp("lived")
    temporary, file = folder / "tmp", folder / "trace"
    temporary.mkdir()
    launch = Launcher(tor_network, tor_origin, folder)
    environ = {**trust, "TMPDIR": str(temporary)}

    async def live() -> Daemon:
        log = ("--log-level=debug", "--log-format=json", "--log-requests")
        daemon = launch(*log, wrapper=strace(file), environ=environ)
        life = Life(daemon, tor_origin, websockets, ("127.0.0.1", daemon.socks))

        async def kill_tor() -> None:
            tor = daemon.tor_pid
            assert tor is not None
            noticed = daemon.when_said("Tor is down")
            os.kill(tor, signal.SIGKILL)
            await noticed

        await daemon.when_listening()
        await life.until_tor_dies(kill_tor)
        await daemon.when_health(200)
        await life.everything()
        return daemon

    try:
        daemon = run(live)
    finally:
        run(launch.stop)
    return Lived(daemon, launch, read_trace(file), temporary)


def test_rule_01_nothing_goes_round_tor(lived: Lived) -> None:
    """By every way in, from the start through Tor's death to the stop, the daemon connects to its
    Tor's control socket and SOCKS port and to nothing else, and looks up no name."""
    directory = re.escape(str(lived.daemon.data_dir))
    control = rf'sa_family=AF_UNIX, sun_path="{directory}/[^"]*control[^"]*"'
    check_trace(lived.trace, re.escape(inet("127.0.0.1", lived.daemon.socks)), control)
    assert {Path(program).name for program in lived.trace.programs} == {"setsid", "tor"}


def test_rule_21_logs_know_nothing(lived: Lived) -> None:
    """Nor do the files that it leaves, its Tor's included; and there are no temporary ones."""
    lived.launch.check_log(lived.daemon)
    assert not list(lived.temporary.iterdir())
    for left in lived.daemon.data_dir.rglob("*"):
        if left.is_file():
            assert CANARY.encode() not in left.read_bytes(), left


def test_rule_21_requests_in_the_log_tell_neither_where_nor_for_whom(lived: Lived) -> None:
    entries = [json.loads(line) for line in lived.daemon.lines]
    requests = [entry for entry in entries if entry["name"] == "requests"]
    assert {one["way"] for one in requests} >= {"proxy", "absolute-form", "connect", "probe"}
    assert {one["outcome"] for one in requests} >= {"ok", "tor_down", "target_forbidden"}
    numbers = {"status", "connect", "head", "total", "sent", "received", "attempts"}
    for one in requests:
        assert one.keys() - numbers == {"time", "level", "name", "message", "way", "outcome"}
        assert all(isinstance(one[key], int | float) for key in numbers & one.keys())
        assert re.fullmatch(r"[a-z-]+ [a-z_]+( [a-z]+=[0-9.]+)+", one["message"])


@define
class Attachable:
    """A Tor of someone else's, who starts it again when it has died."""

    client: Client
    torrc: Path
    again: TorProcess | None = None

    async def die(self) -> None:
        await self.client.stop()

    async def come_back(self) -> None:
        tor = find_program("tor", search_path())
        self.again = TorProcess(installed(), tor, "again", self.torrc, lambda *_: None)
        await soon(self.again.when_logged("Bootstrapped 100%"))

    async def stop(self) -> None:
        await self.client.stop()
        if self.again is not None:
            await self.again.kill()


@pytest_twisted.async_yield_fixture
async def attachable(tor_network: PrivateNetwork) -> AsyncIterator[Attachable]:
    client = await soon(Deferred.fromCoroutine(tor_network.start_client()))
    attachable = Attachable(client, tor_network.directory / f"{client.process.nickname}.torrc")
    yield attachable
    await attachable.stop()


@ensureDeferred
async def test_rule_01_nothing_goes_round_a_tor_of_someone_elses(
    launch: Launcher,
    tor_origin: Origin,
    websockets: WebSocketServer,
    trust: dict[str, str],
    attachable: Attachable,
    tmp_path: Path,
) -> None:
    """The same of a daemon that attaches, whose Tor goes and comes back."""
    file, client = tmp_path / "trace", attachable.client
    control = "--control=tcp:{}:{}".format(*client.control)
    log = ("--log-level=debug", "--log-requests")
    daemon = launch(control, *log, launch=False, wrapper=strace(file), environ=trust)
    life = Life(daemon, tor_origin, websockets, client.socks)

    async def kill_tor() -> None:
        await attachable.die()
        await daemon.when_health(503)

    await daemon.when_listening()
    await life.until_tor_dies(kill_tor)
    await attachable.come_back()
    await daemon.when_health(200)
    await life.everything()
    await daemon.stop()
    trace = read_trace(file)
    check_trace(trace, re.escape(inet(*client.socks)), re.escape(inet(*client.control)))
    assert not trace.programs

"""Nothing goes round Tor, and logs know nothing: what the kernel and the log say of a busy life."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import field, frozen
from pytest_twisted import ensureDeferred

from tests.daemon.process import Daemon, Launcher, soon
from tests.tor.lone_tor import free_port
from tortxd.testing import Origin

CALLS = "connect,sendto,sendmsg,sendmmsg,execve,execveat,fork,vfork,clone,clone3"
CANARY = "canary"


@frozen
class Trace:
    """What strace saw, without what tor itself did."""

    connects: list[str] = field(factory=list)
    """The addresses that were connected to, as strace writes them."""
    addressed: list[str] = field(factory=list)
    """The calls that sent something to an address rather than over a connection."""
    programs: set[str] = field(factory=set)
    """What the daemon has started."""


def read_trace(file: Path) -> Trace:
    """Keep apart what the daemon and its threads did, and what the programs that it started did.

    A process belongs to the daemon from the call that made it until it executes another program.
    """
    trace, parents, others = Trace(), dict[str, str](), set[str]()
    first = ""
    for line in file.read_text().splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        first = first or pid
        made = re.match(r"(?:<\.\.\. )?(?:v?fork|clone3?)\b.* = (\d+)$", call)
        if made is not None:
            parents[made[1]] = pid
        started = re.match(r'execve(?:at)?\((?:AT_FDCWD, )?"([^"]+)"', call)
        if started is not None and pid != first:
            others.add(pid)
            trace.programs.add(started[1])
        if others & {pid, *_ancestors(pid, parents)}:
            continue
        if call.startswith("connect("):
            trace.connects.append(call.partition("{")[2].partition("}")[0])
        elif call.startswith("send") and re.search(r"sa_family=|msg_name=\{", call):
            trace.addressed.append(call)
    return trace


def _ancestors(pid: str, parents: dict[str, str]) -> Iterator[str]:
    while pid in parents:
        pid = parents[pid]
        yield pid


async def live(daemon: Daemon, origin: Origin) -> None:
    """Do everything that a daemon does, good and bad, with canaries wherever one can be put."""
    key = f"Tor-Stream-Isolation: {CANARY}-key"
    early = await daemon.get_unread(f"{origin.http}/?{CANARY}")
    await soon(early.reply())
    await daemon.when_ready()
    await requests(daemon, origin, key)
    tor = daemon.tor_pid
    assert tor is not None
    noticed = daemon.when_said("BackingOff")
    os.kill(tor, signal.SIGKILL)
    await noticed
    while_down = await daemon.fetch(f"{origin.http}/{CANARY}", key, "Tortxd-Timeout: 0.2")
    assert while_down.status == 503
    await daemon.when_health(200)
    await requests(daemon, origin, key)


async def requests(daemon: Daemon, origin: Origin, key: str) -> None:
    host = origin.names[0]
    wanted = {
        f"{origin.http}/{CANARY}": 404,
        f"{origin.https}/{CANARY}": 404,
        f"{origin.http}/redirect?to=http://{CANARY}.example/": 302,
        f"http://{host}:{free_port()}/{CANARY}": 502,
        f"https://{host}:{free_port()}/{CANARY}": 502,
        f"http://{CANARY}.nowhere.example/": 502,
        f"https://{CANARY}.nowhere.example/": 502,
        f"http://{CANARY}.local/": 403,
        "http://127.0.0.1/": 403,
        f"http://user:{CANARY}@{host}/": 403,
        f"ftp://{CANARY}.example/": 403,
        f"{origin.http}/raw?{CANARY}%0D%0A": 502,
        f"{origin.https}/status/500?{CANARY}": 500,
    }
    for url, status in wanted.items():
        for method, body in (("GET", None), ("POST", CANARY.encode())):
            token = f"Tortxd-Token: {CANARY}-token"
            reply = await daemon.fetch(url, key, token, method=method, body=body)
            assert reply.status == status, (url, reply)
            if "Tortxd-Error" in reply:
                assert CANARY.encode() not in reply.body
                assert host.encode() not in reply.body
    for path in ("/ip", "/verify-tor", "/health", "/circuits", "/streams", f"/{CANARY}"):
        assert (await daemon.ask(path, f"Tortxd-Token: {daemon.token}", key)).status in (200, 404)
    rebound = await daemon.ask(f"/health?{CANARY}", host=f"{CANARY}.example")
    assert rebound.status == 403
    strange = await daemon.connect()
    strange.send(f"GET /proxy?url={origin.http}/{CANARY} HTTP/1.1\r\n{CANARY}\r\n\r\n".encode())
    assert (await soon(strange.reply())).status == 400
    leaving = await daemon.get_unread(f"{origin.http}/hang?{CANARY}", key)
    await soon(origin.when_requested(len(origin.requests) + 1))
    leaving.transport.abortConnection()


@pytest.fixture(scope="module")
def strace() -> str:
    found = shutil.which("strace")
    assert found is not None, "This test needs the program strace: apt-get install strace"
    return found


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
"""
    )
    trace = read_trace(file)
    assert [to.rpartition("(")[2] for to in trace.connects] == [
        'sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"',
        '"8.8.8.8")',
    ]
    assert [call.partition("(")[0] for call in trace.addressed] == ["sendto", "sendmsg"]
    assert trace.programs == {"/usr/bin/tor"}


@ensureDeferred
async def test_nothing_goes_round_tor(
    launch: Launcher, tor_origin: Origin, tmp_path: Path, strace: str
) -> None:
    """Rule 1, from the start through Tor's death to the stop; and rule 21 all the while."""
    file = tmp_path / "trace"
    wrapper = (strace, "-f", "--seccomp-bpf", "-qq", "-e", f"trace={CALLS}", "-o", str(file))
    daemon = launch(wrapper=wrapper)
    await daemon.when_listening()
    await live(daemon, tor_origin)
    await daemon.stop()
    trace = read_trace(file)
    socks = f'sa_family=AF_INET, sin_port=htons({daemon.socks}), sin_addr=inet_addr("127.0.0.1")'
    control = re.compile(
        rf'sa_family=AF_UNIX, sun_path="{re.escape(str(daemon.data_dir))}/[^"]*control[^"]*"'
    )
    elsewhere = [to for to in trace.connects if to != socks and not control.fullmatch(to)]
    assert not elsewhere
    assert not trace.addressed
    assert len(trace.connects) > 20
    assert any(map(control.fullmatch, trace.connects))
    assert {Path(program).name for program in trace.programs} == {"tor"}


@ensureDeferred
async def test_logs_know_nothing(launch: Launcher, tor_origin: Origin, tmp_path: Path) -> None:
    """Rule 21: nor do the files that it leaves, its Tor's included."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    daemon = launch(environ={"TMPDIR": str(temporary)})
    await daemon.when_listening()
    await live(daemon, tor_origin)
    await daemon.stop()
    launch.check_log(daemon)
    assert not list(temporary.iterdir())
    for left in daemon.data_dir.rglob("*"):
        if left.is_file():
            assert CANARY.encode() not in left.read_bytes(), left

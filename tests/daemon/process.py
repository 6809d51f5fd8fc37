"""``twistd tortxd`` as a process, for tests whose reactor has everything else."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest_twisted
from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.error import ConnectError
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.tor.lone_tor import alive, free_port
from tests.web_client import Reply, Wire, ask, connect
from tortxd.testing import Origin, PrivateNetwork

ROOT = Path(__file__).resolve().parents[2]
TWISTD = str(Path(sys.executable).with_name("twistd"))
PATIENCE = 120.0
"""Seconds after which whatever is awaited here has failed."""
STOPPED_WITHIN = 5.0
GONE_WITHIN = 2.0
"""Seconds from a client's leaving to the end of its Tor stream (rule 13)."""
POLL = 0.05
ACTIVATED = ("sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh")
"""Becomes a program, which is told that sockets were passed to it (sd_listen_fds(3))."""

_T = TypeVar("_T")


def installed() -> Any:
    """The reactor that pytest-twisted has installed."""
    from twisted.internet import reactor

    return reactor


def run(work: Callable[[], Coroutine[Deferred[Any], Any, _T]]) -> _T:
    """Do something in the reactor, from a fixture that cannot be async."""
    done = deferLater(installed(), 0, lambda: Deferred.fromCoroutine(work()))
    result: _T = pytest_twisted.blockon(done)
    return result


async def soon(waiting: Deferred[_T], seconds: float = PATIENCE) -> _T:
    """What comes of ``waiting``, which must not take longer than that."""
    return await waiting.addTimeout(seconds, installed())


async def until(true: Callable[[], bool], seconds: float = PATIENCE, poll: float = POLL) -> None:
    """Wait for what the kernel alone knows, and tells nobody."""
    deadline = installed().seconds() + seconds
    while not true():
        assert installed().seconds() < deadline, f"not so after {seconds:g} s"
        await deferLater(installed(), poll)


def children(pid: int) -> list[int]:
    """The processes that this one has started, whichever thread of it did."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def arguments(pid: int) -> list[str]:
    """A process's command line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def memory(pid: int, what: str = "VmRSS") -> int:
    """Bytes of memory of a process: ``VmRSS`` now, ``VmHWM`` at most (proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) * 1024
    raise AssertionError(f"{what} is not known of {pid}")


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Nothing of what configures a daemon of the developer's own."""
    own = (
        *("TORTXD_", "GATEWAY_PORT", "TOR_SOCKS_PORT", "SSL_CERT_", "STATE_DIRECTORY"),
        *("JOURNAL_STREAM", "NO_COLOR", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_"),
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **extra}


@define(eq=False)
class Daemon(ProcessProtocol):
    """One daemon, or what was meant to become one."""

    command: Sequence[str]
    environ: Mapping[str, str]
    data_dir: Path
    port: int = 0
    """Of the gateway."""
    socks: int = 0
    output: bytearray = field(factory=bytearray)
    """All that it said, on standard output and standard error."""
    errors: bytearray = field(factory=bytearray)
    """What of that was on standard error; in a terminal, nothing is known to be."""
    status: int | None = None
    """Its exit status once it has ended; minus the signal's number if it died of one."""
    wrapped: bool = False
    """Whether the process that was started is another, whose only child is the daemon."""
    terminal: bool = False
    """Whether it runs in a terminal."""
    sockets: Sequence[socket.socket] = ()
    """What it is passed as systemd passes sockets."""
    transport: Any = field(init=False)
    _said: list[tuple[bytes, Deferred[None]]] = field(factory=list)
    _ended: list[Deferred[int]] = field(factory=list)

    def start(self) -> Daemon:
        installed().spawnProcess(
            self,
            self.command[0],
            self.command,
            env=_environment(self.environ),
            path=str(ROOT),
            usePTY=self.terminal,
            childFDs=None if self.terminal else {0: "w", 1: "r", 2: "r", **self._passed},
        )
        return self

    @property
    def _passed(self) -> dict[int, int]:
        return {number: one.fileno() for number, one in enumerate(self.sockets, 3)}

    # --- the process ------------------------------------------------------------------------------

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output += data
        if childFD == 2:
            self.errors += data
        for text, said in list(self._said):
            if text in self.output:
                self._said.remove((text, said))
                said.callback(None)

    def processEnded(self, reason: Failure) -> None:
        ended: Any = reason.value
        self.status = -ended.signal if ended.signal else ended.exitCode or 0
        waiting, self._ended = self._ended, []
        for one in waiting:
            one.callback(self.status)
        said, self._said = self._said, []
        for text, two in said:
            two.errback(AssertionError(f"It ended before it said {text!r}:\n{self.text}"))

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", "replace")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def pid(self) -> int:
        own: int = self.transport.pid
        return children(own)[0] if self.wrapped else own

    @property
    def tor_pid(self) -> int | None:
        """The tor that it runs, if there is one now; those that only say their version, or whether
        a configuration is right, are none."""
        for pid in children(self.pid):
            words = arguments(pid)
            if "-f" in words and "--verify-config" not in words:
                return pid
        return None

    def when_said(self, text: str) -> Deferred[None]:
        """Fire when it has said ``text``; fail when it ends first."""
        if text.encode() in self.output:
            return succeed(None)
        said: Deferred[None] = Deferred()
        self._said.append((text.encode(), said))
        return said.addTimeout(PATIENCE, installed())

    def when_ended(self, seconds: float = PATIENCE) -> Deferred[int]:
        """Fire with its exit status when it is gone."""
        if self.status is not None:
            return succeed(self.status)
        ended: Deferred[int] = Deferred()
        self._ended.append(ended)
        return ended.addTimeout(seconds, installed())

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    async def stop(self) -> int:
        """End it in order, and its tor with it, in the time that both have for it."""
        if self.status is None:
            tor, ended = self.tor_pid, self.when_ended(STOPPED_WITHIN)
            self.kill(signal.SIGTERM)
            await ended
            assert tor is None or not alive(tor)
        assert self.status is not None
        return self.status

    def put_down(self) -> Deferred[int]:
        """End what a failed test has left."""
        if self.status is None:
            self.kill()
        return self.when_ended()

    # --- the gateway ------------------------------------------------------------------------------

    def when_listening(self) -> Deferred[None]:
        """Fire when the gateway's port is open; Tor may be far from ready."""
        return self.when_said("The gateway listens on")

    async def when_ready(self) -> None:
        """Wait until /health says that requests are served."""
        await self.when_listening()
        await self.when_health(200)

    async def when_health(self, status: int, seconds: float = PATIENCE) -> Reply:
        """Wait until /health has this status, and return what it says then."""
        deadline = installed().seconds() + seconds
        while True:
            assert self.status is None, f"It ended with {self.status}:\n{self.text}"
            reply = await self.ask("/health")
            if reply.status == status:
                return reply
            assert installed().seconds() < deadline, f"{reply.body!r}\n{self.text}"
            await deferLater(installed(), POLL)

    async def ask(self, path: str, *headers: str, **options: Any) -> Reply:
        """Ask the gateway itself."""
        return await soon(
            Deferred.fromCoroutine(ask(installed(), self.port, path, *headers, **options))
        )

    async def fetch(self, url: str, *headers: str, **options: Any) -> Reply:
        """Ask for ``url`` through ``/proxy``."""
        return await self.ask("/proxy?url=" + quote(url, safe=""), *headers, **options)

    async def fetch_told(self, url: str, *headers: str, told: str = "Tortxd-Circuit") -> Reply:
        """The same, until the answer tells of its circuit: on a busy machine, it may be there
        before the control port has told of it, or of its relays.

        :param told: the header that it must have.
        """
        reply = await self.fetch(url, *headers)
        deadline = installed().seconds() + PATIENCE
        while told not in reply:
            assert installed().seconds() < deadline, reply
            reply = await self.fetch(url, *headers)
        return reply

    async def connect(self) -> Wire:
        """A connection to send raw bytes on."""
        return await connect(installed(), self.port)

    async def say(self, text: str, method: bytes = b"GET") -> Reply:
        """Send these bytes (``text`` in Latin-1) on a connection of their own; the first answer."""
        wire = await self.connect()
        wire.send(text.encode("latin-1"))
        try:
            return await soon(wire.reply(method))
        finally:
            wire.transport.abortConnection()

    async def get_unread(self, url: str, *headers: str) -> Wire:
        """Ask for ``url`` and leave the answer to the caller."""
        wire = await self.connect()
        lines = [f"GET /proxy?url={quote(url, safe='')} HTTP/1.1", "Host: localhost:3080", *headers]
        wire.send("\r\n".join((*lines, "", "")).encode())
        return wire

    @property
    def token(self) -> str:
        """The operator token."""
        return (self.data_dir / "operator-token").read_text().strip()

    async def told(self, path: str) -> Any:
        """What an operator's route says."""
        reply = await self.ask(path, f"Tortxd-Token: {self.token}")
        assert reply.status == 200, reply.body
        return reply.json

    async def reachable(self) -> bool:
        """Whether anything listens on the gateway's port."""
        try:
            wire = await self.connect()
        except ConnectError:
            return False
        wire.transport.abortConnection()
        return True


@define
class Launcher:
    """Starts daemons on the private network; :meth:`stop` stops them, and looks at their logs."""

    network: PrivateNetwork
    origin: Origin
    folder: Path
    secrets: list[str] = field(factory=lambda: ["canary"])
    """What no daemon may ever have said."""
    daemons: list[Daemon] = field(factory=list)

    def bare(self, *words: str, environ: Mapping[str, str] | None = None) -> Daemon:
        """``twistd`` with these words after its own options, and a free port and folder at hand."""
        folder = self.folder / f"d{len(self.daemons)}"
        folder.mkdir()
        command = [sys.executable, TWISTD, *words]
        daemon = Daemon(command, environ or {}, folder / "data", free_port(), free_port())
        self.daemons.append(daemon)
        return daemon

    def __call__(
        self,
        *options: str,
        data_dir: Path | None = None,
        torrc: Path | None = None,
        launch: bool = True,
        wrapper: Sequence[str] = (),
        terminal: bool = False,
        sockets: Sequence[socket.socket] = (),
        environ: Mapping[str, str] | None = None,
    ) -> Daemon:
        """A daemon with ports and, unless it is given one, a data directory of its own.

        ``launch`` is False for one that attaches. ``sockets`` are passed as systemd does it, and
        have to be named in ``options``. These come last, and so override.
        """
        daemon = self.bare()
        daemon.data_dir = data_dir or daemon.data_dir
        daemon.environ = {"SSL_CERT_FILE": str(self.origin.ca_file), **(environ or {})}
        own = [f"--data-dir={daemon.data_dir}"]
        own += [f"--check-url={self.origin.https}/api/ip", f"--ip-url={self.origin.https}/ip"]
        if launch:
            lines = torrc or self.network.write_client_torrc()
            own += [f"--socks={daemon.socks}", f"--torrc={lines}"]
        if sockets:
            daemon.sockets = sockets
            names = ":".join("tortxd.socket" for _ in sockets)
            passed = {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
            daemon.environ = {**daemon.environ, **passed}
            wrapper = ACTIVATED
        else:
            own.append(f"--http=tcp:{daemon.port}:interface=127.0.0.1")
        daemon.wrapped = bool(wrapper) and not sockets
        daemon.terminal = terminal
        daemon.command = [
            *(*wrapper, *daemon.command, "-n", "--pidfile=", "tortxd"),
            *(*own, *options),
        ]
        return daemon.start()

    async def stop(self) -> None:
        """Stop all, and see that none has said what it must not (rule 21), or had a fault."""
        try:
            for daemon in self.daemons:
                await daemon.stop()
        finally:
            await gatherResults([daemon.put_down() for daemon in self.daemons])
        for daemon in self.daemons:
            self.check_log(daemon)

    def check_log(self, daemon: Daemon) -> None:
        """Rules 21 and 22: what nobody may read in a log, and no traceback either."""
        told = daemon.text
        secrets = [*self.secrets, self.origin.names[0]]
        if (daemon.data_dir / "operator-token").exists():
            secrets.append(daemon.token)
        found = [secret for secret in secrets if secret in told]
        assert not found, f"{found} in its log:\n{told}"
        assert "Traceback" not in told, told

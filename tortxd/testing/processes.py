"""The processes of a private network: tor itself, the programs that make keys, the sweeper."""

from __future__ import annotations

import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure

from tortxd.testing import sweeper
from tortxd.testing.model import INetworkReactor, NetworkError

_KEPT_LINES = 200


def search_path() -> str:
    """PATH, and where Debian puts tor, which is not on everyone's PATH."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))


def find_program(name: str, path: str) -> str:
    """The full name of a program; NetworkError says which package has it when it is not there."""
    found = shutil.which(name, path=path)
    if found is None:
        raise NetworkError(
            f"The private Tor network needs the program {name}, which was not found. "
            "On Debian and Ubuntu it is in the package tor: apt-get install tor"
        )
    return found


async def run(reactor: INetworkReactor, program: str, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run a program to its end and return what it printed; NetworkError when it failed."""
    out, err, code = await getProcessOutputAndValue(
        program, arguments, env=None, reactor=reactor, stdinBytes=stdin
    )
    if code:
        words = (err or out).decode("utf-8", "replace").strip()
        raise NetworkError(f"{os.path.basename(program)} ended with status {code}: {words[-500:]}")
    return bytes(out)


class _Lines(ProcessProtocol):
    """Cuts what a process prints into lines and knows whether it has ended."""

    def __init__(self, owner: TorProcess) -> None:
        self._owner = owner
        self._rest = b""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._owner._line(line.decode("utf-8", "replace").rstrip())

    def processEnded(self, reason: Failure) -> None:
        self._owner._ended()


class TorProcess:
    """One running tor. What it logs at notice and above goes to ``on_line``, a line at a time."""

    def __init__(
        self,
        reactor: INetworkReactor,
        tor: str,
        nickname: str,
        torrc: Path,
        on_line: Callable[[TorProcess, str], None],
    ) -> None:
        self.nickname = nickname
        self.running = True
        self.log: deque[str] = deque(maxlen=_KEPT_LINES)
        """The newest lines that it logged."""
        self._on_line = on_line
        self._line_waiters: list[tuple[str, Deferred[str]]] = []
        self._end_waiters: list[Deferred[None]] = []
        # An empty file stands for the machine's own defaults, which are none of this network's.
        arguments = [tor, "-f", str(torrc), "--defaults-torrc", os.devnull]
        self._transport: IProcessTransport = reactor.spawnProcess(
            _Lines(self), tor, arguments, env=None, childFDs={0: "w", 1: "r", 2: "r"}
        )
        self.pid: int = self._transport.pid or 0
        """Its process id; 0 when it ended before it was even looked at."""

    def when_logged(self, text: str) -> Deferred[str]:
        """Fire with the first line kept or to come that holds ``text``; NetworkError if it ends."""
        for line in self.log:
            if text in line:
                return succeed(line)
        if not self.running:
            return fail(self.died())
        waiter: Deferred[str] = Deferred()
        self._line_waiters.append((text, waiter))
        return waiter

    def when_ended(self) -> Deferred[None]:
        """Fire when the process is gone and reaped."""
        if not self.running:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._end_waiters.append(waiter)
        return waiter

    def signal(self, name: str) -> None:
        """Send a signal, named without SIG (``HUP``, ``STOP``); nothing when it has ended."""
        try:
            self._transport.signalProcess(name)
        except ProcessExitedAlready:
            pass

    def kill(self) -> Deferred[None]:
        """End it at once, also when it is stopped or hangs; fire when it is gone."""
        gone = self.when_ended()
        self.signal("KILL")
        return gone

    def died(self) -> NetworkError:
        """The error that says that it ended, with its own last words."""
        words = [line for line in self.log if "[warn]" in line or "[err]" in line]
        return NetworkError(f"The tor process {self.nickname} ended: {' / '.join(words[-3:])}")

    def _line(self, line: str) -> None:
        self.log.append(line)
        waiting, self._line_waiters = self._line_waiters, []
        for text, waiter in waiting:
            if waiter.called:
                continue
            if text in line:
                waiter.callback(line)
            else:
                self._line_waiters.append((text, waiter))
        self._on_line(self, line)

    def _ended(self) -> None:
        self.running = False
        for _, waiter in self._line_waiters:
            if not waiter.called:
                waiter.errback(self.died())
        for gone in self._end_waiters:
            if not gone.called:
                gone.callback(None)


class Sweeper(ProcessProtocol):
    """The process that clears up when this one is killed (see :mod:`tortxd.testing.sweeper`)."""

    def __init__(self, reactor: INetworkReactor, directory: Path) -> None:
        self._gone: Deferred[None] = Deferred()
        arguments: Sequence[str] = (
            *(sys.executable, "-I", "-S", sweeper.__file__),
            str(directory),
        )
        self._process: IProcessTransport = reactor.spawnProcess(
            self, sys.executable, arguments, env=None, childFDs={0: "w", 1: 1, 2: 2}
        )

    def watch(self, process: TorProcess) -> None:
        """Name a process that must not outlive this one."""
        if process.pid:
            self._process.writeToChild(0, b"%d\n" % process.pid)

    def finish(self) -> Deferred[None]:
        """Let it sweep; fire when it has and is gone."""
        self._process.closeStdin()
        return self._gone

    def processEnded(self, reason: Failure) -> None:
        self._gone.callback(None)

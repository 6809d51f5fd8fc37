"""The tor process that we launch: finding it, starting it, what it says, and its end.

We start it ourselves, and hand the control connection to txtorcon once it stands, instead of using
``txtorcon.launch``: that connects to the control port once, when Tor's log says that it listens,
and when it comes too early (about one start in 24) it never returns; cancelling it leaves Tor
running; it takes further torrc lines only through a private parameter, and where Tor does not start
it says that it exited, not why.

What Tor says on its standard output is enough to know when its own SOCKS port listens, before the
control port answers: evidence that it is this Tor which listens, and not another program.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from tortxd.addresses import LONGEST_SOCKET_PATH, is_address
from tortxd.errors import SetupError
from tortxd.tor.link import SocksAddress
from tortxd.tor.repeats import Repeats, alike
from tortxd.tor.status import Bootstrapping
from tortxd.tor.torrc import line_of

OLDEST = (0, 4, 7)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSION = re.compile(rb"Tor version (\d+)\.(\d+)\.(\d+)")
_LINE = re.compile(r"^\w+ +\d+ [\d:.]+ \[(debug|info|notice|warn|err)\] (.*)$")
_BOOTSTRAPPED = re.compile(r"^Bootstrapped (\d+)% \(([^)]*)\): (.*)$")
_SOCKS = "Opened Socks listener connection (ready) on "
_CONTROL = "Opened Control listener connection (ready) on "
_PORT = re.compile(r"[0-9]{1,5}")
_KILL_AFTER = 2.0
_LONGEST_LINE = 16 * 1024
_GENERIC = (
    "Reading config failed",
    "set_options(): Bug",
    "Failed to parse/validate config: Failed to bind one of the listener ports",
    "Failed to parse/validate config: Problem with ConnLimit value",
    "You are running Tor as root",
    "You have used DirAuthority",
    "TestingTorNetwork is set",
)
_LONGEST_REASON = 500


def _ended_by(number: int | None) -> str:
    return f"Tor was ended by signal {number}."


KILLED = _ended_by(signal.SIGKILL.value)
"""How it has ended where it was killed, by us or by somebody else."""
EXITED = "Tor exited, but not at our request."
_SEE_ABOVE = "See logs for details."

_NOT_EXECUTED = "setsid: failed to execute "
"""How setsid(1), which starts Tor, begins to say that it cannot; the reason is behind the last
colon."""
_NO_PROGRAM = (126, 127)
"""Exit statuses of setsid, and of the shell that it has read what is no program."""
_TOLD_AS_STATUS = "Problem bootstrapping. Stuck at "
_MOST_HELD = 100

tor_log = Logger(namespace="tor")
"""Every line of it is a line of Tor's."""


@frozen
class Opened:
    """A listener of this Tor listens."""

    kind: str
    """``socks`` or ``control``."""
    address: SocksAddress


@frozen
class Complaint:
    """A line of level ``warn`` or ``err``."""

    level: str
    text: str


@frozen
class Remark:
    """Another line, which is no event to us by itself."""

    text: str


Event = Opened | Bootstrapping | Complaint | Remark


def parse_line(line: str) -> Event | None:
    """What one line of Tor's log means to us; None for what is no such line."""
    match = _LINE.match(line)
    if match is None:
        return None
    level, text = match.groups()
    if level in ("warn", "err"):
        return Complaint(level, text)
    for prefix, kind in ((_SOCKS, "socks"), (_CONTROL, "control")):
        if text.startswith(prefix):
            address = listener_address(text[len(prefix) :])
            return Remark(text) if address is None else Opened(kind, address)
    progress = _BOOTSTRAPPED.match(text)
    if progress is not None:
        return Bootstrapping(int(progress[1]), progress[2], progress[3])
    return Remark(text)


def listener_address(text: str) -> SocksAddress | None:
    """A listener as Tor writes it: ``127.0.0.1:9050``, ``[::1]:9050``, ``/path``, ``unix:/path``.
    None for what is no address, a name included: nothing is ever looked up.

    A wildcard address becomes the loopback address of its family: that is where we reach it. One
    of IPv4 that is written as one of IPv6 becomes what it is.
    """
    if text.startswith("unix:"):
        text = text[5:]
    if text.startswith("/"):
        fits = text.isprintable() and len(os.fsencode(text)) <= LONGEST_SOCKET_PATH
        return SocksAddress(path=text) if fits else None
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not is_address(host) or not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        return None
    address = ipaddress.ip_address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_unspecified:
        return SocksAddress("::1" if address.version == 6 else "127.0.0.1", int(port))
    return SocksAddress(str(address), int(port))


def find_tor(tor: str | None) -> str:
    """The absolute path of a tor executable that is new enough.

    Its version is asked for at once: that takes some 5 ms, and a start that cannot succeed should
    end before anything else was begun.

    :param tor: a path, or a name to look for on PATH; None means ``tor``.
    :raises SetupError: there is none, it does not run, or it is older than 0.4.7.
    """
    found = shutil.which(tor or "tor") or (None if tor else shutil.which("tor", path=_PATH))
    if found is None:
        where = f"at {tor}" if tor and "/" in tor else f"called {tor} on PATH"
        what = f"There is no tor executable {where}" if tor else "No tor executable was found"
        raise SetupError(f"{what}; install the package tor, or name one with `tor`.")
    path = os.path.abspath(found)
    try:
        output = subprocess.run(
            [path, "--version"], capture_output=True, timeout=10, env={"PATH": _PATH}, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as e:
        raise SetupError(f"{path} cannot be run; name a tor executable with `tor`.") from e
    match = _VERSION.search(output)
    if match is None:
        raise SetupError(f"{path} does not answer --version as tor does; name one with `tor`.")
    if tuple(int(part) for part in match.groups()) < OLDEST:
        version = b".".join(match.groups()).decode()
        raise SetupError(f"{path} is Tor {version}; tortxd needs 0.4.7 or newer.")
    return path


def check_with_tor(executable: str, lines: Sequence[str], file: str, tor_dir: Path) -> None:
    """Have Tor itself judge the user's torrc lines (``--verify-config``, some 15 ms), so that what
    it would end with is said before anything has begun.

    :param executable: from :func:`find_tor`.
    :param file: how a sentence calls the file that has the lines.
    :param tor_dir: Tor's DataDirectory, which is not written to.
    :raises SetupError: Tor does not take them; the sentence names the line, where Tor's own shows
        which it is.
    """
    # As values of the command line, which win over the lines and cannot be unsaid by them.
    own = ["DataDirectory", os.fspath(tor_dir), "ClientOnly", "1"]
    command = [executable, "--verify-config", "-f", "-", "--defaults-torrc", os.devnull, *own]
    try:
        judged = subprocess.run(
            command,
            input="\n".join((*lines, "")).encode(),
            capture_output=True,
            timeout=10,
            env={"PATH": _PATH, "HOME": "/", "LC_ALL": "C.UTF-8"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return  # what is wrong shows when Tor is started
    if judged.returncode == 0:
        return
    events = map(parse_line, judged.stdout.decode("utf-8", "replace").splitlines())
    complaints = [event.text for event in events if isinstance(event, Complaint)]
    reason = _telling(complaints)
    if reason is not None and line_of(reason, lines) is None:
        # "Invalid router list." follows what names the list.
        placed = (one for one in reversed(complaints) if line_of(one, lines) is not None)
        reason = next(placed, reason)
    if reason is not None:
        number = line_of(reason, lines)
        where = file if number is None else f"{file}, line {number}"
        raise SetupError(f"{where}: {_short(reason)}")


def reason_of(complaints: Iterable[str], ending: str) -> str:
    """One line on why Tor ended: its last complaint that says something, else ``ending``."""
    reason = _telling(complaints)
    return ending if reason is None else f"Tor ended: {_short(reason)}"


def _telling(complaints: Iterable[str]) -> str | None:
    """The last complaint that says something; what points to the one before it, if there is no
    other."""
    telling = [text for text in complaints if not text.startswith(_GENERIC)]
    specific = [text for text in telling if not text.endswith(_SEE_ABOVE)] or telling
    return specific[-1] if specific else None


def _short(complaint: str) -> str:
    text = complaint.removeprefix("Failed to parse/validate config: ").removesuffix("Failing.")
    return text[:_LONGEST_REASON].strip()


def _warn(text: str) -> None:
    tor_log.warn("{text}", text=text, for_logs_alone=text.startswith(_GENERIC))


def _remark(text: str) -> None:
    tor_log.info("{text}", text=text)


class ProcessListener(Protocol):
    """Who wants to know what a :class:`TorProcess` does."""

    def logged(self, event: Event) -> None:
        """Tor said something that means something."""

    def ended(self, reason: str, by_itself: bool) -> None:
        """The process is gone, once; ``by_itself`` if it exited rather than died of a signal."""


class TorProcess(ProcessProtocol):
    """One tor process. Its input is closed, its output read line by line.

    :param clock: the reactor's clock.
    :param listener: told what Tor says and when it ends.
    :param repeats: says what Tor logs; outlives the process, whose successor may say the same.
    """

    transport: IProcessTransport

    def __init__(self, clock: IReactorTime, listener: ProcessListener, repeats: Repeats) -> None:
        self._clock = clock
        self._listener = listener
        self._repeats = repeats
        self._buffer = b""
        self._complaints: deque[str] = deque(maxlen=20)
        self._held: list[tuple[Callable[[str], None], str]] | None = []
        self._not_executed: str | None = None
        self._ended = False
        self._waiting: list[Deferred[None]] = []

    @classmethod
    def spawn(
        cls,
        reactor: IReactorProcess,
        clock: IReactorTime,
        listener: ProcessListener,
        repeats: Repeats,
        *,
        executable: str,
        torrc: Path,
        defaults: Path,
    ) -> TorProcess:
        """Start Tor with this configuration and no other: the system's own files are not read, and
        nothing of our environment reaches it.

        :param executable: an absolute path.
        :param torrc: the configuration; its folder is Tor's home and working directory.
        :param defaults: an empty file, in the place of the system's defaults.
        :raises OSError: it cannot be started.
        """
        process = cls(clock, listener, repeats)
        home = os.fspath(torrc.parent)
        command = [executable, "-f", os.fspath(torrc), "--defaults-torrc", os.fspath(defaults)]
        # In a session of its own: what a terminal sends to all that runs in it (Ctrl-C) is for the
        # daemon, which lets requests finish before it ends its Tor.
        setsid = shutil.which("setsid", path=_PATH)
        if setsid is not None:
            command.insert(0, setsid)
        reactor.spawnProcess(
            process,
            command[0],
            command,
            env={"HOME": home, "PATH": _PATH, "LC_ALL": "C.UTF-8"},
            path=home,
        )
        return process

    @property
    def pid(self) -> int | None:
        """The process id, or None once it has ended."""
        return None if self._ended else self.transport.pid

    def connectionMade(self) -> None:
        """Tor reads nothing from us."""
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Split Tor's log into lines."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > _LONGEST_LINE:
            self._buffer = b""
        for raw in lines:
            line = raw.decode("utf-8", "replace").rstrip()
            event = parse_line(line)
            if line.startswith(_NOT_EXECUTED):
                self._not_executed = line.rpartition(": ")[2]
                continue
            self._pass_on(line, event)
            if isinstance(event, Complaint):
                self._complaints.append(event.text)
            if event is not None:
                self._listener.logged(event)

    errReceived = outReceived

    def _pass_on(self, line: str, event: Event | None) -> None:
        """Log what Tor logs, without its clock beside ours; its progress, and what it complains of
        meanwhile, are told as our status. Until Tor has accepted its configuration nothing is
        logged: if it does not, what it says of that is the reason why it ended."""
        if isinstance(event, Bootstrapping) or (
            isinstance(event, Opened) and event.kind == "control"
        ):
            self._release(self._held)
        match = _LINE.match(line)
        text = line if match is None else match[2]
        if not text or isinstance(event, Bootstrapping) or text.startswith(_TOLD_AS_STATUS):
            return
        say = _warn if isinstance(event, Complaint) else _remark
        if self._held is None or len(self._held) >= _MOST_HELD:
            self._release(self._held)
            self._repeats.say(say, text, like=alike(text))
        else:
            self._held.append((say, text))

    def _release(self, lines: Iterable[tuple[Callable[[str], None], str]] | None) -> None:
        for say, text in lines or ():
            self._repeats.say(say, text, like=alike(text))
        self._held = None

    def processEnded(self, reason: Failure) -> None:
        """Tor is gone and all its output is read."""
        self._ended = True
        value = reason.value
        by_itself = not (isinstance(value, ProcessTerminated) and value.signal is not None)
        status = getattr(value, "exitCode", 0) or 0
        if not by_itself:
            ending = _ended_by(getattr(value, "signal", None))
        elif status in _NO_PROGRAM:
            why = self._not_executed or "it is no program"
            ending = f"The tor executable cannot be run ({why})."
        elif status == 0:
            ending = EXITED
        else:
            ending = reason_of(self._complaints, f"Tor ended with status {status}.")
        self._release(
            (say, text)
            for say, text in self._held or ()
            if say is _warn and not text.startswith(_GENERIC) and _short(text) not in ending
        )
        waiting, self._waiting = self._waiting, []
        self._listener.ended(ending, by_itself)
        for deferred in waiting:
            deferred.callback(None)

    def kill(self) -> None:
        """End it now, even if it is stopped (SIGKILL). Does nothing when it has ended."""
        self._signal(signal.SIGKILL)

    def stop(self) -> Deferred[None]:
        """End it in order: SIGTERM, and SIGKILL after 2 s. Fires when it is gone."""
        if self._ended:
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done
        self._signal(signal.SIGTERM)
        killing = self._clock.callLater(_KILL_AFTER, self.kill)

        def gone(_: None) -> None:
            if killing.active():
                killing.cancel()

        return self.when_ended().addCallback(gone)

    def when_ended(self) -> Deferred[None]:
        """Fire when it is gone."""
        ended: Deferred[None] = Deferred()
        if self._ended:
            ended.callback(None)
        else:
            self._waiting.append(ended)
        return ended

    def _signal(self, number: signal.Signals) -> None:
        if not self._ended:
            try:
                self.transport.signalProcess(number.value)
            except ProcessExitedAlready:
                pass  # it is dead already; processEnded comes with its last output

"""One life of a Tor that we launch: from waiting for its predecessor to its process's end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import deferLater

from tortxd.errors import SetupError, TorDown, TortxdError
from tortxd.tor.causes import Causes
from tortxd.tor.damaged import NEW_GUARDS, STATE, StateWatch, set_aside, set_aside_unusable
from tortxd.tor.datadir import prepare, write_private
from tortxd.tor.lock import DataDirLock, tor_lives_in
from tortxd.tor.ports import FOR_SOCKS, USUAL, SocksChoice
from tortxd.tor.process import (
    EXITED,
    KILLED,
    Complaint,
    Event,
    Opened,
    Remark,
    TorProcess,
    check_with_tor,
    find_tor,
)
from tortxd.tor.repeats import Repeats
from tortxd.tor.run import Run, Surroundings
from tortxd.tor.settings import LaunchSettings
from tortxd.tor.status import Bootstrapping, Launching, Stopped, sentence
from tortxd.tor.storage import storage_trouble
from tortxd.tor.torrc import check_lines, socks_port, torrc_text

if TYPE_CHECKING:
    from tortxd.tor.control import Control

LAUNCH_PATIENCE = 60.0
"""Seconds from the process's start to a control connection."""
PREDECESSOR_PATIENCE = 30.0
"""Seconds that the Tor of a daemon which was killed may still hold the data directory."""
_LONGEST_SOCKET_PATH = 100
"""Bytes: sockaddr_un holds 107, and Tor adds nothing."""
_SOCKET_NAME = "control.socket"
_TEMPORARY = "tortxd-xxxxxxxx"
"""As long as what tempfile makes."""


class LaunchedRuns:
    """Launches a Tor again and again; provides :class:`tortxd.tor.run.Runs`.

    :param repeats: says what Tor logs.
    """

    beginning = sentence(Launching())
    ending: str | None = sentence(Stopped())

    def __init__(self, settings: LaunchSettings, repeats: Repeats) -> None:
        self._settings = settings
        self._repeats = repeats
        self._choice = SocksChoice(settings.socks)
        self._lock: DataDirLock | None = None
        self._executable = ""
        self._data_dir = settings.data_dir

    def prepare(self) -> None:
        """Find Tor, have it judge the user's lines, and lock the data directory, until
        :meth:`release`.

        :raises SetupError: the data directory is not ours or locked, there is no tor that is new
            enough, Tor does not take a torrc line or it is not the user's to set, or the SOCKS port
            that was asked for is taken.
        """
        settings = self._settings
        check_lines(settings.torrc_lines, settings.torrc_name)
        self._executable = find_tor(settings.tor)
        self._data_dir = data_dir = prepare(settings.data_dir)
        if settings.torrc_lines:
            check_with_tor(
                self._executable, settings.torrc_lines, settings.torrc_name, data_dir / "tor"
            )
        self._choice = SocksChoice(settings.socks)
        if self._lock is None:
            self._lock = DataDirLock.acquire(data_dir)
        try:
            if not tor_lives_in(data_dir / "tor"):
                self._choice.check()
        except SetupError:
            self.release()
            raise

    def release(self) -> None:
        """Give the data directory up."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def make(self, surroundings: Surroundings) -> Launched:
        """The next launch."""
        return Launched(
            surroundings,
            find=self._find,
            data_dir=self._data_dir,
            choice=self._choice,
            lines=self._settings.torrc_lines,
            repeats=self._repeats,
        )

    def _find(self) -> str:
        """The tor executable; where an upgrade has moved it, the one that is there now.

        :raises SetupError: there is none.
        """
        if not os.access(self._executable, os.X_OK):
            self._executable = find_tor(self._settings.tor)
        return self._executable


class Launched(Run):
    """A tor process with its control session.

    :param find: the executable's absolute path; raises SetupError.
    :param data_dir: ours, locked; Tor's DataDirectory is ``tor`` in it.
    :param lines: the user's torrc lines.
    :param repeats: says what Tor logs.
    """

    _expected = (TortxdError, OSError)
    _fault = "A fault of ours while launching Tor."
    _excuse = "Tor was not launched."

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        find: Callable[[], str],
        data_dir: Path,
        choice: SocksChoice,
        lines: tuple[str, ...],
        repeats: Repeats,
    ) -> None:
        super().__init__(surroundings)
        self._find = find
        self._data_dir = data_dir
        self._choice = choice
        self._lines = lines
        self._repeats = repeats
        self._causes = Causes(self._reactor, self._listener.trouble)
        self._process: TorProcess | None = None
        self._socket_dir: Path | None = None
        self._reason: str | None = None
        self._state = StateWatch()
        self._socks_open = False
        self._control_open: Deferred[None] = Deferred()

    @property
    def pid(self) -> int | None:
        """Tor's process id while it runs."""
        return None if self._process is None else self._process.pid

    # --- the way up ----------------------------------------------------------------------------

    async def _begin(self) -> None:
        await self._signals_handled()
        await self._predecessor_gone()
        if self._first:
            self._choice.check()
        self._process = self._spawn()
        deadline = self._reactor.callLater(
            LAUNCH_PATIENCE, self.control_lost, "Tor did not start in time."
        )
        try:
            await self._control_open
            await self._connect()
        finally:
            if deadline.active():
                deadline.cancel()

    def _signals_handled(self) -> Deferred[None]:
        """Fire when the reactor runs: until then, SIGTERM would end us and leave Tor behind."""
        running: Deferred[None] = Deferred()
        self._reactor.callWhenRunning(running.callback, None)
        return running

    async def _predecessor_gone(self) -> None:
        """The Tor of a daemon that was killed goes by itself, in 15 s at most."""
        waited = 0.0
        while tor_lives_in(self._data_dir / "tor"):
            if waited >= PREDECESSOR_PATIENCE:
                raise TorDown("Another Tor uses the data directory, and does not go away.")
            await deferLater(self._reactor, 0.2)
            waited += 0.2

    def _spawn(self) -> TorProcess:
        tor_dir, executable = self._ready_folder(), self._find()
        address, automatic = self._choice.choose()
        torrc = self._data_dir / "torrc"
        defaults = self._data_dir / "torrc-defaults"
        write_private(defaults, "")
        write_private(
            torrc,
            torrc_text(
                tor_dir=tor_dir,
                control_socket=self._control_socket(tor_dir),
                socks=socks_port(address, automatic=automatic),
                owner=os.getpid(),
                lines=self._lines,
            ),
        )
        try:
            return TorProcess.spawn(
                self._reactor,
                self._reactor,
                self,
                self._repeats,
                executable=executable,
                torrc=torrc,
                defaults=defaults,
            )
        except OSError as e:
            raise TorDown(f"Tor could not be started ({e.strerror}).") from e

    def _ready_folder(self) -> Path:
        """Tor's DataDirectory, with nothing in it that would keep it from starting."""
        tor_dir = self._data_dir / "tor"
        try:
            tor_dir.mkdir(mode=0o700, exist_ok=True)
            for sentence in set_aside_unusable(tor_dir):
                self._log.warn("{sentence}", sentence=sentence)
        except OSError as e:
            raise TorDown(f"Tor's data directory cannot be made ready ({e.strerror}).") from e
        return tor_dir

    def _control_socket(self, tor_dir: Path) -> Path:
        """In Tor's own directory, or where that is too deep for a socket, in a private one."""
        path = tor_dir / _SOCKET_NAME
        if not _fits(path):
            # Where TMPDIR is too deep as well, /tmp is not.
            usual = _fits(Path(tempfile.gettempdir()) / _TEMPORARY / _SOCKET_NAME)
            folder = None if usual else "/tmp"  # noqa: S108 - mkdtemp makes a private one in it
            self._socket_dir = Path(tempfile.mkdtemp(prefix="tortxd-", dir=folder))
            path = self._socket_dir / _SOCKET_NAME
        self._socket_path = path
        return path

    async def _connect(self) -> None:
        control = await self._reach_control()
        session = self._open_session(control, storage=self._storage)
        await control.tell("TAKEOWNERSHIP")
        await session.begin()

    async def _reach_control(self) -> Control:
        """Try until it answers. A Tor that is about to end, because another port of its could not
        be opened, say, takes its control port away again; why it ends is worth waiting for."""
        from tortxd.tor.control import Control  # txtorcon: not before it is needed

        endpoint = UNIXClientEndpoint(self._reactor, os.fspath(self._socket_path))
        while True:
            try:
                return await Control.connect(
                    self._reactor,
                    endpoint,
                    self,
                    name=os.fspath(self._socket_path),
                    patience=LAUNCH_PATIENCE,
                )
            except TorDown:
                await deferLater(self._reactor, 0.1)

    def _storage(self) -> str | None:
        return storage_trouble(self._data_dir / "tor")

    # --- what happens --------------------------------------------------------------------------

    def logged(self, event: Event) -> None:
        """What the process says; see :class:`~tortxd.tor.process.ProcessListener`."""
        if self._over:
            return
        if isinstance(event, Complaint | Remark):
            self._causes.heard(event.text)
            if isinstance(event, Complaint) and self.session is None:
                self._complained(event.text)
        elif isinstance(event, Bootstrapping):
            self._causes.progress(event.progress)
            if self.session is None:
                self._listener.progress(event)
        elif isinstance(event, Opened):
            if event.kind == "control":
                if not self._control_open.called:
                    self._control_open.callback(None)
            elif not self._socks_open:
                self._socks_open = True
                self._choice.got(event.address)
                if self._choice.unexpected(event.address):
                    self._log.warn(
                        "Port {usual} is taken by another program: "
                        "THE SOCKS PORT OF THIS TOR IS {url}",
                        usual=USUAL.port,
                        url=event.address.url,
                    )
                else:
                    self._log.info(FOR_SOCKS, address=event.address)
                self._listener.socks_at(event.address)

    def _complained(self, text: str) -> None:
        was_moved = self._state.is_moved
        self._state.heard(text)
        if self._state.is_moved and not was_moved:
            self._log.warn(
                "Tor could not read its state, and has moved it aside. {sentence}",
                sentence=NEW_GUARDS,
            )

    def ended(self, reason: str, by_itself: bool) -> None:
        """The process is gone; see :class:`~tortxd.tor.process.ProcessListener`."""
        if self._over:
            self._tidy()
            return
        if by_itself and self._state.ends_tor:
            fate = self._without_state()
            if fate is not None:
                self._finish(fate)
                return
        refused = by_itself and self._first and self.session is None
        if reason in (KILLED, EXITED) and self._reason is not None:
            # For which we have killed it, or why it was about to end: without its controller it
            # exits by itself, and may be faster.
            reason = self._reason
        self._finish(
            reason,
            fatal=refused and not self._choice.lost_race(reason),
        )

    def _without_state(self) -> str | None:
        """Have the next Tor start without the state that has ended this one. A sentence on that;
        None where that cannot be, or there is none."""
        try:
            return f"Tor cannot read its state: {set_aside(self._data_dir / 'tor' / STATE)}"
        except OSError:
            return None

    def control_lost(self, reason: str) -> None:
        """Tor goes with its controller: see that it does. The listener is told when it has."""
        self._reason = self._reason or reason
        if self._process is not None:
            self._process.kill()

    def _failed(self, reason: str, *, fatal: bool) -> None:
        if self.pid is not None:
            self.control_lost(reason)
        else:
            self._finish(reason, fatal=fatal)

    def _finished(self) -> Deferred[None]:
        if self._process is not None:
            return self._process.stop()
        self._tidy()
        return succeed(None)

    def _let_go(self) -> None:
        self._causes.close()
        super()._let_go()

    def _tidy(self) -> None:
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH

"""The daemon's process: how many files it may open, its clock, a second signal, and the line that
it ends with."""

from __future__ import annotations

import atexit
import gc
import os
import pwd
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from twisted.logger import Logger

from tortxd._types import Reactor
from tortxd.errors import SetupError, TortxdError, in_quotes, printable
from tortxd.gateway.limits import raise_descriptors

__all__ = [
    "Ids",
    "LastLine",
    "Terminal",
    "ids_of",
    "last_line",
    "loading",
    "on_signal",
    "or_end",
    "set_up",
]


_COLLECTED_AFTER = (50_000, 20, 100)
"""New objects, and collections of the young and of the middle-aged, after which Python looks for
circles among the next (gc.set_threshold). Requests leave none, but each that waits is looked at
again and again: at Python's 700 that is a third of the CPU of 5,000 clients at once."""


def set_up(reactor: Reactor, log: Logger | None) -> LastLine:
    """Make this process one that the daemon has to itself.

    :param reactor: the one that it runs.
    :param log: logs the reason with which the process ends. None: the log goes to standard error,
        as that reason does.
    """
    raise_descriptors()
    gc.set_threshold(*_COLLECTED_AFTER)
    # Twisted's timers go by the wall clock, which may be set; this clock only goes on.
    changed: Any = reactor
    changed.seconds = time.monotonic
    ending = LastLine(reactor, log)
    changed.stop = _once(reactor.stop, ending.hurry)
    sys.excepthook = ending.on_exception
    return ending


class Ids(NamedTuple):
    """A user, with the group that is the user's first."""

    uid: int
    gid: int


def ids_of(user: str) -> Ids | None:
    """Which ids root is to take on to become ``user``; None: it is that user who runs this.

    :raises SetupError: there is no such user, or root does not run this.
    """
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise SetupError(f"`user`: there is no user {in_quotes(user)} here.") from None
    if found.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise SetupError(
            f"`user`: only root can become {user}. Leave it out, or start the daemon as root."
        )
    return Ids(found.pw_uid, found.pw_gid)


def on_signal(reactor: Reactor, number: int, then: Callable[[], object]) -> None:
    """Call ``then``, in the reactor, whenever this signal comes; and before it, what was called so
    far. In the main thread only."""
    before = signal.getsignal(number)

    def come(_: int, frame: FrameType | None) -> None:
        if callable(before):
            before(number, frame)
        reactor.callFromThread(then)

    signal.signal(number, come)


class Terminal:
    """The terminal in which the process was started, if any."""

    def __init__(self) -> None:
        # Whoever has SIGHUP ignored (nohup) means to outlive it.
        self._matters = self._is_there() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN

    @property
    def is_gone(self) -> bool:
        """Whether it has gone since, so that nobody can end the process with Ctrl-C any more."""
        return self._matters and not self._is_there()

    @staticmethod
    def _is_there() -> bool:
        try:
            os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return False
        return True


def _once(stop: Callable[[], None], again: Callable[[], None]) -> Callable[[], None]:
    """``stop``, which a second signal may call once more: Twisted's raises an error then."""
    stopping = False

    def stop_once() -> None:
        nonlocal stopping
        if not stopping:
            stop()
            stopping = True
        else:
            again()

    return stop_once


@contextmanager
def loading() -> Iterator[None]:
    """Where modules are loaded: what they make stays, so that to look through it for garbage again
    and again, then and ever after, is in vain, and takes a fifth of that time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def or_end() -> Iterator[None]:
    """Where the daemon cannot start as it is configured, end the process: with status 1, and one
    line that says why."""
    try:
        yield
    except SetupError as error:
        raise SystemExit(last_line(str(error))) from None


def last_line(sentence: str) -> str:
    """How a process that cannot go on says why."""
    return printable(f"tortxd: {sentence}")


class LastLine:
    """Prints why the process ends, in one line on the real standard error: ``sys.stderr`` is the
    log, once logging has begun. Parameters as of :func:`set_up`."""

    def __init__(self, reactor: Reactor, log: Logger | None) -> None:
        self._reactor = reactor
        self._logger = log
        self.when_hurried: Callable[[], object] | None = None
        """Called when the process is told to stop a second time."""

    def hurry(self) -> None:
        """The process is told to stop once more."""
        if self.when_hurried is not None:
            self.when_hurried()

    def on_exception(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        """For an error that ends the process: a sentence, if it is one of ours."""
        if isinstance(error, TortxdError):
            self._log(error)
            _print(error)
        else:
            sys.__excepthook__(kind, error, traceback)

    def on_failure(self, error: TortxdError) -> None:
        """Tor turned out not to start: end the process, with a status that twistd cannot give, and
        with the reason after all that is logged on the way down."""
        self._log(error)
        atexit.register(_exit, error)
        self._reactor.stop()

    def _log(self, error: TortxdError) -> None:
        if self._logger is not None:
            self._logger.critical("{sentence}", sentence=str(error))


def _exit(error: TortxdError) -> None:
    sys.stdout.flush()
    _print(error)
    os._exit(1)


def _print(error: TortxdError) -> None:
    if sys.__stderr__ is not None:
        print(last_line(str(error)), file=sys.__stderr__, flush=True)

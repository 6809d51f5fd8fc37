"""The daemon's process: how many files it may open, its clock, a second signal, and the line that
it ends with."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from twisted.logger import Logger

from tortxd._types import Reactor
from tortxd.errors import SetupError, TortxdError, printable
from tortxd.gateway.limits import raise_descriptors

__all__ = ["LastLine", "last_line", "loading", "or_end", "set_up"]


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
    changed.stop = _once(reactor.stop)
    ending = LastLine(reactor, log)
    sys.excepthook = ending.on_exception
    return ending


def _once(stop: Callable[[], None]) -> Callable[[], None]:
    """``stop``, which a second signal may call once more: Twisted's raises an error then."""
    stopping = False

    def stop_once() -> None:
        nonlocal stopping
        if not stopping:
            stop()
            stopping = True

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

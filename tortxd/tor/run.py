"""One life of a Tor under one control connection: what those that we launch and those that we
attach to have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tortxd._types import Reactor
from tortxd.errors import SetupError, TortxdError
from tortxd.tor.causes import Causes
from tortxd.tor.faults import Faults
from tortxd.tor.lifecycle import LONGEST_DELAY
from tortxd.tor.link import SocksAddress
from tortxd.tor.session import Session, SessionListener, Watch
from tortxd.tor.table import Table

if TYPE_CHECKING:
    from tortxd.tor.control import Control


@frozen
class Surroundings:
    """What every run has, whichever kind of Tor it is."""

    reactor: Reactor
    listener: SessionListener
    """Hears what becomes of it."""
    table: Table
    watch: Watch
    first: bool
    """Whether no Tor of this daemon has served yet: then what no retry mends is the end, where it
    would otherwise be tried again."""
    known: SocksAddress | None
    """The SOCKS address of the run before this one, where that may still listen."""
    faults: Faults
    """Says those of ours: the next run may have the same."""


class Runs(Protocol):
    """Makes one run after the other."""

    beginning: str
    """A sentence for the log when they begin."""
    ending: str | None
    """One for when the last has ended; None: nobody needs to know."""

    def prepare(self) -> None:
        """Find out all that can be known before anything has begun, and take what is needed.

        :raises SetupError: it cannot be run.
        """

    def release(self) -> None:
        """Give back what :meth:`prepare` has taken."""

    def make(self, surroundings: Surroundings) -> Run:
        """The next run."""


class Run:
    """Used once: :meth:`begin`, and :meth:`end` where it has not ended by itself."""

    longest_delay: float = LONGEST_DELAY
    """Seconds until another one is tried after it, at most."""
    _log = Logger()
    _expected: tuple[type[Exception], ...] = (TortxdError,)
    """What may go wrong without a fault of ours."""
    _fault = ""
    """A sentence for the log, where it was a fault of ours."""
    _excuse = ""
    """A sentence for users, where there is no better one."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._reactor = surroundings.reactor
        self._listener = surroundings.listener
        self._table = surroundings.table
        self._watch = surroundings.watch
        self._first = surroundings.first
        self._faults = surroundings.faults
        self._over = False
        self._beginning: Deferred[None] | None = None
        self.session: Session | None = None
        """The use of the control connection, while there is one."""

    @property
    def pid(self) -> int | None:
        """The process id of a Tor that we have launched, while it runs."""
        return None

    def begin(self) -> None:
        """Start; the listener is told what becomes of it."""
        self._beginning = Deferred.fromCoroutine(self._begin())
        self._beginning.addErrback(self._not_begun)

    def end(self) -> Deferred[None]:
        """Stop without a word to the listener; fires when nothing of it is left."""
        self._over = True
        self._let_go()
        return self._finished()

    def control_lost(self, reason: str) -> None:
        """The control connection is gone, or Tor does not answer on it."""
        raise NotImplementedError

    # --- what a kind of it does ----------------------------------------------------------------

    async def _begin(self) -> None:
        """Reach Tor, and begin a session. What it raises is the reason why that did not work."""
        raise NotImplementedError

    def _failed(self, reason: str, *, fatal: bool) -> None:
        """It could not begin.

        :param fatal: whether no retry would mend that.
        """
        raise NotImplementedError

    def _finished(self) -> Deferred[None]:
        """Fire when nothing is left."""
        raise NotImplementedError

    def _tidy(self) -> None:
        """Remove what lies around."""

    # --- what all do ---------------------------------------------------------------------------

    def _open_session(
        self,
        control: Control,
        *,
        storage: Callable[[], str | None] | None = None,
        username_prefix: str = "",
        causes: Causes | None = None,
    ) -> Session:
        self.session = Session(
            self._reactor,
            control,
            self._table,
            self._listener,
            hung=self.control_lost,
            watch=self._watch,
            storage=storage,
            username_prefix=username_prefix,
            causes=causes,
        )
        return self.session

    def _not_begun(self, failure: Failure) -> None:
        if self._over or failure.check(CancelledError):
            return
        if not failure.check(*self._expected):
            self._faults.say(self._log, self._fault, failure)
        reason = failure.getErrorMessage() if failure.check(TortxdError) else self._excuse
        self._failed(reason, fatal=self._first and bool(failure.check(SetupError)))

    def _finish(self, reason: str, *, fatal: bool = False) -> None:
        """Tor is gone, or cannot be used."""
        self._over = True
        self._let_go()
        self._tidy()
        self._listener.socks_at(None)
        if fatal:
            self._listener.fatal(reason)
        else:
            self._listener.gone(reason)

    def _let_go(self) -> None:
        """Hang up, and begin no further."""
        if self.session is not None:
            self.session.close()
            self.session = None
        if self._beginning is not None:
            self._beginning.cancel()

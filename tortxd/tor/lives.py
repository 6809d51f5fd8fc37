"""One run of a Tor after the other, as the lifecycle has it."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from tortxd._types import Reactor
from tortxd.tor.attached import AttachedRuns
from tortxd.tor.budget import CircuitBudget
from tortxd.tor.close_reasons import CloseReasons
from tortxd.tor.faults import Faults
from tortxd.tor.identity import NewIdentity
from tortxd.tor.launched import LaunchedRuns
from tortxd.tor.lifecycle import LONGEST_DELAY, Core, make_lifecycle
from tortxd.tor.link import SocksAddress
from tortxd.tor.milestones import Milestones
from tortxd.tor.repeats import Repeats
from tortxd.tor.run import Run, Runs, Surroundings
from tortxd.tor.session import Watch
from tortxd.tor.settings import AttachSettings, LaunchSettings
from tortxd.tor.status import Bootstrapping, Failed, Launching, Status, Stopped
from tortxd.tor.status_log import StatusLog
from tortxd.tor.table import Table


class Lives:
    """Begins and ends runs as the lifecycle says (:class:`tortxd.tor.lifecycle.Tor`), and hears
    what becomes of them (:class:`tortxd.tor.session.SessionListener`).

    For the parameters see :class:`tortxd.tor.supervisor.TorSupervisor`; the others are its own.
    """

    def __init__(
        self,
        reactor: Reactor,
        settings: LaunchSettings | AttachSettings,
        watch: Watch,
        username_prefix: str,
        *,
        table: Table,
        budget: CircuitBudget,
        reasons: CloseReasons,
        new_identity: NewIdentity,
        milestones: Milestones,
    ) -> None:
        self._reactor = reactor
        self._watch = watch
        self._table = table
        self._budget = budget
        self._reasons = reasons
        self._new_identity = new_identity
        self._milestones = milestones
        repeats = Repeats(reactor)
        self._faults = Faults(repeats)
        self._runs: Runs = (
            LaunchedRuns(settings, repeats)
            if isinstance(settings, LaunchSettings)
            else AttachedRuns(reactor, settings, username_prefix)
        )
        self.run: Run | None = None
        """The present one."""
        self.since = reactor.seconds()
        """See :meth:`tortxd.tor.link.TorView.since`."""
        self.runs = 0
        """How many have begun."""
        self._ended: Deferred[None] = succeed(None)
        self._log = StatusLog(repeats, self._runs.beginning, self._runs.ending)
        self._life = make_lifecycle(Core(self, reactor, self._status_is, self._longest_delay))
        self._is_prepared = False
        self._has_begun = False
        self._has_served = False
        self._is_winding_down = False

    # --- what the supervisor does --------------------------------------------------------------

    def prepare(self) -> None:
        """See :meth:`tortxd.tor.supervisor.TorSupervisor.prepare`."""
        self._is_winding_down = False
        self._runs.prepare()
        self._milestones.expect()
        self._is_prepared = True

    def start(self) -> None:
        """See :meth:`tortxd.tor.supervisor.TorSupervisor.start`."""
        if not self._is_prepared:
            self.prepare()
        self._is_prepared = False
        self._life.start()

    def wind_down(self) -> None:
        """Begin no further run."""
        self._is_winding_down = True

    def stop(self) -> Deferred[None]:
        """End the run, and fire when nothing of it is left."""
        self._is_prepared = False
        self._life.stop()
        stopped: Deferred[None] = Deferred()

        def ended(_: None) -> None:
            was_begun, self._has_begun = self._has_begun, False
            self._runs.release()
            self._log.ended(was_begun=was_begun)
            stopped.callback(None)

        self._ended.addCallback(ended)
        return stopped

    # --- the lifecycle's hands (see tortxd.tor.lifecycle.Tor) ----------------------------------

    def begin(self) -> None:
        """Begin a run; called by the lifecycle alone."""
        if self._is_winding_down:
            return
        self._has_begun = True
        self.runs += 1
        self.run = self._runs.make(
            Surroundings(
                self._reactor,
                self,
                self._table,
                self._watch,
                first=not self._has_served,
                known=self._milestones.socks,
                faults=self._faults,
            )
        )
        self.run.begin()

    def end(self) -> None:
        """End the run; called by the lifecycle alone."""
        run, self.run = self.run, None
        self.socks_at(None)
        self._ended = succeed(None) if run is None else run.end()

    def _longest_delay(self) -> float:
        return LONGEST_DELAY if self.run is None else self.run.longest_delay

    def _status_is(self, status: Status) -> None:
        if self._is_winding_down and isinstance(status, Launching):
            return  # nothing is launched any more
        milestones = self._milestones
        if type(status) is not type(milestones.status):
            self.since = self._reactor.seconds()
        self._log.become(
            status, milestones.status, is_failure_awaited=milestones.is_failure_awaited
        )
        if isinstance(status, Failed):
            self._new_identity.fail(status.reason)
        elif isinstance(status, Stopped):
            self._new_identity.fail("Tor is stopped.")
        milestones.become(status)

    # --- what a run tells (see tortxd.tor.session.SessionListener) -----------------------------

    def socks_at(self, address: SocksAddress | None) -> None:
        """The SOCKS port listens there, or no more."""
        self._milestones.socks_at(address)
        if address is None:
            self._table.clear()
            self._budget.clear()
            self._reasons.give_up()

    def progress(self, bootstrap: Bootstrapping) -> None:
        """Tor says how far it is."""
        self._life.progress(bootstrap)

    def established(self) -> None:
        """Tor can build circuits."""
        self._has_served = True
        self._life.established()

    def interrupted(self, reason: str) -> None:
        """Tor cannot build circuits any more."""
        self._life.interrupted(reason)

    def trouble(self, key: str, reason: str | None) -> None:
        """Something is wrong, or right again."""
        self._life.trouble(key, reason)

    def circuit_claimed(self, username: str) -> None:
        """Streams with this SOCKS username have got a circuit that was nobody's before."""
        self._budget.claimed(username)

    def new_identity_made(self) -> None:
        """A NEWNYM was carried out."""
        self._new_identity.made()

    def gone(self, reason: str) -> None:
        """The run is over, and Tor with it."""
        self._life.gone(reason)

    def detached(self, reason: str) -> None:
        """The run is over; Tor may live on."""
        self._life.detached(reason)

    def fatal(self, reason: str) -> None:
        """The run is over, and another would end the same way."""
        self._life.fatal(reason)

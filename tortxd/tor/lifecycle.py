"""The life of one Tor as a state machine: what happened goes in, what to do and status come out.

======================= ==========================================================================
stopped                 not started, or stopped on request
launching               :meth:`Tor.begin` was called: the process starts, or the control port is
                        being reached
bootstrapping           Tor answers, and is on its way to a first circuit; it is never restarted for
                        being slow, only for being dead
serving                 Tor has circuits: Ready, or Degraded while there are troubles
detached                an attached Tor's control connection is lost while its SOCKS port goes on
backing off             it is tried again in a while: 1, 2, 4 and so on up to 60 seconds, or less;
                        each shorter by up to half, at random
failed                  no use trying again; the machine or the configuration must be changed first
======================= ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from random import SystemRandom
from typing import Protocol as TypingProtocol

from attrs import define, evolve, field
from automat import TypeMachineBuilder, pep614
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tortxd.tor.status import (
    BackingOff,
    Bootstrapping,
    Degraded,
    Failed,
    Launching,
    Ready,
    Status,
    Stopped,
)

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0
JITTER = 0.5
"""By which part of it a delay is shorter at most. What ends one Tor, a machine short of memory say,
often ends others as well, which are not to come back all at once."""
STEADY_AFTER = 60.0
"""A Tor that served this long starts anew at the first delay."""
RESTORING = "The control connection is being restored."


class Tor(TypingProtocol):
    """What the machine does to a Tor."""

    def begin(self) -> None:
        """Launch it, or reach it."""

    def end(self) -> None:
        """Let go of it, in whatever phase."""


class Lifecycle(TypingProtocol):
    """What can happen to a Tor."""

    def start(self) -> None:
        """It is wanted."""

    def stop(self) -> None:
        """It is not wanted any more."""

    def progress(self, bootstrap: Bootstrapping) -> None:
        """It says how far it is."""

    def established(self) -> None:
        """It can build circuits."""

    def interrupted(self, reason: str) -> None:
        """It cannot build circuits any more."""

    def trouble(self, key: str, reason: str | None) -> None:
        """Something is wrong: while it serves, that does not keep it from serving; before, it may
        be why it does not get on. None: it is right again."""

    def gone(self, reason: str) -> None:
        """It died, or cannot be reached; trying again may help."""

    def detached(self, reason: str) -> None:
        """Its control connection is lost, or was not restored; its SOCKS port may well go on."""

    def fatal(self, reason: str) -> None:
        """It cannot be started as things are."""

    def retry(self) -> None:
        """The wait is over."""


@define
class Core:
    """The machine's data."""

    tor: Tor
    clock: IReactorTime
    on_status: Callable[[Status], None]
    longest_delay: Callable[[], float] = lambda: LONGEST_DELAY
    """Seconds from what has just ended to the next try, at most."""
    attempts: int = 0
    serving_since: float | None = None
    troubles: dict[str, str] = field(factory=dict)
    reason: str | None = None
    """Why it does not serve any more, or was tried in vain; None while it serves."""
    bootstrap: Bootstrapping = field(factory=Bootstrapping)
    last: Status = field(factory=Stopped)
    timer: IDelayedCall | None = None
    random: Callable[[], float] = SystemRandom().random
    """From 0 up to 1: by which part of :data:`JITTER` the next delay is shorter."""

    def say(self, status: Status) -> None:
        """Tell a status, unless it is the last one again."""
        if status != self.last:
            self.last = status
            self.on_status(status)

    def say_serving(self) -> None:
        """Tell whether something is wrong while it serves."""
        reasons = tuple(self.troubles.values())
        self.say(Degraded(reasons) if reasons else Ready())

    def say_bootstrapping(self) -> None:
        """Tell how far it is, with everything that may keep it from getting on."""
        said = self.bootstrap.warning
        causes = [*self.troubles.values(), *([] if said is None else [said])]
        warning = " ".join(dict.fromkeys(causes)) or None
        self.say(evolve(self.bootstrap, warning=warning, reason=self.reason))

    def note(self, key: str, reason: str | None) -> None:
        """Remember what is wrong, or that it is right again."""
        if reason is None:
            self.troubles.pop(key, None)
        else:
            self.troubles[key] = reason

    def retry_later(self, retry: Callable[[], None]) -> float:
        """Set the timer of the next try, and say in how many seconds that is."""
        since, self.serving_since = self.serving_since, None
        if since is not None and self.clock.seconds() - since >= STEADY_AFTER:
            self.attempts = 0
        longest = min(self.longest_delay(), FIRST_DELAY * 2.0 ** min(self.attempts, 10))
        delay = longest * (1.0 - JITTER * self.random())
        self.attempts += 1
        self.stop_timer()
        self.timer = self.clock.callLater(delay, retry)
        return delay

    def stop_timer(self) -> None:
        """Forget about the next try."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.timer = None


def _build() -> Callable[[Core], Lifecycle]:
    machine = TypeMachineBuilder(Lifecycle, Core)
    stopped = machine.state("stopped")
    launching = machine.state("launching")
    bootstrapping = machine.state("bootstrapping")
    serving = machine.state("serving")
    detached = machine.state("detached")
    backing_off = machine.state("backing off")
    failed = machine.state("failed")

    early = (launching, bootstrapping)
    live = (*early, serving, detached)
    idle = (stopped, backing_off, failed)

    @pep614(stopped.upon(Lifecycle.start).to(launching))
    @pep614(failed.upon(Lifecycle.start).to(launching))
    @pep614(backing_off.upon(Lifecycle.retry).to(launching))
    def launch(_: Lifecycle, core: Core) -> None:
        core.stop_timer()
        core.troubles.clear()
        core.say(Launching(core.reason))
        core.tor.begin()

    @pep614(detached.upon(Lifecycle.retry).loop())
    def attach_again(_: Lifecycle, core: Core) -> None:
        core.stop_timer()
        core.tor.begin()

    @pep614(launching.upon(Lifecycle.progress).to(bootstrapping))
    @pep614(bootstrapping.upon(Lifecycle.progress).loop())
    @pep614(detached.upon(Lifecycle.progress).to(bootstrapping))
    def say_progress(_: Lifecycle, core: Core, bootstrap: Bootstrapping) -> None:
        core.stop_timer()
        core.bootstrap = bootstrap
        core.say_bootstrapping()

    @pep614(launching.upon(Lifecycle.established).to(serving))
    @pep614(bootstrapping.upon(Lifecycle.established).to(serving))
    @pep614(detached.upon(Lifecycle.established).to(serving))
    def serve(_: Lifecycle, core: Core) -> None:
        core.stop_timer()
        core.serving_since = core.clock.seconds()
        core.reason = None
        core.say_serving()

    @pep614(serving.upon(Lifecycle.interrupted).to(bootstrapping))
    def say_interrupted(_: Lifecycle, core: Core, reason: str) -> None:
        core.bootstrap = Bootstrapping(95, "circuit_create", "Establishing a Tor circuit", reason)
        core.say_bootstrapping()

    @pep614(serving.upon(Lifecycle.trouble).loop())
    def say_trouble(_: Lifecycle, core: Core, key: str, reason: str | None) -> None:
        core.note(key, reason)
        core.say_serving()

    @pep614(bootstrapping.upon(Lifecycle.trouble).loop())
    def say_cause(_: Lifecycle, core: Core, key: str, reason: str | None) -> None:
        core.note(key, reason)
        core.say_bootstrapping()

    def note_trouble(_: Lifecycle, core: Core, key: str, reason: str | None) -> None:
        core.note(key, reason)

    def back_off(tor: Lifecycle, core: Core, reason: str) -> None:
        delay = core.retry_later(tor.retry)
        core.reason = reason
        core.say(BackingOff(delay, reason))

    @pep614(serving.upon(Lifecycle.detached).to(detached))
    @pep614(detached.upon(Lifecycle.detached).loop())
    def go_on_detached(tor: Lifecycle, core: Core, reason: str) -> None:
        core.retry_later(tor.retry)
        core.say(Degraded((f"{reason} {RESTORING}", *core.troubles.values())))

    def fail(_: Lifecycle, core: Core, reason: str) -> None:
        core.stop_timer()
        core.say(Failed(reason))

    def stop(_: Lifecycle, core: Core) -> None:
        core.stop_timer()
        core.reason = None
        core.say(Stopped())
        core.tor.end()

    for state in live:
        state.upon(Lifecycle.gone).to(backing_off)(back_off)
        state.upon(Lifecycle.fatal).to(failed)(fail)
    for state in early:
        state.upon(Lifecycle.detached).to(backing_off)(back_off)
    for state in (launching, detached):
        state.upon(Lifecycle.trouble).loop()(note_trouble)
    for state in (*live, backing_off, failed):
        state.upon(Lifecycle.stop).to(stopped)(stop)

    # What comes late, or says nothing new.
    stopped.upon(Lifecycle.stop).loop().returns(None)
    serving.upon(Lifecycle.progress).loop().returns(None)
    serving.upon(Lifecycle.established).loop().returns(None)
    for state in (*early, detached):
        state.upon(Lifecycle.interrupted).loop().returns(None)
    for state in (*early, serving, stopped, failed):
        state.upon(Lifecycle.retry).loop().returns(None)
    for state in (*live, backing_off):
        state.upon(Lifecycle.start).loop().returns(None)
    for state in idle:
        state.upon(Lifecycle.progress).loop().returns(None)
        state.upon(Lifecycle.established).loop().returns(None)
        state.upon(Lifecycle.interrupted).loop().returns(None)
        state.upon(Lifecycle.trouble).loop().returns(None)
        state.upon(Lifecycle.gone).loop().returns(None)
        state.upon(Lifecycle.detached).loop().returns(None)
        state.upon(Lifecycle.fatal).loop().returns(None)
    return machine.build()


make_lifecycle: Callable[[Core], Lifecycle] = _build()
"""Makes a machine, in the state stopped, for a :class:`Core`."""

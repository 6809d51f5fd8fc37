"""Whether requests are served, since when, and why not: what Tor says of itself, and beside it what
requests experience of a Tor that says it is ready."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tortxd.errors import UNREACHED, TorError, TortxdError
from tortxd.relay.journal import Summary
from tortxd.tor.link import TorView
from tortxd.tor.report import status_json
from tortxd.tor.status import Degraded, Failed, Ready, Status, serves

IN_TOR = 3
"""Requests in a row, not one of them served, that must fail in Tor before that counts."""
BEYOND_TOR = 10
"""The same for requests that do not reach their destinations, each of which may be gone..."""
ISOLATIONS = 3
"""...so that they must be of so many isolations: of other callers, keys or sites."""
PATIENT = 10.0
"""Seconds that a request must have had for Tor: a client may give it less than any Tor needs."""
FULL = "As many connections or requests are served as may be: further ones are refused."
FULL_FOR = 10.0
"""Seconds after the last refusal that this counts."""
STAYS = 300.0
"""Seconds that what requests experienced counts, when none comes any more."""


class Experience:
    """What requests experience: it is told of each that fails, and of the first that is served.

    :param changed: called when :attr:`trouble` has become another.
    """

    def __init__(self, clock: IReactorTime, changed: Callable[[], object]) -> None:
        self.trouble: str | None = None
        """What is wrong, as a sentence."""
        self.fails = False
        """Whether the last request failed; while it is so, :meth:`served` is to be told."""
        self._clock = clock
        self._changed = changed
        self._in_tor = 0
        self._beyond_tor = 0
        self._isolations: set[bytes | None] = set()
        self._timer: IDelayedCall | None = None

    def served(self) -> None:
        """A request has had the start of a response."""
        self.fails = False
        self._in_tor = self._beyond_tor = 0
        self._isolations.clear()
        self._become(None)

    forget = served
    """Nothing counts any more of what was."""

    def failed(self, summary: Summary, error: TortxdError) -> None:
        """A request has failed, while Tor says that it is ready."""
        if isinstance(error, UNREACHED):
            self._beyond_tor += 1
            if len(self._isolations) < ISOLATIONS:
                self._isolations.add(summary.username)
        elif isinstance(error, TorError) and error.fault == "tor" and summary.seconds >= PATIENT:
            self._in_tor += 1
        else:
            return
        self.fails = True
        if self._in_tor >= IN_TOR:
            self._become(f"Requests fail ({error.code}), though Tor says that it is ready.")
        elif self._beyond_tor >= BEYOND_TOR and len(self._isolations) >= ISOLATIONS:
            self._become(
                f"Requests do not reach their destinations ({error.code}), though Tor says that it "
                "is ready."
            )

    def close(self) -> None:
        """Tell no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _become(self, trouble: str | None) -> None:
        self.close()
        if trouble is not None:
            self._timer = self._clock.callLater(STAYS, self.forget)
        if (trouble is None) is not (self.trouble is None):
            self.trouble = trouble
            self._changed()


class Health:
    """What ``/health`` says of a gateway and its Tor."""

    def __init__(self, clock: IReactorTime, link: TorView) -> None:
        self.experience = Experience(clock, self._changed)
        self.stopping = False
        """Whether the gateway is being stopped. Set by :meth:`stop` and :meth:`begin`."""
        self._full: IDelayedCall | None = None
        """Ends that it is full."""
        self._clock = clock
        self._link = link
        self._listeners: tuple[Callable[[], object], ...] = ()
        self._since = link.since
        self._name = self.name
        link.on_status(self._status_is)

    @property
    def status(self) -> Status:
        """What Tor is doing, where it serves as far as requests bear that out."""
        status = self._link.status
        troubles = (self.experience.trouble, None if self._full is None else FULL)
        reasons = tuple(trouble for trouble in troubles if trouble is not None)
        if not reasons or not serves(status):
            return status
        if isinstance(status, Degraded):
            return evolve(status, reasons=(*status.reasons, *reasons))
        return Degraded(reasons)

    @property
    def name(self) -> str:
        """``ok``, ``degraded``, ``starting``, ``bootstrapping``, ``down`` or ``stopping``."""
        return "stopping" if self.stopping else str(status_json(self.status)["status"])

    @property
    def is_ready(self) -> bool:
        """Whether further requests should come here."""
        return serves(self._link.status) and not self.stopping

    @property
    def is_live(self) -> bool:
        """False where only a restart would help: Tor cannot be started as things are, and is not
        tried again."""
        return not isinstance(self._link.status, Failed)

    @property
    def age(self) -> float:
        """For how many seconds it has been so (:attr:`name`)."""
        return max(0.0, self._clock.seconds() - self._since)

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Have ``listener`` called whenever there is something else to say; the result, called,
        ends that."""
        self._listeners = (*self._listeners, listener)

        def leave() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not listener)

        return leave

    def failed(self, summary: Summary, error: TortxdError) -> None:
        """A request has failed."""
        if isinstance(self._link.status, Ready | Degraded):
            self.experience.failed(summary, error)

    def is_full(self) -> None:
        """A connection or a request was refused for want of places."""
        if self._full is not None:
            self._full.reset(FULL_FOR)
            return
        self._full = self._clock.callLater(FULL_FOR, self._has_places)
        self._changed()

    def _has_places(self) -> None:
        self._full = None
        self._changed()

    def begin(self) -> None:
        """The gateway serves (again)."""
        self.stopping = False
        self._changed()

    def stop(self) -> None:
        """The gateway is being stopped: no further requests should come."""
        if not self.stopping:
            self.stopping = True
            self._changed()

    def close(self) -> None:
        """Watch no more."""
        self.experience.close()
        if self._full is not None:
            self._full.cancel()
            self._full = None

    def _status_is(self, status: Status) -> None:
        if not serves(status):
            self.experience.forget()
        self._changed()

    def _changed(self) -> None:
        name = self.name
        if name != self._name:
            self._name, self._since = name, self._clock.seconds()
        for listener in self._listeners:
            listener()

"""How a Tor gets on, by its status events (control-spec, section 4.1.10) and what it logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tortxd.tor.causes import Causes
from tortxd.tor.nodes import ChoiceWatch
from tortxd.tor.pace import Pace
from tortxd.tor.replies import (
    StatusEvent,
    bootstrap_of,
    in_utf8,
    in_words,
    jump_of,
    parse_status,
    skew_of,
)
from tortxd.tor.skew import ClockJumps, ClockSkew, wall_clock_offset
from tortxd.tor.status import Bootstrapping
from tortxd.wire.control import Implausible

if TYPE_CHECKING:
    from tortxd.tor.control import Control

_STATUS_A_SECOND = 10.0
_STATUS_AT_ONCE = 1000
_LOGGED_A_SECOND = 10.0
_LOGGED_AT_ONCE = 1000

Handler = Callable[[str], None]
"""Takes the lines of one kind of event, without its name."""


class ProgressListener(Protocol):
    """Who wants to know how a Tor gets on."""

    def progress(self, bootstrap: Bootstrapping) -> None:
        """It says how far it is."""

    def established(self) -> None:
        """It can build circuits."""

    def interrupted(self, reason: str) -> None:
        """It cannot build circuits any more."""

    def trouble(self, key: str, reason: str | None) -> None:
        """Something is wrong, or keeps it from getting on; None: it is right again."""

    def new_identity_made(self) -> None:
        """Tor has carried out a NEWNYM."""


class Progress:
    """Reads the status events of one control connection, until :meth:`close`.

    :param consensus_arrived: called when Tor has another consensus.
    :param guards_changed: called when Tor has other guards, or one has another state.
    :param failed: called with a fault of ours.
    :param causes: hears what Tor logs, where that is read nowhere else.
    :param clock_offset: see :func:`~tortxd.tor.skew.wall_clock_offset`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        control: Control,
        listener: ProgressListener,
        *,
        consensus_arrived: Callable[[], None],
        guards_changed: Callable[[], None],
        failed: Callable[[Failure], None],
        causes: Causes | None = None,
        clock_offset: Callable[[], float] = wall_clock_offset,
    ) -> None:
        self._listener = listener
        self._consensus_arrived = consensus_arrived
        self._guards_changed = guards_changed
        self._causes = causes
        self._pace = Pace(clock, rate=_STATUS_A_SECOND, burst=_STATUS_AT_ONCE)
        self._log_pace = Pace(clock, rate=_LOGGED_A_SECOND, burst=_LOGGED_AT_ONCE)
        self._skew = ClockSkew(
            clock, lambda reason: listener.trouble("clock", reason), clock_offset
        )
        self._jumps = ClockJumps(clock, lambda reason: listener.trouble("jump", reason))
        self._choice = ChoiceWatch(
            clock, control, lambda reason: listener.trouble("choice", reason), failed
        )

    def handlers(self) -> Iterable[tuple[str, Handler]]:
        """What takes which events."""
        yield "STATUS_CLIENT", self._seldom(self._status)
        yield "STATUS_GENERAL", self._seldom(self._status)
        yield "NETWORK_LIVENESS", self._seldom(self._liveness)
        yield "SIGNAL", self._seldom(self._signal)
        yield "GUARD", self._seldom(lambda _: self._guards_changed())
        if self._causes is not None:
            yield "WARN", self._logged
            yield "NOTICE", self._logged

    def begin(self, replies: Mapping[str, str]) -> None:
        """Say how far it is already.

        :param replies: to GETINFO ``status/circuit-established`` and ``status/bootstrap-phase``.
        """
        if replies.get("status/circuit-established") == "1":
            self._established()
        else:
            phase = parse_status(replies.get("status/bootstrap-phase", ""))
            self._clock_skew(phase)
            self._got_to(bootstrap_of(phase).progress)
            self._listener.progress(bootstrap_of(phase))

    def look_at_clock(self) -> None:
        """See whether this machine's clock was set."""
        self._skew.look()

    def close(self) -> None:
        """Say no more."""
        self._skew.close()
        self._jumps.close()
        self._choice.close()
        if self._causes is not None:
            self._causes.close()

    def _seldom(self, handle: Handler) -> Handler:
        """What handles events that come seldom, and each of which may be a line of our log.

        It raises Implausible, as the table does.
        """

        def take(line: str) -> None:
            if not self._pace.keeps():
                raise Implausible("too many status events")
            handle(line)

        return take

    def _status(self, line: str) -> None:
        event = parse_status(line)
        if event.action == "BOOTSTRAP":
            self._bootstrap(event)
        elif event.action == "CIRCUIT_ESTABLISHED":
            self._established()
        elif event.action == "CIRCUIT_NOT_ESTABLISHED":
            reason = event.arguments.get("REASON", "circuits cannot be built")
            self._listener.interrupted(in_words(reason))
        elif event.action == "CLOCK_SKEW":
            self._clock_skew(event)
        elif event.action == "CLOCK_JUMPED":
            seconds = jump_of(event)
            if seconds is not None:
                self._jumps.has_jumped(seconds)
        elif event.action == "CONSENSUS_ARRIVED":
            self._consensus_arrived()

    def _established(self) -> None:
        self._got_to(100)
        self._listener.established()

    def _bootstrap(self, event: StatusEvent) -> None:
        bootstrap = bootstrap_of(event)
        self._clock_skew(event)
        self._got_to(bootstrap.progress)
        if bootstrap.progress >= 100:
            self._listener.established()
        else:
            self._listener.progress(bootstrap)

    def _got_to(self, percent: int) -> None:
        self._choice.progress(percent)
        if self._causes is not None:
            self._causes.progress(percent)

    def _clock_skew(self, event: StatusEvent) -> None:
        ahead = skew_of(event)
        if ahead is not None:
            self._skew.is_ahead(ahead)

    def _logged(self, text: str) -> None:
        """Tor may log one line for each stream of others, so that many at once are nothing strange;
        those beyond the pace are not read."""
        if self._causes is not None and self._log_pace.keeps():
            self._causes.heard(in_utf8(text))

    def _liveness(self, line: str) -> None:
        down = line.strip() == "DOWN"
        self._listener.trouble("network", "Tor hears nothing from the network." if down else None)

    def _signal(self, line: str) -> None:
        if line.strip() == "NEWNYM":
            self._listener.new_identity_made()

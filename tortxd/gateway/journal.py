"""What became of the gateway's requests: counts, times, and the last failures with whose fault they
were. Nothing of it names who asked, or for what."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from tortxd.errors import Fault, TortxdError
from tortxd.gateway.health import Health
from tortxd.relay.journal import OK, Summary, Way
from tortxd.tor.link import Circuit

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: what falls under one of them is counted there."""
INTERVAL = 5.0
"""Seconds that are counted together."""
INTERVALS = 60
MOST_TIMES = 1000
"""Of one interval; the newest are kept."""
MOST_FAILURES = 50


class Distribution:
    """How many took how long, and all of them together."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """How many took at most so long as the bound in the same place says, and longer than the
        one before; the last: longer than all bounds."""
        self.total = 0.0
        """Seconds."""

    def add(self, seconds: float) -> None:
        """Another one took so long."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


@define
class Interval:
    """What became of requests within :data:`INTERVAL` seconds."""

    began: float
    """On the reactor's clock."""
    requests: int = 0
    """How many were answered, or failed before that."""
    failed: int = 0
    times: deque[float] = field(factory=lambda: deque(maxlen=MOST_TIMES))
    """Seconds to the heads of responses."""

    @property
    def median(self) -> float | None:
        """Of the times; None where there are none."""
        from statistics import median  # loads a good deal, which no start waits for

        return median(self.times) if self.times else None

    @property
    def longest(self) -> float | None:
        """The longest time; None where there is none."""
        return max(self.times, default=None)


@frozen
class Failure:
    """A request that failed."""

    at: float
    """On the reactor's clock."""
    way: Way
    code: str
    fault: Fault
    sentence: str
    """For people."""
    retryable: bool
    tor_reason: str | None
    """Tor's own reason, where it said one."""
    circuit: Circuit | None = None
    """On which its last stream was."""
    username: str | None = field(default=None, repr=False)
    """The SOCKS username of its streams."""


class Circuits(Protocol):
    """Who knows which circuit carries a stream."""

    def circuit_of(self, source: tuple[str, int]) -> Circuit | None:
        """See :class:`tortxd.tor.link.TorLink`."""


class RequestJournal:
    """Provides :class:`tortxd.relay.journal.Journal`, and is told by the gateway of what it
    refuses.

    :param circuits: knows where a request failed.
    :param health: judges by what requests experience.
    """

    def __init__(self, clock: IReactorTime, circuits: Circuits, health: Health) -> None:
        self.counts: Counter[tuple[Way, str]] = Counter()
        """How many requests came to which end, by way and outcome."""
        self.to_head = Distribution()
        """From requests to the heads of their responses."""
        self.to_connect = Distribution()
        """For streams to destinations."""
        self.failures: deque[Failure] = deque(maxlen=MOST_FAILURES)
        """The last ones, oldest first."""
        self._clock = clock
        self._circuits = circuits
        self._health = health
        self._experience = health.experience
        self._intervals: deque[Interval] = deque(maxlen=INTERVALS)
        self._listeners: tuple[Callable[[Summary], object], ...] = ()
        self.is_followed = False
        """See :class:`tortxd.relay.journal.Journal`: while somebody listens."""

    def listen(self, listener: Callable[[Summary], object]) -> Callable[[], None]:
        """Have ``listener`` called with every further request that is over; the result, called,
        ends that."""
        self._listeners = (*self._listeners, listener)
        self.is_followed = True

        def leave() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not listener)
            self.is_followed = bool(self._listeners)

        return leave

    @property
    def intervals(self) -> Sequence[Interval]:
        """Those of the last minutes in which there was anything, oldest first."""
        oldest = self._clock.seconds() - INTERVAL * INTERVALS
        return tuple(one for one in self._intervals if one.began > oldest)

    # --- what is told ----------------------------------------------------------------------------

    def connected(self, seconds: float) -> None:
        """See :class:`tortxd.relay.journal.Journal`."""
        self.to_connect.add(seconds)

    def responded(self, now: float, seconds: float) -> None:
        """See :class:`tortxd.relay.journal.Journal`."""
        self.to_head.add(seconds)
        if self._experience.fails:
            self._experience.served()
        interval = self._interval(now)
        interval.requests += 1
        interval.times.append(seconds)

    def went_well(self, way: Way) -> None:
        """See :class:`tortxd.relay.journal.Journal`."""
        self.counts[way, OK] += 1

    def over(self, summary: Summary) -> None:
        """See :class:`tortxd.relay.journal.Journal`."""
        self.counts[summary.way, summary.outcome] += 1
        if summary.error is not None:
            self._failed(summary, summary.error)
        for listener in self._listeners:
            listener(summary)

    def refused(self, way: Way, error: TortxdError) -> None:
        """A request was refused before it was on its way."""
        self.over(
            Summary(
                way=way,
                outcome=error.code,
                status=None,
                to_connect=None,
                to_head=None,
                seconds=0.0,
                sent=0,
                received=0,
                attempts=0,
                error=error,
            )
        )

    def _failed(self, summary: Summary, error: TortxdError) -> None:
        self._health.failed(summary, error)
        interval = self._interval(self._clock.seconds())
        interval.failed += 1
        if summary.to_head is None:
            interval.requests += 1
        circuit = None if summary.source is None else self._circuits.circuit_of(summary.source)
        username = None if summary.username is None else summary.username.decode("ascii")
        # Not the error itself: its traceback would hold on to all that it has passed.
        self.failures.append(
            Failure(
                at=self._clock.seconds(),
                way=summary.way,
                code=error.code,
                fault=error.fault,
                sentence=str(error),
                retryable=error.retryable,
                tor_reason=error.tor_reason,
                circuit=circuit,
                username=username,
            )
        )

    def _interval(self, now: float) -> Interval:
        intervals = self._intervals
        if not intervals or now - intervals[-1].began >= INTERVAL:
            intervals.append(Interval(now - now % INTERVAL))
        return intervals[-1]

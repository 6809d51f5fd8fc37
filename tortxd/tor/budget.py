"""How many fresh circuits may be asked of Tor.

A request costs Tor nothing new where a circuit for its credentials is there. Where there is none it
costs a circuit, and one that fails costs more: Tor tries a name that does not resolve over three
circuits, and two of them take no further stream (measured on 0.4.9.11: 3,000 such requests with 300
keys made 5,740 circuits, which stayed, and took 21 ms of Tor's CPU each). So each caller has a
budget, and the daemon has one: a rate, and what of it was saved up. A request that needs a fresh
circuit takes one from both before it goes to Tor; circuits beyond it that the control port shows
for the same credentials are charged as they come, if need be as a debt. What a stream will cost is
not known before it is open, so only as many may be opened at one time as could be saved up.

Circuits that Tor builds for itself (directories, onion services' inner ones, those it keeps ready)
are its own affair. A conflux set counts as one circuit.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tortxd.errors import Overloaded
from tortxd.rates import Rate
from tortxd.tor.isolation import Credentials
from tortxd.tor.table import DIRTY_SECONDS

Carried = Callable[[bool], bool | None]
"""Says whether a circuit is there that Tor gives to such streams, or (True) one that has served
already; None where nobody watches Tor."""

UNDER_WAY = 60.0
"""Seconds for which a circuit that was taken from the budget may not show yet."""
LEAST_PLACES = 32
"""Streams that may be opened at one time however small the budget is: a page's worth."""
_REMEMBERED = 10_000
"""Usernames whose caller is known; and callers with a budget of their own."""
_ALMOST = 1 - 1e-6


class _Bucket:
    """What is left of a rate."""

    def __init__(self, rate: Rate | None, now: float) -> None:
        self._rate = rate
        self._level = 0.0 if rate is None else float(rate.burst)
        self._at = now

    def level(self, now: float) -> float:
        rate = self._rate
        if rate is None:
            return math.inf
        self._level = min(rate.burst, self._level + (now - self._at) * rate.per_second)
        self._at = now
        return self._level

    def take(self, now: float) -> None:
        """Take one, on credit if need be, which has a limit as well."""
        if self._rate is not None:
            self._level = max(-float(self._rate.burst), self.level(now) - 1)

    def wait(self, number: int, now: float) -> float:
        """Seconds until there are so many."""
        missing = number - self.level(now)
        if self._rate is None or missing <= 1 - _ALMOST:
            return 0.0
        return missing / self._rate.per_second

    def is_full(self, now: float) -> bool:
        return self._rate is None or self.level(now) >= self._rate.burst


class _Account:
    """What is left to somebody: a caller, or all of them."""

    def __init__(self, rate: Rate | None, now: float) -> None:
        self.bucket = _Bucket(rate, now)
        self.opening = 0
        """Streams that are being opened."""
        self._most = math.inf if rate is None else max(rate.burst, LEAST_PLACES)

    @property
    def has_place(self) -> bool:
        """Whether one more may be opened at this time."""
        return self.opening < self._most


@define(eq=False)
class _Group:
    """Streams with the same credentials that wait: one circuit will carry them."""

    carried: Carried
    needs: bool
    """Whether they wait for a fresh circuit; else for a place."""
    waiting: list[Deferred[None]] = field(factory=list)


class _Caller(_Account):
    """One caller's, and who waits."""

    def __init__(self, rate: Rate | None, now: float) -> None:
        super().__init__(rate, now)
        self.groups: OrderedDict[bytes, _Group] = OrderedDict()
        """By username, the first to come first."""

    @property
    def needs(self) -> int:
        """For how many circuits they wait."""
        return sum(group.needs for group in self.groups.values())


class CircuitBudget:
    """See the module's description.

    :param clock: monotonic.
    :param daemon: for all callers together; None: without limit.
    :param caller: for each.
    """

    def __init__(self, clock: IReactorTime, daemon: Rate | None, caller: Rate | None) -> None:
        self._clock = clock
        self._rate = caller
        self._all = _Account(daemon, clock.seconds())
        self._callers: OrderedDict[bytes, _Caller] = OrderedDict()
        self._owners: OrderedDict[bytes, bytes] = OrderedDict()
        self._taken: OrderedDict[bytes, float] = OrderedDict()
        """Usernames with a circuit that is paid for and has not shown yet, and since when."""
        self._waiting: dict[bytes, _Caller] = {}
        """Callers of whom some wait, whose turn is next first."""
        self._timer: IDelayedCall | None = None

    def admit(
        self, credentials: Credentials, carried: Carried, within: float
    ) -> Deferred[None] | None:
        """Let a stream with these credentials go to Tor; :meth:`opened` follows, once.

        :param carried: says what circuit there is for such streams.
        :param within: seconds that it may wait.
        :return: None: at once; else fires when it may. Cancellable. Fails with Overloaded when it
            was not its turn in time.
        :raises Overloaded: its turn would not come in time.
        """
        now, username, owner = self._clock.seconds(), credentials.username, credentials.owner
        caller = self._caller(owner, now)
        group = caller.groups.get(username)
        if group is None:
            needs = not self._has_circuit(caller, username, carried, now)
            delay = self._delay(caller, now) if needs else 0.0
            if delay == 0 and self._has_place(caller):
                if needs:
                    self._take(owner, caller, username, now)
                self._open(caller)
                return None
            if delay > within:
                raise _overloaded(delay)
            group = caller.groups[username] = _Group(carried, needs)
        waiting: Deferred[None] = Deferred(group.waiting.remove)
        group.waiting.append(waiting)
        self._waiting[owner] = caller
        self._schedule(now)

        def too_late(_: object, __: float) -> None:
            raise _overloaded(self._next(caller, self._clock.seconds()))

        return waiting.addTimeout(within, self._clock, too_late)

    def opened(self, credentials: Credentials, *, reached: bool) -> None:
        """A stream that was let go is open, or will not be."""
        caller = self._callers.get(credentials.owner)
        if caller is not None:
            caller.opening = max(0, caller.opening - 1)
        self._all.opening = max(0, self._all.opening - 1)
        if not reached:
            # What it cost is not known: onion services that are not there never get a circuit.
            self._taken.pop(credentials.username, None)
        if self._waiting:
            self._turn()

    def claimed(self, username: str) -> None:
        """Tor has given streams with this username a circuit."""
        now, key = self._clock.seconds(), username.encode("ascii", "replace")
        owner = self._owners.get(key)
        if owner is None or self._taken.pop(key, None) is not None:
            return  # another program's, or paid for
        self._all.bucket.take(now)
        self._caller(owner, now).bucket.take(now)

    def clear(self) -> None:
        """Tor is gone, and its circuits with it."""
        self._taken.clear()

    def stop(self) -> None:
        """Let nobody go any more: who waits leaves by himself."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    # --- inside ----------------------------------------------------------------------------------

    def _has_circuit(self, caller: _Caller, username: bytes, carried: Carried, now: float) -> bool:
        """Whether there is a circuit, or one that is paid for. Where there are debts, one that has
        not served yet may only be the next that fails."""
        there = carried(min(caller.bucket.level(now), self._all.bucket.level(now)) < 0)
        longest = DIRTY_SECONDS if there is None else UNDER_WAY
        return bool(there) or now - self._taken.get(username, -math.inf) < longest

    def _has_place(self, caller: _Caller) -> bool:
        return caller.has_place and self._all.has_place

    def _caller(self, owner: bytes, now: float) -> _Caller:
        caller = self._callers.get(owner)
        if caller is None:
            caller = self._callers[owner] = _Caller(self._rate, now)
            if len(self._callers) > _REMEMBERED:
                self._forget_one(now)
        self._callers.move_to_end(owner)
        return caller

    def _forget_one(self, now: float) -> None:
        """The one that has been quiet longest; a full one, if there is one near, loses nothing."""
        oldest = list(islice(self._callers.items(), 16))
        quiet = [owner for owner, one in oldest if not one.groups and not one.opening]
        full = [owner for owner in quiet if self._callers[owner].bucket.is_full(now)]
        for owner in (full or quiet)[:1]:
            del self._callers[owner]

    def _delay(self, caller: _Caller, now: float) -> float:
        """Seconds until one more may have a circuit."""
        ahead = sum(one.needs for one in self._waiting.values())
        mine = caller.bucket.wait(caller.needs + 1, now)
        return max(mine, self._all.bucket.wait(ahead + 1, now))

    def _next(self, caller: _Caller, now: float) -> float:
        """Seconds until the first of those who wait may have one."""
        return max(caller.bucket.wait(1, now), self._all.bucket.wait(1, now))

    def _take(self, owner: bytes, caller: _Caller, username: bytes, now: float) -> None:
        caller.bucket.take(now)
        self._all.bucket.take(now)
        self._taken.pop(username, None)
        self._taken[username] = now
        self._owners[username] = owner
        self._owners.move_to_end(username)
        for remembered in (self._taken, self._owners):
            if len(remembered) > _REMEMBERED:
                remembered.popitem(last=False)

    def _open(self, caller: _Caller) -> None:
        caller.opening += 1
        self._all.opening += 1

    def _schedule(self, now: float) -> None:
        """See to those who wait for a circuit when the next may have one."""
        self.stop()
        waits = [self._next(one, now) for one in self._waiting.values() if one.needs]
        if waits:
            self._timer = self._clock.callLater(min(waits), self._turn)

    def _turn(self) -> None:
        """Let those go who may: callers by turns, and of each one that needs a circuit."""
        now = self._clock.seconds()
        going: list[Deferred[None]] = []
        for owner, caller in list(self._waiting.items()):
            before = len(going)
            may_take = self._next(caller, now) == 0
            for username, group in list(caller.groups.items()):
                group.needs = not self._has_circuit(caller, username, group.carried, now)
                if group.waiting and self._has_place(caller) and group.needs and may_take:
                    self._take(owner, caller, username, now)
                    group.needs = may_take = False
                while group.waiting and not group.needs and self._has_place(caller):
                    going.append(group.waiting.pop(0))
                    self._open(caller)
                if not group.waiting:
                    del caller.groups[username]
            if not caller.groups:
                del self._waiting[owner]
            elif len(going) > before:
                self._waiting[owner] = self._waiting.pop(owner)  # behind the others
        self._schedule(now)
        for waiting in going:
            waiting.callback(None)


def _overloaded(delay: float) -> Overloaded:
    seconds = max(1, math.ceil(delay))
    return Overloaded(
        f"Too many new circuits are asked of Tor at once. Try again in {seconds} s, or allow more "
        "with --circuit-rate and --caller-circuit-rate.",
        retry_after=seconds,
    )

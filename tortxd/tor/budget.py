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
from typing import TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tortxd.errors import Overloaded
from tortxd.rates import Rate
from tortxd.tor.isolation import Credentials
from tortxd.tor.pace import Bucket
from tortxd.tor.usage import DIRTY_SECONDS

_T = TypeVar("_T")
Carried = Callable[[bool], bool | None]
"""Says whether a circuit is there that Tor gives to such streams, or (True) one that has served
already; None where nobody watches Tor."""

UNDER_WAY = 60.0
"""Seconds for which a circuit that was taken from the budget may not show yet."""
LEAST_PLACES = 32
"""Streams that may be opened at one time however small the budget is: a page's worth."""
_REMEMBERED = 10_000
"""Usernames whose caller is known; and callers with a budget of their own."""


class _Account:
    """What is left to somebody: a caller, or all of them."""

    def __init__(self, rate: Rate | None, now: float) -> None:
        self.bucket = Bucket(rate, now)
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

    def left(self, deferred: Deferred[None]) -> None:
        """One of those who wait has gone."""
        if deferred in self.waiting:
            self.waiting.remove(deferred)


class _Caller(_Account):
    """One caller's, and who waits."""

    def __init__(self, rate: Rate | None, now: float) -> None:
        super().__init__(rate, now)
        self.groups: OrderedDict[bytes, _Group] = OrderedDict()
        """By username, the first to come first."""
        self.needs = 0
        """For how many circuits they wait."""

    def add(self, username: bytes, group: _Group) -> None:
        """One more group waits."""
        self.groups[username] = group
        self.needs += group.needs

    def now_needs(self, group: _Group, needs: bool) -> None:
        """A circuit has come, or gone, for which the group waits."""
        self.needs += needs - group.needs
        group.needs = needs

    def remove(self, username: bytes) -> None:
        """A group waits no more."""
        self.needs -= self.groups.pop(username).needs


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
        self._expected: OrderedDict[bytes, float] = OrderedDict()
        """Usernames whose streams are about to get a circuit, and since when."""
        self._paid: OrderedDict[bytes, None] = OrderedDict()
        """Usernames with a circuit that is paid for and has not shown yet."""
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
        within = max(within, 0.0)
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
                raise _no_circuit(delay)
            group = _Group(carried, needs)
            caller.add(username, group)
        waiting: Deferred[None] = Deferred(group.left)
        group.waiting.append(waiting)
        self._waiting[owner] = caller
        self._schedule(now)

        def too_late(_: object, __: float) -> None:
            raise self._too_late(caller, group)

        return waiting.addTimeout(within, self._clock, too_late)

    def opened(self, credentials: Credentials, *, reached: bool | None) -> None:
        """A stream that was let go is open.

        :param reached: False: it will not be; None: nobody wants it any more.
        """
        caller = self._callers.get(credentials.owner)
        if caller is not None:
            self._close(caller)
        if not reached:
            # The next may need another circuit: onion services that are not there never get one.
            self._expected.pop(credentials.username, None)
        if reached is False:
            self._paid.pop(credentials.username, None)
        if self._waiting:
            self._turn()

    def claimed(self, username: str) -> None:
        """Tor has given streams with this username a circuit."""
        now, key = self._clock.seconds(), username.encode("ascii", "replace")
        owner = self._owners.get(key)
        if owner is None:
            return  # another program's
        self._expected.pop(key, None)
        if key in self._paid:
            del self._paid[key]
            return
        # The debt is the caller's alone: others shall not wait for it.
        self._all.bucket.take(now, debt=False)
        self._caller(owner, now).bucket.take(now)

    def clear(self) -> None:
        """Tor is gone, and its circuits with it."""
        self._expected.clear()
        self._paid.clear()

    def stop(self) -> None:
        """Let nobody go any more: who waits leaves by himself."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    # --- inside ----------------------------------------------------------------------------------

    def _has_circuit(self, caller: _Caller, username: bytes, carried: Carried, now: float) -> bool:
        """Whether there is a circuit, or one is expected. Where there are debts, one that has not
        served yet may only be the next that fails."""
        there = carried(caller.bucket.level(now) < 0)
        longest = DIRTY_SECONDS if there is None else UNDER_WAY
        return bool(there) or now - self._expected.get(username, -math.inf) < longest

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
        """Seconds until it is the turn of one more of this caller's, since callers take turns."""
        mine = caller.needs + 1
        others = sum(min(mine, one.needs) for one in self._waiting.values() if one is not caller)
        return max(caller.bucket.wait(mine, now), self._all.bucket.wait(mine + others, now))

    def _next(self, caller: _Caller, now: float) -> float:
        """Seconds until the first of those who wait may have a circuit."""
        return max(caller.bucket.wait(1, now), self._all.bucket.wait(1, now))

    def _take(self, owner: bytes, caller: _Caller, username: bytes, now: float) -> None:
        caller.bucket.take(now)
        self._all.bucket.take(now)
        _remember(self._expected, username, now)
        _remember(self._paid, username, None)
        _remember(self._owners, username, owner)

    def _open(self, caller: _Caller) -> None:
        caller.opening += 1
        self._all.opening += 1

    def _close(self, caller: _Caller) -> None:
        caller.opening -= 1
        self._all.opening -= 1

    def _schedule(self, now: float) -> None:
        """See to those who wait for a circuit when the next may have one. For a place, and where
        that is wanting too, they wait until a stream is open."""
        self.stop()
        waits = [
            self._next(one, now)
            for one in self._waiting.values()
            if one.needs and self._has_place(one)
        ]
        if waits:
            self._timer = self._clock.callLater(min(waits), self._turn)

    def _turn(self) -> None:
        """Let those go who may: callers by turns, and of each one that needs a circuit."""
        now = self._clock.seconds()
        going: list[tuple[_Caller, Deferred[None]]] = []
        for owner, caller in list(self._waiting.items()):
            if not self._all.has_place:
                break
            before = len(going)
            may_take = self._next(caller, now) == 0
            for username, group in list(caller.groups.items()):
                if not self._has_place(caller):
                    break
                caller.now_needs(group, not self._has_circuit(caller, username, group.carried, now))
                if group.waiting and group.needs and may_take:
                    self._take(owner, caller, username, now)
                    caller.now_needs(group, False)
                    may_take = False
                while group.waiting and not group.needs and self._has_place(caller):
                    going.append((caller, group.waiting.pop(0)))
                    self._open(caller)
                if not group.waiting:
                    caller.remove(username)
            if not caller.groups:
                del self._waiting[owner]
            elif len(going) > before:
                self._waiting[owner] = self._waiting.pop(owner)  # behind the others
        self._schedule(now)
        for caller, waiting in going:
            if waiting.called:  # cancelled by what one before it has set off
                self._close(caller)
            else:
                waiting.callback(None)

    def _too_late(self, caller: _Caller, group: _Group) -> Overloaded:
        if group.needs:
            return _no_circuit(self._next(caller, self._clock.seconds()))
        return Overloaded("Too many connections are being opened through Tor at once.")


def _remember(remembered: OrderedDict[bytes, _T], username: bytes, value: _T) -> None:
    remembered[username] = value
    remembered.move_to_end(username)
    if len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)


def _no_circuit(delay: float) -> Overloaded:
    seconds = max(1, math.ceil(delay))
    return Overloaded(
        f"Too many new circuits are asked of Tor at once. Try again in {seconds} s, or allow more "
        "with --circuit-rate and --caller-circuit-rate.",
        retry_after=seconds,
    )

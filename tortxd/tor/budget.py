"""How many fresh circuits may be asked of Tor.

A request costs Tor nothing new where a circuit for its credentials is there. Where there is none it
costs a circuit, and one that fails costs more: Tor tries a name that does not resolve over three
circuits, and each of them takes no further stream (measured on 0.4.9.11: 3,000 such requests with
300 keys made 5,740 circuits, which stayed, and 21 ms of Tor's CPU each). So each caller has a
budget, and the daemon has one: a rate, and what of it was saved up. A request that needs a fresh
circuit takes one from both before it goes to Tor; circuits beyond it that the control port shows
for the same credentials are charged as they come, if need be as a debt.

Circuits that Tor builds for itself (directories, onion services' inner ones, those it keeps ready)
are its own affair. A conflux set counts as one circuit.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tortxd.errors import Overloaded
from tortxd.rates import Rate
from tortxd.tor.isolation import Credentials
from tortxd.tor.table import DIRTY_SECONDS
from tortxd.tor.waiting import Waiting

UNDER_WAY = 60.0
"""Seconds for which a circuit that was taken from the budget may not show yet."""
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


@define
class _Account:
    """One caller's."""

    bucket: _Bucket
    waiting: OrderedDict[bytes, Waiting[None]] = field(factory=OrderedDict)
    """Who waits for a fresh circuit, by username: they will share it."""


class CircuitBudget:
    """See the module's description.

    :param clock: monotonic.
    :param daemon: for all callers together; None: without limit.
    :param caller: for each.
    """

    def __init__(self, clock: IReactorTime, daemon: Rate | None, caller: Rate | None) -> None:
        self._clock = clock
        self._caller = caller
        self._all = _Bucket(daemon, clock.seconds())
        self._accounts: OrderedDict[bytes, _Account] = OrderedDict()
        self._owners: OrderedDict[bytes, bytes] = OrderedDict()
        self._taken: OrderedDict[bytes, float] = OrderedDict()
        """Usernames with a circuit that is paid for and has not shown yet, and since when."""
        self._waiting: dict[bytes, _Account] = {}
        """Callers of whom some wait, whose turn is next first."""
        self._timer: IDelayedCall | None = None

    def admit(
        self, credentials: Credentials, carried: bool | None, within: float
    ) -> Deferred[None] | None:
        """Let a stream with these credentials go to Tor.

        :param carried: whether a circuit is there that Tor gives to such streams; None where nobody
            watches Tor.
        :param within: seconds that it may wait.
        :return: None: at once; else fires when it may. Cancellable. Fails with Overloaded when it
            was not its turn in time.
        :raises Overloaded: its turn would not come in time.
        """
        now, username = self._clock.seconds(), credentials.username
        if carried or self._is_under_way(
            username, now, DIRTY_SECONDS if carried is None else UNDER_WAY
        ):
            return None
        account = self._account(credentials.owner, now)
        waiting = account.waiting.get(username)
        if waiting is None:
            delay = self._delay(account, now)
            if delay == 0:
                self._take(credentials.owner, account, username, now)
                return None
            if delay > within:
                raise _overloaded(delay)
            waiting = account.waiting[username] = Waiting()
            self._waiting[credentials.owner] = account
            self._schedule(now)

        def too_late(_: object, __: float) -> None:
            raise _overloaded(self._next(account, self._clock.seconds()))

        return waiting.add().addTimeout(within, self._clock, too_late)

    def claimed(self, username: str) -> None:
        """Tor has given streams with this username a circuit."""
        now, key = self._clock.seconds(), username.encode("ascii", "replace")
        owner = self._owners.get(key)
        if owner is None or self._taken.pop(key, None) is not None:
            return  # another program's, or paid for
        self._all.take(now)
        self._account(owner, now).bucket.take(now)

    def clear(self) -> None:
        """Tor is gone, and its circuits with it."""
        self._taken.clear()

    def stop(self) -> None:
        """Let nobody go any more: who waits leaves by himself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- inside ----------------------------------------------------------------------------------

    def _is_under_way(self, username: bytes, now: float, longest: float) -> bool:
        taken = self._taken.get(username)
        return taken is not None and now - taken < longest

    def _account(self, owner: bytes, now: float) -> _Account:
        account = self._accounts.get(owner)
        if account is None:
            account = self._accounts[owner] = _Account(_Bucket(self._caller, now))
            if len(self._accounts) > _REMEMBERED:
                self._forget_one(now)
        self._accounts.move_to_end(owner)
        return account

    def _forget_one(self, now: float) -> None:
        """The one that has been quiet longest; a full one, if there is one near, loses nothing."""
        quiet = [key for key, it in list(self._accounts.items())[:16] if not it.waiting]
        full = [key for key in quiet if self._accounts[key].bucket.is_full(now)]
        for key in (full or quiet)[:1]:
            del self._accounts[key]

    def _delay(self, account: _Account, now: float) -> float:
        """Seconds until it is the turn of one more."""
        ahead = sum(len(one.waiting) for one in self._waiting.values())
        mine = account.bucket.wait(len(account.waiting) + 1, now)
        return max(mine, self._all.wait(ahead + 1, now))

    def _next(self, account: _Account, now: float) -> float:
        """Seconds until one of this caller's may go."""
        return max(account.bucket.wait(1, now), self._all.wait(1, now))

    def _take(self, owner: bytes, account: _Account, username: bytes, now: float) -> None:
        account.bucket.take(now)
        self._all.take(now)
        self._taken.pop(username, None)
        self._taken[username] = now
        self._owners[username] = owner
        self._owners.move_to_end(username)
        for remembered in (self._taken, self._owners):
            if len(remembered) > _REMEMBERED:
                remembered.popitem(last=False)

    def _schedule(self, now: float) -> None:
        """See to those who wait when the next may go."""
        self.stop()
        if self._waiting:
            soonest = min(self._next(account, now) for account in self._waiting.values())
            self._timer = self._clock.callLater(soonest, self._turn)

    def _turn(self) -> None:
        """Let those go who may, callers by turns."""
        self._timer = None
        now = self._clock.seconds()
        going: list[Waiting[None]] = []
        for owner, account in list(self._waiting.items()):
            while account.waiting and not next(iter(account.waiting.values())):
                account.waiting.popitem(last=False)  # all who waited there have left
            if account.waiting and self._next(account, now) > 0:
                continue
            del self._waiting[owner]
            if account.waiting:
                username, waiting = account.waiting.popitem(last=False)
                self._take(owner, account, username, now)
                going.append(waiting)
            if account.waiting:
                self._waiting[owner] = account  # behind the others
        self._schedule(now)
        for waiting in going:
            waiting.fire(None)


def _overloaded(delay: float) -> Overloaded:
    seconds = max(1, math.ceil(delay))
    return Overloaded(
        f"Too many new circuits are asked of Tor at once. Try again in {seconds} s, or allow more "
        "with --circuit-rate and --caller-circuit-rate.",
        retry_after=seconds,
    )

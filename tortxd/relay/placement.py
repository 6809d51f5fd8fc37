"""Where a steered request leaves Tor: which exit its isolation has, and keeps.

An isolation that chooses keeps the exit that was chosen for it for as long as Tor gives streams to
a circuit, so that its next request finds the circuit there. A sticky one keeps it for as long as it
was asked to, whatever becomes of circuits and of Tor. Nothing of it is written to disk.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime

from tortxd.errors import ExitUnavailable, TortxdError
from tortxd.policy.steering import ANY, UNSTEERED, Choice, Steering, Sticky
from tortxd.tor.isolation import Credentials, Isolation, IsolationKeys
from tortxd.tor.link import TorLink
from tortxd.tor.usage import DIRTY_SECONDS

_REMEMBERED = 1_000
"""Exits that are kept for one caller."""
_REMEMBERED_CALLERS = 256
_GONE = (
    "The exit that this key keeps has gone, and it is to have no other (strict). A new identity of "
    "the key lets it have one."
)


@frozen
class Steered:
    """How a request is steered, and for whom."""

    isolation: Isolation
    steering: Steering = UNSTEERED


@frozen
class Place:
    """Where a request leaves Tor."""

    credentials: Credentials
    """With which SOCKS credentials it goes there."""
    exit: str | None = None
    """The fingerprint of the exit; None: Tor chooses."""
    changed: bool = False
    """Whether the isolation was to keep another one, which has gone."""


@define
class _Kept:
    """The exit of one isolation and choice."""

    exit: str
    until: float
    sticky: bool = False
    """Whether it was asked for; else it is kept for the sake of circuits alone."""


_Key = tuple[Isolation, Choice]


@define(eq=False)
class _Caller:
    """What one caller keeps, the oldest first."""

    kept: OrderedDict[_Key, _Kept] = field(factory=OrderedDict)
    sticky: dict[Isolation, Choice] = field(factory=dict)
    """With which choice an isolation was sticky last."""


class Placements:
    """See the module's description.

    :param clock: monotonic.
    :param link: the Tor whose exits they are.
    :param keys: the source of SOCKS credentials.
    """

    def __init__(self, clock: IReactorTime, link: TorLink, keys: IsolationKeys) -> None:
        self._clock = clock
        self._link = link
        self._keys = keys
        self._callers: OrderedDict[bytes, _Caller] = OrderedDict()
        self._sticky: dict[Isolation, None] = {}
        """All that are."""
        self._choosing: dict[_Key, DeferredLock] = {}
        self._salts = count(1)

    def __contains__(self, isolation: object) -> bool:
        """Whether that isolation keeps an exit whatever its requests say; the time may be over."""
        return isolation in self._sticky

    def place(
        self,
        steered: Steered,
        host: str,
        port: int,
        *,
        tried: frozenset[str] = frozenset(),
        fresh: bool = False,
    ) -> Deferred[Place]:
        """Fire with where a request to ``host`` and ``port`` is to leave Tor.

        :param tried: exits that were tried in vain.
        :param fresh: whether it must have a circuit that none had before.

        Cancellable. Fails with ExitUnavailable where no exit is there that was asked for.
        """
        return Deferred.fromCoroutine(self._place(steered, host, port, tried, fresh))

    def forget(self, isolation: Isolation) -> None:
        """Let an isolation have other exits."""
        caller = self._callers.get(isolation.caller)
        if caller is None:
            return
        for key in [key for key in caller.kept if key[0] == isolation]:
            self._drop(caller, key)

    def forget_all(self) -> None:
        """The same for all."""
        self._callers.clear()
        self._sticky.clear()

    # --- inside ----------------------------------------------------------------------------------

    async def _place(
        self, steered: Steered, host: str, port: int, tried: frozenset[str], fresh: bool
    ) -> Place:
        isolation, steering = steered.isolation, steered.steering
        choice, sticky = steering.choice, steering.sticky
        if choice.is_any and host.endswith(".onion"):
            return Place(self._credentials(isolation, None, fresh))  # which has no exit to keep
        if choice.is_any and (kept := self._sticky_choice(isolation)) is not None:
            choice = kept
        elif choice.is_any and sticky is None:
            return await self._elsewhere(isolation, host, port, tried, fresh)
        key = (isolation, choice)
        lock = self._choosing.setdefault(key, DeferredLock())
        await lock.acquire()
        try:
            exit, changed = await self._exit(key, sticky, host, port, tried)
        finally:
            lock.release()
            if not lock.locked:
                self._choosing.pop(key, None)
        return Place(self._credentials(isolation, exit, fresh), exit, changed)

    async def _elsewhere(
        self, isolation: Isolation, host: str, port: int, tried: frozenset[str], fresh: bool
    ) -> Place:
        """Where a request that does not care is tried again: by an exit that was not tried, where
        that can be; else by whatever Tor chooses."""
        exit: str | None = None
        if tried:
            try:
                exit = await self._link.choose_exit(ANY, host, port, tried)
            except TortxdError:
                exit = None
        return Place(self._credentials(isolation, exit, fresh), exit)

    async def _exit(
        self, key: _Key, sticky: Sticky | None, host: str, port: int, tried: frozenset[str]
    ) -> tuple[str, bool]:
        kept = self._kept(key)
        changed = False
        if kept is not None:
            is_strict = sticky is not None and sticky.strict
            if (is_strict or kept.exit not in tried) and await self._link.has_exit(kept.exit, port):
                self._keep(key, kept.exit, sticky, kept)
                return kept.exit, False
            if kept.sticky and is_strict:
                raise ExitUnavailable(_GONE)
            changed = kept.sticky
        exit = await self._link.choose_exit(key[1], host, port, tried)
        if kept is None or kept.sticky or sticky is not None or kept.exit not in tried:
            self._keep(key, exit, sticky, kept if changed else None)
        return exit, changed and kept is not None and kept.exit != exit

    def _credentials(self, isolation: Isolation, exit: str | None, fresh: bool) -> Credentials:
        salt = b"" if exit is None else exit.encode("ascii")
        if fresh:
            salt += b" %d" % next(self._salts)
        return self._keys.credentials(isolation, salt)

    def _kept(self, key: _Key) -> _Kept | None:
        caller = self._callers.get(key[0].caller)
        kept = None if caller is None else caller.kept.get(key)
        if caller is None or kept is None:
            return None
        if kept.until <= self._clock.seconds():
            self._drop(caller, key)
            return None
        return kept

    def _sticky_choice(self, isolation: Isolation) -> Choice | None:
        """The choice with which an isolation is sticky."""
        if isolation not in self._sticky:
            return None
        caller = self._callers.get(isolation.caller)
        choice = None if caller is None else caller.sticky.get(isolation)
        if choice is None:
            return None
        kept = self._kept((isolation, choice))
        return choice if kept is not None and kept.sticky else None

    def _keep(self, key: _Key, exit: str, sticky: Sticky | None, before: _Kept | None) -> None:
        now, isolation = self._clock.seconds(), key[0]
        if before is None:
            kept = _Kept(exit, now + DIRTY_SECONDS)
        else:
            kept = _Kept(exit, before.until, before.sticky)
        if sticky is not None:
            until = now + sticky.seconds
            kept.until = max(kept.until, until) if kept.sticky else until
            kept.sticky = True
        caller = self._callers.setdefault(isolation.caller, _Caller())
        caller.kept[key] = kept
        if kept.sticky:
            caller.sticky[isolation] = key[1]
            self._sticky[isolation] = None
        self._callers.move_to_end(isolation.caller)
        if len(caller.kept) > _REMEMBERED:
            self._drop(caller, next(iter(caller.kept)))
        if len(self._callers) > _REMEMBERED_CALLERS:
            for gone in self._callers.popitem(last=False)[1].sticky:
                self._sticky.pop(gone, None)

    def _drop(self, caller: _Caller, key: _Key) -> None:
        del caller.kept[key]
        isolation, choice = key
        if caller.sticky.get(isolation) == choice:
            del caller.sticky[isolation]
            self._sticky.pop(isolation, None)

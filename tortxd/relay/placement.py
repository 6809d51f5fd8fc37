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


@define(eq=False)
class Kept:
    """The exit of one isolation and choice."""

    exit: str
    until: float
    is_sticky: bool = False
    """Whether it was asked for; else it is kept for the sake of circuits alone."""
    is_strict: bool = False
    """Whether there is to be no other when it has gone."""
    is_untold: bool = False
    """Whether it took the place of another one, and no response has told so."""


@frozen
class Place:
    """Where a request leaves Tor."""

    credentials: Credentials
    """With which SOCKS credentials it goes there."""
    exit: str | None = None
    """The fingerprint of the exit; None: Tor chooses."""
    is_kept: bool = False
    """Whether the isolation is to keep it (sticky)."""
    changed: bool = False
    """Whether it was to keep another one, which has gone, and no response has told so yet."""
    kept: Kept | None = field(default=None, eq=False, repr=False)

    def tell_changed(self) -> bool:
        """:attr:`changed`, for a response that tells it: those that begin later need not."""
        if self.kept is not None:
            self.kept.is_untold = False
        return self.changed


_Key = tuple[Isolation, Choice]


@define(eq=False)
class _Caller:
    """What one caller keeps, the oldest first."""

    kept: OrderedDict[_Key, Kept] = field(factory=OrderedDict)
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

    def steered(self, isolation: Isolation, steering: Steering) -> Steered | None:
        """How a request is steered that asks for this; None: not at all."""
        if steering is UNSTEERED and isolation not in self._sticky:
            return None
        return Steered(isolation, steering)

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
        if choice.is_any and (known := self._sticky_choice(isolation)) is not None:
            choice = known
        elif choice.is_any and sticky is None:
            return await self._elsewhere(isolation, host, port, tried, fresh)
        key = (isolation, choice)
        lock = self._choosing.setdefault(key, DeferredLock())
        await lock.acquire()
        try:
            kept, exit = await self._exit(key, sticky, host, port, tried)
        finally:
            lock.release()
            if not lock.locked:
                self._choosing.pop(key, None)
        credentials = self._credentials(isolation, exit, fresh)
        return Place(credentials, exit, kept.is_sticky, kept.is_untold, kept)

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
    ) -> tuple[Kept, str]:
        """What is kept, and the exit for this request."""
        kept = self._kept(key)
        if kept is None:
            return self._keep(key, await self._choose(key, host, port, tried), sticky)
        is_strict = kept.is_strict if sticky is None else sticky.strict
        if (is_strict or kept.exit not in tried) and await self._link.has_exit(kept.exit, port):
            return self._prolong(key, kept, sticky)
        if kept.is_sticky and is_strict:
            raise ExitUnavailable(_GONE)
        exit = await self._choose(key, host, port, tried)
        if kept.is_sticky:
            kept.is_untold = kept.is_untold or exit != kept.exit
            kept.exit = exit
        elif sticky is None and kept.exit in tried:
            return kept, exit  # a further try is by another one, and no more follows from it
        else:
            kept.exit, kept.until = exit, self._clock.seconds() + DIRTY_SECONDS
        return self._prolong(key, kept, sticky)

    def _choose(self, key: _Key, host: str, port: int, tried: frozenset[str]) -> Deferred[str]:
        return self._link.choose_exit(key[1], host, port, tried)

    def _keep(self, key: _Key, exit: str, sticky: Sticky | None) -> tuple[Kept, str]:
        caller = self._callers.setdefault(key[0].caller, _Caller())
        kept = caller.kept[key] = Kept(exit, self._clock.seconds() + DIRTY_SECONDS)
        self._callers.move_to_end(key[0].caller)
        if len(caller.kept) > _REMEMBERED:
            self._drop(caller, next(iter(caller.kept)))
        if len(self._callers) > _REMEMBERED_CALLERS:
            for gone in self._callers.popitem(last=False)[1].sticky:
                self._sticky.pop(gone, None)
        return self._prolong(key, kept, sticky)

    def _prolong(self, key: _Key, kept: Kept, sticky: Sticky | None) -> tuple[Kept, str]:
        """Keep it for as long as is asked for."""
        caller = self._callers.get(key[0].caller)
        if sticky is not None and caller is not None:
            until = self._clock.seconds() + sticky.seconds
            kept.until = max(kept.until, until) if kept.is_sticky else until
            kept.is_sticky, kept.is_strict = True, sticky.strict
            caller.sticky[key[0]] = key[1]
            self._sticky[key[0]] = None
        return kept, kept.exit

    def _credentials(self, isolation: Isolation, exit: str | None, fresh: bool) -> Credentials:
        salt = b"" if exit is None else exit.encode("ascii")
        if fresh:
            salt += b" %d" % next(self._salts)
        return self._keys.credentials(isolation, salt)

    def _kept(self, key: _Key) -> Kept | None:
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
        if kept is not None and kept.is_sticky:
            return choice
        self._sticky.pop(isolation, None)
        return None

    def _drop(self, caller: _Caller, key: _Key) -> None:
        del caller.kept[key]
        isolation, choice = key
        if caller.sticky.get(isolation) == choice:
            del caller.sticky[isolation]
            self._sticky.pop(isolation, None)

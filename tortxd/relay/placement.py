"""Where a steered request leaves Tor: which exit its isolation has, and keeps.

An isolation that chooses keeps the exit that was chosen for it for as long as Tor gives streams to
a circuit, so that its next request finds the circuit there. A sticky one keeps it for as long as it
was asked to, whatever becomes of circuits and of Tor. Nothing of it is written to disk.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from itertools import count

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from tortxd.errors import ExitUnavailable, NotServed
from tortxd.policy.steering import ANY, UNSTEERED, Choice, Steering, Sticky
from tortxd.tor.isolation import Credentials, Isolation, IsolationKeys
from tortxd.tor.link import TorLink
from tortxd.tor.usage import DIRTY_SECONDS
from tortxd.tor.waiters import Waiters

_REMEMBERED = 1_000
"""Exits that are kept for one caller."""
_REMEMBERED_IN_ALL = 20_000
_GONE = (
    "The exit that is kept has gone, or does not carry this port, and there is to be no other "
    "(strict). Ask without strict, or have a new identity made of the key."
)
_NONE_TO_ONIONS = "An onion service is reached without an exit, so none can be chosen."
_NONE_TO_IPV6 = "An exit can be chosen for names and IPv4 addresses, not for an IPv6 address."


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
    told: str
    """The exit that responses have told of last."""
    is_sticky: bool = False
    """Whether it was asked for; else it is kept for the sake of circuits alone."""
    is_strict: bool = False
    """Whether there is to be no other when it has gone."""


@frozen
class Place:
    """Where a request leaves Tor."""

    credentials: Credentials
    """With which SOCKS credentials it goes there."""
    exit: str | None = None
    """The fingerprint of the exit; None: Tor chooses."""
    is_sticky: bool = False
    """Whether the isolation is to keep it."""
    changed: bool = False
    """Whether it was to keep another one, which has gone, and no response has told so yet."""
    kept: Kept | None = field(default=None, eq=False, repr=False)


_Key = tuple[Isolation, Choice]


def _whose(isolation: Isolation) -> tuple[bytes, bytes]:
    return isolation.caller, isolation.origin


@define(eq=False)
class _Caller:
    """What one caller keeps, what was used longest ago first."""

    kept: OrderedDict[_Key, Kept] = field(factory=OrderedDict)
    sticky: dict[Isolation, Choice] = field(factory=dict)
    """With which choice an isolation was sticky last, or is about to be."""


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
        self._callers: OrderedDict[tuple[bytes, bytes], _Caller] = OrderedDict()
        """What is kept for each, and each web origin that asks there."""
        self._count = 0
        self._sticky: dict[Isolation, None] = {}
        """All that are."""
        self._drawing: dict[_Key, Waiters[None]] = {}
        """For whom an exit is being chosen, and who waits for it."""
        self._salts = count(1)

    def steered(self, isolation: Isolation, steering: Steering) -> Steered | None:
        """How a request is steered that asks for this; None: not at all. Where a site stands for
        the key, whoever asks for nothing is not bound by what another program has asked for."""
        if steering is UNSTEERED and (isolation not in self._sticky or isolation.kind == "site"):
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

    def told(self, place: Place) -> None:
        """A response has told where it left, and whether that has changed."""
        if place.kept is not None and place.exit is not None:
            place.kept.told = place.exit

    def forget(self, isolation: Isolation) -> None:
        """Let an isolation have other exits."""
        caller = self._callers.get(_whose(isolation))
        if caller is None:
            return
        for key in [key for key in caller.kept if key[0] == isolation]:
            self._drop(caller, key)
        self._is_no_longer_sticky(caller, isolation)

    def forget_all(self) -> None:
        """The same for all."""
        self._callers.clear()
        self._sticky.clear()
        self._count = 0

    # --- inside ----------------------------------------------------------------------------------

    async def _place(
        self, steered: Steered, host: str, port: int, tried: frozenset[str], fresh: bool
    ) -> Place:
        isolation, steering = steered.isolation, steered.steering
        choice, sticky = steering.choice, steering.sticky
        if host.endswith(".onion"):
            if not choice.is_any:
                raise ExitUnavailable(_NONE_TO_ONIONS)
            return Place(self._credentials(isolation, None, fresh))  # which has no exit to keep
        if choice.is_any:
            known = await self._sticky_choice(isolation)
            if known is None and sticky is None:
                return await self._elsewhere(isolation, host, port, tried, fresh)
            choice = known or ANY
        if ":" in host:
            raise ExitUnavailable(_NONE_TO_IPV6)
        key = (isolation, choice)
        if sticky is not None:  # at once: requests that come meanwhile wait for its exit
            self._becomes_sticky(key)
        try:
            kept, exit = await self._exit(key, sticky, host, port, tried)
        finally:
            self._settle(key)
        changed = kept.is_sticky and exit != kept.told
        credentials = self._credentials(isolation, exit, fresh)
        return Place(credentials, exit, kept.is_sticky, changed, kept)

    async def _elsewhere(
        self, isolation: Isolation, host: str, port: int, tried: frozenset[str], fresh: bool
    ) -> Place:
        """Where a request that does not care is tried again: by an exit that was not tried, where
        that can be; else by whatever Tor chooses."""
        exit: str | None = None
        if tried and ":" not in host:
            with suppress(ExitUnavailable, NotServed):
                exit = await self._link.choose_exit(ANY, host, port, tried)
        return Place(self._credentials(isolation, exit, fresh), exit)

    async def _exit(
        self, key: _Key, sticky: Sticky | None, host: str, port: int, tried: frozenset[str]
    ) -> tuple[Kept, str]:
        """What is kept, and the exit for this request. Whatever is waited for, it may have been
        forgotten or moved meanwhile: then it begins anew."""
        while True:
            drawing = self._drawing.get(key)
            if drawing is not None:
                await drawing.add()
                continue
            kept = self._kept(key)
            exit = None if kept is None else kept.exit
            is_strict = False
            if kept is not None:
                is_strict = kept.is_strict if sticky is None else sticky.strict
            if kept is not None and exit is not None and (is_strict or exit not in tried):
                username = self._credentials(key[0], exit, fresh=False).username
                has = await self._link.has_exit(exit, port, username)
                if self._kept(key) is not kept or kept.exit != exit:
                    continue
                if has:
                    return self._prolong(key, kept, sticky), exit
                if kept.is_sticky and is_strict:
                    raise ExitUnavailable(_GONE)
                if key in self._drawing:
                    continue
            drawn = await self._draw(key, kept, sticky, host, port, tried)
            if drawn is not None:
                return drawn

    async def _draw(
        self,
        key: _Key,
        kept: Kept | None,
        sticky: Sticky | None,
        host: str,
        port: int,
        tried: frozenset[str],
    ) -> tuple[Kept, str] | None:
        """An exit in place of the one that was kept; None: that is not the same any more. Those who
        want one meanwhile wait, and look again."""
        before = None if kept is None else kept.exit
        waiting = self._drawing[key] = Waiters()
        try:
            drawn = await self._link.choose_exit(key[1], host, port, tried)
            if self._kept(key) is not kept or (kept is not None and kept.exit != before):
                return None
            if kept is None:
                return self._prolong(key, self._keep(key, drawn), sticky), drawn
            if not kept.is_sticky and sticky is None and kept.exit in tried:
                return kept, drawn  # a further try is elsewhere, and no more follows from it
            kept.exit = drawn
            if not kept.is_sticky:
                kept.told, kept.until = drawn, self._clock.seconds() + DIRTY_SECONDS
            return self._prolong(key, kept, sticky), drawn
        finally:
            del self._drawing[key]
            waiting.fire(None)

    def _credentials(self, isolation: Isolation, exit: str | None, fresh: bool) -> Credentials:
        salt = b"" if exit is None else exit.encode("ascii")
        if fresh:
            salt += b" %d" % next(self._salts)
        return self._keys.credentials(isolation, salt)

    # --- what is kept ----------------------------------------------------------------------------

    def _caller(self, isolation: Isolation) -> _Caller:
        whose = _whose(isolation)
        caller = self._callers.setdefault(whose, _Caller())
        self._callers.move_to_end(whose)
        return caller

    def _kept(self, key: _Key) -> Kept | None:
        caller = self._callers.get(_whose(key[0]))
        kept = None if caller is None else caller.kept.get(key)
        if caller is None or kept is None:
            return None
        if kept.until <= self._clock.seconds():
            self._drop(caller, key)
            return None
        return kept

    def _keep(self, key: _Key, exit: str) -> Kept:
        caller = self._caller(key[0])
        kept = caller.kept[key] = Kept(exit, self._clock.seconds() + DIRTY_SECONDS, exit)
        self._count += 1
        if len(caller.kept) > _REMEMBERED:
            self._make_room(caller, key)
        elif self._count > _REMEMBERED_IN_ALL:
            # Who keeps most loses some: nobody can take away what others keep.
            self._make_room(max(self._callers.values(), key=lambda one: len(one.kept)), key)
        return kept

    def _make_room(self, caller: _Caller, new: _Key) -> None:
        """Let go of what is over, else of what is kept for the sake of circuits alone, else of what
        was used longest ago; not of what is new."""
        now = self._clock.seconds()
        over = [key for key, kept in caller.kept.items() if kept.until <= now]
        loose = (key for key, kept in caller.kept.items() if not kept.is_sticky and key != new)
        for key in over or [next(loose, next(iter(caller.kept)))]:
            self._drop(caller, key)

    def _prolong(self, key: _Key, kept: Kept, sticky: Sticky | None) -> Kept:
        """It is used: keep it for as long as is asked for."""
        caller = self._caller(key[0])
        if key in caller.kept:
            caller.kept.move_to_end(key)
        if sticky is not None:
            until = self._clock.seconds() + sticky.seconds
            kept.until = max(kept.until, until) if kept.is_sticky else until
            kept.is_sticky, kept.is_strict = True, sticky.strict
            self._becomes_sticky(key)
        return kept

    def _drop(self, caller: _Caller, key: _Key) -> None:
        del caller.kept[key]
        self._count -= 1
        if caller.sticky.get(key[0]) == key[1]:
            self._is_no_longer_sticky(caller, key[0])

    # --- who is sticky ---------------------------------------------------------------------------

    def _becomes_sticky(self, key: _Key) -> None:
        isolation, choice = key
        self._caller(isolation).sticky[isolation] = choice
        self._sticky[isolation] = None

    def _settle(self, key: _Key) -> None:
        """Where nothing came of being sticky, nothing is remembered of it."""
        isolation, choice = key
        caller = self._callers.get(_whose(isolation))
        if caller is None or caller.sticky.get(isolation) != choice or key in self._drawing:
            return
        kept = self._kept(key)
        if kept is None or not kept.is_sticky:
            self._is_no_longer_sticky(caller, isolation)

    def _is_no_longer_sticky(self, caller: _Caller, isolation: Isolation) -> None:
        caller.sticky.pop(isolation, None)
        self._sticky.pop(isolation, None)
        if not caller.kept and not caller.sticky:
            self._callers.pop(_whose(isolation), None)

    async def _sticky_choice(self, isolation: Isolation) -> Choice | None:
        """The choice with which an isolation is sticky, once that is known."""
        while isolation in self._sticky:
            caller = self._callers.get(_whose(isolation))
            choice = None if caller is None else caller.sticky.get(isolation)
            if caller is None or choice is None:
                self._sticky.pop(isolation, None)
                break
            drawing = self._drawing.get((isolation, choice))
            if drawing is None:
                kept = self._kept((isolation, choice))
                if kept is not None and kept.is_sticky:
                    return choice
                self._is_no_longer_sticky(caller, isolation)
                break
            await drawing.add()
        return None

"""The events of all members of a fleet, as they come: each member is followed by a thread of its
own, so that one that is lost or slow holds up none of the others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from tortxd.cli import events
from tortxd.cli.asking import stranger
from tortxd.cli.events import Event
from tortxd.cli.failures import CommandFailed, NotReached
from tortxd.cli.fleet import MISSHAPEN
from tortxd.cli.roster import Member

MOST_WAITING = 16
"""Events, of all members, that wait to be shown: whoever sends more of them waits as well."""
_T = TypeVar("_T")


class Came(NamedTuple, Generic[_T]):
    """What has come of a member."""

    member: Member
    value: _T | None = None
    """What was made of an event. None: there is none, but the connection is lost."""
    error: CommandFailed | None = None
    """Why, where that is known."""
    is_over: bool = False
    """Whether it is tried no more, since the gateway refuses it."""


class Merged(Generic[_T]):
    """What comes of all members.

    :param shape: makes of a member's event what is wanted of it, in the member's own thread. Where
        it raises LookupError, TypeError or the like, what the member sends is no event.
    """

    def __init__(
        self,
        members: Sequence[Member],
        shape: Callable[[Member, Event], _T],
        types: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._members = members
        self._shape = shape
        self._types = types
        self._sleep = sleep
        self._queue: queue.Queue[Came[_T] | BaseException] = queue.Queue(MOST_WAITING)

    def start(self) -> None:
        """Begin to follow."""
        for member in self._members:
            threading.Thread(target=self._run, args=(member,), daemon=True).start()

    def __iter__(self) -> Iterator[Came[_T]]:
        """All that comes, for ever."""
        while True:
            yield self._checked(self._queue.get())

    def waiting(self) -> Iterator[Came[_T]]:
        """What has come by now, some hundred at most."""
        with suppress(queue.Empty):
            for _ in range(20 * MOST_WAITING):
                yield self._checked(self._queue.get_nowait())

    def _checked(self, came: Came[_T] | BaseException) -> Came[_T]:
        if isinstance(came, BaseException):
            raise came
        return came

    def _run(self, member: Member) -> None:
        try:
            while not self._follow(member):
                self._sleep(events.AGAIN)
        except BaseException as error:  # a fault of ours, which the command is to end with
            self._queue.put(error)

    def _follow(self, member: Member) -> bool:
        """Follow a member until that fails; whether it is over."""
        put = self._queue.put
        try:
            for event in events.follow(
                member.asker, self._types, lost=lambda: put(Came(member)), sleep=self._sleep
            ):
                put(Came(member, self._shape(member, event)))
        except NotReached as error:
            put(Came(member, error=error))
        except MISSHAPEN:
            put(Came(member, error=stranger(member.url)))
        except CommandFailed as error:
            put(Came(member, error=error, is_over=True))
            return True
        return False

"""The last events that were told, for those who read at their own pace."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

MOST_EVENTS = 4096
MOST_BYTES = 1024 * 1024


class Event(NamedTuple):
    """One event, ready to be sent (HTML, section 9.2, "Server-sent events")."""

    number: int
    kind: str
    wire: bytes


class Ring:
    """Remembers so many events as fit, each of which has a number of its own, one after the other.

    Its ids begin with a name, so that those of another daemon, or of an earlier run, are known to
    be strange.
    """

    def __init__(self) -> None:
        self._name = secrets.token_hex(4)
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._next = 1

    @property
    def next(self) -> int:
        """The number of the event that comes next."""
        return self._next

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is remembered, or the next one."""
        return self._events[0].number if self._events else self._next

    def add(self, kind: str, data: bytes) -> None:
        """Another event, with what it says as JSON in one line."""
        event = Event(self._next, kind, self.wire(kind, data, self._next))
        self._next += 1
        self._events.append(event)
        self._bytes += len(event.wire)
        while len(self._events) > MOST_EVENTS or self._bytes > MOST_BYTES:
            self._bytes -= len(self._events.popleft().wire)

    def wire(self, kind: str, data: bytes, number: int) -> bytes:
        """An event of this number, ready to be sent."""
        return b"id: %s-%d\nevent: %s\ndata: %s\n\n" % (
            self._name.encode(),
            number,
            kind.encode(),
            data,
        )

    def after(self, id: bytes) -> int | None:
        """The number of the event behind the one with this id; None where it is none of these, or
        what came since is no longer remembered."""
        name, _, number = id.partition(b"-")
        if name != self._name.encode() or not number.isdigit() or len(number) > 18:
            return None
        next = int(number) + 1
        return next if self.oldest <= next <= self._next else None

    def since(self, number: int) -> Iterator[Event]:
        """The events from this number on, which is remembered, or is the next one."""
        for index in range(number - self.oldest, len(self._events)):
            yield self._events[index]

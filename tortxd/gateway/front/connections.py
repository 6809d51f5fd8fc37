"""Who is connected to the gateway's port: how many may be, who makes room, how they all leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView
from itertools import islice
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred

from tortxd.errors import Overloaded
from tortxd.gateway.limits import REFUSALS, Limits
from tortxd.gateway.load import Client, Load
from tortxd.relay.timeouts import Timeouts

LAST_WORDS = 0.3
"""Seconds in which clients can take the answer that there will be none, at a stop."""
LONG_IDLE = 5.0
"""Seconds without a request, or a byte, after which a connection may have to make room."""
LOOKED_AT = 256
"""How many idle connections are looked at for one that makes room."""


class Connection(Protocol):
    """A client's connection, as far as it is one of many."""

    client: Client

    @property
    def busy(self) -> bool:
        """Whether a request is under way, or its head, or the last bytes of its answer."""

    def make_room(self) -> None:
        """Leave at once, being idle, for the sake of another client."""

    def leave(self) -> None:
        """Close it in order: nobody asks for anything on it."""

    def give_up(self) -> None:
        """Answer whatever is still being asked on it: the gateway stops."""

    def abort(self) -> None:
        """Close it now."""


C = TypeVar("C", bound=Connection)


class Connections(Generic[C]):
    """Every client connection that is open.

    Where there are as many as there may be, or as one client may have, the one that has been idle
    longest makes room, if it is the same client's or that of one with as many; where there is none,
    the new one is refused. Where as many are being refused as there is room for, no more are to be
    accepted: they wait in the kernel's queue.

    :param limits: asked each time: how many there may be.
    :param load: counts those that are served.
    :param left: called when one has gone, so that others may come.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        limits: Callable[[], Limits],
        load: Load,
        left: Callable[[], object],
    ) -> None:
        self._timeouts = timeouts
        self._limits = limits
        self._load = load
        self._left = left
        self._open: set[C] = set()
        self._refused: set[C] = set()
        self._idle: dict[C, float] = {}
        """Those between two requests, or in a tunnel whose client has no more to say, and since
        when; the one that has waited longest first."""
        self._quiet: Deferred[None] | None = None
        self._emptied: Deferred[None] | None = None
        self.closing = False
        """Whether all are to leave, each after its next request at the latest."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self._open))

    @property
    def room(self) -> int:
        """How many more may be accepted, each to be served or to be refused."""
        refused = len(self._refused)
        served = len(self._open) - refused
        return max(self._limits().clients - served, 0) + REFUSALS - refused

    @property
    def overrun(self) -> bool:
        """Whether there are even more than can be refused."""
        return self.room <= -REFUSALS

    @property
    def hurried(self) -> bool:
        """Whether so many are being refused that none of them has much time."""
        return len(self._refused) > REFUSALS // 2

    @property
    def idle(self) -> KeysView[C]:
        """Those that have nothing to do."""
        return self._idle.keys()

    def admit(self, connection: C, *, no_descriptor: bool = False) -> Overloaded | None:
        """Take in one that has just connected. Where it is one too many: why, to be told.

        :param no_descriptor: whether it has the last one.
        """
        self._open.add(connection)
        client = connection.client
        if no_descriptor:
            self._refused.add(connection)
            return self._load.no_descriptor()
        if self._load.may_connect(client) or self._make_room_for(client):
            self._load.connects(client)
            return None
        self._refused.add(connection)
        return self._load.no_connection(client)

    def _make_room_for(self, client: Client) -> bool:
        """Have one leave that has long been idle: the client's own, or of one that has no less."""
        now = self._timeouts.clock.seconds()
        for waiting, since in islice(self._idle.items(), LOOKED_AT):
            # Who has only just connected is about to ask.
            if now - since < LONG_IDLE:
                break
            if waiting.client is client or waiting.client.connections >= client.connections:
                waiting.make_room()
                return True
        return False

    def is_idle(self, connection: C) -> None:
        """It is so from now on, as far as others need its place."""
        self._idle.pop(connection, None)
        if connection not in self._refused:
            self._idle[connection] = self._timeouts.clock.seconds()

    def is_busy(self, connection: C) -> None:
        """It is not to make room for others."""
        self._idle.pop(connection, None)

    def gone(self, connection: C) -> None:
        """It is no longer connected."""
        self._open.discard(connection)
        if connection in self._refused:
            self._refused.discard(connection)
        else:
            self._load.disconnects(connection.client)
        self._load.forget(connection.client)
        self._idle.pop(connection, None)
        self._left()
        self._check()

    def close(self) -> Deferred[None]:
        """Have idle ones leave now, and busy ones when their request is served; who connects from
        now on has one request. Fires when nobody is being served."""
        self.closing = True
        quiet = self._quiet = Deferred()
        self._dismiss_idle()
        self._check()
        return quiet

    def empty(self) -> Deferred[None]:
        """Have those leave as well that have connected since, and asked for nothing. Fires when
        none is left."""
        emptied = self._emptied = Deferred()
        self._dismiss_idle()
        self._check()
        return emptied

    def _dismiss_idle(self) -> None:
        for connection in self:
            if not connection.busy:
                connection.leave()

    def end(self) -> None:
        """Answer what is still being asked, and abort what is left :data:`LAST_WORDS` later."""
        for connection in self:
            connection.give_up()
        self._timeouts.start(LAST_WORDS, self._abort)

    def _abort(self) -> None:
        for connection in self:
            connection.abort()

    def _check(self) -> None:
        if self._quiet is not None and not any(one.busy for one in self._open):
            quiet, self._quiet = self._quiet, None
            quiet.callback(None)
        if self._emptied is not None and not self._open:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

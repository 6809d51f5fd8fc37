"""``GET /events``: what changes, as it does (HTML, section 9.2, "Server-sent events")."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from tortxd.errors import BadRequest, Overloaded, TorDown
from tortxd.gateway.answers import OWN_HEADERS, NotTaken, StreamedAnswer
from tortxd.gateway.control.endpoints import Call, Context
from tortxd.gateway.control.feed import KINDS, Feed
from tortxd.relay.outbound import STOPPING

QUIET = 15.0
"""Seconds without an event after which a comment shows that the connection lives."""
PATIENCE = 60.0
"""Seconds that a reader may take nothing."""
MOST_READERS = 32
_COMMENT = b": \n\n"
_PIECE = 64 * 1024
"""Bytes that are written at once."""


async def events(context: Context, call: Call) -> StreamedAnswer:
    """What changes, to one reader.

    :raises BadRequest: it chooses what there is not.
    :raises Overloaded: there are as many readers as there may be.
    :raises TorDown: the gateway is being stopped.
    """
    kinds = _kinds_in(call.query)
    if context.gateway.health.stopping:
        raise TorDown(STOPPING)
    if len(context.feed) >= MOST_READERS:
        raise Overloaded("As many read /events as may; close a dashboard that is not needed.")

    async def feed(consumer: IConsumer) -> None:
        await Reader(context.gateway.reactor, context.feed, kinds, call.last_event_id).read(
            consumer
        )

    headers = [(b"Content-Type", b"text/event-stream; charset=utf-8"), *OWN_HEADERS]
    # What stands between us and the reader is to hold nothing back.
    return StreamedAnswer(200, [*headers, (b"X-Accel-Buffering", b"no")], feed)


def _kinds_in(query: bytes) -> frozenset[str]:
    """What ``types`` names; all where it is absent."""
    chosen = [
        value
        for name, _, value in (one.partition(b"=") for one in query.split(b"&") if one)
        if name == b"types"
    ]
    if not chosen:
        return frozenset(KINDS)
    kinds = frozenset(b",".join(chosen).replace(b"%2C", b",").decode("latin-1").split(","))
    if kinds - {*KINDS, "snapshot"}:
        raise BadRequest(f"`types` takes {', '.join(KINDS)}, separated by commas.")
    return kinds


@implementer(IPushProducer)
class Reader:
    """Writes events to one reader as fast as it takes them. One that takes nothing for long, or is
    so far behind that what it would get next is forgotten, is sent away: it can come back for a
    snapshot.

    :param last: the id of the last event that it had; nothing: it had none.
    """

    def __init__(
        self, clock: IReactorTime, feed: Feed, kinds: frozenset[str], last: bytes = b""
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._kinds = kinds | {"snapshot"}
        self._chosen = kinds
        self._last = last
        self._position = 0
        """The number of the event that it gets next."""
        self._consumer: IConsumer | None = None
        self._paused = False
        self._timer: IDelayedCall | None = None
        self._done: Deferred[None] = Deferred(lambda _: self._leave())

    async def read(self, consumer: IConsumer) -> None:
        """Write to ``consumer`` until this reader is sent away; cancelled when it leaves.

        :raises NotTaken: it takes nothing.
        """
        self._consumer = consumer
        feed = self._feed
        feed.join(self)
        consumer.registerProducer(self, True)
        try:
            self._begin(consumer)
            self._rest()
            await self._done
        finally:
            self._leave()
            consumer.unregisterProducer()

    def _begin(self, consumer: IConsumer) -> None:
        ring = self._feed.ring
        position = ring.after(self._last)
        if position is None:
            consumer.write(self._feed.snapshot(self._chosen))
            position = ring.next
        self._position = position
        self.wake()

    def wake(self) -> None:
        """There are further events."""
        ring, consumer = self._feed.ring, self._consumer
        if consumer is None or self._paused:
            if self._position < ring.oldest:
                self._give_up()
            return
        if not ring.oldest <= self._position <= ring.next:
            self.end()
            return
        piece: list[bytes] = []
        size = 0
        for event in ring.since(self._position):
            self._position = event.number + 1
            if event.kind not in self._kinds:
                continue
            wire = event.wire
            if event.kind == "snapshot":
                wire = self._feed.chosen(event, self._chosen)
            piece.append(wire)
            size += len(wire)
            if size > _PIECE:
                break
        if not piece:
            return
        consumer.write(b"".join(piece))
        if not self._paused:
            self._rest()
            if self._position < ring.next:
                self.wake()

    def _rest(self) -> None:
        """Nothing is to be said for now."""
        self._wait(QUIET, self._comment)

    def _comment(self) -> None:
        if self._consumer is not None:
            self._consumer.write(_COMMENT)
            if not self._paused:
                self._rest()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, then)

    def end(self) -> None:
        """Send it away."""
        self._leave()
        if not self._done.called:
            self._done.callback(None)

    def _give_up(self) -> None:
        """Send it away, and do not wait until it has taken what there is."""
        self._leave()
        if not self._done.called:
            self._done.errback(NotTaken())

    def _leave(self) -> None:
        self._feed.quit(self)
        self._consumer = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    # --- IPushProducer ---------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """It takes no more for now."""
        if not self._paused:
            self._paused = True
            self._wait(PATIENCE, self._give_up)

    def resumeProducing(self) -> None:
        """It takes it again."""
        self._paused = False
        if self._consumer is not None:
            self._rest()
            self.wake()

    def stopProducing(self) -> None:
        """It has left; the one who has called :meth:`read` hears it as well."""
        self.end()

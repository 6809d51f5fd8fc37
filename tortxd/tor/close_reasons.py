"""Why the stream of a SOCKS connection ended, for those who wait to know."""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from tortxd.tor.changes import Source, StreamEnded
from tortxd.tor.recent import REMEMBER_STREAMS
from tortxd.tor.table import Table
from tortxd.tor.waiters import Waiters


class CloseReasons:
    """Listens to ``table``, and gives each stream's reason once: the next connection may come from
    the same port before its stream shows."""

    def __init__(self, clock: IReactorTime, table: Table) -> None:
        self._clock = clock
        self._table = table
        self._waiting: dict[Source, Waiters[str | None]] = {}
        self._given: OrderedDict[Source, str] = OrderedDict()
        """Sources, and the ids of the streams from there whose reasons were given last."""
        table.listen(StreamEnded, self._ended)

    def __len__(self) -> int:
        return len(self._waiting)

    def reason(self, source: Source, timeout: float) -> Deferred[str | None]:
        """Fire with the reason of the newest stream from ``source``, as soon as it has ended; with
        None when it has not after ``timeout`` seconds, or after :meth:`give_up`. Cancellable."""
        ended = self._table.end_of(source, self._clock.seconds())
        if ended is not None and self._given.get(source) != ended.stream.id:
            self._give(source, ended)
            return succeed(ended.cause)
        waiting = self._waiting.setdefault(source, Waiters())
        answer = waiting.add()
        timer = self._clock.callLater(timeout, waiting.resolve, answer, None)

        def done(result: str | None) -> str | None:
            if timer.active():
                timer.cancel()
            if not waiting and self._waiting.get(source) is waiting:
                del self._waiting[source]
            return result

        return answer.addBoth(done)

    def give_up(self) -> None:
        """Tor has gone: no reason comes any more."""
        unanswered, self._waiting = self._waiting, {}
        for waiting in unanswered.values():
            waiting.fire(None)

    def _ended(self, ended: StreamEnded) -> None:
        source = ended.stream.source
        waiting = None if source is None else self._waiting.pop(source, None)
        if source is not None and waiting is not None:
            self._give(source, ended)
            waiting.fire(ended.cause)

    def _give(self, source: Source, ended: StreamEnded) -> None:
        self._given[source] = ended.stream.id
        self._given.move_to_end(source)
        if len(self._given) > REMEMBER_STREAMS:
            self._given.popitem(last=False)

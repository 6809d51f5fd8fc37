"""Sends what connections write in one round of the reactor together, at the round's end.

When something is written to a connection of Twisted's, the reactor is told to wait until the
socket takes it (``epoll_ctl``), hears in its next round that it does, and stops to wait
(``epoll_ctl``). A socket nearly always takes it. So here it is sent first, and the reactor waits
only for those that did not take all. Not at once, in the midst of the round: whoever reads at the
other end would be woken once for each piece.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.tcp import Connection
from twisted.logger import Logger

from tortxd._types import Reactor

log = Logger()

_together: WeakKeyDictionary[Any, _Together] = WeakKeyDictionary()


def write_together(transport: object) -> None:
    """Have what is written to ``transport`` sent at the end of the reactor's round; nothing else
    about it changes. Without effect on what is no TCP or unix connection of a reactor."""
    if not isinstance(transport, Connection):
        return
    reactor: Any = transport.reactor
    together = _together.get(reactor)
    if together is None:
        together = _together[reactor] = _Together(reactor)
    together.take_in(transport)


class _Together:
    """The connections of one reactor to which something was written in this round."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._due: dict[Connection, None] = {}

    def take_in(self, connection: Connection) -> None:
        """Stand in for the reactor where ``connection`` has something to send."""

        def start_writing() -> None:
            # What did not go before waits for the reactor, and all that is behind it.
            if not connection.dataBuffer:
                if not self._due:
                    self._reactor.callLater(0, self._send)
                self._due[connection] = None

        connection.startWriting = start_writing  # type: ignore[method-assign]

    def _send(self) -> None:
        due, self._due = self._due, {}
        for connection in due:
            if connection.connected:
                try:
                    ends = connection.doWrite() is not None
                except Exception:
                    log.failure("A connection could not be written to.")
                    connection.abortConnection()
                    continue
                if ends or connection.dataBuffer:
                    # The reactor also finds out once more that the connection has ended.
                    connection.reactor.addWriter(connection)

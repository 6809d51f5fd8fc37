"""The end of a client's connection: its last bytes arrive, and whether they are all shows.

To close a connection with unread bytes would reset it, and the kernel would forget what it has not
delivered. So nothing is closed before the client has taken what there is, as far as the kernel
knows; what it still sends is read and thrown away. :class:`InOrder` ends a connection whose
exchange is whole, :class:`Broken` one whose response broke off.
"""

from __future__ import annotations

import fcntl
import sys
import termios
from collections.abc import Callable

from twisted.internet.interfaces import IPullProducer, ITCPTransport
from zope.interface import implementer

from tortxd.gateway.transports import ClientTransport, socket_of
from tortxd.relay.timeouts import Timeout, Timeouts

IDLE_TIME = 300.0
"""Seconds that a connection is kept at its end while the client takes no byte of what there is for
it, where nothing else is said."""
LINGER_TIME = 2.0
"""Seconds that a client has to close its end, once it has taken the last byte."""
STALL_TIME = 30.0
"""Seconds after which a client that takes nothing of a response that broke off is not waited for.
The kernel tells us of a slow reader in steps of up to 128 KiB."""
SENT_LOOK = 0.1
"""Seconds between two looks at whether the last bytes have been sent, at first."""
MAX_LOOK = 1.0
"""And at most, while the client takes nothing."""


def _nothing() -> None:
    """Nobody has to hear of it."""


class LastBytes:
    """The end of a client's connection, from when nothing more is written to it: waits while the
    client takes what there is, and throws away what it still sends.

    It waits as long as the client takes bytes, and :attr:`patience` seconds where it takes none.

    :param taking: called whenever the client has taken something.
    """

    patience: float

    def __init__(
        self, transport: ClientTransport, timeouts: Timeouts, taking: Callable[[], object]
    ) -> None:
        self._transport = transport
        self._timeouts = timeouts
        self._taking = taking
        self._left: int | None = None
        self._since = timeouts.clock.seconds()
        self._pause = SENT_LOOK
        self._timer: Timeout | None = None

    def start(self) -> None:
        """Begin to wait."""
        self._transport.unregisterProducer()
        self._transport.resumeProducing()
        self._look_again(SENT_LOOK)

    def client_done(self) -> None:
        """The client will send no more; it may still listen."""

    def cancel(self) -> None:
        """The connection is gone, and nothing of this leads back to it."""
        self._stop_timer()
        self._taking = _nothing

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _all_taken(self) -> None:
        """The peer's kernel has all that ours was given."""
        raise NotImplementedError

    def _look(self) -> None:
        left = _unsent(self._transport)
        now = self._timeouts.clock.seconds()
        if left != self._left:
            if self._left is not None:
                self._pause = SENT_LOOK
                self._taking()
            self._left, self._since = left, now
        if not left:
            self._all_taken()
        elif now - self._since >= self.patience:
            self._abort()
        else:
            self._look_again(self._pause)
            self._pause = min(2 * self._pause, MAX_LOOK)

    def _look_again(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._timeouts.start(seconds, self._look)

    def _abort(self) -> None:
        self._stop_timer()
        if getattr(socket_of(self._transport), "connected", True):
            self._transport.abortConnection()


class InOrder(LastBytes):
    """Ends a connection as one ends that is whole: our end is closed behind the last byte, and the
    connection when the client closes its own, or :data:`LINGER_TIME` after it has taken all.

    :param sending: whether the client may be sending still. Otherwise, all is closed at once: the
        kernel delivers what there is.
    :param patience: see :class:`LastBytes`.
    :param linger: in place of :data:`LINGER_TIME`.
    """

    def __init__(
        self,
        transport: ClientTransport,
        timeouts: Timeouts,
        taking: Callable[[], object] = _nothing,
        *,
        sending: bool = True,
        patience: float = IDLE_TIME,
        linger: float | None = None,
    ) -> None:
        super().__init__(transport, timeouts, taking)
        self.patience = patience
        self._linger = LINGER_TIME if linger is None else linger
        self._client_done = False
        self._rested = False
        """Whether there was nothing left to take at the last look."""
        # TLS has no half-closed connections; but what comes behind our end is read on, until the
        # client has answered with its own.
        half = sending and socket_of(transport) is transport
        self._closing = not (half and ITCPTransport.providedBy(transport))

    def start(self) -> None:
        """See :class:`LastBytes`."""
        super().start()
        if self._closing:
            self._transport.loseConnection()
        else:
            self._transport.loseWriteConnection()

    def client_done(self) -> None:
        """See :class:`LastBytes`."""
        self._client_done = True
        self._look()

    def _look(self) -> None:
        super()._look()
        self._rested = self._left == 0

    def _all_taken(self) -> None:
        if self._closing and self._rested:
            self._abort()
            return
        self._look_again(self._linger)
        if self._rested or self._client_done:
            # What Twisted itself should still hold goes first.
            self._closing = True
            self._transport.loseConnection()


@implementer(IPullProducer)
class Broken(LastBytes):
    """Aborts a connection when its client has taken what there is, so that the end is a reset,
    which nobody takes for a regular one, and yet nothing is lost."""

    patience = STALL_TIME

    def __init__(
        self,
        transport: ClientTransport,
        timeouts: Timeouts,
        taking: Callable[[], object] = _nothing,
    ) -> None:
        super().__init__(transport, timeouts, taking)
        self._flushed = self._registered = False

    def start(self) -> None:
        """See :class:`LastBytes`."""
        super().start()
        if socket_of(self._transport) is self._transport:
            self._when_flushed()
        # else TLS gathers for a moment what it is to send

    def _when_flushed(self) -> None:
        """Look when Twisted has given the kernel all that it held."""
        socket = socket_of(self._transport)
        # Such a producer is asked for more now, and when the buffer has become empty.
        socket.registerProducer(self, False)
        self._registered = True
        socket.startWriting()  # it may be empty already

    def resumeProducing(self) -> None:
        if self._registered:
            socket_of(self._transport).unregisterProducer()
            self._flushed = True
            self._look()

    def stopProducing(self) -> None:
        """The client has left."""
        self._stop_timer()

    def _all_taken(self) -> None:
        if self._flushed:
            self._abort()
            return
        self._look_again(self._pause)
        if not self._registered:
            self._when_flushed()


def _unsent(transport: ClientTransport) -> int:
    """Bytes that the peer has not taken, as far as is known: those that the kernel has still to
    send, or has no acknowledgement of (tcp(7), SIOCOUTQ), and what Twisted has ready for it."""
    lower = socket_of(transport)
    try:
        fd = lower.getHandle().fileno()
        answer = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError, AttributeError):  # it is closed by now, and has no socket
        return 0
    ready: int = len(lower.dataBuffer) - lower.offset
    return int.from_bytes(answer, sys.byteorder) + ready

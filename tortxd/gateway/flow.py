"""Backpressure between a client and a destination, and the clients that leave meanwhile."""

from __future__ import annotations

import fcntl
import select
import socket
import sys
import termios
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import (
    IConsumer,
    IPullProducer,
    IPushProducer,
    ITCPTransport,
)
from zope.interface import implementer

from tortxd.relay.outbound import Reading
from tortxd.relay.timeouts import Timeout, Timeouts

LOOK_EVERY = 1.0
"""Seconds between two looks at the connections that are not read."""
IDLE_TIME = 300.0
"""Seconds that a connection is kept between two requests, and that its end may take."""
LINGER_TIME = 2.0
"""Seconds in which a client can read the last that it gets, on a connection that does not end in
order."""
SENT_LOOK = 0.1
"""Seconds between two looks at whether the last bytes have been sent."""

_ENDED = select.POLLHUP | select.POLLERR
_KEEP_ALIVE = (
    # Linux forgets a closed connection that was never finished after 60 s (tcp_fin_timeout), and
    # then answers such a probe with a reset.
    (socket.TCP_KEEPIDLE, 60),
    (socket.TCP_KEEPINTVL, 15),
    (socket.TCP_KEEPCNT, 4),
)


class ClientTransport(ITCPTransport, IConsumer, IPushProducer):
    """Twisted's own TCP transport (unix sockets and TLS have most of it)."""


class Departures:
    """Notices clients that leave while their connection is not read: the reactor hears nothing of
    those, but the kernel knows.

    What a client has sent lies before its end. Where that is more than the kernel's buffers hold,
    the end has not arrived, and nobody can know.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._poll = select.poll()
        self._gone: dict[int, Callable[[], object]] = {}
        self._fds: dict[object, int] = {}
        self._timer: Timeout | None = None

    def watch(
        self, client: object, transport: Any, gone: Callable[[], object], *, half_closed: bool
    ) -> None:
        """Call ``gone`` when ``client`` has left: that it has no more to say is enough, unless it
        is ``half_closed``, where that is known already."""
        self.forget(client)
        handle = _socket_of(transport).getHandle()
        fd = handle.fileno()
        if fd < 0:
            return
        if half_closed and handle.family in (socket.AF_INET, socket.AF_INET6):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEP_ALIVE:
                handle.setsockopt(socket.IPPROTO_TCP, option, value)
        self._poll.register(fd, 0 if half_closed else select.POLLRDHUP)
        self._fds[client] = fd
        self._gone[fd] = gone
        if self._timer is None:
            self._timer = self._timeouts.start(LOOK_EVERY, self._look)

    def forget(self, client: object) -> None:
        """Watch it no longer; harmless if it is not watched."""
        fd = self._fds.pop(client, None)
        if fd is not None:
            self._poll.unregister(fd)
            del self._gone[fd]

    def stop(self) -> None:
        """Watch nobody any longer."""
        for client in list(self._fds):
            self.forget(client)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        for fd, events in self._poll.poll(0):
            gone = self._gone.get(fd)
            if gone is not None and events & (_ENDED | select.POLLRDHUP):
                gone()
        if self._fds:
            self._timer = self._timeouts.start(LOOK_EVERY, self._look)


class Reader(Protocol):
    """The protocol of a client's connection."""

    transport: ClientTransport

    def paused(self) -> None:
        """The client is read no more for now."""

    def resumed(self) -> None:
        """It is read again."""

    def congested(self, is_so: bool) -> None:
        """The client takes no more for now, or takes it again."""


@implementer(Reading)
class ClientReading:
    """Pauses and resumes the reading of a client; a destination cannot end it."""

    def __init__(self, front: Reader) -> None:
        self.paused = False
        self._front = front

    def pauseProducing(self) -> None:
        self.paused = True
        self._front.transport.pauseProducing()
        self._front.paused()

    def resumeProducing(self) -> None:
        self.paused = False
        self._front.resumed()
        self._front.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The upstream connection is gone; the exchange decides what that means."""


@implementer(IPullProducer)
class LastBytes:
    """Aborts a connection when the peer's kernel has all that was written to it, so that the end is
    a reset, which nobody takes for a regular one, and yet nothing is lost. Once all is with our own
    kernel, a peer that takes no byte for :data:`LINGER_TIME` is not waited for.

    :param longest: seconds after which the connection is aborted in any case.
    """

    def __init__(self, transport: ClientTransport, timeouts: Timeouts, longest: float) -> None:
        self._transport = transport
        self._timeouts = timeouts
        self._least: int | None = None
        self._standstill = 0
        """Looks since the peer took something."""
        self._end = timeouts.start(longest, transport.abortConnection)
        self._registered = False
        transport.unregisterProducer()
        # Twisted asks such a producer for more now, and when its own buffer has become empty.
        transport.registerProducer(self, False)
        self._registered = True
        _socket_of(transport).startWriting()  # it may be empty already

    def resumeProducing(self) -> None:
        if self._registered:
            self._transport.unregisterProducer()
            self._look()

    def stopProducing(self) -> None:
        """The client has left."""
        self._end.cancel()

    def _look(self) -> None:
        unsent = _unsent(self._transport)
        if self._least is None or unsent < self._least:
            self._least, self._standstill = unsent, 0
        self._standstill += 1
        if unsent and self._standstill * SENT_LOOK <= LINGER_TIME:
            self._timeouts.start(SENT_LOOK, self._look)
        else:
            self._end.cancel()
            self._transport.abortConnection()


def _socket_of(transport: Any) -> Any:
    """The transport that has the socket: TLS lies over TCP."""
    return getattr(transport, "transport", transport)


def _unsent(transport: Any) -> int:
    """Bytes that the kernel has still to send, or has no acknowledgement of (tcp(7), SIOCOUTQ)."""
    try:
        fd = _socket_of(transport).getHandle().fileno()
        answer = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError, AttributeError):  # it is closed by now, and has no socket
        return 0
    return int.from_bytes(answer, sys.byteorder)


@implementer(IPushProducer)
class ClientWriting:
    """Hears from the transport when a client does not take what is written to it."""

    def __init__(self, front: Reader) -> None:
        self._front = front

    def pauseProducing(self) -> None:
        self._front.congested(True)

    def resumeProducing(self) -> None:
        self._front.congested(False)

    def stopProducing(self) -> None:
        """The client is gone; ``connectionLost`` says so."""

"""Clients that leave while nobody reads what they send."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from tortxd.gateway.transports import ClientTransport, socket_of
from tortxd.relay.timeouts import Timeout, Timeouts

LOOK_EVERY = 1.0
"""Seconds between two looks at the connections that are not read."""

_ENDED = select.POLLHUP | select.POLLERR
_KEEP_ALIVE = (
    # Linux forgets a closed connection that was never finished after 60 s (tcp_fin_timeout), and
    # then answers such a probe with a reset.
    (socket.TCP_KEEPIDLE, 60),
    (socket.TCP_KEEPINTVL, 15),
    (socket.TCP_KEEPCNT, 4),
)


class DisconnectWatch:
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
        self,
        client: object,
        transport: ClientTransport,
        gone: Callable[[], object],
        *,
        half_closed: bool,
    ) -> None:
        """Call ``gone`` when ``client`` has left: that it has no more to say is enough, unless it
        is ``half_closed``, where that is known already."""
        self.forget(client)
        handle = socket_of(transport).getHandle()
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

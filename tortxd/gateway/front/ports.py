"""The ports that clients connect to, accepting no more than there is room for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from errno import EAGAIN, EMFILE, ENFILE
from typing import Any

from twisted.internet.tcp import Port

from tortxd.gateway.transports import socket_of
from tortxd.relay.timeouts import Timeouts

LOOK_AGAIN = 0.1
"""Seconds after which it is seen whether there are descriptors again."""


class Ports:
    """The ports that connections come from. While there is no room for any more, nothing is
    accepted there: whoever has been accepted must get an answer.

    Where no file descriptor is left, though there was room, one that is kept for this accepts one
    client after the other, to be told so.

    :param room: how many more there is room for.
    :param short: called when no descriptor is left: what only waits is to be closed.
    """

    def __init__(
        self, room: Callable[[], int], timeouts: Timeouts, short: Callable[[], object]
    ) -> None:
        self._room = room
        self._timeouts = timeouts
        self._short = short
        self._known: set[Port] = set()
        self._paused = False
        self._is_short = False
        self.refuses = False
        """Whether who is being accepted now is to be refused."""

    def learn(self, port: object) -> None:
        """Remember ``port``, where it is one of Twisted's own, of TCP or of unix sockets: the
        endpoints ``tcp``, ``tcp6``, ``ssl``, ``unix`` and ``systemd`` all make such ports.
        """
        if port in self._known or not isinstance(port, Port):
            return
        self._known = {known for known in self._known if known.connected} | {port}
        accept: Callable[[], object] = port.doRead
        listening = port.socket = _Listening(port.socket)
        _reserve.take()

        def accept_some() -> None:
            room = self._room()
            if room > 0:
                port.numberAccepts = min(port.numberAccepts, room)
                accept()
            if listening.is_short:
                self._accept_with_the_last(port, accept)
                listening.is_short = False
            if self._room() <= 0:
                self._pause()

        # A ``Port`` accepts as many connections as there are, up to ``numberAccepts`` (100 at
        # first, and then what the last time suggests), before it reads any, and it asks nobody
        # between two of them: ``pauseProducing`` within ``buildProtocol`` comes too late for the
        # others. Endpoints make their ports themselves, so that there is no class to derive from.
        port.doRead = accept_some  # type: ignore[method-assign]

    def learn_from(self, transport: Any) -> None:
        """Remember the port that has accepted ``transport``, with or without TLS. What it accepts
        along with its first connection may be more than there is room for."""
        self.learn(getattr(socket_of(transport), "server", None))

    def accept_last(self) -> None:
        """Accept who has connected already: the ports are about to be closed, and whoever would
        still wait in the kernel's queue then would have no answer."""
        for port in self._known:
            if port.connected and not self._paused:
                port.doRead()

    def _accept_with_the_last(self, port: Port, accept: Callable[[], object]) -> None:
        self._is_short = True
        self._pause()
        self._short()
        if _reserve.release():
            self.refuses, port.numberAccepts = True, 1
            try:
                accept()
            finally:
                self.refuses = False
        self._timeouts.start(LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        if self._is_short:
            self.go_on()
        if self._is_short:
            self._timeouts.start(LOOK_AGAIN, self._look_again)

    def _pause(self) -> None:
        self._paused = True
        for port in self._known:
            port.stopReading()

    def go_on(self) -> None:
        """Accept again, if there is room."""
        if not self._paused or self._room() <= 0 or (self._is_short and not _reserve.take()):
            return
        self._paused = self._is_short = False
        for port in self._known:
            if port.connected and not port.disconnecting:
                port.startReading()


class _Listening:
    """A listening socket as a ``Port`` has it. Where no descriptor is left it says that nobody
    waits, and remembers that: Twisted would close whoever waits without a word."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.is_short = False

    def accept(self) -> Any:
        """See :meth:`socket.socket.accept`."""
        try:
            return self._listening.accept()
        except OSError as error:
            if error.errno not in (EMFILE, ENFILE):
                raise
            self.is_short = True
            raise BlockingIOError(EAGAIN, os.strerror(EAGAIN)) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)


class _Reserve:
    """A file descriptor, of nothing, that is kept for when no other is left."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Have it (again); False: there is none to be had."""
        if self._descriptor is None:
            try:
                self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return False
        return True

    def release(self) -> bool:
        """Give it away; False: that was done before."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return False
        os.close(descriptor)
        return True


_reserve = _Reserve()
"""One for the process."""

"""The ports that clients connect to, accepting no more than there is room for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Port

from tortxd.gateway.transports import socket_of


class Ports:
    """The ports that connections come from. While there is no room for any more, nothing is
    accepted there: whoever has been accepted must get an answer.

    :param room: how many more there is room for.
    """

    def __init__(self, room: Callable[[], int]) -> None:
        self._room = room
        self._known: set[Port] = set()
        self._paused = False

    def learn(self, port: object) -> None:
        """Remember ``port``, where it is one of Twisted's own, of TCP or of unix sockets: the
        endpoints ``tcp``, ``tcp6``, ``ssl``, ``unix`` and ``systemd`` all make such ports.
        """
        if port in self._known or not isinstance(port, Port):
            return
        self._known = {known for known in self._known if known.connected} | {port}
        accept: Callable[[], object] = port.doRead

        def accept_some() -> None:
            room = self._room()
            if room > 0:
                port.numberAccepts = min(port.numberAccepts, room)
                accept()
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

    def _pause(self) -> None:
        self._paused = True
        for port in self._known:
            port.stopReading()

    def go_on(self) -> None:
        """Accept again, if there is room."""
        if not self._paused or self._room() <= 0:
            return
        self._paused = False
        for port in self._known:
            if port.connected and not port.disconnecting:
                port.startReading()

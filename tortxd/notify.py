"""What a service manager is told: systemd's protocol of notifications, sd_notify(3).

A service of ``Type=notify`` finds the path of a datagram socket in its environment, and writes
lines ``NAME=VALUE`` there. Who was not started by one tells nobody.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping
from contextlib import suppress

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tortxd.errors import printable

__all__ = ["Notifier"]

RETRY = 0.1
"""Seconds after which it is tried again where the manager is behind with reading."""

_LONGEST = 1000
"""Characters of a sentence. systemd reads 4,096 bytes at most."""
_MOST_WAITING = 20
_WATCHDOG = b"WATCHDOG=1"


class Notifier:
    """Tells the service manager how the daemon is. It never raises, and never blocks.

    :param environ: names the socket (``NOTIFY_SOCKET``) and says how often the manager wants a sign
        of life (``WATCHDOG_USEC``, ``WATCHDOG_PID``). These are taken out of it: they are for no
        process that the daemon starts.
    :param clock: a monotonic one.
    """

    def __init__(self, environ: MutableMapping[str, str], clock: IReactorTime) -> None:
        self._clock = clock
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        self._period = _watchdog_period(environ)
        self._waiting: list[bytes] = []
        self._retry: IDelayedCall | None = None
        self._watchdog: IDelayedCall | None = None
        self._is_live: Callable[[], bool] = lambda: True
        self._socket: socket.socket | None = None
        if self._address is not None:
            # Kept, so that there is one also when the process has no descriptor left.
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def ready(self) -> None:
        """The daemon has started, or has read its configuration anew."""
        self._tell(b"READY=1")

    def reloading(self) -> None:
        """It begins to read its configuration anew; :meth:`ready` follows."""
        # The kernel's CLOCK_MONOTONIC, by which systemd sees that this is no older reload's.
        now = int(self._clock.seconds() * 1e6)
        self._tell(b"RELOADING=1\nMONOTONIC_USEC=%d" % now)

    def stopping(self, seconds: float) -> None:
        """It begins to stop, for which it needs this long at most."""
        self._tell(b"STOPPING=1\nEXTEND_TIMEOUT_USEC=%d" % (seconds * 1e6))

    def status(self, sentence: str) -> None:
        """What it is doing, for people."""
        self._tell(b"STATUS=" + printable(sentence)[:_LONGEST].encode("utf-8", "replace"))

    def watch(self, is_live: Callable[[], bool]) -> None:
        """Give a sign of life at half of the time within which the manager wants one, but only
        while ``is_live()``: without it, the manager starts the daemon anew."""
        self._is_live = is_live
        if self._watchdog is None and self._socket is not None and self._period is not None:
            self._give_sign()

    def close(self) -> None:
        """There is nothing more to tell."""
        for call in (self._watchdog, self._retry):
            if call is not None and call.active():
                call.cancel()
        self._watchdog = self._retry = None
        self._waiting.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _give_sign(self) -> None:
        assert self._period is not None
        self._watchdog = self._clock.callLater(self._period / 2, self._give_sign)
        if self._is_live() and not self._waiting:
            self._send(_WATCHDOG)  # where that has to wait, the next one does as well

    def _tell(self, lines: bytes) -> None:
        if self._socket is None:
            return
        if self._waiting and _is_status(lines) and _is_status(self._waiting[-1]):
            self._waiting.pop()  # that is over
        del self._waiting[:-_MOST_WAITING]
        self._waiting.append(lines)
        if self._retry is None:
            self._send_waiting()

    def _send_waiting(self) -> None:
        self._retry = None
        while self._waiting:
            if not self._send(self._waiting[0]):
                self._retry = self._clock.callLater(RETRY, self._send_waiting)
                break
            del self._waiting[0]

    def _send(self, lines: bytes) -> bool:
        """Whether it need not be tried again."""
        assert self._socket is not None and self._address is not None
        try:
            self._socket.sendto(lines, self._address)
        except BlockingIOError:
            return False
        except OSError:
            pass  # nobody listens there: the daemon serves without
        return True


def _is_status(lines: bytes) -> bool:
    return lines.startswith(b"STATUS=")


def _address(name: str) -> bytes | None:
    """A unix socket's: a path, or with ``@`` an abstract name. None: there is none, or it is of a
    kind that virtual machines have (``vsock:``)."""
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    return os.fsencode(name) if name.startswith("/") else None


def _watchdog_period(environ: MutableMapping[str, str]) -> float | None:
    """Seconds without a sign of life after which the manager acts; None: it wants none of this
    process."""
    period, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if pid in ("", str(os.getpid())):
        with suppress(ValueError):
            return int(period) / 1e6 if int(period) > 0 else None
    return None

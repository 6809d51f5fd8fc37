"""Which SOCKS port the launched Tor is given, and whether it can have it."""

from __future__ import annotations

import errno
import os
import socket
import stat

from tortxd.addresses import LONGEST_SOCKET_PATH
from tortxd.errors import SetupError
from tortxd.tor.link import SocksAddress

USUAL = SocksAddress()
FOR_SOCKS = "Programs that speak SOCKS use {address}."
"""For the log."""


class SocksChoice:
    """What to ask of Tor, from one launch to the next.

    A port that was asked for is asked for always. Otherwise it is the usual one, or after a restart
    the one that Tor had before, so that clients find it again; when that is taken, Tor chooses.

    :param configured: the address that the configuration names, or None.
    """

    def __init__(self, configured: SocksAddress | None) -> None:
        self.configured = configured
        self._last: SocksAddress | None = None
        self._chosen: SocksAddress = USUAL

    def check(self) -> None:
        """:raises SetupError: the address was asked for and cannot be had."""
        if self.configured is not None:
            reason = unavailable(self.configured)
            if reason is not None:
                raise SetupError(
                    f"The SOCKS port {self.configured} cannot be had ({reason}); stop what holds "
                    "it, or choose another `socks`."
                )

    def choose(self) -> tuple[SocksAddress, bool]:
        """An address, and whether Tor shall choose the port."""
        if self.configured is not None:
            return self.configured, False
        self._chosen = self._last or USUAL
        return self._chosen, unavailable(self._chosen) is not None

    def got(self, address: SocksAddress) -> None:
        """Tor listens there."""
        self._last = address

    def lost_race(self, reason: str) -> bool:
        """Whether Tor ended because somebody took the port that we had just seen free: then another
        try finds another port."""
        return (
            self.configured is None and f"bind to {self._chosen.host}:{self._chosen.port}" in reason
        )

    def unexpected(self, address: SocksAddress) -> bool:
        """Whether this is another address than users who asked for none will look at."""
        return self.configured is None and address != USUAL


def unavailable(address: SocksAddress) -> str | None:
    """Why Tor could not listen there now, or None.

    Only a look: somebody may take it before Tor does, and then Tor's own complaint tells.
    """
    if address.path is not None:
        return _path_unavailable(address.path)
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
            # Another socket with SO_REUSEADDR can be bound to the same port; listening shows it.
            probe.listen(1)
    except OSError as e:
        return os.strerror(e.errno) if e.errno else "it is not an address of this machine"
    return None


def _path_unavailable(path: str) -> str | None:
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        return f"a socket's path has {LONGEST_SOCKET_PATH} bytes at most"
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return "another file is there"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except FileNotFoundError:
        return None if os.path.isdir(os.path.dirname(path)) else "there is no such folder"
    except OSError as e:
        # A socket that nobody listens at is left from before, and Tor replaces it.
        return None if e.errno == errno.ECONNREFUSED else os.strerror(e.errno or errno.EINVAL)
    return os.strerror(errno.EADDRINUSE)

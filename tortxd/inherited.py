"""Sockets that systemd listens on and passes to the daemon: socket activation, sd_listen_fds(3).

Twisted calls them ``systemd:domain=INET:index=0``. Which address such a socket has, it alone knows;
so whether others than this machine reach it is asked of the socket, not of its description.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from typing import Any

from attrs import frozen
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.unix import Port

from tortxd.errors import SetupError

__all__ = ["Inherited", "inherited"]


@frozen
class Inherited:
    """A socket that listens already."""

    descriptor: int
    family: socket.AddressFamily
    address: Any
    """What it is bound to, as :meth:`socket.socket.getsockname` has it."""

    def listen(self, reactor: Any, factory: IProtocolFactory) -> IListeningPort:
        """Accept those who connect; it can be done once. When the port is closed, the socket stays
        open in systemd: who connects meanwhile is served by the next daemon."""
        os.set_blocking(self.descriptor, False)
        if self.family != socket.AF_UNIX:
            port: Any = reactor.adoptStreamPort(self.descriptor, self.family, factory)
        else:
            port = Port._fromListeningDescriptor(reactor, self.descriptor, factory)
            # TCP sockets Twisted leaves as they are. But it would open the file of this one to
            # everyone, remove it at the end, and shut the socket down. With an abstract name there
            # is no file.
            port._bindPath = b"\0" + os.fsencode(self.address)
            port._shouldShutdown = False
            port.startListening()
            port.socket.listen(socket.SOMAXCONN)  # Twisted has made that 50
        os.close(self.descriptor)
        listening: IListeningPort = port
        return listening


@cache
def inherited(description: str) -> Inherited:
    """The socket that such an endpoint stands for.

    It is asked for once: when it is listened on, its descriptor goes.

    :raises SetupError: there is none, or it is not what it is said to be.
    """
    try:
        endpoint = serverFromString(None, description)
    except (IndexError, KeyError):
        raise _refusal(description, "systemd has passed no such socket") from None
    assert isinstance(endpoint, AdoptedStreamServerEndpoint)
    try:
        # Through a copy: a socket object closes what it is made of.
        with socket.socket(fileno=os.dup(endpoint.fileno)) as passed:
            family, address = passed.family, passed.getsockname()
            listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise _refusal(description, error.strerror or str(error)) from error
    if not listens or family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        raise _refusal(description, "that socket listens for no streams (Accept=no, ListenStream=)")
    if family != endpoint.addressFamily:
        raise _refusal(description, f"that socket has domain={family.name.removeprefix('AF_')}")
    return Inherited(endpoint.fileno, socket.AddressFamily(family), address)


def _refusal(description: str, reason: str) -> SetupError:
    return SetupError(f"`http`: {description} cannot be used: {reason}.")

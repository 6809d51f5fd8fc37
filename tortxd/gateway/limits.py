"""How much a gateway serves at once, which is what its file descriptors allow."""

from __future__ import annotations

import resource

from attrs import frozen

WANTED = 65_536
"""File descriptors that the daemon asks for, where the system lets it have them."""
OWN = 64
"""Descriptors that are not for clients: Tor, its control port, listeners, files."""
REFUSALS = 32
"""Connections that may be told at one time that there are too many."""


@frozen
class Limits:
    """What may be open at once."""

    clients: int = 1024
    """Client connections, each of which may need a connection to Tor."""
    idle: int = 1024
    """Connections to Tor that wait for their next request."""

    @classmethod
    def of(cls, descriptors: int) -> Limits:
        """What so many file descriptors are enough for."""
        room = max(descriptors - OWN - REFUSALS, 10)
        return cls(clients=room * 2 // 5, idle=min(1024, room // 5))

    @classmethod
    def here(cls) -> Limits:
        """What the descriptors of this process are enough for."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls.of(WANTED if soft == resource.RLIM_INFINITY else min(soft, WANTED))


def raise_descriptors() -> None:
    """Ask for as many file descriptors as there is use for, which a process of our own may do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))

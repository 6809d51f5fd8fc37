"""How much a gateway serves at once: what it was told, and what its file descriptors allow."""

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
    """What may be open at once, and for how long."""

    clients: int = 1024
    """Client connections, each of which may need a connection to Tor."""
    idle: int = 1024
    """Connections to Tor that wait for their next request."""
    requests: int = 1024
    """Requests that are being carried, tunnels and WebSockets among them."""
    share: float = 0.75
    """Of places for connections or requests that are a client's own or free, the part that it may
    have; greater than 0, at most 1."""
    head_size: int = 64 * 1024
    """Bytes of a request head."""
    head_time: float = 10.0
    """Seconds for a request head from its first byte."""
    idle_time: float = 300.0
    """Seconds that a connection is kept between two requests, and at its end while the client takes
    no byte of what there is for it."""

    @classmethod
    def of(
        cls,
        descriptors: int,
        *,
        clients: int | None = None,
        requests: int | None = None,
        share: float = 0.75,
        head_size: int = 64 * 1024,
        head_time: float = 10.0,
        idle_time: float = 300.0,
    ) -> Limits:
        """What so many file descriptors are enough for, and no more than was asked for.

        :param clients: how many were asked for; None: as many as there can be. So are ``requests``.
        """
        room = max(descriptors - OWN - REFUSALS, 10)
        idle = min(1024, room // 5)
        half = room * 2 // 5
        # A request needs a connection to Tor, and comes on one of a client.
        requests = half if requests is None else min(requests, half)
        clients = half if clients is None else min(clients, room - idle - requests)
        return cls(clients, idle, requests, share, head_size, head_time, idle_time)

    def may_have_one_more(self, places: int, taken: int, own: int) -> bool:
        """Whether a client that has ``own`` of ``places``, of which ``taken`` are taken, may have
        another.

        It may have :attr:`share` of those that are its own or free. The more others have, the less
        it may have; so a few greedy ones always leave something for who comes next, and many modest
        ones can take all.
        """
        free = places - taken
        return free > 0 and own < self.share * (own + free)


def descriptors_here() -> int:
    """How many file descriptors this process may use."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else min(soft, WANTED)


def raise_descriptors() -> None:
    """Ask for as many file descriptors as there is use for, which a process of our own may do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))

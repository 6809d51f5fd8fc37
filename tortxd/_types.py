"""Types that several rooms share."""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFromThreads,
    IReactorProcess,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
)


class Reactor(
    IReactorCore,
    IReactorFromThreads,
    IReactorProcess,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
):
    """What of a reactor is used: its clock, its processes, connections over TCP and unix sockets,
    and what signals call. Twisted's own reactors provide all of these."""

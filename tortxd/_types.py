"""Types that several rooms share."""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorProcess,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
)


class Reactor(IReactorCore, IReactorProcess, IReactorTCP, IReactorTime, IReactorUNIX):
    """What of a reactor is used: its clock, its processes, and connections over TCP and unix
    sockets. Twisted's own reactors provide all of these."""

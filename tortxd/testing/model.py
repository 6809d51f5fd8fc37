"""The words that the modules of the private network share."""

from __future__ import annotations

from attrs import frozen
from twisted.internet.interfaces import (
    IReactorProcess,
    IReactorSSL,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
)

from tortxd.errors import SetupError

WARNING = (
    "This Tor network is private: all of its relays run on this one machine. It gives no anonymity."
)


class INetworkReactor(IReactorProcess, IReactorSSL, IReactorTCP, IReactorTime, IReactorUDP):
    """What the network and its origins need of a reactor; every POSIX reactor of Twisted has it."""


class NetworkError(SetupError):
    """The private network cannot be brought up, or a part of it ended; the message says why."""

    sentence = "The private Tor network could not be started."


@frozen
class Relay:
    """One relay of the private network."""

    nickname: str
    fingerprint: str
    """40 hexadecimal digits, upper case, without ``$``."""
    address: str
    """Its own loopback address."""
    country: str
    """ISO 3166-1 alpha-2 in lower case, as the network's own GeoIP file says."""
    is_exit: bool
    is_authority: bool

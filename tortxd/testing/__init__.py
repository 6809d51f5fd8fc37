"""A private Tor network on loopback, for tests and demonstrations. It gives no anonymity.

:class:`PrivateNetwork` runs directory authorities, exits and clients as real tor processes on this
machine; :class:`Origin` is a small web server for them to reach. Projects that test with pytest get
both as fixtures from ``pytest_plugins = ["tortxd.testing.fixtures"]``.
"""

from __future__ import annotations

from tortxd.testing.model import WARNING, INetworkReactor, NetworkError, Relay
from tortxd.testing.network import Client, PrivateNetwork
from tortxd.testing.origin import Origin
from tortxd.testing.origin_http import Canned, pattern

__all__ = [
    "WARNING",
    "Canned",
    "Client",
    "INetworkReactor",
    "NetworkError",
    "Origin",
    "PrivateNetwork",
    "Relay",
    "pattern",
]

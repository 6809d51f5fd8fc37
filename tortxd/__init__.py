"""tortxd: one Twisted daemon that owns a Tor, and the library that it is made of.

Nothing here installs a reactor when it is imported.
"""

from __future__ import annotations

from tortxd._version import __version__
from tortxd.client import SocksClient, TorHttpClient, tor_client
from tortxd.config import Config, DaemonConfig
from tortxd.errors import TortxdError
from tortxd.service import TorService

__all__ = [
    "Config",
    "DaemonConfig",
    "SocksClient",
    "TorHttpClient",
    "TorService",
    "TortxdError",
    "__version__",
    "tor_client",
]

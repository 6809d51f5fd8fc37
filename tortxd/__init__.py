"""tortxd: one Twisted daemon that owns a Tor, and the library that it is made of.

What stands in ``__all__`` here and in :mod:`tortxd.testing` is public (docs/library.md, "Public
names"); every other module may change at any time. Nothing here installs a reactor when it is
imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tortxd._version import __version__

if TYPE_CHECKING:
    from tortxd.client.http import TorHttpClient, tor_client
    from tortxd.client.socks import SocksClient
    from tortxd.client.tor_info import TorInfo
    from tortxd.client.treq_client import TreqClient
    from tortxd.client.treq_response import Response
    from tortxd.config import Config, DaemonConfig
    from tortxd.errors import (
        BadRequest,
        BadResponse,
        BadUrl,
        ConnectFailed,
        ConnectRefused,
        DestinationError,
        ExitPolicyRejected,
        ExitUnavailable,
        ForbiddenHost,
        ForbiddenOrigin,
        InternalError,
        MethodNotAllowed,
        NotFound,
        NotServed,
        OnionAuthRequired,
        OnionUnreachable,
        OriginReset,
        OriginTimeout,
        Overloaded,
        RedirectForbidden,
        RequestError,
        RequestTimeout,
        ResolveFailed,
        SetupError,
        TargetForbidden,
        TlsFailed,
        TooLarge,
        TorDown,
        TorError,
        TorNotReady,
        TorTimeout,
        TortxdError,
        Unauthorized,
    )
    from tortxd.gateway.gateway import Renewal
    from tortxd.service import TorService
    from tortxd.tor.link import Circuit, Relay, Stream
    from tortxd.tor.status import (
        BackingOff,
        Bootstrapping,
        Degraded,
        Failed,
        Launching,
        Ready,
        Status,
        Stopped,
    )

__all__ = [
    "BackingOff",
    "BadRequest",
    "BadResponse",
    "BadUrl",
    "Bootstrapping",
    "Circuit",
    "Config",
    "ConnectFailed",
    "ConnectRefused",
    "DaemonConfig",
    "Degraded",
    "DestinationError",
    "ExitPolicyRejected",
    "ExitUnavailable",
    "Failed",
    "ForbiddenHost",
    "ForbiddenOrigin",
    "InternalError",
    "Launching",
    "MethodNotAllowed",
    "NotFound",
    "NotServed",
    "OnionAuthRequired",
    "OnionUnreachable",
    "OriginReset",
    "OriginTimeout",
    "Overloaded",
    "Ready",
    "RedirectForbidden",
    "Relay",
    "Renewal",
    "RequestError",
    "RequestTimeout",
    "ResolveFailed",
    "Response",
    "SetupError",
    "SocksClient",
    "Status",
    "Stopped",
    "Stream",
    "TargetForbidden",
    "TlsFailed",
    "TooLarge",
    "TorDown",
    "TorError",
    "TorHttpClient",
    "TorInfo",
    "TorNotReady",
    "TorService",
    "TorTimeout",
    "TortxdError",
    "TreqClient",
    "Unauthorized",
    "__version__",
    "tor_client",
]

_PLACES = {
    "tortxd.client.http": ("TorHttpClient", "tor_client"),
    "tortxd.client.socks": ("SocksClient",),
    "tortxd.client.tor_info": ("TorInfo",),
    "tortxd.client.treq_client": ("TreqClient",),
    "tortxd.client.treq_response": ("Response",),
    "tortxd.config": ("Config", "DaemonConfig"),
    "tortxd.gateway.gateway": ("Renewal",),
    "tortxd.service": ("TorService",),
    "tortxd.tor.link": ("Circuit", "Relay", "Stream"),
    "tortxd.tor.status": (
        "BackingOff",
        "Bootstrapping",
        "Degraded",
        "Failed",
        "Launching",
        "Ready",
        "Status",
        "Stopped",
    ),
}
"""Where the names lie that are no errors. No module is imported before one of its names is asked
for (PEP 562): Twisted and what is built on it take long, and neither every program nor the command
needs all of it."""

_LATER = dict.fromkeys(__all__, "tortxd.errors") | {
    name: module for module, names in _PLACES.items() for name in names
}
del _LATER["__version__"]


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'tortxd' has no attribute {name!r}")
    value = getattr(import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})

"""Tor's reasons why a stream ended or was not opened, and what each means to us.

The names are those of the control protocol (control-spec, section 4.1.2, REASON and REMOTE_REASON);
those that relays give are of tor-spec, "Closing streams".
"""

from __future__ import annotations

from attrs import frozen

from tortxd.errors import (
    ConnectRefused,
    ExitPolicyRejected,
    ResolveFailed,
    TorTimeout,
    TortxdError,
)

DONE = "DONE"
"""The one orderly end: the destination has closed the connection."""


@frozen
class Reason:
    """What follows from a reason."""

    is_relays: bool
    """Whether relays give it; else it is the local Tor's own."""
    error: type[TortxdError] | None = None
    """What it means where Tor's SOCKS reply says only that it failed."""


_REASONS = {
    "MISC": Reason(True),
    "RESOLVEFAILED": Reason(True, ResolveFailed),
    "CONNECTREFUSED": Reason(True, ConnectRefused),
    "EXITPOLICY": Reason(True, ExitPolicyRejected),
    "DESTROY": Reason(True),
    DONE: Reason(True),
    "TIMEOUT": Reason(True, TorTimeout),
    "NOROUTE": Reason(True, ResolveFailed),
    "HIBERNATING": Reason(True),
    "INTERNAL": Reason(True),
    "RESOURCELIMIT": Reason(True),
    "CONNRESET": Reason(True),
    "TORPROTOCOL": Reason(True),
    "NOTDIRECTORY": Reason(True),
    "END": Reason(False),
    "PRIVATE_ADDR": Reason(False),
}
_OTHER = Reason(False)
"""One that is none of these is a later Tor's."""


def reason(name: str) -> Reason:
    """What this reason means."""
    return _REASONS.get(name, _OTHER)

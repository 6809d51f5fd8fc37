"""Tor's reasons, and what each means to us.

The names are those of the control protocol: why a stream ended or was not opened (control-spec,
section 4.1.2, REASON and REMOTE_REASON; those that relays give are of tor-spec, "Closing streams"),
why a guard is not reached (section 4.1.4, ORCONN; BOOTSTRAP events have these too, also as their
WARNING), and why there are no circuits (section 4.1.10, CIRCUIT_NOT_ESTABLISHED). Why a circuit was
closed is passed on, and decides nothing here.
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

    is_relays: bool = False
    """Whether relays give it for a stream; else it is the local Tor's own."""
    error: type[TortxdError] | None = None
    """What it means for a stream, where Tor's SOCKS reply says only that it failed."""
    connecting: str | None = None
    """A sentence, where it keeps Tor from its guards or from circuits."""


_REASONS = {
    "MISC": Reason(is_relays=True),
    "RESOLVEFAILED": Reason(is_relays=True, error=ResolveFailed),
    "CONNECTREFUSED": Reason(
        is_relays=True,
        error=ConnectRefused,
        connecting="A guard or bridge refused the connection.",
    ),
    "EXITPOLICY": Reason(is_relays=True, error=ExitPolicyRejected),
    "DESTROY": Reason(is_relays=True),
    DONE: Reason(is_relays=True, connecting="A guard or bridge closed the connection."),
    "TIMEOUT": Reason(
        is_relays=True,
        error=TorTimeout,
        connecting="The connection to a guard or bridge timed out.",
    ),
    "NOROUTE": Reason(
        is_relays=True,
        error=ResolveFailed,
        connecting="There is no route to a guard or bridge.",
    ),
    "HIBERNATING": Reason(is_relays=True),
    "INTERNAL": Reason(is_relays=True),
    "RESOURCELIMIT": Reason(
        is_relays=True, connecting="There are not enough descriptors or memory."
    ),
    "CONNRESET": Reason(is_relays=True),
    "TORPROTOCOL": Reason(is_relays=True),
    "NOTDIRECTORY": Reason(is_relays=True),
    "CONNECTRESET": Reason(connecting="A guard or bridge reset the connection."),
    "IDENTITY": Reason(connecting="What answered was not the guard or bridge that was meant."),
    "IOERROR": Reason(connecting="The connection to a guard or bridge broke off."),
    "PT_MISSING": Reason(connecting="The pluggable transport is missing."),
    "CLOCK_JUMPED": Reason(connecting="The clock jumped."),
    "DIR_ALL_UNREACHABLE": Reason(connecting="No directory can be reached."),
    "EXTERNAL_ADDRESS": Reason(connecting="This machine's address changed."),
}
_OTHER = Reason()
"""One that is none of these is the local Tor's own, or a later Tor's."""


def reason(name: str) -> Reason:
    """What this reason means."""
    return _REASONS.get(name, _OTHER)

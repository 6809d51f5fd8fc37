"""What Tor is doing now, as one closed set of frozen values.

Exactly one of these holds at any time. :mod:`tortxd.gateway.answers` says it to clients.
"""

from __future__ import annotations

import math

from attrs import frozen


@frozen
class Stopped:
    """Not started, or stopped on request."""


@frozen
class Launching:
    """The process is being started (or the control port being reached)."""

    reason: str | None = None
    """Why that is so again, as a sentence; None: it is the first time."""


@frozen
class Bootstrapping:
    """Tor is reaching the network (control-spec, section 4.1.10, STATUS_CLIENT BOOTSTRAP)."""

    progress: int = 0
    """0 to 100."""
    tag: str = "starting"
    summary: str = "Starting"
    warning: str | None = None
    """Why it does not get on, as a sentence or several, where that is known."""
    reason: str | None = None
    """Why it is on its way again, after it has served or was tried; None: it is the first time."""


@frozen
class Ready:
    """Circuits can be built: requests are served."""


@frozen
class Degraded:
    """Requests are served, but something is wrong."""

    reasons: tuple[str, ...]


@frozen
class BackingOff:
    """Tor died or could not be reached; it is tried again after ``seconds``."""

    seconds: float
    reason: str


@frozen
class Failed:
    """Tor cannot be started at all: the configuration or the machine must be changed first."""

    reason: str


Status = Stopped | Launching | Bootstrapping | Ready | Degraded | BackingOff | Failed


def sentence(status: Status) -> str:
    """``status`` in words, for a log."""
    match status:
        case Stopped():
            return "Tor is stopped."
        case Launching():
            return "Tor is starting."
        case Bootstrapping(progress, _, summary, warning, _):
            trouble = "" if warning is None else f" {warning}"
            return f"Tor is {progress} % ready: {summary}.{trouble}"
        case Ready():
            return "Tor is ready."
        case Degraded(reasons):
            return f"Tor is ready, but: {' '.join(reasons)}"
        case BackingOff(seconds, reason):
            return f"Tor is down, and tried again in {math.ceil(seconds)} s: {reason}"
        case Failed(reason):
            return f"Tor cannot run: {reason}"


def serves(status: Status) -> bool:
    """Whether requests are expected to be served."""
    return isinstance(status, Ready | Degraded)

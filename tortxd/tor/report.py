"""What Tor is doing, as it is reported: as JSON, and as the error of a request that has to wait."""

from __future__ import annotations

from tortxd.errors import TorDown, TorNotReady, TortxdError
from tortxd.tor.status import (
    BackingOff,
    Bootstrapping,
    Degraded,
    Failed,
    Launching,
    Ready,
    Status,
    Stopped,
    serves,
)


def status_json(status: Status) -> dict[str, object]:
    """The members of ``/health`` that say what Tor is doing."""
    told: dict[str, object]
    match status:
        case Ready():
            return {"status": "ok", "bootstrap": _bootstrap(100, "done", "Done")}
        case Degraded(reasons):
            return {
                "status": "degraded",
                "reasons": list(reasons),
                "bootstrap": _bootstrap(100, "done", "Done"),
            }
        case Bootstrapping(progress, tag, summary, warning, reason):
            told = {"status": "bootstrapping", "bootstrap": _bootstrap(progress, tag, summary)}
            return told | _known(warning=warning, reason=reason)
        case Launching(reason):
            told = {"status": "starting", "bootstrap": _bootstrap(0, "starting", "Starting")}
            return told | _known(reason=reason)
        case BackingOff(seconds, reason):
            return {
                "status": "down",
                "reason": reason,
                "retryIn": round(seconds, 1),
                "bootstrap": _bootstrap(0, "down", "Tor is tried again shortly"),
            }
        case Failed(reason):
            return {"status": "down", "reason": reason, "bootstrap": _bootstrap(0, "down", "Down")}
        case Stopped():
            return {"status": "down", "bootstrap": _bootstrap(0, "down", "Stopped")}


def _known(**sentences: str | None) -> dict[str, object]:
    return {name: sentence for name, sentence in sentences.items() if sentence is not None}


def _bootstrap(progress: int, tag: str, summary: str) -> dict[str, object]:
    return {"progress": progress, "tag": tag, "summary": summary}


def bootstrap_percent(status: Status) -> int:
    """How far Tor is, from 0 to 100."""
    if isinstance(status, Bootstrapping):
        return status.progress
    return 100 if serves(status) else 0


def not_ready(status: Status) -> TortxdError:
    """The error for a request that Tor cannot carry now."""
    details = {"bootstrap": status_json(status)["bootstrap"]}
    if is_down(status):
        return TorDown(details=details)
    if isinstance(status, Bootstrapping):
        cause = "" if status.warning is None else f" {status.warning}"
        return TorNotReady(
            f"Tor is not ready yet, but at {status.progress} %: {status.summary}.{cause}",
            details=details,
        )
    return TorNotReady(details=details)


def is_down(status: Status) -> bool:
    """Whether waiting for Tor makes no sense at the moment."""
    return isinstance(status, Stopped | BackingOff | Failed)

"""What the gateway says in its own name: errors and status, as JSON."""

from __future__ import annotations

import json

from attrs import frozen

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
)
from tortxd.wire.http1 import Headers

OWN_HEADERS: Headers = [
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"sandbox; default-src 'none'; frame-ancestors 'none'"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-DNS-Prefetch-Control", b"off"),
]
"""On everything that the gateway says itself: it is data, for nobody to keep, run or embed."""


@frozen
class Answer:
    """A complete response of the gateway's own."""

    status: int
    headers: Headers
    body: bytes = b""


def json_answer(status: int, value: object, headers: Headers | None = None) -> Answer:
    """``value`` as JSON."""
    body = json.dumps(value).encode() + b"\n"
    return Answer(
        status,
        [(b"Content-Type", b"application/json; charset=utf-8"), *OWN_HEADERS, *(headers or [])],
        body,
    )


def error_answer(error: TortxdError, headers: Headers | None = None) -> Answer:
    """``error`` as the contract has it: JSON, ``Tortxd-Error``, ``Proxy-Status`` (RFC 9209)."""
    code = error.code.encode()
    named = [
        (b"Tortxd-Error", code),
        (b"Proxy-Status", b"tortxd; error=" + error.proxy_error.encode()),
    ]
    if error.retry_after is not None:
        named.append((b"Retry-After", b"%d" % error.retry_after))
    if error.status == 401:
        named.append((b"WWW-Authenticate", b'Bearer realm="tortxd"'))
    if error.status == 407:
        named.append((b"Proxy-Authenticate", b'Basic realm="tortxd"'))
    return json_answer(error.status, error.as_json(), named + (headers or []))


def status_json(status: Status) -> dict[str, object]:
    """The members of ``/health`` that say what Tor is doing."""
    match status:
        case Ready():
            return {"status": "ok", "bootstrap": _bootstrap(100, "done", "Done")}
        case Degraded(reasons):
            return {
                "status": "degraded",
                "reasons": list(reasons),
                "bootstrap": _bootstrap(100, "done", "Done"),
            }
        case Bootstrapping(progress, tag, summary, warning):
            told: dict[str, object] = {
                "status": "bootstrapping",
                "bootstrap": _bootstrap(progress, tag, summary),
            }
            if warning is not None:
                told["warning"] = warning
            return told
        case Launching():
            return {"status": "starting", "bootstrap": _bootstrap(0, "starting", "Starting")}
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


def _bootstrap(progress: int, tag: str, summary: str) -> dict[str, object]:
    return {"progress": progress, "tag": tag, "summary": summary}


def not_ready(status: Status) -> TortxdError:
    """The error for a request that Tor cannot carry now."""
    details = {"bootstrap": status_json(status)["bootstrap"]}
    if is_down(status):
        return TorDown(details=details)
    if isinstance(status, Bootstrapping):
        return TorNotReady(
            f"Tor is not ready yet: {status.progress} % bootstrapped ({status.summary}).",
            details=details,
        )
    return TorNotReady(details=details)


def is_down(status: Status) -> bool:
    """Whether waiting for Tor makes no sense at the moment."""
    return isinstance(status, Stopped | BackingOff | Failed)

"""A line of the log for each request that is over: how it came and ended, its times and bytes.

A summary of a request knows more than may be logged, so that each field is named here.
"""

from __future__ import annotations

from twisted.logger import Logger

from tortxd.relay.journal import Summary

__all__ = ["fields_of", "log_request"]

log = Logger(namespace="tortxd.requests")


def log_request(summary: Summary) -> None:
    """Log this request, as a listener of the journal."""
    fields = fields_of(summary)
    numbers = (
        f"{key}={_shown(value)}" for key, value in fields.items() if not isinstance(value, str)
    )
    log.info(
        "{way} {outcome} {numbers}",
        way=summary.way,
        outcome=summary.outcome,
        numbers=" ".join(numbers),
        fields=fields,
    )


def fields_of(summary: Summary) -> dict[str, str | int | float]:
    """What is logged of a request: times in seconds, with milliseconds; what there was none of is
    left out."""
    fields = {
        "way": summary.way,
        "outcome": summary.outcome,
        "status": summary.status,
        "connect": _rounded(summary.to_connect),
        "head": _rounded(summary.to_head),
        "total": _rounded(summary.seconds),
        "sent": summary.sent,
        "received": summary.received,
        "attempts": summary.attempts,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _shown(number: float) -> str:
    return f"{number:.3f}" if isinstance(number, float) else f"{number}"

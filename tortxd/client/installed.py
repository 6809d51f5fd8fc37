"""The reactor of a client that was given none."""

from __future__ import annotations

from typing import Any


def installed(reactor: Any) -> Any:
    """``reactor``, or the installed one for None."""
    if reactor is None:
        from twisted.internet import reactor
    return reactor

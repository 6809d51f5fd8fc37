"""The reactor of a client that was given none."""

from __future__ import annotations

from typing import cast

from tortxd._types import Reactor


def installed(reactor: Reactor | None) -> Reactor:
    """``reactor``, or the installed one for None."""
    if reactor is None:
        from twisted.internet import reactor as found

        return cast(Reactor, found)
    return reactor

"""What a test has caused to arrive at a destination that it shares with others.

What an earlier test has left may still arrive: on a busy machine, Tor delivers it after its client
is gone. So each test marks what it asks for.
"""

from __future__ import annotations

import secrets

from tests.daemon.process import soon
from tortxd.testing import Origin
from tortxd.testing.origin_http import Request


def mark(word: str) -> str:
    """A word to have in a target, which no other target has."""
    return f"{word}-{secrets.token_hex(8)}"


def arrived(origin: Origin, marked: str) -> list[Request]:
    """The requests with this mark in their target that have arrived by now."""
    return [one for one in origin.requests if marked.encode() in one.target]


async def arrivals(origin: Origin, marked: str, count: int = 1) -> list[Request]:
    """Wait until so many of them have arrived."""
    while len(found := arrived(origin, marked)) < count:
        await soon(origin.when_requested(len(origin.requests) + 1))
    return found

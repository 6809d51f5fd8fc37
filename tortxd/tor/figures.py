"""What Tor says of itself when it is asked, as figures."""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import frozen

from tortxd.errors import printable

KEYS = (
    "version",
    "uptime",
    "dormant",
    "traffic/read",
    "traffic/written",
    "network-liveness",
    "status/circuit-established",
)
PATIENCE = 2.0
"""Seconds that Tor has for its answer."""
_LONGEST = 100
"""Characters of a version."""
_NUMBER = re.compile(r"[0-9]{1,18}")


@frozen
class Figures:
    """See control-spec, section 3.9. What Tor does not say is None."""

    version: str | None = None
    uptime: int | None = None
    """Seconds."""
    dormant: bool | None = None
    """Whether it has let go of the network, since nobody uses it."""
    read: int | None = None
    """Bytes since it was started."""
    written: int | None = None
    """Bytes since it was started."""
    live: bool | None = None
    """Whether it hears from the network."""
    established: bool | None = None
    """Whether it can build circuits."""


def figures_of(replies: Mapping[str, str]) -> Figures:
    """Read the replies to GETINFO :data:`KEYS`."""

    def number(key: str) -> int | None:
        text = replies.get(key, "")
        return int(text) if _NUMBER.fullmatch(text) else None

    def truth(key: str, true: str, false: str) -> bool | None:
        return {true: True, false: False}.get(replies.get(key, ""))

    return Figures(
        version=printable(replies["version"][:_LONGEST]) if replies.get("version") else None,
        uptime=number("uptime"),
        dormant=truth("dormant", "1", "0"),
        read=number("traffic/read"),
        written=number("traffic/written"),
        live=truth("network-liveness", "up", "down"),
        established=truth("status/circuit-established", "1", "0"),
    )

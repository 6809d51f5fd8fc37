"""What the exits of the network carry, where Tor itself does not look.

Before it builds a circuit, Tor looks whether any exit takes a name's or an IPv4 address's port. For
IPv6 addresses it does not: where no exit carries them, it builds circuits without end (measured on
0.4.9.11). So they are looked up here, in the microdescriptors that Tor has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

if TYPE_CHECKING:
    from tortxd.tor.control import Control

FRESH = 600.0
"""Seconds for which what was read counts: a new consensus comes every hour."""


@frozen
class PortPolicy:
    """A port summary (dir-spec, section 3.3, "p6"): which ports it names, and what that means."""

    accepts: bool
    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> PortPolicy:
        """Read ``accept 80,443,8000-8100``, or the same with ``reject``.

        :raises ValueError: it is neither.
        """
        verb, _, ports = text.strip().partition(" ")
        if verb not in ("accept", "reject"):
            raise ValueError("a port summary accepts or rejects")
        pairs = (part.partition("-") for part in ports.split(","))
        ranges = tuple((int(low), int(high if dash else low)) for low, dash, high in pairs)
        return cls(verb == "accept", ranges)

    def takes(self, port: int) -> bool:
        """Whether an exit with this policy carries traffic to ``port``."""
        return any(low <= port <= high for low, high in self.ranges) is self.accepts


class Exits:
    """Knows what exits carry, for a while at a time."""

    def __init__(self, clock: IReactorTime, control: Control) -> None:
        self._clock = clock
        self._control = control
        self._policies: tuple[PortPolicy, ...] | None = None
        self._read_at = 0.0
        self._one_at_a_time = DeferredLock()

    async def carry_ipv6(self, port: int) -> bool | None:
        """Whether some exit carries traffic to ``port`` of IPv6 addresses; None where nothing is
        known of any relay yet.

        :raises TortxdError: Tor does not answer.
        """
        await self._one_at_a_time.acquire()
        try:
            if self._policies is None or self._clock.seconds() - self._read_at > FRESH:
                self._policies = await self._read()
                self._read_at = self._clock.seconds()
        finally:
            self._one_at_a_time.release()
        if self._policies is None:
            return None
        return any(policy.takes(port) for policy in self._policies)

    async def _read(self) -> tuple[PortPolicy, ...] | None:
        """Every IPv6 policy that some relay has. Few differ, so few are kept."""
        relays = 0
        summaries: set[str] = set()

        def take(line: str) -> None:
            nonlocal relays
            if line == "onion-key":
                relays += 1
            elif line.startswith("p6 "):
                summaries.add(line[3:])

        await self._control.ask_for_lines("md/all", take)
        if relays == 0:
            return None
        return tuple(policy for text in summaries if (policy := _parsed(text)) is not None)


def _parsed(text: str) -> PortPolicy | None:
    try:
        return PortPolicy.parse(text)
    except ValueError:
        return None

"""What the exits of the network carry, where Tor itself does not look.

Before it builds a circuit, Tor looks whether any exit takes a name's or an IPv4 address's port. For
IPv6 addresses it does not: where no exit carries them, it builds circuits without end (measured on
0.4.9.11). So they are looked up here, in the microdescriptors that Tor has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tortxd.errors import InternalError, TortxdError
from tortxd.tor.waiters import Waiters
from tortxd.wire.control import Implausible

if TYPE_CHECKING:
    from tortxd.tor.control import Control

_LONGEST_SUMMARY = 1100
"""Characters; Tor writes 1,000 at most."""
_MOST_SUMMARIES = 256 * 1024
"""Characters of all that differ: there are some 10,000 relays, and few have one of their own. Taken
apart, each character takes some 30 bytes."""
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
        self._reading = False
        self._waiting: Waiters[None] = Waiters()

    async def carry_ipv6(self, port: int) -> bool | None:
        """Whether some exit carries traffic to ``port`` of IPv6 addresses; None where nothing is
        known of any relay yet.

        :raises TortxdError: Tor does not answer.
        """
        if self._policies is None or self._clock.seconds() - self._read_at > FRESH:
            await self._when_read()
        if self._policies is None:
            return None
        return any(policy.takes(port) for policy in self._policies)

    def _when_read(self) -> Deferred[None]:
        """Fire when they have been read anew. Who no longer wants to know just leaves: a command
        that is on its way cannot be taken back, and another would only queue behind it."""
        read = self._waiting.add()
        if not self._reading:
            self._reading = True
            Deferred.fromCoroutine(self._read()).addCallbacks(self._is_read, self._is_not_read)
        return read

    def _is_read(self, policies: tuple[PortPolicy, ...] | None) -> None:
        self._reading = False
        self._policies, self._read_at = policies, self._clock.seconds()
        self._waiting.fire(None)

    def _is_not_read(self, failure: Failure) -> None:
        self._reading = False
        error = failure.value
        self._waiting.fail(error if isinstance(error, TortxdError) else InternalError())

    async def _read(self) -> tuple[PortPolicy, ...] | None:
        """Every IPv6 policy that some relay has. Few differ, so few are kept."""
        relays = size = 0
        summaries: set[str] = set()

        def take(line: str) -> None:
            nonlocal relays, size
            if line == "onion-key":
                relays += 1
            elif line.startswith("p6 ") and len(line) <= _LONGEST_SUMMARY:
                if line[3:] in summaries:
                    return
                summaries.add(line[3:])
                size += len(line)
                if size > _MOST_SUMMARIES:
                    raise Implausible("more exit policies than there can be")

        await self._control.ask_for_lines("md/all", take)
        if relays == 0:
            return None
        return tuple(policy for text in summaries if (policy := parsed(text)) is not None)


def parsed(text: str) -> PortPolicy | None:
    """The port summary that ``text`` is; None where it is none."""
    try:
        return PortPolicy.parse(text)
    except ValueError:
        return None

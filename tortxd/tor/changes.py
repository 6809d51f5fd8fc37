"""What changes among a Tor's circuits and streams, as values.

:class:`~tortxd.tor.table.Table` makes them of the control port's lines and tells them to those that
listen. They are named tuples: thousands come a second, and one of attrs' frozen classes takes twice
as long to make. All times are seconds on the reactor's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

Source = tuple[str, int]
"""The client's end of a SOCKS connection, as host and port."""


class CircuitChanged(NamedTuple):
    """A circuit is as this says now (control-spec, section 4.1.1)."""

    id: str
    state: str
    """LAUNCHED, BUILT, GUARD_WAIT, EXTENDED, FAILED or CLOSED."""
    path: str
    """``$FINGERPRINT~nickname,...`` as in the event; see :func:`tortxd.tor.lines.split_path`."""
    purpose: str | None
    flags: str
    """BUILD_FLAGS, separated by commas."""
    username: str | None
    """For whose streams it is: the SOCKS username for which it was launched, or that of the first
    stream on it."""
    conflux: str | None
    """The conflux set of which it is a leg."""
    leg: int | None
    """Which one, from 1, in the order in which they joined the set."""
    created: float
    built: float | None
    """When it was built, where that was seen."""
    at: float
    event: str
    """What showed it: CIRC, CIRC_MINOR, STREAM (whose circuit it is), or GETINFO, where it was
    there before the control connection."""
    is_claimed: bool
    """Whether its username is new with this change."""


class CircuitClosed(NamedTuple):
    """A circuit has failed or is closed."""

    circuit: CircuitChanged
    """As it was, with the state in which it ended."""
    reason: str | None
    """See :mod:`tortxd.tor.reasons`."""
    remote_reason: str | None
    """The relay's reason, where ``reason`` is DESTROYED."""


class StreamChanged(NamedTuple):
    """A stream is as this says now (control-spec, section 4.1.2)."""

    id: str
    state: str
    """NEW, SENTCONNECT, SUCCEEDED, REMAP, DETACHED, or another that Tor has by now."""
    circuit: str | None
    previous: str | None
    """The circuit that it was on before this change."""
    target: str
    """``host:port`` as Tor was asked for it."""
    source: Source | None
    """Where it is known."""
    username: str | None
    """Its SOCKS username, without the quotes."""
    purpose: str | None
    reached: bool
    """Whether it has reached its destination."""
    created: float
    at: float


class StreamEnded(NamedTuple):
    """A stream has failed or is closed. Tor may say both; the first counts."""

    stream: StreamChanged
    """As it was before."""
    state: str
    """FAILED or CLOSED."""
    reason: str
    """See :mod:`tortxd.tor.reasons`."""
    remote_reason: str | None
    """The exit's reason, where ``reason`` is END."""
    at: float

    @property
    def cause(self) -> str:
        """The exit's reason, where that is why it ended; else Tor's own."""
        return (self.remote_reason or self.reason) if self.reason == "END" else self.reason


class Bandwidth(NamedTuple):
    """What Tor has read and written in the last second (control-spec, section 4.1.4)."""

    read: int
    """Bytes."""
    written: int
    """Bytes."""
    at: float


class Cleared(NamedTuple):
    """Nothing counts any more of what was told before: another Tor, or the same after a gap."""


Change = CircuitChanged | CircuitClosed | StreamChanged | StreamEnded | Bandwidth | Cleared

C = TypeVar("C", bound=Change)


class Listeners:
    """Those who listen to changes, by their kind."""

    def __init__(self) -> None:
        self._listeners: dict[type, tuple[Callable[[Any], object], ...]] = {}

    def listen(self, kind: type[C], listener: Callable[[C], object]) -> Callable[[], None]:
        """Have ``listener`` called with every further change of this kind, in the order in which
        they listen; the result, called, ends that."""
        self._listeners[kind] = (*self._listeners.get(kind, ()), listener)

        def leave() -> None:
            others = (one for one in self._listeners[kind] if one is not listener)
            self._listeners[kind] = tuple(others)

        return leave

    def tell(self, change: Change) -> None:
        """Call those that listen to changes of this kind."""
        for listener in self._listeners.get(type(change), ()):
            listener(change)

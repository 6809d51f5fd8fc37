"""What the rest of tortxd needs of a Tor: the seam behind which txtorcon stands.

:class:`tortxd.tor.supervisor.TorSupervisor` provides it for a real Tor; tests provide their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from tortxd.addresses import SocksAddress
from tortxd.tor.isolation import Credentials
from tortxd.tor.status import Status

__all__ = ["Circuit", "Relay", "SocksAddress", "Stream", "TorLink"]


@frozen
class Relay:
    """One hop of a circuit. What Tor does not say is None."""

    fingerprint: str
    """40 hexadecimal digits, upper case, without ``$``."""
    nickname: str | None = None
    address: str | None = None
    country: str | None = None
    """ISO 3166-1 alpha-2 in lower case, from Tor's own GeoIP file."""


@frozen
class Circuit:
    """One circuit as the control port showed it last (control-spec, section 4.1.1)."""

    id: str
    state: str
    """LAUNCHED, BUILT, GUARD_WAIT, EXTENDED, FAILED or CLOSED."""
    path: tuple[Relay, ...]
    purpose: str | None
    created: float
    """Seconds on the reactor's clock."""
    streams: tuple[str, ...] = ()
    """The ids of the streams that are on it."""

    @property
    def exit(self) -> Relay | None:
        """The last relay of a circuit that is or was built and leaves Tor there, as circuits to
        onion services do not."""
        leaves = self.state in ("BUILT", "CLOSED") and not (self.purpose or "").startswith("HS_")
        return self.path[-1] if self.path and leaves else None


@frozen
class Stream:
    """One stream as the control port showed it last (control-spec, section 4.1.2)."""

    id: str
    state: str
    circuit: str | None
    target: str
    """``host:port`` as Tor was asked for it."""
    source: tuple[str, int] | None
    """The client's end of the SOCKS connection (SOURCE_ADDR), where it is known."""
    created: float
    """Seconds on the reactor's clock."""
    purpose: str | None = None


class TorLink(Protocol):
    """One Tor, launched or attached to."""

    @property
    def status(self) -> Status:
        """What Tor is doing now."""

    @property
    def network(self) -> str:
        """``public``, or ``private`` for a testing network, which gives no anonymity; ``unknown``
        before that is known."""

    @property
    def socks_address(self) -> SocksAddress | None:
        """Where SOCKS requests go, or None while no SOCKS port of this Tor is known to listen."""

    def when_usable(self) -> Deferred[SocksAddress]:
        """Fire as soon as the SOCKS port listens, be it long before Tor is ready: Tor itself holds
        a stream until it has a circuit. Cancellable. Fails with TorDown when Tor has failed for
        good or is stopped."""

    def circuits(self) -> Sequence[Circuit]:
        """The circuits that are open now, oldest first."""

    def streams(self) -> Sequence[Stream]:
        """The streams that are open now, oldest first."""

    def circuit_of(self, source: tuple[str, int]) -> Circuit | None:
        """The circuit which carries the SOCKS connection that comes from ``source`` (its own
        ``(host, port)`` end), as far as the control port has shown; it stays known for a while
        after the stream has closed."""

    def close_reason(self, source: tuple[str, int], timeout: float) -> Deferred[str | None]:
        """Fire with the REASON of the STREAM CLOSED or FAILED event of that SOCKS connection
        (``DONE`` for an orderly end), or with None when none has come after ``timeout`` seconds."""

    def close_abandoned(self, source: tuple[str, int], username: bytes) -> None:
        """See that the stream of this SOCKS connection ends, which we have just closed. A Tor
        that may not send on a stream does not read what comes for it, and misses its end."""

    def admit(self, credentials: Credentials, within: float) -> Deferred[None] | None:
        """Let a stream with these credentials go to Tor, which may cost it a fresh circuit;
        :meth:`opened` follows, once.

        :return: None: at once; else fires when it may, ``within`` so many seconds, or fails with
            Overloaded. Cancellable.
        :raises Overloaded: that would not be in time.
        """

    def opened(self, credentials: Credentials, *, reached: bool | None) -> None:
        """A stream that :meth:`admit` has let go is open.

        :param reached: False: it will not be; None: nobody wants it any more.
        """

    def exits_carry(self, host: str, port: int) -> Deferred[bool | None]:
        """Fire with whether some exit carries traffic to this IPv6 address, or with None when that
        is not known; for other hosts Tor itself looks. Cancellable. Never fails."""

    def new_identity(self) -> Deferred[None]:
        """New circuits for everything (NEWNYM); fires when Tor has done it. Fails with TorNotReady
        or TorTimeout."""

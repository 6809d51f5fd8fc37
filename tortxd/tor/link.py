"""What the rest of tortxd needs of a Tor: the seam behind which txtorcon stands.

:class:`tortxd.tor.supervisor.TorSupervisor` provides it for a real Tor; tests provide their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred

from tortxd.addresses import SocksAddress
from tortxd.policy.steering import Choice
from tortxd.tor.changes import Bandwidth, C, CircuitChanged
from tortxd.tor.figures import Figures
from tortxd.tor.isolation import Credentials
from tortxd.tor.status import Status

__all__ = ["Circuit", "Relay", "SocksAddress", "Stream", "TorLink", "TorView"]


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
    flags: tuple[str, ...] = ()
    """BUILD_FLAGS."""
    build_time: float | None = None
    """Seconds that it took to build it, where that was seen."""
    conflux: str | None = None
    """The conflux set of which it is a leg (proposal 329)."""
    leg: int | None = None
    """Which one of the set, from 1."""
    uses_guard: bool | None = None
    """Whether its first hop is one of Tor's guards; None where that is not known."""
    username: str | None = field(default=None, repr=False)
    """The SOCKS username of the streams for which it is."""

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
    username: str | None = field(default=None, repr=False)
    """Its SOCKS username."""


class ExitLead(Protocol):
    """Leads streams to a host by a certain exit."""

    @property
    def name(self) -> str:
        """What the SOCKS port is asked for instead of the host."""

    def release(self) -> None:
        """The stream is open, or will not be; harmless if that was said."""


class TorLink(Protocol):
    """One Tor, launched or attached to, as those need it who send requests through it."""

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

    def choose_exit(
        self, choice: Choice, host: str, port: int, avoiding: Collection[str] = ()
    ) -> Deferred[str]:
        """Fire with the fingerprint of an exit that ``choice`` names and that carries traffic to
        ``port``, when Tor is ready. Cancellable.

        :param avoiding: exits that are taken only where there is no other.

        Fails with ExitUnavailable where there is none, or none can be chosen for such a host; with
        another TortxdError where Tor cannot be asked.
        """

    def has_exit(self, fingerprint: str, port: int, username: bytes) -> Deferred[bool]:
        """Fire with whether that exit is there and carries ``port``, when Tor is ready.
        Cancellable. Fails where Tor cannot be asked.

        :param username: the SOCKS username of streams to it: where they have a circuit, it is of
            no matter that others could not reach that exit.
        """

    def lead_to_exit(
        self,
        host: str,
        fingerprint: str,
        username: bytes,
        unreachable: Callable[[], object],
        *,
        anew: bool = False,
    ) -> Deferred[ExitLead]:
        """Fire with a name for ``host`` by that exit. Cancellable.

        :param username: the SOCKS username of the stream.
        :param unreachable: called where no circuit to that exit comes about.
        :param anew: whether Tor did not know the name though it was told.

        Fails with ExitUnavailable where none can be made for such a host; with another TortxdError
        where Tor cannot be asked.
        """

    def new_identity(self) -> Deferred[None]:
        """New circuits for everything (NEWNYM); fires when Tor has done it. Fails with TorNotReady
        or TorTimeout."""


class TorView(TorLink, Protocol):
    """The same, as those need it who watch and steer it."""

    @property
    def since(self) -> float:
        """When the status became of the kind that it is (``Ready``, say), on the reactor's clock;
        before the first, when this was made."""

    @property
    def next_new_identity(self) -> float | None:
        """Seconds until Tor will make new circuits for everything at once (NEWNYM); 0: now. None:
        that is not known, without a control connection or in the first seconds of one: another
        controller may have had it done just before."""

    @property
    def runs(self) -> int:
        """How many times a Tor was started, or a control port reached, so far."""

    @property
    def pid(self) -> int | None:
        """The process id of a Tor that was launched, while there is one."""

    def on_status(self, observer: Callable[[Status], None]) -> Callable[[], None]:
        """Have ``observer`` called with every further status; the result, called, ends that."""

    def listen(self, kind: type[C], listener: Callable[[C], object]) -> Callable[[], None]:
        """Have ``listener`` called with every further change of this kind; the result, called, ends
        that. Thousands may come in a second."""

    def circuits(self) -> Sequence[Circuit]:
        """The circuits that are open now, oldest first."""

    def circuit(self, id: str) -> Circuit | None:
        """The open circuit with this id."""

    def owner(self, circuit: str) -> str | None:
        """The SOCKS username of those for whom a circuit with this id is, or was a short while ago;
        None: there is none such, or it is nobody's."""

    def describe(self, circuit: CircuitChanged) -> Circuit:
        """A circuit that was told of, with what is known of its relays."""

    def streams(self) -> Sequence[Stream]:
        """The streams that are open now, oldest first."""

    def stream(self, id: str) -> Stream | None:
        """The open stream with this id."""

    def bandwidth(self) -> Sequence[Bandwidth]:
        """What Tor has read and written in each second of the last minutes, oldest first."""

    def figures(self) -> Deferred[Figures]:
        """What Tor says of itself now. Cancellable. Fails with a TortxdError."""

    def close_circuit(self, id: str) -> Deferred[None]:
        """Close a circuit, and the streams on it; fires when Tor has taken the command. Fails with
        NotFound where there is none, with TorNotReady, TorDown or TorTimeout."""

    def close_stream(self, id: str) -> Deferred[None]:
        """Close a stream; as :meth:`close_circuit`."""

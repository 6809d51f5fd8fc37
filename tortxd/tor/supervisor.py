"""One Tor, launched or attached to, supervised: what the rest of tortxd holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from tortxd._types import Reactor
from tortxd.errors import NotFound, TorNotReady, TortxdError
from tortxd.policy.steering import Choice
from tortxd.tor.budget import CircuitBudget
from tortxd.tor.changes import Bandwidth, C, CircuitChanged, Source
from tortxd.tor.close_reasons import CloseReasons
from tortxd.tor.figures import KEYS, PATIENCE, Figures, figures_of
from tortxd.tor.identity import NewIdentity
from tortxd.tor.isolation import Credentials
from tortxd.tor.link import Circuit, ExitLead, SocksAddress, Stream
from tortxd.tor.lives import Lives
from tortxd.tor.milestones import Milestones
from tortxd.tor.session import NO_CIRCUIT, NO_STREAM, Session, Watch
from tortxd.tor.settings import AttachSettings, LaunchSettings
from tortxd.tor.status import Status, serves
from tortxd.tor.table import Table

if TYPE_CHECKING:
    import txtorcon

    from tortxd.tor.control import Control

__all__ = ["AttachSettings", "LaunchSettings", "TorSupervisor"]

_ABANDONED_FOR = 0.5
"""Seconds that Tor has for noticing by itself that a client has closed its SOCKS connection."""


class TorSupervisor:
    """A supervised Tor; provides :class:`tortxd.tor.link.TorView`.

    :param reactor: of its clock, processes and connections.
    :param settings: launch or attach.
    :param watch: the watchdog's interval and patience.
    :param username_prefix: how our own SOCKS usernames begin; an attached Tor may have other users.
    :param budget: of fresh circuits; None: without limit.
    """

    def __init__(
        self,
        reactor: Reactor,
        settings: LaunchSettings | AttachSettings,
        watch: Watch | None = None,
        username_prefix: str = "",
        budget: CircuitBudget | None = None,
    ) -> None:
        self._reactor = reactor
        self._budget = budget or CircuitBudget(reactor, None, None)
        self._table = Table()
        self._reasons = CloseReasons(reactor, self._table)
        self._new_identity = NewIdentity(reactor)
        self._milestones = Milestones()
        self._lives = Lives(
            reactor,
            settings,
            watch or Watch(),
            username_prefix,
            table=self._table,
            budget=self._budget,
            reasons=self._reasons,
            new_identity=self._new_identity,
            milestones=self._milestones,
        )

    # --- starting and stopping -----------------------------------------------------------------

    def prepare(self) -> None:
        """Find out all that can be known before anything has begun, and lock the data directory,
        until :meth:`stop`.

        :raises SetupError: the data directory is not ours or locked, there is no tor that is new
            enough, Tor does not take a torrc line or it is not the user's to set, the SOCKS port
            that was asked for is taken, or the control endpoint is malformed.
        """
        self._lives.prepare()

    def start(self) -> None:
        """Begin, after :meth:`prepare`. What becomes of it shows in :attr:`status`.

        :raises SetupError: as there, where that was not called.
        """
        self._lives.start()

    def wind_down(self) -> None:
        """Start or reach no Tor again: :meth:`stop` follows soon."""
        self._lives.wind_down()

    def stop(self) -> Deferred[None]:
        """Stop, and fire when a launched Tor's process is gone (SIGTERM, SIGKILL after 2 s)."""
        self._budget.stop()
        return self._lives.stop()

    # --- what Tor is doing ---------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """What Tor is doing now."""
        return self._milestones.status

    @property
    def since(self) -> float:
        """See :meth:`tortxd.tor.link.TorView.since`."""
        return self._lives.since

    def on_status(self, observer: Callable[[Status], None]) -> Callable[[], None]:
        """Have ``observer`` called with every further status; the result, called, ends that."""
        return self._milestones.on_status(observer)

    @property
    def network(self) -> str:
        """``public``; ``private`` for a network with authorities of its own, which gives no
        anonymity; ``unknown`` while there is no control connection."""
        return "unknown" if self._session is None else self._session.network

    @property
    def socks_address(self) -> SocksAddress | None:
        """Where this Tor's SOCKS port listens, or None while it is not known to."""
        return self._milestones.socks

    @property
    def runs(self) -> int:
        """How many times a Tor was started, or a control port reached, so far."""
        return self._lives.runs

    @property
    def pid(self) -> int | None:
        """The launched Tor's process id, while there is one."""
        return None if self._lives.run is None else self._lives.run.pid

    @property
    def txtorcon(self) -> txtorcon.Tor:
        """The ``txtorcon.Tor`` over the control connection; another one after a reconnection.

        :raises TorNotReady: there is no control connection now.
        """
        return self.control.txtorcon

    @property
    def control(self) -> Control:
        """The control connection.

        :raises TorNotReady: there is none now.
        """
        return self._open_session.control

    def when_usable(self) -> Deferred[SocksAddress]:
        """Fire as soon as the SOCKS port listens, long before Tor is ready. Cancellable. Fails with
        TorDown when Tor has failed for good or is stopped."""
        return self._milestones.when_usable()

    def when_ready(self) -> Deferred[None]:
        """Fire when requests are expected to be served. Cancellable. Fails as when_usable does."""
        return self._milestones.when_ready()

    def when_failed(self) -> Deferred[TortxdError]:
        """Fire, with a SetupError, when there is no use trying any longer. Cancellable."""
        return self._milestones.when_failed()

    # --- circuits and streams ------------------------------------------------------------------

    def circuits(self) -> Sequence[Circuit]:
        """The circuits that are open now, oldest first."""
        return self._table.circuits()

    def streams(self) -> Sequence[Stream]:
        """The streams that are open now, oldest first."""
        return self._table.streams()

    def circuit(self, id: str) -> Circuit | None:
        """The open circuit with this id."""
        return self._table.circuit(id)

    def owner(self, circuit: str) -> str | None:
        """The SOCKS username of those for whom a circuit with this id is, or was a short while ago;
        None: there is none such, or it is nobody's."""
        return self._table.owner(circuit)

    def describe(self, circuit: CircuitChanged) -> Circuit:
        """A circuit that was told of, with what is known of its relays."""
        return self._table.describe(circuit)

    def stream(self, id: str) -> Stream | None:
        """The open stream with this id."""
        return self._table.stream(id)

    def listen(self, kind: type[C], listener: Callable[[C], object]) -> Callable[[], None]:
        """Have ``listener`` called with every further change of this kind; the result, called, ends
        that."""
        return self._table.listen(kind, listener)

    def bandwidth(self) -> Sequence[Bandwidth]:
        """What Tor has read and written in each second of the last minutes, oldest first."""
        return self._table.traffic.seconds

    def figures(self) -> Deferred[Figures]:
        """What Tor says of itself now.

        :raises TortxdError: there is no control connection, or Tor does not answer (in the
            Deferred).
        """

        async def ask() -> Figures:
            return figures_of(await self.control.ask(*KEYS, patience=PATIENCE))

        return Deferred.fromCoroutine(ask())

    def close_circuit(self, id: str) -> Deferred[None]:
        """Close a circuit, and the streams on it; fires when Tor has taken the command.

        :raises NotFound: there is none (in the Deferred, as all errors).
        :raises TortxdError: there is no control connection, or Tor does not answer.
        """

        async def close() -> None:
            session = self._open_session
            if self._table.circuit(id) is None:
                raise NotFound(NO_CIRCUIT)
            await session.end_circuit(id)

        return Deferred.fromCoroutine(close())

    def close_stream(self, id: str) -> Deferred[None]:
        """Close a stream; errors as :meth:`close_circuit`."""

        async def close() -> None:
            session = self._open_session
            if not self._table.is_open(id):
                raise NotFound(NO_STREAM)
            await session.end_stream(id)

        return Deferred.fromCoroutine(close())

    def circuit_of(self, source: Source) -> Circuit | None:
        """The circuit which carries, or up to 30 s ago carried, the connection from ``source``.

        None where it is not known: on a unix SOCKS port connections have no source, and Tor tells
        the source of a stream only when it begins, so those from before the control connection
        stood have none either.
        """
        return self._table.circuit_of(source, self._reactor.seconds())

    def close_reason(self, source: Source, timeout: float) -> Deferred[str | None]:
        """Fire with the REASON of the STREAM CLOSED or FAILED event of that connection (``DONE``
        for an orderly end), or with None when none has come after ``timeout`` seconds, or Tor has
        gone meanwhile."""
        return self._reasons.reason(source, timeout)

    def close_abandoned(self, source: Source, username: bytes) -> None:
        """See that the stream of this SOCKS connection ends, which we have just closed. A Tor
        that may not send on a stream does not read what comes for it, and misses its end."""
        run, stream = self._lives.run, self._table.stream_of(source, username.decode("ascii"))
        if run is None or stream is None:
            return

        def look() -> None:
            if run.session is not None and self._table.is_open(stream):
                run.session.close_stream(stream)

        self._reactor.callLater(_ABANDONED_FOR, look)

    def admit(self, credentials: Credentials, within: float) -> Deferred[None] | None:
        """See :meth:`tortxd.tor.link.TorLink.admit`."""
        username = credentials.username.decode("ascii")

        def carried(served: bool) -> bool | None:
            session = self._session
            if session is None:
                return None
            return session.usage.carries(username, self._reactor.seconds(), served=served)

        return self._budget.admit(credentials, carried, within)

    def opened(self, credentials: Credentials, *, reached: bool | None) -> None:
        """See :meth:`tortxd.tor.link.TorLink.opened`."""
        self._budget.opened(credentials, reached=reached)

    def exits_carry(self, host: str, port: int) -> Deferred[bool | None]:
        """Fire with whether some exit carries traffic to this IPv6 address, or with None when that
        is not known; for other hosts Tor itself looks. Cancellable. Never fails."""
        return Deferred.fromCoroutine(self._exits_carry(host, port))

    async def _exits_carry(self, host: str, port: int) -> bool | None:
        session = self._session
        if session is None or ":" not in host:
            return None
        try:
            return await session.exits.carry_ipv6(port)
        except TortxdError:
            return None

    def choose_exit(
        self, choice: Choice, host: str, port: int, avoiding: Collection[str] = ()
    ) -> Deferred[str]:
        """See :meth:`tortxd.tor.link.TorLink.choose_exit`."""

        async def choose() -> str:
            session = await self._when_session()
            return await session.chooser.choose(choice, port, avoiding)

        return Deferred.fromCoroutine(choose())

    def has_exit(self, fingerprint: str, port: int, username: bytes) -> Deferred[bool]:
        """See :meth:`tortxd.tor.link.TorLink.has_exit`."""

        async def has() -> bool:
            session = await self._when_session()
            now, name = self._reactor.seconds(), username.decode("ascii")
            has_circuit = session.usage.carries(name, now, served=True)
            return await session.chooser.has(fingerprint, port, has_circuit=has_circuit)

        return Deferred.fromCoroutine(has())

    def lead_to_exit(
        self,
        host: str,
        fingerprint: str,
        username: bytes,
        unreachable: Callable[[], object],
        *,
        anew: bool = False,
    ) -> Deferred[ExitLead]:
        """See :meth:`tortxd.tor.link.TorLink.lead_to_exit`."""

        async def lead() -> ExitLead:
            session = await self._when_session()
            mapping = await session.mappings.map(host, fingerprint, anew=anew)
            mapping.when_released(
                session.unreachable.watch(username.decode("ascii"), fingerprint, unreachable)
            )
            return mapping

        return Deferred.fromCoroutine(lead())

    async def _when_session(self) -> Session:
        """The control connection's use, when Tor is ready."""
        if not serves(self.status):
            await self.when_ready()
        return self._open_session

    def new_identity(self) -> Deferred[None]:
        """New circuits for everything (NEWNYM); fires when Tor has done it, which is up to 10 s
        later when it was done only just before.

        :raises TorNotReady: there is no control connection (in the Deferred, as all errors).
        :raises TorTimeout: Tor does not answer.
        """

        async def make() -> None:
            await self._new_identity.make(self.control)

        return Deferred.fromCoroutine(make())

    @property
    def next_new_identity(self) -> float | None:
        """See :meth:`tortxd.tor.link.TorView.next_new_identity`."""
        since = None if self._session is None else self._session.heard_since
        return None if since is None else self._new_identity.next_in(since)

    @property
    def _open_session(self) -> Session:
        if self._session is None:
            raise TorNotReady("There is no control connection to Tor now.")
        return self._session

    @property
    def _session(self) -> Session | None:
        return None if self._lives.run is None else self._lives.run.session

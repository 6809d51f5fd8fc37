"""One Tor, launched or attached to, supervised: what the rest of tortxd holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from tortxd.endpoints import is_local_client, not_a_client, plain
from tortxd.errors import SetupError, TorDown, TorNotReady, TorTimeout, TortxdError
from tortxd.tor.attached import Attached
from tortxd.tor.budget import CircuitBudget
from tortxd.tor.datadir import prepare
from tortxd.tor.isolation import Credentials
from tortxd.tor.launched import Launched
from tortxd.tor.lifecycle import Core, make_lifecycle
from tortxd.tor.link import Circuit, SocksAddress, Stream
from tortxd.tor.lock import DataDirLock, tor_lives_in
from tortxd.tor.ports import SocksChoice
from tortxd.tor.process import check_with_tor, find_tor
from tortxd.tor.repeats import Repeats
from tortxd.tor.session import Watch
from tortxd.tor.status import (
    BackingOff,
    Bootstrapping,
    Failed,
    Launching,
    Ready,
    Status,
    Stopped,
    sentence,
    serves,
)
from tortxd.tor.table import Source, Table
from tortxd.tor.torrc import check_lines
from tortxd.tor.waiters import Waiters

if TYPE_CHECKING:
    import txtorcon

    from tortxd.tor.control import Control

_NEWNYM_PATIENCE = 20.0
"""Seconds; Tor carries out one NEWNYM in 10 s, and keeps further ones waiting."""

_ABANDONED_FOR = 0.5
"""Seconds that Tor has for noticing by itself that a client has closed its SOCKS connection."""

log = Logger(namespace="tortxd.tor")


def _log(text: str) -> None:
    log.info("{sentence}", sentence=text)


def _warn(text: str) -> None:
    log.warn("{sentence}", sentence=text)


@frozen
class LaunchSettings:
    """A Tor of our own."""

    data_dir: Path
    """Private, locked while it runs; guards persist in it."""
    tor: str | None = None
    """The executable, a path or a name; None: found on PATH."""
    socks: SocksAddress | None = None
    """The SOCKS port that was asked for; None: 9050, or a free one."""
    torrc_lines: tuple[str, ...] = ()
    """The user's further configuration."""
    torrc_name: str = "The torrc file"
    """How a sentence calls the file that has these lines."""


@frozen
class AttachSettings:
    """A Tor that others run."""

    control: str
    """A Twisted client endpoint: ``tcp:127.0.0.1:9051``, ``unix:/run/tor/control``."""
    password: str | None = None
    """For HashedControlPassword; None: cookie."""
    socks: SocksAddress | None = None
    """The SOCKS address to use; None: the one that Tor names."""


class TorSupervisor:
    """A supervised Tor; provides :class:`tortxd.tor.link.TorLink`.

    :param reactor: of its clock, processes and connections.
    :param settings: launch or attach.
    :param watch: the watchdog's interval and patience.
    :param mark: how our own SOCKS usernames begin; an attached Tor may have other users.
    :param budget: of fresh circuits; None: without limit.
    """

    def __init__(
        self,
        reactor: Any,
        settings: LaunchSettings | AttachSettings,
        watch: Watch | None = None,
        username_prefix: str = "",
        budget: CircuitBudget | None = None,
    ) -> None:
        self._reactor = reactor
        self._username_prefix = username_prefix
        self._settings = settings
        self._watch = watch or Watch()
        self._status: Status = Stopped()
        self._socks: SocksAddress | None = None
        self._table = Table()
        self._lock: DataDirLock | None = None
        self._session: Launched | Attached | None = None
        self._open_session: Callable[[], Launched | Attached] | None = None
        self._observers: list[Callable[[Status], None]] = []
        self._usable: Waiters[SocksAddress] = Waiters()
        self._ready: Waiters[None] = Waiters()
        self._failed: Waiters[TortxdError] = Waiters()
        self._new_identity: Waiters[None] = Waiters()
        self._reasons: dict[Source, Waiters[str | None]] = {}
        self._ended: Deferred[None] = succeed(None)
        self._repeats = Repeats(reactor)
        self._budget = budget or CircuitBudget(reactor, None, None)
        self._served = False
        self._prepared = False
        self._begun = False
        self._winding_down = False
        self._life = make_lifecycle(Core(self, reactor, self._status_is))

    # --- for those who hold it -----------------------------------------------------------------

    def prepare(self) -> None:
        """Find out all that can be known before anything has begun, and lock the data directory,
        until :meth:`stop`.

        :raises SetupError: the data directory is not ours or locked, there is no tor that is new
            enough, Tor does not take a torrc line or it is not the user's to set, the SOCKS port
            that was asked for is taken, or the control endpoint is malformed.
        """
        settings = self._settings
        self._winding_down = False
        if isinstance(settings, LaunchSettings):
            self._open_session = self._launching(settings)
        else:
            self._open_session = self._attaching(settings)
        self._prepared = True

    def start(self) -> None:
        """Begin, after :meth:`prepare`. What becomes of it shows in :attr:`status`.

        :raises SetupError: as there, where that was not called.
        """
        if not self._prepared:
            self.prepare()
        self._prepared = False
        self._life.start()

    def wind_down(self) -> None:
        """Start or reach no Tor again: :meth:`stop` follows soon."""
        self._winding_down = True

    def stop(self) -> Deferred[None]:
        """Stop, and fire when a launched Tor's process is gone (SIGTERM, SIGKILL after 2 s)."""
        self._prepared = False
        self._budget.stop()
        self._life.stop()
        stopped: Deferred[None] = Deferred()
        self._ended.addCallback(self._release)
        self._ended.addCallback(self._say_stopped)
        self._ended.addCallback(lambda _: stopped.callback(None))
        return stopped

    @property
    def status(self) -> Status:
        """What Tor is doing now."""
        return self._status

    def on_status(self, observer: Callable[[Status], None]) -> Callable[[], None]:
        """Have every further status told; the result, called, ends that."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    @property
    def network(self) -> str:
        """``public``; ``private`` for a network with authorities of its own, which gives no
        anonymity; ``unknown`` while there is no control connection."""
        session = None if self._session is None else self._session.session
        return "unknown" if session is None else session.network

    @property
    def socks_address(self) -> SocksAddress | None:
        """Where this Tor's SOCKS port listens, or None while it is not known to."""
        return self._socks

    @property
    def pid(self) -> int | None:
        """The launched Tor's process id, while there is one."""
        return None if self._session is None else self._session.pid

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
        session = None if self._session is None else self._session.session
        if session is None:
            raise TorNotReady("There is no control connection to Tor now.")
        return session.control

    def when_usable(self) -> Deferred[SocksAddress]:
        """Fire as soon as the SOCKS port listens, long before Tor is ready. Cancellable. Fails with
        TorDown when Tor has failed for good or is stopped."""
        if self._socks is not None:
            return succeed(self._socks)
        return self._wait(self._usable)

    def when_ready(self) -> Deferred[None]:
        """Fire when requests are expected to be served. Cancellable. Fails as when_usable does."""
        return succeed(None) if serves(self._status) else self._wait(self._ready)

    def when_failed(self) -> Deferred[TortxdError]:
        """Fire, with a SetupError, when there is no use trying any longer. Cancellable."""
        if isinstance(self._status, Failed):
            return succeed(SetupError(self._status.reason))
        return self._failed.add()

    def circuits(self) -> Sequence[Circuit]:
        """The circuits that are open now, oldest first."""
        return self._table.circuits()

    def streams(self) -> Sequence[Stream]:
        """The streams that are open now, oldest first."""
        return self._table.streams()

    def circuit_of(self, source: tuple[str, int]) -> Circuit | None:
        """The circuit which carries, or up to 30 s ago carried, the connection from ``source``.

        None where it is not known: on a unix SOCKS port connections have no source, and Tor tells
        the source of a stream only when it begins, so those from before the control connection
        stood have none either.
        """
        return self._table.circuit_of(source, self._reactor.seconds())

    def close_reason(self, source: tuple[str, int], timeout: float) -> Deferred[str | None]:
        """Fire with the REASON of the STREAM CLOSED or FAILED event of that connection (``DONE``
        for an orderly end), or with None when none has come after ``timeout`` seconds, or Tor has
        gone meanwhile."""
        reason = self._table.reason_of(source, self._reactor.seconds())
        if reason is not None:
            return succeed(reason)
        waiting = self._reasons.setdefault(source, Waiters())
        answer = waiting.add()
        timer = self._reactor.callLater(timeout, waiting.resolve, answer, None)

        def done(result: str | None) -> str | None:
            if timer.active():
                timer.cancel()
            if not waiting and self._reasons.get(source) is waiting:
                del self._reasons[source]
            return result

        return answer.addBoth(done)

    def close_abandoned(self, source: tuple[str, int], username: bytes) -> None:
        """See that the stream of this SOCKS connection ends, which we have just closed. A Tor
        that may not send on a stream does not read what comes for it, and misses its end."""
        session, stream = self._session, self._table.stream_of(source, username.decode("ascii"))
        if session is None or stream is None:
            return

        def look() -> None:
            if session.session is not None and self._table.is_open(stream):
                session.session.close_stream(stream)

        self._reactor.callLater(_ABANDONED_FOR, look)

    def admit(self, credentials: Credentials, within: float) -> Deferred[None] | None:
        """See :meth:`tortxd.tor.link.TorLink.admit`."""
        username = credentials.username.decode("ascii")

        def carried(served: bool) -> bool | None:
            if self._session is None or self._session.session is None:
                return None
            return self._table.usage.carries(username, self._reactor.seconds(), served=served)

        return self._budget.admit(credentials, carried, within)

    def opened(self, credentials: Credentials, *, reached: bool | None) -> None:
        """See :meth:`tortxd.tor.link.TorLink.opened`."""
        self._budget.opened(credentials, reached=reached)

    def when_admitted(self, credentials: Credentials, within: float) -> Deferred[SocksAddress]:
        """Fire when the SOCKS port listens and such a stream may go to it. Cancellable. Fails as
        :meth:`when_usable` and :meth:`admit` do."""

        async def admitted() -> SocksAddress:
            await self.when_usable()
            waiting = self.admit(credentials, within)
            if waiting is not None:
                await waiting
            self.opened(credentials, reached=True)  # what becomes of it is the caller's affair
            return await self.when_usable()

        return Deferred.fromCoroutine(admitted())

    def exits_carry(self, host: str, port: int) -> Deferred[bool | None]:
        """Fire with whether some exit carries traffic to this IPv6 address, or with None when that
        is not known; for other hosts Tor itself looks. Cancellable. Never fails."""
        return Deferred.fromCoroutine(self._exits_carry(host, port))

    def new_identity(self) -> Deferred[None]:
        """New circuits for everything (NEWNYM); fires when Tor has done it, which is up to 10 s
        later when it was done only just before.

        :raises TorNotReady: there is no control connection (in the Deferred, as all errors).
        :raises TorTimeout: Tor does not answer.
        """
        return Deferred.fromCoroutine(self._make_new_identity())

    # --- the lifecycle's hands -------------------------------------------------------------------

    def begin(self) -> None:
        """Make a session; called by the lifecycle alone."""
        assert self._open_session is not None
        if self._winding_down:
            return
        self._begun = True
        self._session = self._open_session()
        self._session.begin()

    def end(self) -> None:
        """End the session; called by the lifecycle alone."""
        session, self._session = self._session, None
        self.socks_at(None)
        self._ended = succeed(None) if session is None else session.end()

    # --- what a session tells (see SessionListener) --------------------------------------------

    def socks_at(self, address: SocksAddress | None) -> None:
        """The SOCKS port listens there, or no more."""
        self._socks = address
        if address is None:
            self._table.clear()
            self._budget.clear()
            unanswered, self._reasons = self._reasons, {}
            for waiting in unanswered.values():
                waiting.fire(None)
        else:
            self._usable.fire(address)

    def progress(self, bootstrap: Bootstrapping) -> None:
        """Tor says how far it is."""
        self._life.progress(bootstrap)

    def established(self) -> None:
        """Tor can build circuits."""
        self._served = True
        self._life.established()

    def interrupted(self, reason: str) -> None:
        """Tor cannot build circuits any more."""
        self._life.interrupted(reason)

    def trouble(self, key: str, reason: str | None) -> None:
        """Something is wrong, or right again."""
        self._life.trouble(key, reason)

    def stream_over(self, source: Source, reason: str) -> None:
        """A SOCKS connection has ended."""
        waiting = self._reasons.pop(source, None)
        if waiting is not None:
            self._table.reason_of(source, self._reactor.seconds())
            waiting.fire(reason)

    def circuit_claimed(self, username: str) -> None:
        """Streams with this SOCKS username have got a circuit that was nobody's before."""
        self._budget.claimed(username)

    def new_identity_made(self) -> None:
        """A NEWNYM was carried out."""
        self._new_identity.fire(None)

    def gone(self, reason: str) -> None:
        """The session is over, and Tor with it."""
        self._life.gone(reason)

    def detached(self, reason: str) -> None:
        """The session is over; Tor may live on."""
        self._life.detached(reason)

    def fatal(self, reason: str) -> None:
        """The session is over, and another would end the same way."""
        self._life.fatal(reason)

    # --- inside --------------------------------------------------------------------------------

    def _launching(self, settings: LaunchSettings) -> Callable[[], Launched]:
        check_lines(settings.torrc_lines, settings.torrc_name)
        executable = find_tor(settings.tor)
        data_dir = prepare(settings.data_dir)
        if settings.torrc_lines:
            check_with_tor(executable, settings.torrc_lines, settings.torrc_name, data_dir / "tor")
        choice = SocksChoice(settings.socks)
        if self._lock is None:
            self._lock = DataDirLock.acquire(data_dir)
        try:
            if not tor_lives_in(data_dir / "tor"):
                choice.check()
        except SetupError:
            self._release(None)
            raise

        def open_session() -> Launched:
            return Launched(
                self._reactor,
                self,
                self._table,
                executable=executable,
                data_dir=data_dir,
                choice=choice,
                lines=settings.torrc_lines,
                watch=self._watch,
                first=not self._served,
                repeats=self._repeats,
            )

        return open_session

    def _attaching(self, settings: AttachSettings) -> Callable[[], Attached]:
        try:
            endpoint: IStreamClientEndpoint = clientFromString(self._reactor, settings.control)
        except Exception as e:  # whatever a kind of endpoint makes of what it does not understand
            raise not_a_client(settings.control, "`control`") from e
        if settings.socks is None and not is_local_client(settings.control):
            raise SetupError(
                f"`control` is another machine's, {plain(settings.control)}: the SOCKS port that a "
                "Tor names is an address of its own machine. Say how it is reached from here, with "
                "`socks`."
            )

        def open_session() -> Attached:
            return Attached(
                self._reactor,
                self,
                self._table,
                endpoint=endpoint,
                name=plain(settings.control),
                password=settings.password,
                wanted=settings.socks,
                known=self._socks,
                watch=self._watch,
                username_prefix=self._username_prefix,
                first=not self._served,
            )

        return open_session

    def _status_is(self, status: Status) -> None:
        if self._winding_down and isinstance(status, Launching):
            return  # nothing is launched any more
        before, self._status = self._status, status
        self._log_status(status, before)
        if serves(status):
            self._ready.fire(None)
        elif isinstance(status, Failed):
            self._nothing_comes(status.reason)
            self._failed.fire(SetupError(status.reason))
        elif isinstance(status, Stopped):
            self._nothing_comes("Tor is stopped.")
        for observer in tuple(self._observers):
            observer(status)

    def _log_status(self, status: Status, before: Status) -> None:
        """How far it is, and why it is not reached, may be said again and again; what it has
        become, each time."""
        match status:
            case Bootstrapping():
                self._repeats.say(_log, sentence(status))
            case Launching() if isinstance(before, BackingOff):
                pass  # that it would be was said
            case Launching():
                _log(self._beginning)
            case BackingOff(_, reason):
                self._repeats.say(_warn, sentence(status), like=reason)
            case Stopped():
                pass  # said when it is: see _say_stopped
            case Failed() if len(self._failed):
                pass  # those who wait for it will say it
            case _:
                self._repeats.flush()
                (_log if isinstance(status, Ready) else _warn)(sentence(status))

    @property
    def _beginning(self) -> str:
        settings = self._settings
        if isinstance(settings, LaunchSettings):
            return sentence(Launching())
        return f"Connecting to Tor's control port, {plain(settings.control)}."

    def _say_stopped(self, _: None) -> None:
        self._repeats.flush()
        if self._begun and isinstance(self._settings, LaunchSettings):
            _log(sentence(Stopped()))
        self._begun = False

    def _nothing_comes(self, reason: str) -> None:
        for waiting in (self._usable, self._ready, self._new_identity):
            waiting.fail(TorDown(reason, retryable=False))

    def _wait(self, waiting: Waiters[Any]) -> Deferred[Any]:
        answer = waiting.add()
        if isinstance(self._status, Failed):
            self._nothing_comes(self._status.reason)
        elif isinstance(self._status, Stopped) and self._open_session is not None:
            self._nothing_comes("Tor is stopped.")
        return answer

    def _release(self, _: None) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def _exits_carry(self, host: str, port: int) -> bool | None:
        session = None if self._session is None else self._session.session
        if session is None or ":" not in host:
            return None
        try:
            return await session.exits.carry_ipv6(port)
        except TortxdError:
            return None

    async def _make_new_identity(self) -> None:
        control = self.control
        made = self._new_identity.add()
        made.addTimeout(_NEWNYM_PATIENCE, self._reactor)
        try:
            await control.tell("SIGNAL NEWNYM")
        except BaseException:
            made.addErrback(lambda failure: failure.trap(CancelledError))
            made.cancel()
            raise
        try:
            await made
        except DeferredTimeout:
            raise TorTimeout("Tor has not made a new identity in time.") from None

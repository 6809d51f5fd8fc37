"""What is done over a control connection, whether Tor was launched or attached to.

Events feed the table, status events move the lifecycle, relays are looked up, and a watchdog asks
whether Tor still lives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from tortxd.errors import TorDown, TortxdError
from tortxd.tor.causes import Causes
from tortxd.tor.exits import Exits
from tortxd.tor.link import Relay, SocksAddress
from tortxd.tor.nodes import ChoiceWatch, country_of, read_relays
from tortxd.tor.pace import Pace
from tortxd.tor.repeats import Repeats
from tortxd.tor.replies import (
    CommandRefused,
    StatusEvent,
    bootstrap_of,
    in_utf8,
    in_words,
    parse_status,
    relay_address,
    skew_of,
)
from tortxd.tor.skew import ClockSkew, wall_clock_offset
from tortxd.tor.status import Bootstrapping
from tortxd.tor.table import Source, Table
from tortxd.wire.control import Implausible

if TYPE_CHECKING:
    from tortxd.tor.control import Control

_MOST_RELAYS_WAITING = 1000
_STATUS_A_SECOND = 10.0
_STATUS_AT_ONCE = 1000
_LOGGED_A_SECOND = 10.0
_LOGGED_AT_ONCE = 1000
log = Logger()

_SWEEP = 1.0
"""Seconds between a circuit's failure and a look at what can be closed."""
_END_MISC = 1
"""The reason that is given for closing a stream (tor-spec, "Closing streams")."""


@frozen
class Watch:
    """How often Tor is asked if it lives, and how long it may take to answer, in seconds."""

    interval: float = 15.0
    patience: float = 10.0


def _log(text: str) -> None:
    log.info("{text}", text=text)


class SessionListener(Protocol):
    """Who wants to know what became of a Tor: the inputs of the lifecycle, and a few facts more."""

    def socks_at(self, address: SocksAddress | None) -> None:
        """Its SOCKS port listens there, or (None) does so no more."""

    def progress(self, bootstrap: Bootstrapping) -> None:
        """It says how far it is."""

    def established(self) -> None:
        """It can build circuits."""

    def interrupted(self, reason: str) -> None:
        """It cannot build circuits any more."""

    def trouble(self, key: str, reason: str | None) -> None:
        """Something is wrong, or keeps it from getting on; None: it is right again."""

    def stream_over(self, source: Source, reason: str) -> None:
        """The SOCKS connection from ``source`` has ended."""

    def circuit_claimed(self, username: str) -> None:
        """Streams with this SOCKS username have got a circuit that was nobody's before."""

    def new_identity_made(self) -> None:
        """Tor has carried out a NEWNYM."""

    def gone(self, reason: str) -> None:
        """The session is over, and Tor with it."""

    def detached(self, reason: str) -> None:
        """The session is over; Tor may live on."""

    def fatal(self, reason: str) -> None:
        """The session is over, and another would end the same way."""


class Session:
    """One control connection's use. Every timer and every pending look-up ends with :meth:`close`.

    :param hung: called when Tor has not answered the watchdog.
    :param free_bytes: how much room Tor's data directory has, where that is known.
    :param mark: how the SOCKS usernames begin of streams that may be closed for want of a circuit:
        of a Tor that others use too, ours alone.
    :param causes: hears what Tor logs, where that is read nowhere else.
    :param clock_offset: see :func:`~tortxd.tor.skew.wall_clock_offset`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        control: Control,
        table: Table,
        listener: SessionListener,
        *,
        hung: Callable[[str], None],
        watch: Watch,
        free_bytes: Callable[[], int] | None = None,
        username_prefix: str = "",
        causes: Causes | None = None,
        clock_offset: Callable[[], float] = wall_clock_offset,
    ) -> None:
        self._clock = clock
        self._username_prefix = username_prefix
        self._control = control
        self._table = table
        self._listener = listener
        self._hung = hung
        self._watch = watch
        self._free_bytes = free_bytes
        self._timer: IDelayedCall | None = None
        self._sweep: IDelayedCall | None = None
        self._causes = causes
        self._repeats = Repeats(clock)
        self._pace = Pace(clock, rate=_STATUS_A_SECOND, burst=_STATUS_AT_ONCE)
        self._log_pace = Pace(clock, rate=_LOGGED_A_SECOND, burst=_LOGGED_AT_ONCE)
        self._skew = ClockSkew(
            clock, lambda reason: listener.trouble("clock", reason), clock_offset
        )
        self._choice = ChoiceWatch(
            clock, control, lambda reason: listener.trouble("choice", reason), self._broken
        )
        self._relays: deque[str] = deque()
        self._reading = False
        self._closed = False
        self.network = "unknown"
        """``public`` or ``private``, once it has begun."""
        self.exits = Exits(clock, control)

    @property
    def control(self) -> Control:
        """The connection."""
        return self._control

    async def begin(self) -> None:
        """Subscribe, then ask for what is there already: events may overlap the answers, but
        nothing falls between them.

        :raises TortxdError: Tor does not answer as it should.
        """
        # What was seen over an earlier connection may have ended unseen since.
        self._table.clear()
        seldom, said = self._seldom, self._said
        logged = () if self._causes is None else (("WARN", said), ("NOTICE", said))
        await self._control.subscribe(
            (
                ("CIRC", self._circuit),
                ("CIRC_MINOR", self._table.circuit_minor_event),
                ("STREAM", self._stream),
                ("STATUS_CLIENT", seldom(self._status)),
                ("STATUS_GENERAL", seldom(self._status)),
                ("NETWORK_LIVENESS", seldom(self._liveness)),
                ("SIGNAL", seldom(self._signal)),
                *logged,
            )
        )
        testing = await self._control.configured("TestingTorNetwork")
        authorities = await self._control.configured("DirAuthority")
        told = await self._control.ask(
            "status/bootstrap-phase",
            "status/circuit-established",
            "network-liveness",
            "circuit-status",
            "stream-status",
        )
        self._table.load(
            told.get("circuit-status", ""),
            told.get("stream-status", ""),
            self._clock.seconds(),
            datetime.now(UTC),
        )
        self._table.usage.take_claims()  # whoever had a circuit before has paid for it
        self.network = "private" if testing == ["1"] or authorities else "public"
        await self._read_consensus()
        for circuit in self._table.circuits():
            if circuit.state == "BUILT":
                self._want(tuple(relay.fingerprint for relay in reversed(circuit.path)))
        if told.get("status/circuit-established") == "1":
            self._got_on(100)
            self._listener.established()
        else:
            phase = parse_status(told.get("status/bootstrap-phase", ""))
            self._clock_skew(phase)
            self._got_on(bootstrap_of(phase).progress)
            self._listener.progress(bootstrap_of(phase))
        self._timer = self._clock.callLater(self._watch.interval, self._look)

    def close(self) -> None:
        """End it, and hang up."""
        self._closed = True
        for timer in (self._timer, self._sweep):
            if timer is not None and timer.active():
                timer.cancel()
        self._repeats.flush()
        self._skew.close()
        self._choice.close()
        if self._causes is not None:
            self._causes.close()
        self._relays.clear()
        self._control.close()

    def close_stream(self, id: str) -> None:
        """Close a stream, if it has not ended by itself."""
        closing = self._control.tell(f"CLOSESTREAM {id} {_END_MISC}")
        Deferred.fromCoroutine(closing).addErrback(lambda failure: failure.trap(TortxdError))

    def _close_useless(self) -> None:
        """Close circuits that have served failures only: Tor itself would keep them for long."""
        self._sweep = None
        if self._closed:
            return
        for id in self._table.usage.take_useless(self._clock.seconds(), self._username_prefix):
            closing = self._control.tell(f"CLOSECIRCUIT {id} IfUnused")
            Deferred.fromCoroutine(closing).addErrback(lambda failure: failure.trap(TortxdError))
        self._watch_use()

    def _watch_use(self) -> None:
        """See to what the last event has shown of who uses which circuit."""
        for username in self._table.usage.take_claims():
            self._listener.circuit_claimed(username)
        if self._sweep is None and self._table.usage.has_suspects and not self._closed:
            self._sweep = self._clock.callLater(_SWEEP, self._close_useless)

    # --- events --------------------------------------------------------------------------------

    def _seldom(self, handle: Callable[[str], None]) -> Callable[[str], None]:
        """What handles events that come seldom, and each of which may be a line of our log.

        It raises Implausible, as the table does.
        """

        def take(line: str) -> None:
            if not self._pace.keeps():
                raise Implausible("too many status events")
            handle(line)

        return take

    def _circuit(self, line: str) -> None:
        self._want(self._table.circuit_event(line, self._clock.seconds()))
        self._watch_use()
        for stream in self._table.take_unroutable(self._username_prefix):
            self._repeats.say(_log, "Tor finds no circuit for a stream; it is closed.")
            self.close_stream(stream)

    def _stream(self, line: str) -> None:
        over = self._table.stream_event(line, self._clock.seconds())
        self._watch_use()
        if over is not None:
            self._listener.stream_over(*over)

    def _status(self, line: str) -> None:
        event = parse_status(line)
        if event.action == "BOOTSTRAP":
            self._bootstrap(event)
        elif event.action == "CIRCUIT_ESTABLISHED":
            self._got_on(100)
            self._listener.established()
        elif event.action == "CIRCUIT_NOT_ESTABLISHED":
            reason = event.arguments.get("REASON", "circuits cannot be built")
            self._listener.interrupted(in_words(reason))
        elif event.action == "CLOCK_SKEW":
            self._clock_skew(event)
        elif event.action == "CONSENSUS_ARRIVED":
            Deferred.fromCoroutine(self._read_consensus()).addErrback(self._not_read)

    def _bootstrap(self, event: StatusEvent) -> None:
        bootstrap = bootstrap_of(event)
        self._clock_skew(event)
        self._got_on(bootstrap.progress)
        if bootstrap.progress >= 100:
            self._listener.established()
        else:
            self._listener.progress(bootstrap)

    def _got_on(self, percent: int) -> None:
        self._choice.progress(percent)
        if self._causes is not None:
            self._causes.progress(percent)

    def _clock_skew(self, event: StatusEvent) -> None:
        ahead = skew_of(event)
        if ahead is not None:
            self._skew.is_ahead(ahead)

    def _said(self, text: str) -> None:
        """Tor has logged this. It may do so once for each stream of others, so that many lines at
        once are nothing strange; those beyond the pace are not read."""
        if self._causes is not None and self._log_pace.keeps():
            self._causes.heard(in_utf8(text))

    def _liveness(self, line: str) -> None:
        down = line.strip() == "DOWN"
        self._listener.trouble("network", "Tor hears nothing from the network." if down else None)

    def _signal(self, line: str) -> None:
        if line.strip() == "NEWNYM":
            self._listener.new_identity_made()

    # --- relays ---------------------------------------------------------------------------------

    def _want(self, fingerprints: tuple[str, ...]) -> None:
        """Look these relays up, which no consensus named yet, the first of them first: exits are
        wanted before the first response comes over them."""
        room = _MOST_RELAYS_WAITING - len(self._relays)
        wanted = [f for f in fingerprints[:room] if f not in self._relays]
        self._relays.extend(f for f in wanted[1:] if not self._table.knows_relay(f))
        self._relays.extendleft(f for f in wanted[:1] if not self._table.knows_relay(f))
        if self._relays and not self._reading:
            self._reading = True
            Deferred.fromCoroutine(self._read_relays()).addErrback(self._broken)

    async def _read_consensus(self) -> None:
        """Know relays before circuits lead over them: the first response names its exit, too."""
        # A filter before the control port may refuse it; then they are asked for one by one.
        with suppress(CommandRefused):
            self._table.relays_known(await read_relays(self._control))

    async def _read_relays(self) -> None:
        """One at a time, so that other commands are not kept waiting behind many."""
        try:
            while self._relays and not self._closed:
                await self._read_relay(self._relays.popleft())
        except TortxdError:
            self._relays.clear()  # Tor is gone or hangs; the watchdog and control_lost see to it
        finally:
            self._reading = False

    async def _read_relay(self, fingerprint: str) -> None:
        key = f"ns/id/{fingerprint}"
        address = relay_address((await self._control.ask(key)).get(key, ""))
        if address is None:
            return  # not in the consensus, or there is none yet: asked again when next it shows
        key = f"ip-to-country/{address}"
        said = (await self._control.ask(key)).get(key, "")
        self._table.relay_known(Relay(fingerprint, None, address, country_of(said)))

    def _not_read(self, failure: Failure) -> None:
        if not failure.check(TortxdError):  # as in _read_relays
            self._broken(failure)

    # --- the watchdog ---------------------------------------------------------------------------

    def _look(self) -> None:
        Deferred.fromCoroutine(self._ask_if_it_lives()).addErrback(self._broken)

    async def _ask_if_it_lives(self) -> None:
        self._skew.look()
        if self._free_bytes is not None:
            full = self._free_bytes() < 1024 * 1024
            self._listener.trouble(
                "disk", "The disk of the data directory is full." if full else None
            )
        try:
            await self._control.ask("version", patience=self._watch.patience)
        except TorDown:
            return  # control_lost says so
        except TortxdError as e:
            if not self._closed:
                self._hung(str(e))
            return
        if not self._closed:
            self._timer = self._clock.callLater(self._watch.interval, self._look)

    def _broken(self, failure: Failure) -> None:
        log.failure("A fault of ours while watching Tor.", failure)

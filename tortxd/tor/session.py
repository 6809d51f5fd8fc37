"""What is done over a control connection, whether Tor was launched or attached to.

Events feed the table, to which listen those who look relays up, know who uses which circuit, and
guard against endless work; status events move the lifecycle; a watchdog asks whether Tor lives.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from tortxd.errors import NotFound, TortxdError
from tortxd.tor.causes import Causes
from tortxd.tor.choosing import ExitChooser
from tortxd.tor.consensus import Consensus
from tortxd.tor.exits import Exits
from tortxd.tor.guard import UnroutableStreams, UselessCircuits
from tortxd.tor.link import SocksAddress
from tortxd.tor.lookups import RelayLookups
from tortxd.tor.mappings import Mappings
from tortxd.tor.progress import Progress, ProgressListener
from tortxd.tor.repeats import Repeats
from tortxd.tor.replies import CommandRefused
from tortxd.tor.silence import Silence
from tortxd.tor.skew import wall_clock_offset
from tortxd.tor.table import Table, unknown_name
from tortxd.tor.unreachable import UnreachableExits
from tortxd.tor.usage import Usage
from tortxd.tor.watchdog import Watch, Watchdog

if TYPE_CHECKING:
    from tortxd.tor.control import Control

__all__ = ["Session", "SessionListener", "Watch"]

log = Logger()

NO_CIRCUIT = "There is no circuit with this id now."
NO_STREAM = "There is no stream with this id now."
_END_MISC = 1
"""The reason that is given for closing a stream (tor-spec, "Closing streams")."""


def _log(text: str) -> None:
    log.info("{text}", text=text)


def _failed(failure: Failure) -> None:
    log.failure("A fault of ours while watching Tor.", failure)


class SessionListener(ProgressListener, Protocol):
    """Who wants to know what became of a Tor: the inputs of the lifecycle, and a few facts more."""

    def socks_at(self, address: SocksAddress | None) -> None:
        """Its SOCKS port listens there, or (None) does so no more."""

    def circuit_claimed(self, username: str) -> None:
        """Streams with this SOCKS username have got a circuit that was nobody's before."""

    def gone(self, reason: str) -> None:
        """The session is over, and Tor with it."""

    def detached(self, reason: str) -> None:
        """The session is over; Tor may live on."""

    def fatal(self, reason: str) -> None:
        """The session is over, and another would end the same way."""


class Session:
    """One control connection's use. Every timer and every pending look-up ends with :meth:`close`.

    :param hung: called when Tor has not answered the watchdog.
    :param storage: says what is wrong with Tor's data directory, where that is known.
    :param username_prefix: how the SOCKS usernames begin of streams that may be closed for want of
        a circuit: of a Tor that others use too, ours alone.
    :param causes: see :class:`~tortxd.tor.progress.Progress`, as for ``clock_offset``.
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
        storage: Callable[[], str | None] | None = None,
        username_prefix: str = "",
        causes: Causes | None = None,
        clock_offset: Callable[[], float] = wall_clock_offset,
    ) -> None:
        self._clock = clock
        self._control = control
        self._table = table
        self._listener = listener
        self._storage = storage
        self._repeats = Repeats(clock)
        self._watchdog = Watchdog(clock, control, watch, look=self._look, hung=hung, failed=_failed)
        self.chooser = ExitChooser(clock, control, table.relays)
        """Chooses exits."""
        self.mappings = Mappings(clock, control)
        """Sends streams by them."""
        self.unreachable = UnreachableExits(table, self.chooser.unreachable, self.chooser.reached)
        """Finds out which of them cannot be reached."""
        table.host_of = self.mappings.host_of
        self._sweep_again = False
        self._lookups = RelayLookups(control, table, _failed, self._consensus_read)
        self._progress = Progress(
            clock,
            control,
            listener,
            consensus_arrived=self._lookups.consensus_arrived,
            guards_changed=self._lookups.guards_changed,
            failed=_failed,
            causes=causes,
            clock_offset=clock_offset,
        )
        self._silence = Silence(table, lambda reason: listener.trouble("silence", reason))
        self._unroutable = UnroutableStreams(table, self._is_unroutable, username_prefix)
        self.usage = Usage(
            table, claimed=listener.circuit_claimed, suspected=lambda: self._useless.suspect()
        )
        """Who uses which circuit."""
        self._useless = UselessCircuits(clock, self.usage, self._close_circuit, username_prefix)
        self.network = "unknown"
        """``public`` or ``private``, once it has begun."""
        self.exits = Exits(clock, control)
        self.heard_since: float | None = None
        """When it began to hear events, on the clock."""

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
        events = ("CIRC", "CIRC_MINOR", "STREAM", "BW")
        feeds = [(name, partial(self._feed, name)) for name in events]
        changes = ("CONF_CHANGED", lambda _: self.chooser.options_changed())
        await self._control.subscribe((*feeds, changes, *self._progress.handlers()))
        self.heard_since = self._clock.seconds()
        testing = await self._control.configured("TestingTorNetwork")
        authorities = await self._control.configured("DirAuthority")
        replies = await self._control.ask(
            "status/bootstrap-phase",
            "status/circuit-established",
            "network-liveness",
            "circuit-status",
            "stream-status",
        )
        self._table.load(
            replies.get("circuit-status", ""),
            replies.get("stream-status", ""),
            self._clock.seconds(),
            datetime.now(UTC),
        )
        self.network = "private" if testing == ["1"] or authorities else "public"
        self._lookups.guards_changed()
        await self._lookups.read_consensus()
        self._lookups.look_at_circuits()
        self._progress.begin(replies)
        self._watchdog.begin()
        self._sweep()

    def _consensus_read(self, consensus: Consensus) -> None:
        self.chooser.consensus_read(consensus)
        if self._sweep_again:
            self._sweep()

    def _sweep(self) -> None:
        """Remove what a daemon before has left; where that cannot be, it is for later."""

        def not_swept(failure: Failure) -> None:
            self._sweep_again = True
            if not failure.check(TortxdError):
                _failed(failure)

        self._sweep_again = False
        Deferred.fromCoroutine(self.mappings.sweep()).addErrback(not_swept)

    def close(self) -> None:
        """End it, and hang up."""
        self._table.host_of = unknown_name
        for part in (
            self._watchdog,
            self._progress,
            self._lookups,
            self._silence,
            self._unroutable,
            self._useless,
            self.usage,
            self.unreachable,
        ):
            part.close()
        self._repeats.flush()
        self._control.close()

    def close_stream(self, id: str) -> None:
        """Close a stream, if it has not ended by itself."""
        self._tell(f"CLOSESTREAM {id} {_END_MISC}")

    async def end_stream(self, id: str) -> None:
        """Close a stream, and see that Tor does it.

        :raises NotFound: there is none with this id (any more).
        :raises TortxdError: Tor does not answer.
        """
        await self._end(f"CLOSESTREAM {id} {_END_MISC}", NotFound(NO_STREAM))

    async def end_circuit(self, id: str) -> None:
        """Close a circuit, whatever it carries. Errors as :meth:`end_stream`."""
        await self._end(f"CLOSECIRCUIT {id}", NotFound(NO_CIRCUIT))

    async def _end(self, command: str, unknown: NotFound) -> None:
        try:
            await self._control.tell(command)
        except CommandRefused:  # 552, "Unknown circuit" or "Unknown stream"
            raise unknown from None

    def _close_circuit(self, id: str) -> None:
        """Close a circuit that carries no stream; Tor itself would keep it for long."""
        self._tell(f"CLOSECIRCUIT {id} IfUnused")

    def _tell(self, command: str) -> None:
        """Send a command, whatever comes of it."""
        reply = Deferred.fromCoroutine(self._control.tell(command))
        reply.addErrback(lambda failure: failure.trap(TortxdError))

    def _feed(self, event: str, line: str) -> None:
        self._table.feed(event, line, self._clock.seconds())

    def _is_unroutable(self, stream: str) -> None:
        self._repeats.say(_log, "Tor finds no circuit for a stream; it is closed.")
        self.close_stream(stream)

    def _look(self) -> None:
        self._progress.look_at_clock()
        if self._storage is not None:
            self._listener.trouble("disk", self._storage())

"""One connection through Tor for one client: what an exchange and a tunnel have in common.

Its :class:`Phase` says how far it is, and from each phase it may go straight to the last. It is
written with callbacks rather than coroutines: this is the path of every byte.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tortxd.errors import (
    ConnectFailed,
    OriginReset,
    OriginTimeout,
    Overloaded,
    TorDown,
    TorTimeout,
    TortxdError,
)
from tortxd.relay.attempt import TIMER_MARGIN, Attempt
from tortxd.relay.interfaces import NOBODY, Carrier, ResponseSink
from tortxd.relay.journal import CLIENT_GONE, OK, Summary, Way
from tortxd.relay.pending import Pending
from tortxd.relay.placement import Place, Steered
from tortxd.relay.timeouts import Timeout
from tortxd.relay.tries import Tries
from tortxd.relay.upstream import PoolKey, Upstream
from tortxd.splicing import Splice
from tortxd.tor.reasons import DONE
from tortxd.tor.report import not_ready
from tortxd.tor.status import serves
from tortxd.wire.http1 import Headers

STOPPING = "The gateway is being stopped."
HELD = 64 * 1024
"""Bytes from the client that wait for the connection before the client is paused."""
CLOSE_REASON_WAIT = 1.0
"""Seconds to wait for the control port's word on how a stream ended."""
TUNNEL_IDLE_TIME = 3600.0
"""Seconds without a byte either way, in tunnels and WebSockets."""


_EXIT_CHANGED = (b"Tortxd-Exit-Changed", b"1")
_ATTEMPTS = tuple((b"Tortxd-Attempts", b"%d" % tries) for tries in range(10))


def _attempts(number: int) -> tuple[bytes, bytes]:
    """The header that says how often it was tried."""
    return _ATTEMPTS[number] if number < len(_ATTEMPTS) else (b"Tortxd-Attempts", b"%d" % number)


class Phase(Enum):
    """How far a request is."""

    CONNECTING = auto()
    """The destination is not reached. What may go early may have gone."""
    AWAITING = auto()
    """It is reached, and has not answered; the request's body may still be on its way."""
    RESPONDING = auto()
    """The client has the start of a response."""
    OVER = auto()


# By name, since Python 3.11 takes as long as for a call to look a member up in its class.
CONNECTING, AWAITING, RESPONDING, OVER = Phase


class Outbound:
    """The common part. Whatever ends it, nothing of it is left behind.

    To let go of an attempt (:meth:`_let_go`) is one thing, to end it all (:meth:`_end`) another:
    between two attempts, the client waits on.

    :param timeout: seconds until the destination must be reached, and has answered.
    """

    early = False
    """Whether what goes first may go before the SOCKS reply."""
    unclear: tuple[type[TortxdError], ...] = (ConnectFailed,)
    """See :class:`~tortxd.relay.attempt.Attempt`."""

    # For the journal, as they are at first (of the class, which costs a request nothing):
    _attempts = 0
    _reused = 0
    """Connections that were there already, on which it was tried."""
    _last: Upstream | None = None
    """The connection that was used last."""
    _status: int | None = None
    """Of the response."""
    _to_connect: float | None = None
    _to_head: float | None = None
    _sent = 0
    _received = 0

    _splices: tuple[Splice, ...] = ()
    """What moves bytes past it."""

    # What steering needs, as it is where a request is not steered:
    _tries: Tries | None = None
    _placing: Pending | None = None
    """The choice of the exit."""

    def __init__(
        self,
        carrier: Carrier,
        sink: ResponseSink,
        pool_key: PoolKey,
        timeout: float,
        way: Way,
        steered: Steered | None = None,
    ) -> None:
        self.way: Way = way
        self._carrier = carrier
        self._sink: ResponseSink = sink
        self._pool_key = pool_key
        self._phase = CONNECTING
        self._attempt: Attempt | None = None
        """The try to reach the destination that is under way."""
        self._upstream: Upstream | None = None
        self._ending: Pending | None = None
        """The control port's word on how the stream ended."""
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._begun = carrier.timeouts.clock.seconds()
        self._deadline = self._begun + timeout
        self._timeout: Timeout | None = carrier.timeouts.start(timeout, self._late)
        if steered is not None:
            self._tries = Tries(steered)
        carrier.under_way.add(self)

    @property
    def responding(self) -> bool:
        """Whether the client has got the start of a response, and not all of it."""
        return self._phase is RESPONDING

    # --- what a kind of it does -------------------------------------------------------------------

    def upstream_open(self, upstream: Upstream) -> None:
        """See :class:`~tortxd.relay.upstream.Carried`."""
        raise NotImplementedError

    def upstream_data(self, data: bytes) -> None:
        """See :class:`~tortxd.relay.upstream.Carried`."""
        raise NotImplementedError

    def upstream_lost(self, reason: Failure) -> None:
        """See :class:`~tortxd.relay.upstream.Carried`."""
        raise NotImplementedError

    def upload_done(self) -> None:
        """The client has sent all of its request."""
        raise NotImplementedError

    def _established(self) -> None:
        """The destination is reached."""
        raise NotImplementedError

    def _forward(self, data: bytes) -> None:
        """Send on what the client sent."""
        raise NotImplementedError

    def _ends_with_client(self) -> bool:
        """Whether it is whole when the client leaves now."""
        raise NotImplementedError

    # --- an attempt -------------------------------------------------------------------------------

    def start(self) -> None:
        """Find or make a connection, by the exit that it is to have."""
        if self._tries is None:
            self._begin()
        else:
            self._place(self._tries, self._begin)

    def _begin(self) -> None:
        """Find or make a connection, for the first time."""
        self._try()

    def _is_repeatable(self) -> bool:
        """Whether it may be tried again now: nothing of it can have arrived that must not twice,
        and nothing that came has gone on."""
        raise NotImplementedError

    def _try(self) -> None:
        """Try to reach the destination."""
        self._phase = CONNECTING
        tries = self._tries
        place = None if tries is None else tries.place
        self._attempt = Attempt(
            self._carrier,
            self._pool_key,
            self,
            deadline=self._deadline,
            early=self.early,
            unclear=self.unclear,
            exit=None if place is None else place.exit,
            shares=self._shares(),
        )
        self._attempt.start()

    def _place(self, tries: Tries, then: Callable[[], object]) -> None:
        """Have it decided where it leaves Tor."""
        self._phase = CONNECTING
        key = self._pool_key

        def placed(place: Place) -> None:
            self._pool_key = PoolKey(place.credentials, key.scheme, key.host, key.port)
            tries.place = place
            then()

        self._placing = Pending()
        placing = self._carrier.placements.place(
            tries.steered, key.host, key.port, tried=tries.tried, fresh=tries.is_fresh
        )
        self._placing.wait_for(placing, placed, self._fail)

    def _shares(self) -> int:
        """How many tries the time that is left is for."""
        return 1 if self._tries is None or not self._is_repeatable() else 1 + self._tries.left

    def trying(self, upstream: Upstream) -> None:
        """See :class:`~tortxd.relay.attempt.Trying`."""
        self._attempts += 1
        self._last = upstream

    def reached(self) -> None:
        """See :class:`~tortxd.relay.attempt.Trying`."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._to_connect = self._carrier.timeouts.clock.seconds() - attempt.began
            self._carrier.journal.connected(self._to_connect)
        self._phase = AWAITING
        self._established()

    def failed(self, error: TortxdError) -> None:
        """See :class:`~tortxd.relay.attempt.Trying`."""
        self._attempt_failed(error)

    def exit_unreachable(self) -> None:
        """See :class:`~tortxd.relay.attempt.Trying`. Nothing has left Tor, and there may be another
        exit that will do."""
        assert self._tries is not None
        self._let_go()
        self._place(self._tries, self._try)

    def _attempt_failed(self, error: TortxdError, *, again: bool = False) -> None:
        """The attempt came to nothing before the client had anything of a response.

        :param again: whether another one is worth it.
        """
        if self._phase is OVER:
            return
        tries = self._tries
        if again:
            self._let_go()
            self._try()
        elif tries is not None and tries.may_follow(error) and self._has_another_go():
            tries.failed(error, self._exit_tried(tries))
            self._let_go()
            self._place(tries, self._try)
        else:
            self._fail(error)

    def _has_another_go(self) -> bool:
        """Whether there is time for another try, and it may arrive twice."""
        left = self._deadline - self._carrier.timeouts.clock.seconds()
        ready = serves(self._carrier.link.status)
        return ready and left > TIMER_MARGIN and self._is_repeatable()

    def _exit_tried(self, tries: Tries) -> str | None:
        """By which exit the present try went, as far as that is known."""
        if tries.place is not None and tries.place.exit is not None:
            return tries.place.exit
        last = self._last
        circuit = None
        if last is not None and last.source is not None:
            circuit = self._carrier.link.circuit_of(last.source)
        return None if circuit is None or circuit.exit is None else circuit.exit.fingerprint

    def _own_headers(self) -> Headers:
        """What is said of the way that the response came."""
        headers = [_attempts(self._attempts + self._reused)]
        place = None if self._tries is None else self._tries.place
        if place is not None:
            if place.changed:
                headers.append(_EXIT_CHANGED)
            self._carrier.placements.told(place)
        return headers

    def _let_go(self) -> None:
        """Nothing of the attempt is wanted any more."""
        attempt, self._attempt = self._attempt, None
        upstream, self._upstream = self._upstream, None
        ending, self._ending = self._ending, None
        placing, self._placing = self._placing, None
        if upstream is not None:
            self._drop(upstream)
        if attempt is not None:
            attempt.let_go()
        for pending in (ending, placing):
            if pending is not None:
                pending.cancel()

    # --- the client's bytes -----------------------------------------------------------------------

    def upload(self, data: bytes) -> None:
        """More of what the client sends."""
        self._sent += len(data)
        phase = self._phase
        if phase is CONNECTING:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > HELD:
                self._sink.upload_producer.pauseProducing()
        elif phase is not OVER:
            self._forward(data)
            self._touch()

    def _draw_from_client(self) -> None:
        """Pass on what was held, then take from the client as fast as the destination takes it."""
        assert self._upstream is not None
        self._upstream.transport.registerProducer(self._sink.upload_producer, True)
        self._sink.upload_producer.resumeProducing()
        held, self._held = self._held, []
        for data in held:
            self._forward(data)

    # --- bytes that nobody looks at ---------------------------------------------------------------

    def _splice(self, *ways: Splice | None) -> None:
        """Let bytes go these ways from now on, as far as they can."""
        self._splices = tuple(filter(None, ways))

    def _passed_down(self, size: int) -> None:
        """So many have gone to the client."""
        self._received += size
        self._touch()
        if self._sink.wire is not None:
            self._sink.wire.passed()

    def _passed_up(self, size: int) -> None:
        """So many have come from the client, and gone."""
        self._sent += size
        self._touch()

    # --- the end ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """There will be no Tor any more."""
        self._fail(TorDown(STOPPING))

    def client_gone(self, error: TortxdError | None = None) -> None:
        """The client has left: so does everything that was done for it.

        :param error: why it was sent away.
        """
        if self._phase is not OVER:
            gone = OK if self._ends_with_client() else CLIENT_GONE
            self._end(gone if error is None else error.code, error)

    def _closed(self, upstream: Upstream, reason: Failure) -> None:
        """``upstream`` closed where closing is how it ends: well, or not."""
        if upstream.pool_key.scheme == "https":
            # TLS itself tells whether the end is the destination's (close_notify).
            self._end_at_close(reason.check(ConnectionDone) is not None)
        else:
            self._ask_how_it_ended(upstream, lambda how: self._end_at_close(how == DONE))

    def _ask_how_it_ended(self, upstream: Upstream, then: Callable[[str | None], object]) -> None:
        """A FIN looks the same whether the destination finished, the circuit died or Tor did; the
        control port tells them apart."""
        if upstream.source is None or self._carrier.link.socks_address is None:
            then(None)
            return
        self._ending = Pending()
        reason = self._carrier.link.close_reason(upstream.source, CLOSE_REASON_WAIT)
        self._ending.wait_for(reason, then, self._fail)

    def _end_at_close(self, whole: bool) -> None:
        if whole:
            self._end(OK).finish()
        else:
            self._fail(OriginReset())

    def _wait(self, seconds: float) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        self._timeout = self._carrier.timeouts.start(seconds, self._late)

    def _touch(self) -> None:
        """A byte of a body has come: the idle time starts anew."""
        if self._timeout is not None:
            self._timeout.restart()

    def _late(self) -> None:
        self._timeout = None
        self._fail(TorTimeout() if self._phase is CONNECTING else OriginTimeout())

    def _why_lost(self) -> TortxdError:
        return TorDown() if self._carrier.link.socks_address is None else OriginReset()

    def _fail(self, error: TortxdError) -> None:
        """End it with ``error``, in place of a response or of the rest of one."""
        phase = self._phase
        if phase is OVER:
            return
        status = self._carrier.link.status
        if self._tries is not None:
            error = self._tries.verdict(error)
        if phase is RESPONDING:
            self._end(error.code, error).truncate(error)
            return
        if isinstance(error, TorTimeout | TorDown | Overloaded) and not serves(status):
            error = not_ready(status)
        error.attempts = self._attempts + self._reused
        self._end(error.code, error).fail(error)

    def _responds(self, status: int) -> None:
        """The client is about to get the start of a response."""
        self._phase = RESPONDING
        self._status = status
        carrier = self._carrier
        now = carrier.timeouts.clock.seconds()
        self._to_head = now - self._begun
        carrier.journal.responded(now, self._to_head)

    def _end(self, outcome: str, error: TortxdError | None = None) -> ResponseSink:
        """Let go of everything, and have it written down.

        :return: the client, to be told. Nothing here leads to it any more: so the request, which
            leads here, is freed with its connection's last word of it, and the collector of cycles,
            which takes the longer the more there is, has nothing to do.
        """
        self._phase = OVER
        journal = self._carrier.journal
        if outcome is OK and not journal.is_followed:
            journal.went_well(self.way)
        else:
            journal.over(self._summary(outcome, error))
        self._carrier.under_way.discard(self)
        splices, self._splices = self._splices, ()
        for splice in splices:
            splice.end()
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        self._let_go()
        self._held.clear()
        sink, self._sink = self._sink, NOBODY
        sink.draw_from(None)
        return sink

    def _summary(self, outcome: str, error: TortxdError | None) -> Summary:
        last = self._last
        return Summary(
            way=self.way,
            outcome=outcome,
            status=self._status,
            to_connect=self._to_connect,
            to_head=self._to_head,
            seconds=self._carrier.timeouts.clock.seconds() - self._begun,
            sent=self._sent,
            received=self._received,
            attempts=self._attempts,
            error=error,
            source=None if last is None else last.source,
            username=self._pool_key.credentials.username,
        )

    def _drop(self, upstream: Upstream) -> None:
        """Close a connection whose stream is of no use any more."""
        upstream.abort()
        self._close_stream(upstream)

    def _close_stream(self, upstream: Upstream) -> None:
        """See that Tor closes the stream of a connection that was closed."""
        if upstream.source is not None:
            self._carrier.link.close_abandoned(
                upstream.source, upstream.pool_key.credentials.username
            )

"""One connection through Tor for one client: what an exchange and a tunnel have in common.

    waiting for Tor's SOCKS port -> connecting -> open -> over

It is written with callbacks rather than coroutines: this is the path of every byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import Attribute, implementer

from tortxd.errors import (
    ConnectFailed,
    ConnectRefused,
    ExitPolicyRejected,
    InternalError,
    OriginReset,
    OriginTimeout,
    Overloaded,
    ResolveFailed,
    TorDown,
    TorTimeout,
    TortxdError,
)
from tortxd.relay.failures import Failures
from tortxd.relay.timeouts import Timeout, Timeouts
from tortxd.relay.upstream import Pool, PoolKey, Upstream
from tortxd.tor.link import SocksAddress, TorLink
from tortxd.tor.report import is_down, not_ready
from tortxd.tor.status import serves
from tortxd.wire.http1 import Headers

T = TypeVar("T")

STOPPING = "The gateway is being stopped."
HELD = 64 * 1024
"""Bytes from the client that wait for the connection before the client is paused."""
TIMER_MARGIN = 0.01
"""Seconds by which a connection attempt ends before the request's time is over."""
CLOSE_REASON_WAIT = 1.0
"""Seconds to wait for the control port's word on how a stream ended."""
FAILURE_REASON_WAIT = 0.25
"""Seconds to wait for the control port's word on why a stream was not opened."""
TUNNEL_IDLE_TIME = 3600.0
"""Seconds without a byte either way, in tunnels and WebSockets."""

_REASONS: dict[str, type[TortxdError]] = {
    "CONNECTREFUSED": ConnectRefused,
    "EXITPOLICY": ExitPolicyRejected,
    "NOROUTE": ResolveFailed,
    "RESOLVEFAILED": ResolveFailed,
    "TIMEOUT": TorTimeout,
}
"""What Tor's reasons (control-spec, section 4.1.2) mean where its SOCKS reply says only that it
failed."""


class Start(NamedTuple):
    """The start of a response, as the client is to have it."""

    status: int
    reason: bytes
    headers: Headers
    content_length: int | None
    """The Content-Length to send; None if there is none."""
    delimited: bool
    """Whether the client knows where the body ends without further framing."""
    switches: bool = False
    """Whether what follows, both ways, is no longer HTTP (101, and 200 to CONNECT)."""


class Interim(NamedTuple):
    """A response ahead of the final one (RFC 9110, section 15.2), as the client is to have it."""

    status: int
    """102 to 199."""
    reason: bytes
    headers: Headers


class UploadProducer(IPushProducer):
    """What a client sends."""

    paused: bool = Attribute("Whether it is not taken for now.")


@implementer(UploadProducer)
class NoUpload:
    """There is nothing to pause: the client sends no body."""

    paused = False

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class ResponseSink(Protocol):
    """Who asked."""

    @property
    def upload_producer(self) -> UploadProducer:
        """Pauses and resumes what the client sends."""

    def proceed(self) -> None:
        """Ask for the body that the client holds back (100 Continue)."""

    def interim(self, interim: Interim) -> None:
        """Say what comes ahead of the response, to a client that may hear it."""

    def respond(self, start: Start, data: bytes) -> None:
        """Start the response, with the first bytes of its body."""

    def write(self, data: bytes) -> None:
        """Go on with the body."""

    def finish(self) -> None:
        """The response is whole."""

    def truncate(self, error: TortxdError) -> None:
        """The response broke off: make that plain to the client."""

    def fail(self, error: TortxdError) -> None:
        """No response has been started, and none will come."""

    def draw_from(self, producer: IPushProducer | None) -> None:
        """Pause ``producer`` while the client takes no more; None ends that."""


class Carrier(Protocol):
    """What is needed of the surroundings (:class:`tortxd.gateway.plane.DataPlane`)."""

    link: TorLink
    pool: Pool
    timeouts: Timeouts
    failures: Failures
    under_way: set[Any]
    """Every :class:`Outbound` that is not over."""

    def connect(
        self, address: SocksAddress, upstream: Upstream, *, early: bool, timeout: float
    ) -> Deferred[Upstream]:
        """Connect ``upstream`` through Tor; with ``early``, it may write before the SOCKS reply.
        Cancellable. Fails with one of our errors."""

    def annotate(self, upstream: Upstream) -> Headers:
        """The headers that say which circuit carries ``upstream``, as far as it is known."""


class Outbound:
    """The common part. Whatever ends it, nothing of it is left behind.

    :param timeout: seconds until the destination must be reached, and has answered.
    """

    early = False
    """Whether what goes first may go before the SOCKS reply."""
    unclear: tuple[type[TortxdError], ...] = (ConnectFailed,)
    """Refusals by Tor of which the reason is asked for: the SOCKS reply alone does not say it."""

    def __init__(
        self, carrier: Carrier, sink: ResponseSink, pool_key: PoolKey, timeout: float
    ) -> None:
        self._carrier = carrier
        self._sink = sink
        self._pool_key = pool_key
        self._upstream: Upstream | None = None
        self._pending: Deferred[Any] | None = None
        self._connected = False
        self.started = False
        """Whether the client has got the start of a response."""
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._over = False
        self._tried = 0.0
        """When Tor was asked for the stream."""
        self._deadline = carrier.timeouts.clock.seconds() + timeout
        self._timeout: Timeout | None = carrier.timeouts.start(timeout, self._late)
        carrier.under_way.add(self)

    # --- what a kind of it does -------------------------------------------------------------------

    def upstream_open(self, upstream: Upstream) -> None:
        """``upstream`` takes bytes now; the SOCKS reply may still be on its way."""
        raise NotImplementedError

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the destination."""
        raise NotImplementedError

    def upstream_lost(self, reason: Failure) -> None:
        """The connection to the destination is gone."""
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

    # --- getting there ----------------------------------------------------------------------------

    def _connect(self) -> None:
        link = self._carrier.link
        address = link.socks_address
        if address is not None:
            self._look_for_exits(address)
        elif is_down(link.status):
            self._fail(not_ready(link.status))
        else:
            self._await(link.when_usable(), self._look_for_exits)

    def _look_for_exits(self, address: SocksAddress) -> None:
        """Tor asked for an IPv6 address that no exit carries would work without end."""
        host, port = self._pool_key.host, self._pool_key.port
        if ":" not in host:
            self._look_for_circuit(address)
            return

        def found(carried: bool | None) -> None:
            if carried is False:
                self._fail(ExitPolicyRejected())
            else:
                self._look_for_circuit(address)

        self._await(self._carrier.link.exits_carry(host, port), found)

    def _look_for_circuit(self, address: SocksAddress) -> None:
        """Fresh circuits have a budget; and what has only just failed is not tried on and on."""
        carrier, pool_key = self._carrier, self._pool_key
        failure = carrier.failures.recall(pool_key.credentials.owner, pool_key.host, pool_key.port)
        if failure is not None:
            self._fail(failure)
            return
        # The other half is for the request itself.
        within = (self._deadline - carrier.timeouts.clock.seconds()) / 2
        try:
            waiting = carrier.link.admit(pool_key.credentials, within)
        except Overloaded as error:
            self._fail(error)
            return
        if waiting is None:
            self._open(address)
        else:
            self._await(waiting, lambda _: self._admitted())

    def _admitted(self) -> None:
        link = self._carrier.link
        if link.socks_address is not None:
            self._open(link.socks_address)
        else:  # Tor has gone meanwhile
            link.opened(self._pool_key.credentials, reached=None)
            self._connect()

    def _open(self, address: SocksAddress) -> None:
        upstream = Upstream(self._carrier.pool, self._pool_key, self)
        self._tried = self._carrier.timeouts.clock.seconds()
        # The connection's own timer says best what was waited for: it is a little ahead of ours.
        left = self._deadline - self._tried - TIMER_MARGIN
        connecting = maybeDeferred(
            self._carrier.connect,
            address,
            upstream,
            early=self.early,
            timeout=max(left, TIMER_MARGIN),
        ).addBoth(self._opened)
        self._await(
            connecting,
            lambda _: self._reached(),
            lambda error: self._not_opened(upstream, error),
        )

    def _opened(self, result: T) -> T:
        reached: bool | None = True
        if isinstance(result, Failure):
            reached = None if isinstance(result.value, CancelledError) else False
        self._carrier.link.opened(self._pool_key.credentials, reached=reached)
        return result

    def _await(
        self,
        pending: Deferred[T],
        then: Callable[[T], object],
        otherwise: Callable[[TortxdError], object] | None = None,
    ) -> None:
        """Go on with ``then``, unless it ends before; with ``otherwise`` after a failure."""

        def arrived(result: T) -> None:
            self._pending = None
            if not self._over:
                then(result)

        def failed(failure: Failure) -> None:
            self._pending = None
            if not self._over:
                (otherwise or self._fail)(as_error(failure))

        self._pending = pending
        pending.addCallback(arrived).addErrback(failed)

    def _not_opened(self, upstream: Upstream, error: TortxdError) -> None:
        """Tor has not opened the stream; the control port may know better why."""
        if upstream.source is None or not isinstance(error, self.unclear):
            self._not_reached(error)
            return

        def told(reason: str | None) -> None:
            better = error
            if isinstance(error, ConnectFailed) and reason in _REASONS:
                better = _REASONS[reason]()
            better.tor_reason = reason
            self._not_reached(better)

        link = self._carrier.link
        self._await(link.close_reason(upstream.source, FAILURE_REASON_WAIT), told)

    def _reached(self) -> None:
        pool_key = self._pool_key
        self._carrier.failures.reached(pool_key.credentials.owner, pool_key.host, pool_key.port)
        self._established()

    def _not_reached(self, error: TortxdError) -> None:
        owner, host, port = (
            self._pool_key.credentials.owner,
            self._pool_key.host,
            self._pool_key.port,
        )
        self._carrier.failures.failed(owner, host, port, error, self._tried)
        self._fail(error)

    # --- the client's bytes -----------------------------------------------------------------------

    def upload(self, data: bytes) -> None:
        """More of what the client sends."""
        if self._over:
            return
        if self._connected:
            self._forward(data)
            self._touch()
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > HELD:
            self._sink.upload_producer.pauseProducing()

    def _draw_from_client(self) -> None:
        """Pass on what was held, then take from the client as fast as the destination takes it."""
        assert self._upstream is not None
        self._upstream.transport.registerProducer(self._sink.upload_producer, True)
        self._sink.upload_producer.resumeProducing()
        held, self._held = self._held, []
        for data in held:
            self._forward(data)

    # --- the end ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """There will be no Tor any more."""
        self._fail(TorDown(STOPPING))

    def client_gone(self) -> None:
        """The client has left: so does everything that was done for it."""
        if not self._over:
            self._end()

    def _ended(self, upstream: Upstream, reason: Failure) -> None:
        """``upstream`` closed where closing is how it ends: well, or not."""
        if upstream.pool_key.scheme == "https":
            # TLS says by itself whether the end is the destination's (close_notify).
            self._end_at_close(reason.check(ConnectionDone) is not None)
        else:
            self._ask_how_it_ended(upstream, lambda how: self._end_at_close(how == "DONE"))

    def _ask_how_it_ended(self, upstream: Upstream, then: Callable[[str | None], object]) -> None:
        """A FIN looks the same whether the destination finished, the circuit died or Tor did; the
        control port tells them apart."""
        if upstream.source is None or self._carrier.link.socks_address is None:
            then(None)
        else:
            asking = self._carrier.link.close_reason(upstream.source, CLOSE_REASON_WAIT)
            self._await(asking, then)

    def _end_at_close(self, whole: bool) -> None:
        if whole:
            self._end()
            self._sink.finish()
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
        self._fail(OriginTimeout() if self._connected or self.started else TorTimeout())

    def _why_lost(self) -> TortxdError:
        return TorDown() if self._carrier.link.socks_address is None else OriginReset()

    def _fail(self, error: TortxdError) -> None:
        if self._over:
            return
        self._end()
        status = self._carrier.link.status
        if self.started:
            self._sink.truncate(error)
        elif isinstance(error, TorTimeout | TorDown | Overloaded) and not serves(status):
            self._sink.fail(not_ready(status))
        else:
            self._sink.fail(error)

    def _end(self) -> None:
        """Let go of everything but the client."""
        self._over = True
        self._carrier.under_way.discard(self)
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        pending, self._pending = self._pending, None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._drop(upstream)
        if pending is not None:
            pending.cancel()
        self._held.clear()
        self._sink.draw_from(None)

    def _drop(self, upstream: Upstream) -> None:
        """Close a connection whose stream is of no use any more."""
        upstream.abort()
        if upstream.source is not None:
            self._carrier.link.close_abandoned(
                upstream.source, upstream.pool_key.credentials.username
            )


def as_error(failure: Failure) -> TortxdError:
    """The error of ours behind ``failure``."""
    if isinstance(failure.value, TortxdError):
        return failure.value
    return InternalError()

"""Connections through Tor to destinations, and the pools in which they wait for their next request.

A connection may be shared by requests of one :class:`PoolKey` only: the same isolation credentials,
the same destination. So a connection never links what isolation keeps apart.
"""

from __future__ import annotations

import fcntl
import socket
import termios
from collections.abc import Callable
from typing import Any
from typing import Protocol as TypingProtocol

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tortxd.relay.journal import Way
from tortxd.relay.timeouts import Timeout, Timeouts
from tortxd.tor.changes import Source
from tortxd.tor.isolation import Credentials
from tortxd.tor.socks import TorTransport

LIFETIME = 600.0
"""Seconds after which a connection takes no further request, like Tor's own dirty circuits (tor(1),
MaxCircuitDirtiness)."""
IDLE = 90.0
"""Seconds that a connection waits for its next request."""
FRESH = 4.0
"""Seconds of waiting after which a request that may not be repeated takes no connection: many
servers close idle ones after 5 s, and what is sent to them just then is lost."""
REMEMBERED = 10_000
"""Retired identities that are remembered while requests under way may still have them; and as many
destinations that said more than they were asked."""
CLOSED = 1024
"""Closed connections that are remembered: Tor tells of their streams' end a moment later."""
FAREWELL = 1.0
"""Seconds that the last bytes of a client that has left have to go to Tor."""
DISTRUST = 60.0
"""Seconds in which no connection is kept to a destination that sent what nobody asked for."""


@frozen(cache_hash=True)
class PoolKey:
    """What requests must have in common to share a connection."""

    credentials: Credentials
    scheme: str
    host: str
    port: int


class Carried(TypingProtocol):
    """What a connection carries: it hears of what becomes of that."""

    def upstream_open(self, upstream: Upstream) -> None:
        """``upstream`` takes bytes now; the SOCKS reply may still be on its way."""

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the destination."""

    def upstream_lost(self, reason: Failure) -> None:
        """The connection to the destination is gone."""


class Upstream(Protocol):
    """One connection to a destination. It carries one exchange at a time."""

    transport: TorTransport

    def __init__(
        self, pool: Pool, pool_key: PoolKey, exchange: Carried, way: Way = "unknown"
    ) -> None:
        self.pool_key = pool_key
        self.way = way
        """How the request came for which it was opened."""
        self.exchange: Carried | None = exchange
        self.requests = 0
        """How many requests it has carried, the present one included."""
        self.born = pool.timeouts.clock.seconds()
        self.waiting_since = self.born
        """When its last exchange ended."""
        self.generation = pool.generation
        self.name: str | None = None
        """What Tor is asked for instead of the host, where the exit is chosen."""
        self.source: tuple[str, int] | None = None
        """Our end of the SOCKS connection, by which the control port names the stream."""
        self.annotation: list[tuple[bytes, bytes]] | None = None
        """The headers that name its circuit, once known: a stream stays on its circuit."""
        self._leaving: Timeout | None = None
        self._when_left: Callable[[], object] | None = None
        self._pool = pool

    def reached(self, source: tuple[str, int] | None) -> None:
        """Tor's SOCKS port has taken the connection; it may not have answered yet."""
        self.source = source
        self._pool.opened(self)

    def connectionMade(self) -> None:
        self.source = self.transport.source
        self._pool.opened(self)
        if self.exchange is None:
            self.transport.abortConnection()
        else:
            self.exchange.upstream_open(self)

    def dataReceived(self, data: bytes) -> None:
        if self._leaving is not None:
            return
        if self.exchange is None:
            # What comes unasked for belongs to no request (RFC 9112, section 9.2).
            self._pool.discard(self)
            self._pool.distrust(self.pool_key)
        else:
            self.exchange.upstream_data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._pool.closed(self)
        exchange, self.exchange = self.exchange, None
        if self._leaving is not None and self._when_left is not None:
            self._leaving.cancel()
            self._when_left()
        elif exchange is None:
            self._pool.forget(self)
        else:
            exchange.upstream_lost(reason)

    def unasked(self, *, ends: bool = True) -> bytes | None:
        """What has arrived while it waited, and nobody has read: some of it, or nothing where that
        is the end; None if there is nothing.

        :param ends: False where the end is not worth a look, which takes twice as long.
        """
        transport: Any = self.transport
        tcp = getattr(transport, "transport", None)
        if tcp is None:
            handle = transport.getHandle()
            return _peek(handle) if ends or _has_bytes(handle) else None
        # Under TLS a record may have been read that has not been looked at.
        try:
            return transport.getHandle().recv(1, socket.MSG_PEEK)  # type: ignore[no-any-return]
        except SSL.WantReadError:
            return None if _peek(tcp.getHandle()) is None else b""
        except SSL.Error:
            return b""

    def leave(self, when_left: Callable[[], object]) -> None:
        """Close it when what was written to it has gone, and call ``when_left``."""
        self.exchange = None
        self._when_left = when_left
        self._leaving = self._pool.timeouts.start(FAREWELL, self.abort)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close it at once, whatever it carries."""
        self.exchange = None
        if self.transport is not None:
            self.transport.abortConnection()


class Pool:
    """Connections that wait for a further request of their pool key.

    :param limit: of all keys together; past it the one that has waited longest is closed.
    """

    def __init__(self, timeouts: Timeouts, limit: int) -> None:
        self.timeouts = timeouts
        self.generation = 0
        """Raised when everything is retired."""
        self._limit = limit
        self._by_key: dict[PoolKey, list[Upstream]] = {}
        self._waiting: dict[Upstream, None] = {}
        """The one that has waited longest first."""
        self._next_look: Timeout | None = None
        """At those that wait; one timer does for all, since they wait equally long."""
        self._retired: dict[bytes, None] = {}
        self._distrusted: dict[PoolKey, float] = {}
        """Destinations that said more than they were asked, and until when that counts."""
        self._connected: set[Upstream] = set()
        """All connections to Tor that are open."""
        self._open: dict[Source, Upstream] = {}
        """The same, by our end of each, where it has one."""
        self._closed: dict[Source, Way] = {}
        """How the requests came of the last ones that were closed."""

    def opened(self, upstream: Upstream) -> None:
        """It is connected to Tor."""
        self._connected.add(upstream)
        if upstream.source is not None:
            self._open[upstream.source] = upstream

    def closed(self, upstream: Upstream) -> None:
        """It is no longer connected; harmless if it was not."""
        self._connected.discard(upstream)
        source = upstream.source
        if source is not None and self._open.get(source) is upstream:
            del self._open[source]
            self._closed[source] = upstream.way
            if len(self._closed) > CLOSED:
                del self._closed[next(iter(self._closed))]

    def way_of(self, source: Source) -> Way | None:
        """How the request came for which the connection from there was opened, which may have been
        closed just now; None: there is none of ours."""
        upstream = self._open.get(source)
        return self._closed.get(source) if upstream is None else upstream.way

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, pool_key: PoolKey, exchange: Carried, *, fresh: bool = False) -> Upstream | None:
        """The connection of ``pool_key`` that was used last, now carrying ``exchange``; with
        ``fresh``, only if that was in the last :data:`FRESH` seconds."""
        while waiting := self._by_key.get(pool_key):
            upstream = waiting[-1]
            now = self.timeouts.clock.seconds()
            if fresh and now - upstream.waiting_since > FRESH:
                return None
            self.forget(upstream)
            if now - upstream.born > LIFETIME:
                upstream.abort()
                continue
            unasked = upstream.unasked(ends=fresh)
            if unasked is not None:
                upstream.abort()
                if unasked:
                    self.distrust(pool_key)
                continue
            upstream.exchange = exchange
            return upstream
        return None

    def give(self, upstream: Upstream) -> None:
        """Keep a connection whose exchange has ended cleanly, if it is young enough."""
        upstream.exchange = None
        pool_key, now = upstream.pool_key, self.timeouts.clock.seconds()
        old = now - upstream.born > LIFETIME
        if old or self._is_retired(upstream) or self._is_distrusted(pool_key):
            upstream.abort()
            return
        if len(self._waiting) >= self._limit:
            self.discard(next(iter(self._waiting)))
        waiting = self._by_key.get(pool_key)
        if waiting is None:
            self._by_key[pool_key] = [upstream]
        else:
            waiting.append(upstream)
        upstream.waiting_since = now
        self._waiting[upstream] = None
        if self._next_look is None:
            self._next_look = self.timeouts.start(IDLE, self._look)

    def _look(self) -> None:
        """Close those that have waited long enough."""
        self._next_look = None
        now = self.timeouts.clock.seconds()
        for upstream in tuple(self._waiting):
            left = IDLE - (now - upstream.waiting_since)
            if left > 0:
                self._next_look = self.timeouts.start(left, self._look)
                return
            self.discard(upstream)

    def discard(self, upstream: Upstream) -> None:
        """Close a waiting connection."""
        self.forget(upstream)
        upstream.abort()

    def forget(self, upstream: Upstream) -> None:
        """Let go of a connection, which waits no longer; harmless if it did not."""
        if upstream not in self._waiting:
            return
        del self._waiting[upstream]
        waiting = self._by_key[upstream.pool_key]
        if waiting[-1] is upstream:  # the one that is taken, which is not looked for from the first
            waiting.pop()
        else:
            waiting.remove(upstream)
        if not waiting:
            del self._by_key[upstream.pool_key]

    def distrust(self, pool_key: PoolKey) -> None:
        """Keep no connection of ``pool_key`` for :data:`DISTRUST` seconds: what its destination
        sends unasked could be taken for the answer to the next request."""
        self._distrusted.pop(pool_key, None)
        self._distrusted[pool_key] = self.timeouts.clock.seconds() + DISTRUST
        if len(self._distrusted) > REMEMBERED:
            del self._distrusted[next(iter(self._distrusted))]
        for upstream in list(self._by_key.get(pool_key, ())):
            self.discard(upstream)

    def _is_distrusted(self, pool_key: PoolKey) -> bool:
        until = self._distrusted.get(pool_key)
        if until is None:
            return False
        if self.timeouts.clock.seconds() < until:
            return True
        del self._distrusted[pool_key]
        return False

    def retire(self, credentials: Credentials) -> int:
        """Let no connection of these credentials' identity take a further request: close those
        that wait now, and the others when their exchange has ended.

        :return: how many there are of both.
        """
        identity = credentials.identity
        found = self._count(lambda upstream: upstream.pool_key.credentials.identity == identity)
        self._retired.pop(identity, None)
        self._retired[identity] = None
        if len(self._retired) > REMEMBERED:
            # What is forgotten waits in vain for a while: nobody asks for its key any more.
            del self._retired[next(iter(self._retired))]
        self._discard_retired()
        return found

    def retire_all(self) -> int:
        """The same for whatever there is."""
        found = self._count(lambda _: True)
        self.generation += 1
        self._retired.clear()
        self._discard_retired()
        return found

    def clear(self) -> None:
        """Close every waiting connection."""
        for upstream in list(self._waiting):
            self.discard(upstream)
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    def _is_retired(self, upstream: Upstream) -> bool:
        return (
            upstream.generation != self.generation
            or upstream.pool_key.credentials.identity in self._retired
        )

    def _count(self, concerned: Callable[[Upstream], bool]) -> int:
        """How many connections wait or are in use, and are not retired so far."""
        return sum(
            (upstream.exchange is not None or upstream in self._waiting)
            and concerned(upstream)
            and not self._is_retired(upstream)
            for upstream in self._connected
        )

    def _discard_retired(self) -> None:
        for upstream in list(self._waiting):
            if self._is_retired(upstream):
                self.discard(upstream)


def _peek(handle: socket.socket) -> bytes | None:
    """A byte that a socket has for us; nothing if it has ended, None if it only waits."""
    try:
        return handle.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


_NOTHING = bytes(4)


def _has_bytes(handle: socket.socket) -> bool:
    """Whether a socket has bytes to read (tcp(7), FIONREAD)."""
    return fcntl.ioctl(handle.fileno(), termios.FIONREAD, _NOTHING) != _NOTHING

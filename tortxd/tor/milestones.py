"""Those who wait for what becomes of a Tor, and those who watch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed

from tortxd.errors import SetupError, TorDown, TortxdError
from tortxd.tor.link import SocksAddress
from tortxd.tor.status import Failed, Status, Stopped, serves
from tortxd.tor.waiters import Waiters

_T = TypeVar("_T")


class Milestones:
    """Knows Tor's status and where its SOCKS port listens, and tells when they become other ones.

    All Deferreds can be cancelled.
    """

    def __init__(self) -> None:
        self.status: Status = Stopped()
        """What Tor is doing now. Set by :meth:`become` alone."""
        self.socks: SocksAddress | None = None
        """Where its SOCKS port listens. Set by :meth:`socks_at` alone."""
        self._is_expected = False
        self._observers: list[Callable[[Status], None]] = []
        self._usable: Waiters[SocksAddress] = Waiters()
        self._ready: Waiters[None] = Waiters()
        self._failed: Waiters[TortxdError] = Waiters()

    def expect(self) -> None:
        """Tor will be started: from now on, being stopped means that nothing comes."""
        self._is_expected = True

    @property
    def is_failure_awaited(self) -> bool:
        """Whether somebody will hear that it has failed."""
        return len(self._failed) > 0

    def on_status(self, observer: Callable[[Status], None]) -> Callable[[], None]:
        """Have ``observer`` called with every further status; the result, called, ends that."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    def when_usable(self) -> Deferred[SocksAddress]:
        """Fire as soon as the SOCKS port listens. Fails with TorDown when Tor has failed for good
        or is stopped."""
        return self._wait(self._usable) if self.socks is None else succeed(self.socks)

    def when_ready(self) -> Deferred[None]:
        """Fire when requests are expected to be served. Fails as :meth:`when_usable` does."""
        return succeed(None) if serves(self.status) else self._wait(self._ready)

    def when_failed(self) -> Deferred[TortxdError]:
        """Fire, with a SetupError, when there is no use trying any longer."""
        if isinstance(self.status, Failed):
            return succeed(SetupError(self.status.reason))
        return self._failed.add()

    def socks_at(self, address: SocksAddress | None) -> None:
        """The SOCKS port listens there, or no more."""
        self.socks = address
        if address is not None:
            self._usable.fire(address)

    def become(self, status: Status) -> None:
        """Tor is doing this now."""
        self.status = status
        if serves(status):
            self._ready.fire(None)
        self._fail_if_over()
        if isinstance(status, Failed):
            self._failed.fire(SetupError(status.reason))
        for observer in tuple(self._observers):
            observer(status)

    def _wait(self, waiters: Waiters[_T]) -> Deferred[_T]:
        waiting = waiters.add()
        self._fail_if_over()
        return waiting

    def _fail_if_over(self) -> None:
        if isinstance(self.status, Failed):
            reason = self.status.reason
        elif isinstance(self.status, Stopped) and self._is_expected:
            reason = "Tor is stopped."
        else:
            return
        self._usable.fail(TorDown(reason, retryable=False))
        self._ready.fail(TorDown(reason, retryable=False))

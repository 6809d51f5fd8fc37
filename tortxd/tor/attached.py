"""One control connection to a Tor that others run."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from tortxd.errors import SetupError, TortxdError
from tortxd.tor.causes import Causes
from tortxd.tor.link import SocksAddress
from tortxd.tor.ports import FOR_SOCKS
from tortxd.tor.replies import choose_socks, listeners
from tortxd.tor.session import Session, SessionListener, Watch
from tortxd.tor.table import Table


def endpoint_to(reactor: Any, address: SocksAddress) -> IStreamClientEndpoint:
    """The way to a SOCKS port. Its host is an address, so nothing is looked up."""
    if address.path is not None:
        return UNIXClientEndpoint(reactor, address.path)
    kind = TCP6ClientEndpoint if ":" in address.host else TCP4ClientEndpoint
    return kind(reactor, address.host, address.port, timeout=5)


class Attached:
    """One connection to the control port, and what it shows. Used once.

    :param endpoint: the control port.
    :param name: its address, for sentences.
    :param password: for HashedControlPassword, or None.
    :param wanted: the SOCKS address to use instead of the one that Tor names, or None.
    :param known: the SOCKS address of the connection before this one: where the control port does
        not answer, it is asked whether Tor still lives.
    :param mark: how our own SOCKS usernames begin.
    :param first: whether no Tor of this daemon has served yet: then one that does not let us in is
        the end, where it would otherwise be tried again.
    """

    _log = Logger()
    pid: int | None = None

    def __init__(
        self,
        reactor: Any,
        listener: SessionListener,
        table: Table,
        *,
        endpoint: IStreamClientEndpoint,
        name: str,
        password: str | None,
        wanted: SocksAddress | None,
        known: SocksAddress | None,
        watch: Watch,
        username_prefix: str,
        first: bool,
    ) -> None:
        self._reactor = reactor
        self._listener = listener
        self._table = table
        self._endpoint = endpoint
        self._name = name
        self._password = password
        self._wanted = wanted
        self._known = known
        self._watch = watch
        self._username_prefix = username_prefix
        self._first = first
        self._over = False
        self._unwanted = False
        self._running: Deferred[None] | None = None
        self.session: Session | None = None

    def begin(self) -> None:
        """Connect; what becomes of it is told to the listener."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._not_begun)

    def end(self) -> Deferred[None]:
        """Hang up without a word to the listener."""
        self._over = self._unwanted = True
        self._let_go()
        return succeed(None)

    async def _run(self) -> None:
        from tortxd.tor.control import Control  # txtorcon: not before it is needed

        control = await Control.connect(
            self._reactor, self._endpoint, self, name=self._name, password=self._password
        )
        self.session = Session(
            self._reactor,
            control,
            self._table,
            self._listener,
            hung=self.control_lost,
            watch=self._watch,
            username_prefix=self._username_prefix,
            causes=Causes(self._reactor, self._listener.trouble, exists=None),
        )
        told = await control.ask("net/listeners/socks")
        configured = [
            *await control.configured("SocksPort"),
            *await control.configured("__SocksPort"),
        ]
        self._known = None  # whatever was known: from here on this Tor's own word counts
        self._known = choose_socks(
            listeners(told.get("net/listeners/socks", "")), configured, self._wanted
        )
        self._log.info(FOR_SOCKS, address=self._known)
        self._listener.socks_at(self._known)
        await self.session.begin()

    def control_lost(self, reason: str) -> None:
        """The connection is gone, or Tor does not answer on it."""
        if not self._over:
            self._let_go()
            self._finish(reason)

    def _not_begun(self, failure: Failure) -> None:
        if self._over or failure.check(CancelledError):
            return
        if failure.check(SetupError) and self._known is None and self._first:
            self._over = True
            self._let_go()
            self._listener.socks_at(None)
            self._listener.fatal(failure.getErrorMessage())
            return
        if not failure.check(TortxdError):
            self._log.failure("A fault of ours while attaching to Tor.", failure)
        reason = (
            failure.getErrorMessage() if failure.check(TortxdError) else "Tor could not be reached."
        )
        self._let_go()
        self._finish(reason)

    def _finish(self, reason: str) -> None:
        """Without a control connection, only the SOCKS port can show whether that Tor lives."""
        self._over = True
        if self._known is None:
            self._listener.gone(reason)
            return
        trying = endpoint_to(self._reactor, self._known).connect(Factory.forProtocol(Protocol))
        trying.addCallbacks(self._lives, lambda _: self._dead(reason), callbackArgs=(reason,))

    def _lives(self, probe: Protocol, reason: str) -> None:
        assert probe.transport is not None
        probe.transport.loseConnection()
        if not self._unwanted:
            self._listener.detached(reason)

    def _dead(self, reason: str) -> None:
        if not self._unwanted:
            self._listener.socks_at(None)
            self._listener.gone(reason)

    def _let_go(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None
        if self._running is not None:
            self._running.cancel()

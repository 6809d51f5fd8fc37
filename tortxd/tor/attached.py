"""One control connection to a Tor that others run."""

from __future__ import annotations

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    clientFromString,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tortxd._types import Reactor
from tortxd.endpoints import is_local_client, not_a_client, plain
from tortxd.errors import SetupError, TortxdError
from tortxd.tor.causes import Causes
from tortxd.tor.link import SocksAddress
from tortxd.tor.ports import FOR_SOCKS
from tortxd.tor.replies import choose_socks, listeners
from tortxd.tor.run import Run, Surroundings
from tortxd.tor.settings import AttachSettings

_FAREWELL = 1.0
"""Seconds that a Tor has for forgetting what was ours."""


def endpoint_to(reactor: Reactor, address: SocksAddress) -> IStreamClientEndpoint:
    """The way to a SOCKS port. Its host is an address, so nothing is looked up."""
    if address.path is not None:
        return UNIXClientEndpoint(reactor, address.path)
    kind = TCP6ClientEndpoint if ":" in address.host else TCP4ClientEndpoint
    return kind(reactor, address.host, address.port, timeout=5)


class AttachedRuns:
    """Connects to a Tor's control port again and again; provides :class:`tortxd.tor.run.Runs`.

    :param username_prefix: how our own SOCKS usernames begin: that Tor may have other users.
    """

    ending: str | None = None

    def __init__(self, reactor: Reactor, settings: AttachSettings, username_prefix: str) -> None:
        self._reactor = reactor
        self._settings = settings
        self._username_prefix = username_prefix
        self._endpoint: IStreamClientEndpoint | None = None
        self._name = plain(settings.control)
        self.beginning = f"Connecting to Tor's control port, {self._name}."

    def prepare(self) -> None:
        """Read the endpoint.

        :raises SetupError: it is malformed, or another machine's whose SOCKS port is not known.
        """
        settings = self._settings
        try:
            self._endpoint = clientFromString(self._reactor, settings.control)
        except Exception as e:  # whatever a kind of endpoint makes of what it does not understand
            raise not_a_client(settings.control, "`control`") from e
        if settings.socks is None and not is_local_client(settings.control):
            raise SetupError(
                f"`control` is another machine's, {self._name}: the SOCKS port that a Tor names is "
                "an address of its own machine. Say how it is reached from here, with `socks`."
            )

    def release(self) -> None:
        """There is nothing to give back."""

    def make(self, surroundings: Surroundings) -> Attached:
        """The next connection."""
        assert self._endpoint is not None
        return Attached(
            surroundings,
            endpoint=self._endpoint,
            name=self._name,
            password=self._settings.password,
            socks=self._settings.socks,
            username_prefix=self._username_prefix,
        )


class Attached(Run):
    """One connection to the control port, and what it shows.

    Where the control port does not answer, the SOCKS port shows whether that Tor still lives.

    :param endpoint: the control port.
    :param name: its address, for sentences.
    :param password: for HashedControlPassword, or None.
    :param socks: the SOCKS address to use instead of the one that Tor names, or None.
    :param username_prefix: see :class:`AttachedRuns`.
    """

    _fault = "A fault of ours while attaching to Tor."
    _excuse = "Tor could not be reached."

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        endpoint: IStreamClientEndpoint,
        name: str,
        password: str | None,
        socks: SocksAddress | None,
        username_prefix: str,
    ) -> None:
        super().__init__(surroundings)
        self._known = surroundings.known
        self._endpoint = endpoint
        self._name = name
        self._password = password
        self._socks = socks
        self._username_prefix = username_prefix
        self._is_ended = False

    def end(self) -> Deferred[None]:
        """Leave that Tor as it was found, then hang up without a word to the listener."""
        self._is_ended = self._over = True
        if self.session is None:
            return super().end()
        tidying = Deferred.fromCoroutine(self.session.mappings.clear())
        tidying.addTimeout(_FAREWELL, self._reactor)

        def tidied(result: object) -> Deferred[None]:
            if isinstance(result, Failure) and not result.check(TortxdError, TimeoutError):
                self._log.failure("A fault of ours while leaving Tor.", result)
            return super(Attached, self).end()

        return tidying.addBoth(tidied)

    def control_lost(self, reason: str) -> None:
        """The connection is gone, or Tor does not answer on it."""
        if not self._over:
            self._failed(reason, fatal=False)

    async def _begin(self) -> None:
        from tortxd.tor.control import Control  # txtorcon: not before it is needed

        control = await Control.connect(
            self._reactor, self._endpoint, self, name=self._name, password=self._password
        )
        session = self._open_session(
            control,
            username_prefix=self._username_prefix,
            causes=Causes(self._reactor, self._listener.trouble, exists=None),
        )
        replies = await control.ask("net/listeners/socks")
        configured = [
            *await control.configured("SocksPort"),
            *await control.configured("__SocksPort"),
        ]
        self._known = None  # whatever was known: from here on this Tor's own word counts
        self._known = choose_socks(
            listeners(replies.get("net/listeners/socks", "")), configured, self._socks
        )
        self._log.info(FOR_SOCKS, address=self._known)
        self._listener.socks_at(self._known)
        await session.begin()

    def _failed(self, reason: str, *, fatal: bool) -> None:
        if self._known is None:
            self._finish(reason, fatal=fatal)
            return
        self._over = True
        self._let_go()
        trying = endpoint_to(self._reactor, self._known).connect(Factory.forProtocol(Protocol))
        trying.addCallbacks(self._lives, lambda _: self._dead(reason), callbackArgs=(reason,))

    def _lives(self, probe: Protocol, reason: str) -> None:
        assert probe.transport is not None
        probe.transport.loseConnection()
        if not self._is_ended:
            self._listener.detached(reason)

    def _dead(self, reason: str) -> None:
        if not self._is_ended:
            self._finish(reason)

    def _finished(self) -> Deferred[None]:
        return succeed(None)

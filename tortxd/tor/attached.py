"""One control connection to a Tor that others run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    clientFromString,
)
from twisted.internet.interfaces import IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tortxd._types import Reactor
from tortxd.endpoints import is_local_client, not_a_client, plain
from tortxd.errors import SetupError, TorDown, TortxdError
from tortxd.files import read_regular, secret_in
from tortxd.tor.causes import Causes
from tortxd.tor.lifecycle import LONGEST_DELAY
from tortxd.tor.link import SocksAddress
from tortxd.tor.ports import FOR_SOCKS
from tortxd.tor.replies import choose_socks, listeners
from tortxd.tor.run import Run, Surroundings
from tortxd.tor.settings import PASSWORD_FIELD, AttachSettings
from tortxd.wire.control import Implausible
from tortxd.wire.socks5 import GREETING

if TYPE_CHECKING:
    from tortxd.tor.control import Control

LONGEST_WAIT = 5.0
"""Seconds between two tries to reach a Tor that is away. A try is one connection to a port that
nobody listens at, where launching a Tor is a process and a bootstrap. Where a Tor has refused our
authentication, or has sent what no Tor sends, it is more: each try is a line of its log, or costs
what it costs to read that."""
_FAREWELL = 1.0
"""Seconds that a Tor has for forgetting what was ours."""
_GREETED = 3.0
"""Seconds that a SOCKS port has for answering a greeting; it does so at once unless Tor hangs."""
OFF = "That Tor's network is switched off (DisableNetwork), and its SOCKS port with it."
_LISTENERS = re.compile("SocksPort|DisableNetwork", re.IGNORECASE)
"""What in a CONF_CHANGED event tells that another SOCKS port may be open, or none."""


def endpoint_to(reactor: Reactor, address: SocksAddress) -> IStreamClientEndpoint:
    """The way to a SOCKS port. Its host is an address, so nothing is looked up."""
    if address.path is not None:
        return UNIXClientEndpoint(reactor, address.path)
    kind = TCP6ClientEndpoint if ":" in address.host else TCP4ClientEndpoint
    return kind(reactor, address.host, address.port, timeout=5)


class _Greeting(Protocol):
    """Greets a SOCKS port. A Tor that hangs still has its connections taken, by the kernel."""

    def __init__(self) -> None:
        self.answered: Deferred[None] = Deferred(lambda _: self._hang_up())

    def connectionMade(self) -> None:
        """Say what every client says first."""
        assert self.transport is not None
        self.transport.write(GREETING)

    def dataReceived(self, data: bytes) -> None:
        """Whatever it says: it lives."""
        self._over(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has hung up."""
        self._over(TorDown())

    def _over(self, error: TorDown | None) -> None:
        answered, self.answered = self.answered, succeed(None)
        self._hang_up()
        if not answered.called:
            answered.callback(None) if error is None else answered.errback(error)

    def _hang_up(self) -> None:
        if self.transport is not None:
            cast(ITCPTransport, self.transport).abortConnection()


async def _greet(reactor: Reactor, address: SocksAddress) -> None:
    """Return when whatever listens at a SOCKS port answers there.

    :raises Exception: nobody does.
    """
    factory = Factory.forProtocol(_Greeting)
    factory.noisy = False
    greeting = await endpoint_to(reactor, address).connect(factory)
    assert isinstance(greeting, _Greeting)
    await greeting.answered.addTimeout(_GREETED, reactor)


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
        self._last: Attached | None = None
        self._is_let_in = False
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
        """The next connection. Where that Tor has let us in once, what it refuses now is for those
        to mend who run it, and waited for."""
        assert self._endpoint is not None
        self._is_let_in = self._is_let_in or (self._last is not None and self._last.is_let_in)
        settings, name = self._settings, PASSWORD_FIELD
        self._last = Attached(
            evolve(surroundings, first=surroundings.first and not self._is_let_in),
            endpoint=self._endpoint,
            name=self._name,
            password=self._password(),
            password_name=name
            if settings.password_file is None
            else f"{name} ({settings.password_file})",
            socks=settings.socks,
            username_prefix=self._username_prefix,
        )
        return self._last

    def _password(self) -> str | None:
        """What the file holds now; what it held where it cannot be read any more, as a pipe."""
        file, before = self._settings.password_file, self._settings.password
        if file is None:
            return before
        try:
            secret = secret_in(read_regular(file))
            return before if secret is None else secret.decode()
        except (OSError, ValueError):
            return before


class Attached(Run):
    """One connection to the control port, and what it shows.

    Where the control port does not answer, the SOCKS port shows whether that Tor still lives.

    :param endpoint: the control port.
    :param name: its address, for sentences.
    :param password: for HashedControlPassword, or None.
    :param password_name: what a sentence calls the file that holds it.
    :param socks: the SOCKS address to use instead of the one that Tor names, or None.
    :param username_prefix: see :class:`AttachedRuns`.
    """

    longest_delay = LONGEST_WAIT
    _fault = "A fault of ours while attaching to Tor."
    _excuse = "Tor could not be reached."

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        endpoint: IStreamClientEndpoint,
        name: str,
        password: str | None,
        password_name: str,
        socks: SocksAddress | None,
        username_prefix: str,
    ) -> None:
        super().__init__(surroundings)
        self._known = surroundings.known
        self._endpoint = endpoint
        self._name = name
        self._password = password
        self._password_name = password_name
        self._socks = socks
        self._username_prefix = username_prefix
        self._is_ended = False
        self._probing: Deferred[None] | None = None
        self._told: SocksAddress | None = None
        """The SOCKS address that the listener has been told of."""
        self._is_looking = False
        self._is_changed = False
        """Whether that Tor's listeners may have changed since they were looked at."""

    @property
    def is_let_in(self) -> bool:
        """Whether that Tor has let us in, and has a SOCKS port for us."""
        return self._told is not None

    def end(self) -> Deferred[None]:
        """Leave that Tor as it was found, then hang up without a word to the listener."""
        self._is_ended = self._over = True
        if self._probing is not None:
            self._probing.cancel()
        return self._tidied().addCallback(lambda _: super(Attached, self).end())

    def control_lost(self, reason: str) -> None:
        """The connection is gone, or Tor does not answer on it."""
        if not self._over:
            if self.session is not None and not self.session.control.is_believed:
                self.longest_delay = LONGEST_DELAY
            self._failed(reason, fatal=False)

    async def _begin(self) -> None:
        from tortxd.tor.control import Control  # txtorcon: not before it is needed

        try:
            control = await Control.connect(
                self._reactor,
                self._endpoint,
                self,
                name=self._name,
                password=self._password,
                password_name=self._password_name,
            )
        except (SetupError, Implausible):
            self.longest_delay = LONGEST_DELAY
            raise
        session = self._open_session(
            control,
            username_prefix=self._username_prefix,
            causes=Causes(self._reactor, self._listener.trouble, exists=None),
        )
        await control.subscribe([("CONF_CHANGED", self._options_changed)])
        await self._find_socks(control)
        await session.begin()

    # --- its SOCKS port --------------------------------------------------------------------------

    async def _find_socks(self, control: Control) -> None:
        """See where its SOCKS port listens; one that is in use stays, as long as it will do.

        :raises SetupError: there is none that will do.
        :raises TortxdError: there is none for now, or Tor does not answer.
        """
        replies = await control.ask("net/listeners/socks")
        configured = [
            *await control.configured("SocksPort"),
            *await control.configured("__SocksPort"),
        ]
        found = listeners(replies.get("net/listeners/socks", ""))
        is_off = not found and await control.configured("DisableNetwork") == ["1"]
        before, self._known = self._known, None  # from here on this Tor's own word counts
        if is_off:
            raise TorDown(OFF)
        found.sort(key=lambda address: address != before)
        self._known = choose_socks(found, configured, self._socks)
        if self._known != self._told:
            self._told = self._known
            self._log.info(FOR_SOCKS, address=self._known)
            self._listener.socks_at(self._known)

    def _options_changed(self, names: str) -> None:
        """Whoever controls that Tor has set some, or has had it read its torrc file again."""
        if self.is_let_in and _LISTENERS.search(names):
            self._is_changed = True
            if not self._is_looking:
                self._is_looking = True
                Deferred.fromCoroutine(self._look_again()).addErrback(self._unusable)

    async def _look_again(self) -> None:
        while self._is_changed and self.session is not None:
            self._is_changed = False
            await self._find_socks(self.session.control)
        self._is_looking = False

    def _unusable(self, failure: Failure) -> None:
        """There is no SOCKS port for us any more: leave, and look again in a while."""
        if self._over:
            return
        self._over, self._known = True, None
        if not failure.check(TortxdError):
            self._log.failure(self._fault, failure)
        reason = failure.getErrorMessage() if failure.check(TortxdError) else self._excuse
        self._listener.socks_at(None)
        self._tidied().addCallback(lambda _: None if self._is_ended else self._finish(reason))

    # --- its end ---------------------------------------------------------------------------------

    def _tidied(self) -> Deferred[None]:
        """Fire when nothing of ours is left in that Tor, or it does not answer."""
        if self.session is None:
            return succeed(None)
        tidying = Deferred.fromCoroutine(self.session.mappings.clear())

        def failed(failure: Failure) -> None:
            if not failure.check(TortxdError, TimeoutError):
                self._log.failure("A fault of ours while leaving Tor.", failure)

        return tidying.addTimeout(_FAREWELL, self._reactor).addErrback(failed)

    def _failed(self, reason: str, *, fatal: bool) -> None:
        if self._known is None:
            self._finish(reason, fatal=fatal)
            return
        self._over = True
        self._let_go()
        self._table.clear()  # what ends from now on is not told, and its ports are used again
        self._probing = Deferred.fromCoroutine(_greet(self._reactor, self._known))
        self._probing.addCallbacks(
            lambda _: self._listener.detached(reason),
            lambda failure: None if failure.check(CancelledError) else self._finish(reason),
        )

    def _finished(self) -> Deferred[None]:
        return succeed(None)

"""The control connection: the one place that knows txtorcon.

What txtorcon leaves open is closed here: every command has a timeout (a stopped Tor never answers),
its errors become ours, and a lost connection is told of. Circuits and streams come as raw event
lines; ``txtorcon.TorState`` is not used, because it fetches and parses the whole consensus first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import txtorcon
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from txtorcon.torcontrolprotocol import TorDisconnectError

from tortxd.errors import SetupError, TorDown, TorTimeout
from tortxd.tor.replies import CommandRefused, parse_conf, parse_info

PATIENCE = 10.0
"""Seconds that an answer may take."""

_T = TypeVar("_T")


class ControlListener(Protocol):
    """Who wants to know when the connection is lost."""

    def control_lost(self, reason: str) -> None:
        """It is gone, once, for whatever cause but :meth:`Control.close`."""


class _ControlProtocol(txtorcon.TorControlProtocol):  # type: ignore[misc]
    """With a cookie reader of our own. txtorcon's takes the octal escapes of a path in PROTOCOLINFO
    for characters, where they are bytes, and leaves the file open."""

    def _read_cookie(self, cookiefile: str) -> None:
        path = os.fsdecode(cookiefile.encode("latin-1"))
        with open(path, "rb") as file:
            self._cookie_data = file.read(64)
        if len(self._cookie_data) != 32:
            raise RuntimeError("An authentication cookie has 32 bytes.")


class _ControlFactory(Factory):
    noisy = False

    def __init__(self, password: str | None) -> None:
        self._password = password

    def buildProtocol(self, addr: IAddress | None) -> _ControlProtocol:
        return _ControlProtocol((lambda: self._password) if self._password else None)


class Control:
    """An authenticated control connection. Made by :meth:`connect`."""

    def __init__(
        self,
        reactor: IReactorTime,
        protocol: txtorcon.TorControlProtocol,
        listener: ControlListener,
    ) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self._listener = listener
        self._closed = False
        self.txtorcon = txtorcon.Tor(reactor, protocol)
        """The ``txtorcon.Tor`` over this connection."""
        protocol.when_disconnected().addErrback(self._lost)

    @classmethod
    async def connect(
        cls,
        reactor: IReactorTime,
        endpoint: IStreamClientEndpoint,
        listener: ControlListener,
        *,
        password: str | None = None,
        patience: float = PATIENCE,
    ) -> Control:
        """Connect and authenticate: SAFECOOKIE, COOKIE, password, or nothing, as Tor offers.

        :param patience: seconds for each of the two.
        :raises TorDown: nothing listens there, or it hangs up.
        :raises TorTimeout: no answer in time.
        :raises SetupError: it refuses our authentication, or we cannot read its cookie.
        """
        connecting: Deferred[_ControlProtocol] = endpoint.connect(  # type: ignore[assignment]
            _ControlFactory(password)
        )
        try:
            protocol = await _in_time(connecting, patience, reactor)
        except (ConnectError, ConnectionClosed, OSError) as e:
            raise TorDown("Nothing answers at Tor's control port.") from e
        try:
            await _in_time(protocol.post_bootstrap, patience, reactor)
        except txtorcon.TorProtocolError as e:
            protocol.transport.abortConnection()
            raise SetupError(
                "Tor's control port refuses the authentication; look at "
                "--control-password-file, or at who may read Tor's cookie."
            ) from e
        except TorDisconnectError as e:
            raise TorDown("Tor's control port hung up.") from e
        except RuntimeError as e:
            protocol.transport.abortConnection()
            raise SetupError(
                "Tor's control port cannot be authenticated to: its cookie is not readable for "
                "this user, and no --control-password-file fits."
            ) from e
        except BaseException:
            protocol.transport.abortConnection()
            raise
        return cls(reactor, protocol, listener)

    async def ask(self, *keys: str, patience: float = PATIENCE) -> dict[str, str]:
        """GETINFO, one round trip for all keys.

        :raises CommandRefused: Tor does not know one of them.
        :raises TorTimeout: no answer in time.
        :raises TorDown: the connection is lost.
        """
        return parse_info(await self.tell(f"GETINFO {' '.join(keys)}", patience=patience), keys)

    async def configured(self, option: str) -> list[str]:
        """GETCONF of an option that may stand several times. Errors as :meth:`ask`."""
        return parse_conf(await self.tell(f"GETCONF {option}"))

    async def ask_for_lines(self, key: str, take: Callable[[str], None]) -> None:
        """GETINFO of something long, each line of which is given to ``take`` as it comes. Errors as
        :meth:`ask`."""
        await self._answered(lambda: self._protocol.get_info_incremental(key, take), PATIENCE)

    async def tell(self, command: str, *, patience: float = PATIENCE) -> str:
        """Send a command of one line and give the reply. Errors as :meth:`ask`.

        :raises SetupError: the command holds a line break, or is not ASCII.
        """
        if not command.isascii() or not command.isprintable():
            raise SetupError("A command for Tor's control port holds what does not belong there.")
        return await self._answered(lambda: self._protocol.queue_command(command), patience)

    async def _answered(self, ask: Callable[[], Deferred[str]], patience: float) -> str:
        if self._closed:
            raise TorDown("The control connection to Tor is lost.")
        try:
            return await _in_time(ask(), patience, self._reactor)
        except txtorcon.TorProtocolError as e:
            raise CommandRefused(f"Tor refused a command ({e.code}).", e.code) from e
        except TorDisconnectError as e:
            raise TorDown("The control connection to Tor is lost.") from e

    async def subscribe(self, handlers: Iterable[tuple[str, Callable[[str], None]]]) -> None:
        """Have each named event's lines (without the name) given to its handler. Events that this
        Tor does not know are left out. Errors as :meth:`ask`."""
        for name, handler in handlers:
            if name in self._protocol.valid_events:
                try:
                    added = self._protocol.add_event_listener(name, handler)
                    await _in_time(added, PATIENCE, self._reactor)
                except TorDisconnectError as e:
                    raise TorDown("The control connection to Tor is lost.") from e

    def close(self) -> None:
        """Hang up, at once and without word to the listener."""
        if not self._closed:
            self._closed = True
            self._protocol.transport.abortConnection()

    def _lost(self, _: Failure) -> None:
        if not self._closed:
            self._closed = True
            self._listener.control_lost("The control connection to Tor was lost.")


async def _in_time(waiting: Deferred[_T], patience: float, clock: IReactorTime) -> _T:
    """Wait for an answer, but not longer than ``patience`` seconds.

    :raises TorTimeout: none came. A cancellation from outside stays one.
    """
    timed_out: list[bool] = []

    def give_up() -> None:
        timed_out.append(True)
        waiting.cancel()

    timer = clock.callLater(patience, give_up)
    try:
        return await waiting
    except Exception as e:
        if timed_out:
            raise TorTimeout("Tor does not answer on its control port.") from e
        raise
    finally:
        if timer.active():
            timer.cancel()

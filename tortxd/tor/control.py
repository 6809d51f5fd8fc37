"""The control connection: the one place that knows txtorcon.

What txtorcon leaves open is closed here: every command has a timeout (a stopped Tor never answers),
its errors become ours, and a lost connection is told of. Circuits and streams come as raw event
lines; ``txtorcon.TorState`` is not used, because it fetches and parses the whole consensus first.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from errno import EACCES, ECONNREFUSED, ENOENT, EPERM
from grp import getgrgid
from pathlib import Path
from typing import Protocol, TypeVar

import txtorcon
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from txtorcon.torcontrolprotocol import TorDisconnectError

from tortxd.errors import SetupError, TorDown, TorTimeout, TortxdError
from tortxd.tor.replies import CommandRefused, parse_conf, parse_info

PATIENCE = 10.0
"""Seconds that an answer may take."""

_COOKIE_FOR_GROUP = "CookieAuthFileGroupReadable 1 and DataDirectoryGroupReadable 1"
_FIRST_LINE = b"250-PROTOCOLINFO "

_T = TypeVar("_T")


class ControlListener(Protocol):
    """Who wants to know when the connection is lost."""

    def control_lost(self, reason: str) -> None:
        """It is gone, once, for whatever cause but :meth:`Control.close`."""


class _ControlProtocol(txtorcon.TorControlProtocol):  # type: ignore[misc]
    """What is learnt on the way to the authentication is kept, to be said where that fails."""

    is_tor = False
    """Whether it has answered PROTOCOLINFO as Tor does."""
    unread_cookie: tuple[Path, OSError] | None = None
    """The cookie file that could not be read."""

    def lineReceived(self, line: bytes) -> None:
        """The first line shows whether this is a control port (control-spec, section 3.21);
        txtorcon stumbles over what is not."""
        if self.is_tor or line.startswith(_FIRST_LINE):
            self.is_tor = True
            super().lineReceived(line)
        else:
            self.transport.abortConnection()

    def _read_cookie(self, cookiefile: str) -> None:
        """txtorcon's own takes the octal escapes of a path in PROTOCOLINFO for characters, where
        they are bytes, and leaves the file open."""
        path = Path(os.fsdecode(cookiefile.encode("latin-1")))
        try:
            with path.open("rb") as file:
                self._cookie_data = file.read(64)
        except OSError as error:
            self.unread_cookie = path, error
            raise
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
        name: str,
        password: str | None = None,
        patience: float = PATIENCE,
    ) -> Control:
        """Connect and authenticate: SAFECOOKIE, COOKIE, password, or nothing, as Tor offers.

        :param name: the endpoint's address, for sentences: ``127.0.0.1:9051``, a socket's path.
        :param patience: seconds for each of the two.
        :raises TorDown: nothing listens there, it hangs up, or it is no control port.
        :raises TorTimeout: no answer in time.
        :raises SetupError: it refuses our authentication, or this user may not connect to it or
            read its cookie.
        """
        connecting: Deferred[_ControlProtocol] = endpoint.connect(  # type: ignore[assignment]
            _ControlFactory(password)
        )
        try:
            protocol = await _in_time(
                connecting,
                patience,
                reactor,
                f"Nothing answers at {name}. Is it the right address?",
            )
        except (ConnectError, ConnectionClosed, OSError) as e:
            raise _unreached(e, name) from e
        try:
            await _in_time(
                protocol.post_bootstrap,
                patience,
                reactor,
                f"What listens at {name} does not answer as Tor does.",
            )
        except txtorcon.TorProtocolError as e:
            protocol.transport.abortConnection()
            raise SetupError(
                f"Tor's control port {name} refuses the authentication; see what "
                "`control_password_file` holds."
                if password is not None
                else f"Tor's control port {name} refuses the authentication; it may want a "
                "password, in `control_password_file`."
            ) from e
        except TorDisconnectError as e:
            if protocol.is_tor:
                raise TorDown(f"Tor's control port {name} hung up.") from e
            raise TorDown(f"What listens at {name} does not speak Tor's control protocol.") from e
        except RuntimeError as e:
            protocol.transport.abortConnection()
            raise SetupError(_unauthenticated(protocol, name)) from e
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


def _unreached(error: Exception, name: str) -> TortxdError:
    """Why a control port cannot be connected to, and what to do."""
    number = getattr(error, "osError", None) or getattr(error, "errno", None)
    if number in (EACCES, EPERM):
        admission = _admission(Path(name), stat.S_IWGRP, "ControlSocketsGroupWritable 1")
        return SetupError(f"Permission denied at {name}; {admission}.")
    if number == ENOENT:
        return TorDown(
            f"There is no socket at {name}. Is that Tor running, with this ControlSocket?"
        )
    if isinstance(error, ConnectionRefusedError) or number == ECONNREFUSED:
        return TorDown(f"Nothing listens at {name}. Is that Tor running, with a ControlPort there?")
    reason = os.strerror(number) if isinstance(number, int) else "it cannot be reached"
    return TorDown(f"Tor's control port {name}: {reason}.")


def _unauthenticated(protocol: _ControlProtocol, name: str) -> str:
    """Why nothing that Tor offers will do."""
    if protocol.unread_cookie is not None:
        path, error = protocol.unread_cookie
        if error.errno in (EACCES, EPERM):
            return (
                f"Permission denied at {path}, the cookie of Tor's control port; "
                f"{_admission(path, stat.S_IRGRP, _COOKIE_FOR_GROUP)}, or give the "
                "password in `control_password_file`."
            )
        return (
            f"The cookie {path} of Tor's control port {name} cannot be read: {error.strerror}. It "
            "may take a password, in `control_password_file`."
        )
    return (
        f"Tor's control port {name} wants a password: give the file that holds it, as "
        "`control_password_file`."
    )


def _admission(path: Path, needed: int, setting: str) -> str:
    """What lets this user have a file of another one's.

    :param needed: the group's right that it takes (``stat.S_IRGRP``, say).
    :param setting: what gives the group that right, in that Tor's torrc file.
    """
    for one in (path, *path.parents):
        try:
            found = one.stat()
        except PermissionError:
            needed = stat.S_IXGRP  # its folder shows whose it is
            continue
        except OSError:
            break
        if found.st_gid == 0:
            break
        if not found.st_mode & needed:
            return f"that Tor keeps it for its own user: set {setting} there"
        try:
            return f"add this user to the group {getgrgid(found.st_gid).gr_name} and log in anew"
        except KeyError:
            break
    return "see that this user may use it"


async def _in_time(
    waiting: Deferred[_T],
    patience: float,
    clock: IReactorTime,
    sentence: str = "Tor does not answer on its control port.",
) -> _T:
    """Wait for an answer, but not longer than ``patience`` seconds.

    :param sentence: says that none came.
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
            raise TorTimeout(sentence) from e
        raise
    finally:
        if timer.active():
            timer.cancel()

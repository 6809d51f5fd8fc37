"""The control connection: the one place that knows txtorcon.

What txtorcon leaves open is closed here: every command has a timeout (a stopped Tor never answers),
its errors become ours, a lost connection is told of, and what comes is bounded. Circuits and
streams come as raw event lines; ``txtorcon.TorState`` is not used, because it fetches and parses
the whole consensus first.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from errno import EACCES, ECONNREFUSED, ENOENT, EPERM
from functools import partial
from grp import getgrgid
from hmac import compare_digest, digest
from itertools import islice
from pathlib import Path
from time import thread_time
from typing import Protocol, TypeVar

import txtorcon
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from txtorcon.torcontrolprotocol import TorDisconnectError

from tortxd.errors import SetupError, TorDown, TorTimeout, TortxdError
from tortxd.files import read_regular
from tortxd.tor.pace import Pace
from tortxd.tor.replies import (
    AuthenticationOffer,
    CommandRefused,
    parse_conf,
    parse_info,
    parse_protocolinfo,
)
from tortxd.tor.settings import PASSWORD_FIELD
from tortxd.wire.control import LONGEST_LINE, ControlReader, Event, Implausible

PATIENCE = 10.0
"""Seconds that an answer may take."""

_COOKIE_FOR_GROUP = "CookieAuthFileGroupReadable 1 and DataDirectoryGroupReadable 1"
_FIRST_LINE = b"250-PROTOCOLINFO "
_COOKIE_BYTES = 32
_CHALLENGE = re.compile("AUTHCHALLENGE SERVERHASH=([0-9A-Fa-f]{64}) SERVERNONCE=([0-9A-Fa-f]{64})")
_SERVER_KEY = b"Tor safe cookie authentication server-to-controller hash"
_CLIENT_KEY = b"Tor safe cookie authentication controller-to-server hash"
_EVENT = re.compile("[A-Z0-9_]{1,40}")
_NAME = re.compile("[A-Z0-9_]*")
_MOST_EVENTS = 200
_LONGEST_WORDS = 16_384
"""Characters of what a Tor says of itself that are looked at; the names of all events have 400."""
_MOST_WAITING = 10_000
"""Commands that may wait for the one before them."""
EVENTS_A_SECOND = 20_000.0
"""A burst of streams brings some 3,000."""
EVENTS_AT_ONCE = 100_000
EFFORT = 0.15
"""Of the processor's time, what reading events may take in the long run: on a slow machine fewer of
them take all there is."""
EFFORT_AT_ONCE = 5.0
"""Seconds of its time."""

log = Logger()

_T = TypeVar("_T")


class ControlListener(Protocol):
    """Who wants to know when the connection is lost."""

    def control_lost(self, reason: str) -> None:
        """It is gone, once, for whatever cause but :meth:`Control.close`."""


class _ControlProtocol(txtorcon.TorControlProtocol):  # type: ignore[misc]
    """txtorcon's commands and events, over a reading and an authentication of our own: what comes
    is bounded and judged, and nothing that a port asks for is done on its word alone.

    :param clock: counts how fast events come.
    :param name: see :meth:`Control.connect`.
    :param password: see there, as for ``password_name``.
    """

    MAX_LENGTH = LONGEST_LINE
    is_tor = False
    """Whether it has answered PROTOCOLINFO as Tor does."""
    disbelief: Implausible | None = None
    """Why it is not believed any more."""
    command: tuple[Deferred[str], bytes, Callable[[str], None] | None] | None
    defer: Deferred[str] | None

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        password: str | None,
        password_name: str = PASSWORD_FIELD,
    ) -> None:
        super().__init__()
        self._name = name
        self._password = password
        self._password_name = password_name
        self._reader = ControlReader()
        self._pace = Pace(clock, rate=EVENTS_A_SECOND, burst=EVENTS_AT_ONCE)
        self._effort = Pace(clock, rate=EFFORT, burst=EFFORT_AT_ONCE)
        self._clock = clock
        self.heard = clock.seconds()

    def connectionMade(self) -> None:
        """Begin; ``post_bootstrap`` says what comes of it."""
        begun = Deferred.fromCoroutine(self._begin())
        begun.addCallbacks(self.post_bootstrap.callback, self.post_bootstrap.errback)

    # --- what comes ----------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """What is asked for may take its time; what comes unasked, only so much."""
        self.heard = self._clock.seconds()
        asked, began = self.command is not None, thread_time()
        super().dataReceived(data)
        if not asked and not self._effort.keeps(thread_time() - began):
            self._refuse(Implausible("events faster than they can be read"))

    def lineReceived(self, line: bytes) -> None:
        """The first line shows whether this is a control port (control-spec, section 3.21)."""
        if self.disbelief is not None:
            return  # what came along with what is not believed
        if not self.is_tor and not line.startswith(_FIRST_LINE):
            self.transport.abortConnection()
            return
        self.is_tor = True
        try:
            self._line(line)
        except Implausible as e:
            self._refuse(e)

    def lineLengthExceeded(self, line: bytes) -> None:
        """No line of Tor's is as long."""
        self._refuse(Implausible("a line that is too long"))

    def _refuse(self, error: Implausible) -> None:
        self.disbelief = self.disbelief or error
        self.transport.abortConnection()

    @property
    def fault(self) -> str | None:
        """The sentence of :attr:`disbelief`."""
        return None if self.disbelief is None else str(self.disbelief)

    def _line(self, line: bytes) -> None:
        message = self._reader.feed(line, None if self.command is None else self.command[2])
        if isinstance(message, Event):
            if not self._pace.keeps(1 + len(message.text) // 1024):
                raise Implausible("events faster than any Tor does")
            self._event(message.text)
        elif message is not None:
            if self.defer is None:
                raise Implausible("a reply to no command")
            if message.accepted:
                self.defer.callback(message.text.removesuffix("\nOK"))
            else:
                self.defer.errback(txtorcon.TorProtocolError(message.code, message.text))
            self.command = self.defer = None
            self._maybe_issue_command()

    def _event(self, text: str) -> None:
        name = text[: _NAME.match(text).end()]  # type: ignore[union-attr]
        if name in self.events:
            for callback in tuple(self.events[name].callbacks):
                try:
                    callback(text[len(name) + 1 :])
                except Implausible:
                    raise
                except Exception:
                    log.failure("A fault in what listens to Tor's {name} events.", name=name)

    # --- the beginning -------------------------------------------------------------------------

    async def _begin(self) -> _ControlProtocol:
        await self._authenticate(parse_protocolinfo(await self.protocolinfo()))
        try:
            self.valid_signals = await self._words("signal/names")
        except txtorcon.TorProtocolError:  # a filter before the port, say
            self.valid_signals = ["RELOAD", "DUMP", "DEBUG", "NEWNYM", "CLEARDNSCACHE"]
        self.version = " ".join(await self._words("version"))
        events = (name for name in await self._words("events/names") if _EVENT.fullmatch(name))
        self._set_valid_events(" ".join(islice(events, _MOST_EVENTS)))
        await self.queue_command("USEFEATURE EXTENDED_EVENTS")
        return self

    async def _words(self, key: str) -> list[str]:
        value = parse_info(await self.get_info_raw(key), (key,)).get(key, "")
        return value[:_LONGEST_WORDS].split()

    async def _authenticate(self, offer: AuthenticationOffer) -> None:
        """A password, where there is one: what a user has given counts for more than what the port
        names. A cookie is shown by SAFECOOKIE alone, where the port proves first that it knows it;
        by COOKIE, whatever listens there would be handed any file of 32 bytes that it names.

        :raises SetupError: nothing of what it offers will do.
        """
        try:
            if self._password is not None and "HASHEDPASSWORD" in offer.methods:
                await self.authenticate(self._password)
            elif "SAFECOOKIE" in offer.methods and offer.cookie is not None:
                await self._authenticate_with(offer.cookie)
            elif "NULL" in offer.methods:
                await self.queue_command("AUTHENTICATE")
            elif "COOKIE" in offer.methods:
                raise SetupError(
                    f"Tor's control port {self._name} asks for its cookie without showing that it "
                    "knows it: use a Tor that offers SAFECOOKIE, as all do since 0.2.3.13, or give "
                    "a password in `control_password_file`."
                )
            else:
                raise SetupError(
                    f"Tor's control port {self._name} wants a password: give the file that holds "
                    "it, as `control_password_file`."
                )
        except txtorcon.TorProtocolError as e:
            raise SetupError(
                f"Tor's control port {self._name} refuses the authentication; "
                + (
                    f"see what {self._password_name} holds."
                    if self._password is not None
                    else "it may want a password, in `control_password_file`."
                )
            ) from e

    async def _authenticate_with(self, path: Path) -> None:
        """SAFECOOKIE (control-spec, section 3.24)."""
        cookie, ours = read_cookie(path, self._name), os.urandom(32)
        said = await self.queue_command(b"AUTHCHALLENGE SAFECOOKIE " + ours.hex().encode())
        challenge = _CHALLENGE.fullmatch(said)
        if challenge is None:
            raise Implausible("no challenge")
        both = cookie + ours + bytes.fromhex(challenge[2])
        if not compare_digest(digest(_SERVER_KEY, both, "sha256"), bytes.fromhex(challenge[1])):
            raise SetupError(
                f"What listens at {self._name} does not know the cookie {path} that it names, so "
                "it is not the Tor that wrote it."
            )
        await self.queue_command(
            b"AUTHENTICATE " + digest(_CLIENT_KEY, both, "sha256").hex().encode()
        )


def read_cookie(path: Path, name: str) -> bytes:
    """The cookie of a control port, from the file that this names.

    It may be reached through links, as in /run; and be anyone's, since a Tor has a user of its own.

    :param name: the port's address, for sentences.
    :raises SetupError: it cannot be read, or is no such file.
    """

    def judge(_: int, status: os.stat_result) -> None:
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SetupError(
                f"The cookie {path} of Tor's control port {name} can be written by others than its "
                "owner, so it proves nothing."
            )

    try:
        cookie = read_regular(path, most=_COOKIE_BYTES, judge=judge)
    except ValueError:
        raise SetupError(
            f"Tor's control port {name} names a cookie file whose name no file can have."
        ) from None
    except OSError as e:
        if e.errno in (EACCES, EPERM):
            raise SetupError(
                f"Permission denied at {path}, the cookie of Tor's control port; "
                f"{_admission(path, stat.S_IRGRP, _COOKIE_FOR_GROUP)}, or give the "
                "password in `control_password_file`."
            ) from e
        raise SetupError(
            f"The cookie {path} of Tor's control port {name} cannot be read: {e.strerror}. It "
            "may take a password, in `control_password_file`."
        ) from e
    if len(cookie) != _COOKIE_BYTES:
        raise SetupError(
            f"The cookie {path} of Tor's control port {name} is not a cookie: a cookie has "
            f"{_COOKIE_BYTES} bytes."
        )
    return cookie


class _ControlFactory(Factory):
    noisy = False

    def __init__(self, make: Callable[[], _ControlProtocol]) -> None:
        self._make = make

    def buildProtocol(self, addr: IAddress | None) -> _ControlProtocol:
        return self._make()


class Control:
    """An authenticated control connection. Made by :meth:`connect`."""

    def __init__(
        self,
        reactor: IReactorTime,
        protocol: _ControlProtocol,
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
        password_name: str = PASSWORD_FIELD,
        patience: float = PATIENCE,
    ) -> Control:
        """Connect and authenticate: password, SAFECOOKIE, or nothing, as Tor offers.

        :param name: the endpoint's address, for sentences: ``127.0.0.1:9051``, a socket's path.
        :param password_name: what a sentence calls the file that holds the password.
        :param patience: seconds for each of the two.
        :raises TorDown: nothing listens there, it hangs up, or it is no control port; Implausible
            where it has sent what no Tor sends.
        :raises TorTimeout: no answer in time.
        :raises SetupError: it refuses our authentication, or this user may not connect to it or
            read its cookie.
        """
        connecting: Deferred[_ControlProtocol] = endpoint.connect(  # type: ignore[assignment]
            _ControlFactory(partial(_ControlProtocol, reactor, name, password, password_name))
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
            raise TorDown(f"Tor's control port {name} refuses to say what it supports.") from e
        except TorDisconnectError as e:
            if protocol.disbelief is not None:
                raise protocol.disbelief from e
            if protocol.is_tor:
                raise TorDown(f"Tor's control port {name} hung up.") from e
            raise TorDown(f"What listens at {name} does not speak Tor's control protocol.") from e
        except BaseException:
            protocol.transport.abortConnection()
            raise
        return cls(reactor, protocol, listener)

    @property
    def heard(self) -> float:
        """When Tor last said anything, on the clock."""
        return self._protocol.heard

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
            raise TorDown(self._loss)
        if len(self._protocol.commands) > _MOST_WAITING:
            raise TorTimeout("Tor does not answer on its control port.")
        try:
            return await _in_time(ask(), patience, self._reactor)
        except txtorcon.TorProtocolError as e:
            raise CommandRefused(f"Tor refused a command ({e.code}).", e.code) from e
        except TorDisconnectError as e:
            raise TorDown(self._loss) from e

    async def subscribe(self, handlers: Iterable[tuple[str, Callable[[str], None]]]) -> None:
        """Have each named event's lines (without the name) given to its handler. Events that this
        Tor does not know are left out. Errors as :meth:`ask`."""
        for name, handler in handlers:
            if name in self._protocol.valid_events:
                try:
                    added = self._protocol.add_event_listener(name, handler)
                    await _in_time(added, PATIENCE, self._reactor)
                except txtorcon.TorProtocolError as e:
                    raise CommandRefused(f"Tor refused a command ({e.code}).", e.code) from e
                except TorDisconnectError as e:
                    raise TorDown(self._loss) from e

    def close(self) -> None:
        """Hang up, at once and without word to the listener."""
        if not self._closed:
            self._closed = True
            self._protocol.transport.abortConnection()

    @property
    def _loss(self) -> str:
        return self._protocol.fault or "The control connection to Tor was lost."

    @property
    def is_believed(self) -> bool:
        """Whether it has sent nothing that no Tor sends."""
        return self._protocol.disbelief is None

    def _lost(self, _: Failure) -> None:
        if not self._closed:
            self._closed = True
            self._listener.control_lost(self._loss)


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

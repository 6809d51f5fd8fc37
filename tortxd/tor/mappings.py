"""Names of ours that Tor takes for a destination by a certain exit.

``MAPADDRESS NAME=HOST.FINGERPRINT.exit`` (control-spec, section 3.5) chooses the exit of each
stream to NAME, and of nobody else's. Tor keeps such a mapping for ever, so each goes with its last
use. While it is used, Tor looks at it once, when the SOCKS request comes.

The names are such that Tor itself refuses them where they are not mapped: they look like onion
services and are none, so it asks nobody (measured on 0.4.9.11).
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tortxd.errors import ExitUnavailable, TorDown, TortxdError
from tortxd.tor.replies import CommandRefused
from tortxd.tor.waiters import Shared, Waiters

if TYPE_CHECKING:
    from tortxd.tor.control import Control

PREFIX = "tortxd-"
_OURS = re.compile(PREFIX + r"[0-9a-f]{32}\.onion")
_FRESH = 1.0
"""Seconds for which the user's own mappings count that were read."""
_MOST_REWRITES = 16
"""As Tor has it (addressmap.c, addressmap_rewrite)."""
_MOST_AT_ONCE = 100
"""Names in one command."""
_REMEMBERED = 10_000
"""Names whose hosts are known."""
_LONGEST = 255
"""Characters of an address that Tor keeps whole (MAX_SOCKS_ADDR_LEN)."""
_EXIT = re.compile(r"(.+)\.\$?([0-9A-Fa-f]{40})(?:[=~][^.]*)?\.exit", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9._-]+")


@define(eq=False)
class _Mapped:
    name: str
    uses: int = 0
    is_making: bool = False
    is_made: bool = False
    waiting: Waiters[TortxdError | None] = field(factory=Waiters)
    """Who waits until it is made, or (with why) is not."""


class Mapping:
    """One use of a name, until it is released; provides :class:`tortxd.tor.link.ExitLead`."""

    def __init__(self, name: str, released: Callable[[], object]) -> None:
        self.name = name
        self._released = [released]

    def when_released(self, released: Callable[[], object]) -> None:
        """Have this called as well."""
        self._released.append(released)

    def release(self) -> None:
        """It is used no more; harmless if that was said."""
        released, self._released = self._released, []
        for tell in released:
            tell()


class Mappings:
    """Those of one control connection."""

    def __init__(self, clock: IReactorTime, control: Control) -> None:
        self._clock = clock
        self._control = control
        self._secret = secrets.token_bytes(16)
        self._mapped: dict[str, _Mapped] = {}
        self._hosts: OrderedDict[str, str] = OrderedDict()
        """For which hosts the last names stand, or stood."""
        self._has_mapped = False
        self._is_closed = False
        self._rewrites: Shared[UserMappings] | None = None
        self._read_at = 0.0

    async def sweep(self) -> None:
        """Remove what a daemon has left that could not do so itself.

        :raises TortxdError: Tor does not answer.
        """
        key = "address-mappings/control"
        try:
            listed = (await self._control.ask(key)).get(key, "")
        except CommandRefused:
            return  # a filter before the port, which lets nobody map
        names = (line.partition(" ")[0] for line in listed.split("\n"))
        left = (name for name in names if name not in self._mapped)
        await self._remove(name for name in left if _OURS.fullmatch(name))

    async def clear(self) -> None:
        """Remove all that there are, and see that Tor has done it.

        :raises TortxdError: Tor does not answer.
        """
        self._is_closed = True
        names, self._mapped = list(self._mapped), {}
        await self._remove(names)
        if self._has_mapped:
            await self._control.ask("version")  # what was said before is done by then

    def host_of(self, name: str) -> str | None:
        """For which host a name of ours stands, or stood a short while ago: Tor's word on a stream
        may be read when that is over. None: it is none."""
        return self._hosts.get(name)

    async def map(self, host: str, exit: str, *, anew: bool = False) -> Mapping:
        """A name for ``host`` by the relay with the fingerprint ``exit``.

        :param anew: whether Tor is told it although it was.
        :raises ExitUnavailable: none can be made for this host.
        :raises TortxdError: Tor does not answer.
        """
        target = await self._target(host, exit)
        if self._is_closed:
            raise TorDown("Tor is being left.")
        name = self._name(host, target)
        mapped = self._mapped.get(name)
        if mapped is None:
            mapped = self._mapped[name] = _Mapped(name)
            self._hosts[name] = host
            self._hosts.move_to_end(name)
            if len(self._hosts) > _REMEMBERED:
                self._hosts.popitem(last=False)
        mapped.uses += 1
        self._has_mapped = True
        mapping = Mapping(name, lambda: self._released(mapped))
        mapped.is_made = mapped.is_made and not anew
        try:
            if not mapped.is_made:
                made = mapped.waiting.add()
                if not mapped.is_making:
                    self._make(mapped, target)
                error = await made
                if error is not None:
                    raise type(error)(str(error))  # one for each: errors are written on
        except BaseException:
            mapping.release()
            raise
        return mapping

    # --- inside ----------------------------------------------------------------------------------

    def _name(self, host: str, target: str) -> str:
        # The same for the same, since Tor may keep destinations apart (IsolateDestAddr).
        digest = hmac.digest(self._secret, f"{host} {target}".encode("ascii"), "sha256").hex()
        return f"{PREFIX}{digest[:32]}.onion"

    async def _target(self, host: str, exit: str) -> str:
        rewritten = (await self._user_mappings()).rewrite(host)
        through = _EXIT.fullmatch(rewritten)
        if through is not None:
            if through[2].upper() != exit:
                raise ExitUnavailable(
                    "Tor's own MapAddress sends this destination by another exit."
                )
            rewritten = through[1]
        if rewritten.lower().endswith(".onion"):
            raise ExitUnavailable("Tor's own MapAddress sends this to an onion service.")
        if not _HOST.fullmatch(rewritten):
            raise ExitUnavailable("An exit cannot be chosen for what Tor makes of this host.")
        target = f"{rewritten}.{exit}.exit"
        if len(target) > _LONGEST:
            raise ExitUnavailable("The destination's name is too long for choosing an exit.")
        return target

    async def _user_mappings(self) -> UserMappings:
        now = self._clock.seconds()
        if self._rewrites is None or now - self._read_at > _FRESH:
            self._rewrites, self._read_at = Shared(self._read_user_mappings), now
        return await self._rewrites.get()

    async def _read_user_mappings(self) -> UserMappings:
        keys = ("address-mappings/config", "address-mappings/control")
        try:
            replies = await self._control.ask(*keys)
        except CommandRefused:
            replies = {}
        return UserMappings(replies.get(key, "") for key in keys)

    def _make(self, mapped: _Mapped, target: str) -> None:
        """On its own: whoever gives up must not take it from those who wait for the same."""
        mapped.is_making = True

        def made(_: str) -> None:
            mapped.is_making, mapped.is_made = False, True
            mapped.waiting.fire(None)

        def refused(failure: Failure) -> None:
            mapped.is_making = False
            error = failure.value
            if isinstance(error, CommandRefused) or not isinstance(error, TortxdError):
                error = ExitUnavailable("Tor's control port does not let exits be chosen.")
            mapped.waiting.fire(error)

        command = f"MAPADDRESS {mapped.name}={target}"
        Deferred.fromCoroutine(self._control.tell(command)).addCallbacks(made, refused)

    def _released(self, mapped: _Mapped) -> None:
        mapped.uses -= 1
        if mapped.uses == 0 and self._mapped.get(mapped.name) is mapped:
            del self._mapped[mapped.name]
            removing = Deferred.fromCoroutine(self._remove([mapped.name]))
            removing.addErrback(lambda failure: failure.trap(TortxdError))

    async def _remove(self, names: Iterable[str]) -> None:
        left = list(names)
        while left:
            batch, left = left[:_MOST_AT_ONCE], left[_MOST_AT_ONCE:]
            await self._control.tell(f"MAPADDRESS {' '.join(f'{name}={name}' for name in batch)}")


class UserMappings:
    """The mappings that a user's torrc or another controller has made, which go on counting: to an
    address that ends with ``.exit``, Tor applies none."""

    def __init__(self, listings: Iterable[str]) -> None:
        self._exact: dict[str, str] = {}
        self._wild: dict[str, str] = {}
        for listing in listings:
            for line in listing.split("\n"):
                source, _, rest = line.partition(" ")
                to = rest.partition(" ")[0]
                if not to or _OURS.fullmatch(source):
                    continue
                if source.startswith("*."):
                    self._wild[source[2:].lower()] = to
                else:
                    self._exact[source.lower()] = to

    def rewrite(self, host: str) -> str:
        """What Tor would ask for instead of ``host`` (addressmap.c, addressmap_rewrite)."""
        for _ in range(_MOST_REWRITES):
            rewritten = self._once(host)
            if rewritten is None:
                break
            host = rewritten
        return host

    def _once(self, host: str) -> str | None:
        exact = self._exact.get(host.lower())
        if exact is not None:
            return exact
        labels = host.lower().split(".")
        for begin in range(len(labels)):
            to = self._wild.get(".".join(labels[begin:]))
            if to is None:
                continue
            if not to.startswith("*."):
                return None if to.lower() == host.lower() else to
            return ".".join((*labels[:begin], to[2:])) if begin else to[2:]
        return None

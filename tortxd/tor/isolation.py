"""Who may share a circuit with whom, said to Tor in SOCKS credentials.

Tor keeps streams with different credentials on different circuits (IsolateSOCKSAuth, its default).
The credentials are an HMAC under a secret of the daemon, so that equal keys of different callers
are different, and what Tor's control port shows of them tells nothing.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from functools import lru_cache
from typing import Literal

from attrs import Factory, define, field, frozen

from tortxd.policy.site import site_of

_REMEMBERED_EPOCHS = 1_000
"""Of each caller."""
_REMEMBERED_CALLERS = 256
_MARK = 8
"""Characters of :attr:`IsolationKeys.username_prefix`; 24 more, 96 bits, tell usernames apart."""
_REMEMBERED_CREDENTIALS = 4_096
_REMEMBERED_USERNAMES = 16_384
"""As many as there may be open circuits."""
_TAG = 8


@frozen(cache_hash=True)
class Credentials:
    """A SOCKS username and password: streams share a circuit only if both are equal."""

    username: bytes = field(repr=False)
    password: bytes = field(repr=False)
    owner: bytes = field(default=b"", eq=False, repr=False)
    """The caller whose requests they are for, in this process alone; none: the gateway itself."""
    identity: bytes = field(
        default=Factory(lambda made: made.username, takes_self=True), eq=False, repr=False
    )
    """What those of one isolation and epoch have in common, whatever the salt."""


@frozen(cache_hash=True)
class Isolation:
    """What a request is kept apart by."""

    kind: Literal["key", "site"]
    """A key that the caller chose, or the destination's site where none was given."""
    name: bytes = field(repr=False)
    """The key, or the site (registrable domain)."""
    caller: bytes = field(default=b"", repr=False)
    """Who asks: the token, else the peer's address."""
    origin: bytes = field(default=b"", repr=False)
    """The web origin that asks, where a browser names one."""


# Equal ones are one and the same, which makes comparing them cheap.
_shared = lru_cache(_REMEMBERED_CREDENTIALS)(Isolation)


def isolation_of(
    key: bytes | None, host: str, caller: bytes = b"", origin: bytes = b""
) -> Isolation:
    """What keeps a request to ``host`` apart: the key that was given, else the site."""
    if key is None:
        return _shared("site", site_of(host).encode(), caller, origin)
    return _shared("key", key, caller, origin)


@define
class _Epochs:
    """What one caller has renewed."""

    own: OrderedDict[Isolation, int] = field(factory=OrderedDict)
    floor: int = 0


def _parts(isolation: Isolation) -> tuple[bytes, ...]:
    return isolation.kind.encode(), isolation.name, isolation.caller, isolation.origin


def _caller(isolation: Isolation) -> tuple[bytes, bytes]:
    return isolation.caller, isolation.origin


class IsolationKeys:
    """Turns :class:`Isolation` into :class:`Credentials`, and into new ones on request.

    :param secret: 32 random bytes; another secret makes all credentials different.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret or secrets.token_bytes(32)
        self._callers: OrderedDict[tuple[bytes, bytes], _Epochs] = OrderedDict()
        self._latest = 0
        self._floor = 0
        """The epoch of everything that has none of its own."""
        self._derived = lru_cache(maxsize=_REMEMBERED_CREDENTIALS)(self._derive)
        self._used: dict[Isolation, None] = {}
        """Those that have had credentials since they were renewed last."""
        self._isolations: OrderedDict[str, Isolation] = OrderedDict()
        """By the usernames that were made for them."""
        self.username_prefix = self._digest(b"mark").decode("ascii")[:_MARK]
        """How every username of these keys begins, and hardly another's."""

    def credentials(self, isolation: Isolation, salt: bytes = b"") -> Credentials:
        """The credentials for ``isolation`` now.

        :param salt: further distinction within it: a retry on a fresh circuit, or where the request
            must leave Tor.
        """
        epochs = self._callers.get(_caller(isolation))
        own = 0 if epochs is None else epochs.own.get(isolation, epochs.floor)
        return self._derived(isolation, max(own, self._floor), salt)

    def isolation(self, username: str) -> Isolation | None:
        """For whom this username was made; None: it is none of these keys', or long forgotten."""
        return self._isolations.get(username)

    def tag(self, username: str) -> str:
        """An opaque name for whose streams have this username, of 8 hexadecimal digits: the same
        for all identities of one isolation. It tells nothing but what is equal."""
        isolation = self._isolations.get(username)
        parts = (b"foreign", username.encode()) if isolation is None else _parts(isolation)
        return self._digest(b"tag", *parts)[:_TAG].decode("ascii")

    def renew(self, isolation: Isolation) -> None:
        """Give ``isolation`` new credentials from now on, and so new circuits.

        What is forgotten must not fall back to older credentials: the floor rises instead, for a
        caller who renews very many keys that of its own.
        """
        self._latest += 1
        self._used.pop(isolation, None)
        caller = _caller(isolation)
        epochs = self._callers.setdefault(caller, _Epochs())
        self._callers.move_to_end(caller)
        epochs.own[isolation] = self._latest
        epochs.own.move_to_end(isolation)
        if len(epochs.own) > _REMEMBERED_EPOCHS:
            epochs.floor = epochs.own.popitem(last=False)[1]
        if len(self._callers) > _REMEMBERED_CALLERS:
            forgotten = self._callers.popitem(last=False)[1]
            self._floor = max(self._floor, forgotten.floor, *forgotten.own.values())

    def renew_all(self) -> int:
        """Give everything new credentials from now on.

        :return: how many isolations had any since they were renewed last; 16,384 at most.
        """
        used = len(self._used)
        self._used.clear()
        self._latest += 1
        self._floor = self._latest
        self._callers.clear()
        return used

    def _derive(self, isolation: Isolation, epoch: int, salt: bytes) -> Credentials:
        parts = (*_parts(isolation), str(epoch).encode())
        # Another username for each salt, too: by its username Tor tells whose a circuit is.
        name = self._digest(b"username", *parts, salt)
        username = self.username_prefix.encode("ascii") + name[_MARK:]
        if len(self._used) < _REMEMBERED_USERNAMES:
            self._used[isolation] = None
        self._isolations[username.decode("ascii")] = isolation
        if len(self._isolations) > _REMEMBERED_USERNAMES:
            self._isolations.popitem(last=False)
        password = self._digest(b"password", *parts, salt)
        identity = self._digest(b"identity", *parts)
        return Credentials(username, password, isolation.caller, identity)

    def _digest(self, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        # In hexadecimal, because a username that begins with "<torS0X>" has a meaning of its own
        # (Tor's socks-extensions).
        return hmac.digest(self._secret, message, "sha256")[:16].hex().encode()

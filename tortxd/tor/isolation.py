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

from attrs import field, frozen

_REMEMBERED_EPOCHS = 10_000
_REMEMBERED_CREDENTIALS = 4_096


@frozen
class Credentials:
    """A SOCKS username and password: streams share a circuit only if both are equal."""

    username: bytes = field(repr=False)
    """One for each isolation and epoch, whatever the salt."""
    password: bytes = field(repr=False)


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


class IsolationKeys:
    """Turns :class:`Isolation` into :class:`Credentials`, and into new ones on request.

    :param secret: 32 random bytes; another secret makes all credentials different.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret or secrets.token_bytes(32)
        self._epochs: OrderedDict[Isolation, int] = OrderedDict()
        self._latest = 0
        self._floor = 0
        """The epoch of everything that has none of its own."""
        self._derived = lru_cache(maxsize=_REMEMBERED_CREDENTIALS)(self._derive)

    def credentials(self, isolation: Isolation, salt: bytes = b"") -> Credentials:
        """The credentials for ``isolation`` now.

        :param salt: further distinction within it: a retry on a fresh circuit, or where the request
            must leave Tor.
        """
        return self._derived(isolation, self._epochs.get(isolation, self._floor), salt)

    def renew(self, isolation: Isolation) -> None:
        """Give ``isolation`` new credentials from now on, and so new circuits."""
        self._latest += 1
        self._epochs[isolation] = self._latest
        self._epochs.move_to_end(isolation)
        if len(self._epochs) > _REMEMBERED_EPOCHS:
            # What is forgotten must not fall back to older credentials: the floor rises instead.
            self._floor = self._epochs.popitem(last=False)[1]

    def renew_all(self) -> None:
        """Give everything new credentials from now on."""
        self._latest += 1
        self._floor = self._latest
        self._epochs.clear()

    def _derive(self, isolation: Isolation, epoch: int, salt: bytes) -> Credentials:
        parts = (
            isolation.kind.encode(),
            isolation.name,
            isolation.caller,
            isolation.origin,
            str(epoch).encode(),
        )
        return Credentials(
            self._digest(b"username", *parts), self._digest(b"password", *parts, salt)
        )

    def _digest(self, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        # In hexadecimal, because a username that begins with "<torS0X>" has a meaning of its own
        # (Tor's socks-extensions).
        return hmac.digest(self._secret, message, "sha256")[:16].hex().encode()

"""Bodies of a few bytes, collected up to a limit."""

from __future__ import annotations

from collections.abc import Callable

from tortxd.errors import TortxdError

SHORT = 64 * 1024
"""Bytes of a body that is to be read whole: a request to a route of the gateway's own, or what a
service says about the way to it."""


class LimitedBody:
    """Collects one.

    :param error: makes the error for a body that is too long.
    :param limit: bytes.
    """

    def __init__(self, error: Callable[[], TortxdError], limit: int = SHORT) -> None:
        self._error = error
        self._limit = limit
        self._data = bytearray()

    @property
    def value(self) -> bytes:
        """What has come."""
        return bytes(self._data)

    def check(self, length: int | None) -> None:
        """See that a declared length is not too much.

        :raises TortxdError: it is.
        """
        if length is not None and length > self._limit:
            raise self._error()

    def add(self, data: bytes) -> None:
        """More of it.

        :raises TortxdError: that is too much.
        """
        self._data += data
        self.check(len(self._data))

"""What failed at destinations just now, so that it is not tried on and on.

A name that does not resolve, or a port that refuses, costs Tor two or three circuits each time it
is asked for. After three failures in a row for one reason, the answer is given from memory for a
while: 1 s, then twice as long each time, up to half a minute. It is like the memory of resolvers
for names that are not there (RFC 2308), but belongs to one caller; a new identity ends it.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from attrs import define
from twisted.internet.interfaces import IReactorTime

from tortxd.errors import (
    ConnectFailed,
    ConnectRefused,
    DestinationError,
    ExitPolicy,
    OnionAuthRequired,
    OnionUnreachable,
    ResolveFailed,
    TortxdError,
)

FREE = 3
"""Failures in a row that are each asked of Tor."""
LONGEST = 30.0
"""Seconds between two tries, at most."""
FORGOTTEN = 300.0
"""Seconds without a try after which nothing is remembered."""
_REMEMBERED = 10_000
_KINDS = (
    ConnectFailed,
    ConnectRefused,
    ExitPolicy,
    OnionAuthRequired,
    OnionUnreachable,
    ResolveFailed,
)

Key = tuple[bytes, str, int]
"""Caller, host and port."""


@define
class _Failing:
    error: DestinationError
    times: int
    at: float
    """When it was tried last."""


class Failures:
    """See the module's description.

    :param clock: monotonic.
    :param free: failures in a row that are each asked of Tor.
    """

    def __init__(self, clock: IReactorTime, free: float = FREE) -> None:
        self._clock = clock
        self._free = free
        self._failing: OrderedDict[Key, _Failing] = OrderedDict()

    def recall(self, caller: bytes, host: str, port: int) -> TortxdError | None:
        """The error with which this destination would fail now; None where it is to be tried."""
        if not self._failing:
            return None
        failing = self._failing.get((caller, host, port))
        if failing is None or failing.times < self._free:
            return None
        pause = min(2.0 ** (failing.times - self._free), LONGEST)
        left = failing.at + pause - self._clock.seconds()
        if left <= 0:
            return None
        seconds = math.ceil(left)
        error = type(failing.error)(
            f"{failing.error} That was so {failing.times} times in a row; Tor is asked again in "
            f"{seconds} s.",
            retry_after=seconds,
        )
        error.tor_reason = failing.error.tor_reason
        return error

    def failed(self, caller: bytes, host: str, port: int, error: TortxdError) -> None:
        """Tor could not reach this destination."""
        if not isinstance(error, _KINDS):
            return
        now, key = self._clock.seconds(), (caller, host, port)
        failing = self._failing.pop(key, None)
        if failing is None or failing.error.code != error.code or now - failing.at > FORGOTTEN:
            failing = _Failing(error, 0, now)
        failing.times, failing.at = min(failing.times + 1, 100), now
        self._failing[key] = failing
        if len(self._failing) > _REMEMBERED:
            self._failing.popitem(last=False)

    def reached(self, caller: bytes, host: str, port: int) -> None:
        """Tor has reached this destination."""
        if self._failing:
            self._failing.pop((caller, host, port), None)

    def forget(self, caller: bytes) -> None:
        """Try everything again that this caller asks for."""
        for key in [key for key in self._failing if key[0] == caller]:
            del self._failing[key]

    def forget_all(self) -> None:
        """The same for everyone."""
        self._failing.clear()

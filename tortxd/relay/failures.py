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

from tortxd.errors import UNREACHED, DestinationError, TortxdError

FREE = 3
"""Failures in a row that are each asked of Tor."""
LONGEST = 30.0
"""Seconds between two tries, at most."""
FORGOTTEN = 300.0
"""Seconds without a try after which nothing is remembered."""
_REMEMBERED = 10_000

Key = tuple[bytes, str, int, str | None]
"""Caller, host and port, and the exit where one was chosen: another may be let in."""


@define
class _Failing:
    kind: type[DestinationError]
    sentence: str
    tor_reason: str | None
    times: int
    at: float
    """When it was found out last."""

    def as_error(self, seconds: int) -> DestinationError:
        """What is answered for so many seconds to come."""
        error = self.kind(
            f"{self.sentence} It has failed this way {self.times} times in a row. Try again "
            f"in {seconds} s.",
            retry_after=seconds,
        )
        error.tor_reason = self.tor_reason
        return error


class Failures:
    """See the module's description.

    :param clock: monotonic.
    :param free: failures in a row that are each asked of Tor.
    """

    def __init__(self, clock: IReactorTime, free: float = FREE) -> None:
        self._clock = clock
        self._free = free
        self._failing: OrderedDict[Key, _Failing] = OrderedDict()
        """The one that was found out last comes last."""

    def recall(
        self, caller: bytes, host: str, port: int, exit: str | None = None
    ) -> TortxdError | None:
        """The error with which this destination would fail now; None where it is to be tried."""
        if not self._failing:
            return None
        failing = self._failing.get((caller, host, port, exit))
        if failing is None or failing.times < self._free:
            return None
        pause = min(2.0 ** (failing.times - self._free), LONGEST)
        left = failing.at + pause - self._clock.seconds()
        return None if left <= 0 else failing.as_error(math.ceil(left))

    def failed(
        self,
        caller: bytes,
        host: str,
        port: int,
        error: TortxdError,
        began: float,
        exit: str | None = None,
    ) -> None:
        """Tor could not reach this destination.

        :param began: when this was tried. Tries beside each other count as one.
        """
        now, key = self._clock.seconds(), (caller, host, port, exit)
        self._forget_old(now)
        if not isinstance(error, UNREACHED):
            return
        failing = self._failing.pop(key, None)
        if failing is None or failing.kind is not type(error):
            failing = _Failing(type(error), str(error), error.tor_reason, 0, now)
        if failing.times == 0 or began >= failing.at:
            failing.times, failing.at = min(failing.times + 1, 100), now
        self._failing[key] = failing

    def reached(self, caller: bytes, host: str, port: int, exit: str | None = None) -> None:
        """Tor has reached this destination."""
        if self._failing:
            self._failing.pop((caller, host, port, exit), None)

    def forget(self, caller: bytes) -> None:
        """Try everything again that this caller asks for."""
        for key in [key for key in self._failing if key[0] == caller]:
            del self._failing[key]

    def forget_all(self) -> None:
        """The same for everyone."""
        self._failing.clear()

    def _forget_old(self, now: float) -> None:
        while self._failing:
            key, oldest = next(iter(self._failing.items()))
            if len(self._failing) < _REMEMBERED and now - oldest.at <= FORGOTTEN:
                break
            del self._failing[key]

"""One Deferred after the other, of which the last can be let go of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tortxd.errors import InternalError, TortxdError

T = TypeVar("T")

log = Logger()


class Pending:
    """What is waited for now; nothing that comes after :meth:`cancel` is heard."""

    def __init__(self) -> None:
        self._deferred: Deferred[Any] | None = None

    def wait_for(
        self,
        deferred: Deferred[T],
        then: Callable[[T], object],
        otherwise: Callable[[TortxdError], object],
    ) -> None:
        """Go on with ``then``, or after a failure with ``otherwise``."""

        def arrived(result: T) -> None:
            if self._deferred is deferred:
                self._deferred = None
                then(result)

        def failed(failure: Failure) -> None:
            if self._deferred is deferred:
                self._deferred = None
                otherwise(as_error(failure))

        def fault(failure: Failure) -> None:
            log.failure("A request could not go on.", failure)
            otherwise(InternalError())

        self._deferred = deferred
        deferred.addCallbacks(arrived, failed).addErrback(fault)

    def cancel(self) -> None:
        """Wait for it no longer; harmless where nothing is."""
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            deferred.cancel()


def as_error(failure: Failure) -> TortxdError:
    """The error of ours behind ``failure``."""
    if isinstance(failure.value, TortxdError):
        return failure.value
    return InternalError()

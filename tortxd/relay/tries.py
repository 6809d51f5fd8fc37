"""How often what is steered is tried, and where it goes next. Pure."""

from __future__ import annotations

from tortxd.errors import (
    DestinationError,
    ExitUnavailable,
    OnionAuthRequired,
    Overloaded,
    TorTimeout,
    TortxdError,
)
from tortxd.relay.placement import Place, Steered


class Tries:
    """Those of one request. A further one has a fresh circuit, and another exit where that is to
    blame.

    :param steered: how it is steered.
    """

    def __init__(self, steered: Steered) -> None:
        self.steered = steered
        self.left = steered.steering.retry
        """Further ones, at most."""
        self.tried: frozenset[str] = frozenset()
        """Exits that were tried in vain."""
        self.is_fresh = False
        """Whether the present one has a circuit of its own."""
        self.place: Place | None = None
        """Where the present one leaves Tor."""
        self._error: TortxdError | None = None
        """Why the one before came to nothing."""

    def may_follow(self, error: TortxdError) -> bool:
        """Whether another one is allowed, and may fare better than what failed so."""
        may_fare_better = isinstance(error, DestinationError | TorTimeout) and not isinstance(
            error, OnionAuthRequired | ExitUnavailable
        )
        return self.left > 0 and may_fare_better

    def failed(self, error: TortxdError, exit: str | None) -> None:
        """The present one has, and another one follows.

        :param exit: by which it left Tor, as far as that is known.
        """
        self.left -= 1
        self.is_fresh = True
        self._error = error
        # Who keeps an exit, keeps it where that is not to blame.
        is_sticky = self.place is not None and self.place.is_sticky
        if exit is not None and not (is_sticky and error.fault == "tor"):
            self.tried |= {exit}

    def verdict(self, error: TortxdError) -> TortxdError:
        """What all of them come to, where the last ended so: where it could not be made, the one
        before says why."""
        could_not = isinstance(error, Overloaded | ExitUnavailable)
        return self._error if could_not and self._error is not None else error

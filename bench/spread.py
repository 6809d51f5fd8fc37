"""The statistics: medians with quartiles, of values and of the ratios of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import quantiles

from attrs import frozen


@frozen
class Spread:
    """The middle of some values, and how far they lie apart."""

    low: float
    """A quarter of the values is smaller."""
    median: float
    high: float
    """A quarter is greater."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*quantiles(values, n=4, method="inclusive"))

    def scaled(self, by: float) -> Spread:
        """The same in another unit, ``by`` times as small."""
        return Spread(self.low * by, self.median * by, self.high * by)


def ratios(pairs: Sequence[tuple[float, float]]) -> Spread | None:
    """The spread of first by second over pairs that were measured side by side.

    None where no pair has a ratio: what was too little to be measured cannot be compared.
    """
    found = [first / second for first, second in pairs if second > 0]
    return Spread.of(found) if found else None

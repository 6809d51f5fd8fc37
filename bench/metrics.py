"""The figures that measurements come to."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

Figures = Mapping[str, float]
"""What one measurement comes to, by the metric's key, in seconds and bytes."""


@frozen
class Metric:
    """One of the figures."""

    key: str
    title: str
    scale: float = 1.0
    """What it is multiplied with where it is shown."""
    is_compared: bool = True
    """Whether tortxd's is shown by the peer's, too."""

"""Rates: so many in a second, and so many at once."""

from __future__ import annotations

import math
import re

from attrs import frozen

from tortxd.errors import SetupError, in_quotes

_TEXT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(?::([0-9]{1,9}))?", re.ASCII)
_SECONDS_OF_BURST = 60
"""What may come at once, where only a rate is given: what the rate gives in so many seconds."""
_MOST = 1_000_000
UNLIMITED = "unlimited"


@frozen
class Rate:
    """How often something may be: what is not used is saved up, to a limit (a token bucket)."""

    per_second: float
    burst: int
    """How many may come at once, when none has for long; at least 1."""

    @classmethod
    def parse(cls, text: str, name: str) -> Rate | None:
        """Read ``RATE`` (a second), ``RATE:BURST`` or ``unlimited``, which is None.

        :param name: of what was given, for the sentence.
        :raises SetupError: it is none of these.
        """
        if text.strip().lower() == UNLIMITED:
            return None
        match = _TEXT.fullmatch(text.strip())
        if match is not None:
            per_second = float(match[1])
            default = max(1, math.ceil(per_second * _SECONDS_OF_BURST))
            burst = default if match[2] is None else int(match[2])
            if 0 < per_second <= _MOST and 1 <= burst <= _MOST * _SECONDS_OF_BURST:
                return cls(per_second, burst)
        raise SetupError(
            f"{name} takes a number for each second and, after a colon, how many may come at once, "
            f"for example 5:300, or {UNLIMITED}, not {in_quotes(text)}."
        )

    def __str__(self) -> str:
        return f"{self.per_second:g}:{self.burst}"

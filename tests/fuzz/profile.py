"""How long to fuzz: a short run that is the same every time, or a long one that never is.

``FUZZ_SECONDS=60`` in the environment makes every property search for so long with random inputs.
Without it each tries its own number of fixed ones, so that the suite does not depend on luck.
What fails is printed: the smallest input found, and the ``reproduce_failure`` line that replays it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from time import monotonic
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
_ROUND = 250
"""Examples of one round of a long run; each round starts from another random seed."""


def fuzzed(examples: int, **strategies: SearchStrategy[Any]) -> Callable[[Any], Any]:
    """``given`` these strategies; ``examples`` of them in the short run."""
    chosen = settings(
        max_examples=_ROUND if SECONDS else examples,
        derandomize=not SECONDS,
        database=None,
        deadline=None,
        print_blob=True,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        # The fixtures may be shared by the examples of a test: each leaves them as it found them.
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test: Any) -> Any:
        once = chosen(given(**strategies)(test))
        if not SECONDS:
            return once

        @wraps(once)
        def again(*args: Any, **kwargs: Any) -> None:
            end = monotonic() + SECONDS
            while monotonic() < end:
                once(*args, **kwargs)

        return again

    return decorate

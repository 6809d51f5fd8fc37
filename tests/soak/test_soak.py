"""A minute of load and faults; ``make soak`` has more of it."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.soak.soak import Soak
from tests.soak.summary import lines


@ensureDeferred
async def test_a_minute_of_load_and_faults(tmp_path: Path) -> None:
    soak = Soak(SEED, 60.0, tmp_path, actors=10)
    await soak.run()
    summary = "\n".join(lines(soak))
    print(summary)
    assert soak.ledger.violations == []
    # Each way in has been right, and after each fault something was.
    ways = {way for (way, what), _ in soak.ledger.counts.items() if what == "right"}
    assert ways >= {"proxy", "absolute-form", "tunnel", "websocket", "socks", "upload"}, summary
    assert all(one.right_again is not None for one in soak.ledger.windows), summary
    assert len(soak.ledger.windows) >= 3


SEED = 12

"""A run in tables."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import asdict

from tests.soak.soak import Soak


def lines(soak: Soak) -> Iterator[str]:
    """What was done, what went wrong, and what is left of it."""
    ledger = soak.ledger
    counts = ledger.counts
    steps = sum(counts.values())
    yield f"Seed {soak.seed}, {soak.seconds:g} s: {steps} steps, {ledger.right} right."
    yield ""
    yield f"{'by':14} {'right':>6} {'left':>5}  failures, those that were asked for among them"
    for way in sorted({way for way, _ in counts}):
        failed = ", ".join(
            f"{count} {what}"
            for (one, what), count in sorted(counts.items())
            if one == way and what not in ("right", "left")
        )
        yield f"{way:14} {counts[way, 'right']:6} {counts[way, 'left']:5}  {failed}".rstrip()
    yield f"{ledger.wanted} failures were asked for."
    yield ""
    yield f"{'fault':14} {'at':>6} {'lasted':>7} {'next right answer after':>24}"
    for one in ledger.windows:
        lasted = "" if one.ended is None else f"{one.ended - one.began:.1f}"
        again = "never" if one.right_again is None else f"{one.right_again - one.began:.1f}"
        yield f"{one.fault.kind:14} {one.began:6.1f} {lasted:>7} {again:>24}"
    yield ""
    if soak.before is not None and soak.after is not None:
        yield f"{'resource':14} {'before':>14} {'after':>14}"
        after = asdict(soak.after)
        for name, value in asdict(soak.before).items():
            if name != "kinds":
                yield f"{name:14} {value:14,} {after[name]:14,}"
    yield ""
    yield f"{len(ledger.violations)} violations"

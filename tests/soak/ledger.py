"""What became of each request, and whether it may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from attrs import define, field, frozen

from tests.soak.plan import Fault, Step

GRACE = 6.0
"""Seconds after a fault's end in which requests may still fail of it: circuits are built
anew, and a Tor that was hung is asked for its state again."""

_WAY_THERE = frozenset({"connect_failed", "tor_timeout", "origin_timeout", "truncated"})
_NO_TOR = frozenset({"tor_down", "tor_not_ready"})
_NO_EXIT = frozenset({"exit_unavailable", "resolve_failed"})
EXCUSES: Mapping[str, frozenset[str]] = {
    "tor-killed": _WAY_THERE | _NO_TOR | {"origin_reset"},
    "tor-stopped": _WAY_THERE | _NO_TOR | {"origin_reset"},
    "exit-stopped": _WAY_THERE | _NO_EXIT,
    "relay-stopped": _WAY_THERE | _NO_EXIT,
    "origin-resets": frozenset({"origin_reset", "connect_failed", "truncated", "tls_failed"}),
    "origin-stalls": frozenset({"origin_timeout", "tor_timeout", "truncated"}),
    "newnym-storm": frozenset(),
    "few-descriptors": _WAY_THERE | {"overloaded"},
    "disk-full": frozenset(),
    "hang-up": frozenset(),
}
"""The codes that may come of each fault. ``truncated`` is a body that breaks off, and shows it."""

OWN = frozenset({"page", "identity", "events"})
"""Acts that the gateway itself answers, which says nothing of the way through Tor."""

Kind = Literal["right", "failed", "left"]


@frozen
class Outcome:
    """What became of one step."""

    kind: Kind = "right"
    code: str = ""
    """Of what failed: an error's code of the contract's table, or ``truncated``."""
    wanted: bool = False
    """Whether this failure is what was asked for: a destination that resets, say."""


class Violation(Exception):
    """What must never come of a request."""


@define
class Window:
    """When a fault was there."""

    fault: Fault
    began: float
    ended: float | None = None
    right_again: float | None = None
    """When the next request that began in it, or after it, was answered right."""

    def covers(self, began: float, ended: float) -> bool:
        """Whether a request may have met it."""
        return ended >= self.began and (self.ended is None or began <= self.ended + GRACE)


@define
class Ledger:
    """Counts, judges and remembers."""

    windows: list[Window] = field(factory=list)
    violations: list[str] = field(factory=list)
    counts: Counter[tuple[str, str]] = field(factory=Counter)
    """By way, and outcome or code."""
    wanted: int = 0
    _circuits: dict[tuple[int, str], str] = field(factory=dict)

    def take(self, step: Step, way: str, outcome: Outcome, began: float, ended: float) -> None:
        """Judge what came of a step, in seconds from the beginning."""
        self.counts[way, outcome.code or outcome.kind] += 1
        if outcome.kind == "right" and step.act not in OWN:
            for window in self.windows:
                if window.right_again is None and began >= window.began:
                    window.right_again = ended
        if outcome.wanted:
            self.wanted += 1
        elif outcome.kind == "failed":
            met = [one.fault.kind for one in self.windows if one.covers(began, ended)]
            if not any(outcome.code in EXCUSES[kind] for kind in met):
                during = f"during {', '.join(met)}" if met else "with no fault"
                self.accuse(step, f"{outcome.code} {during}", began, ended)

    def accuse(self, step: Step | None, sentence: str, began: float, ended: float) -> None:
        """Note what must not be."""
        of = f" of {step}" if step is not None else ""
        self.violations.append(f"{began:.2f} to {ended:.2f}: {sentence}{of}")

    def on_circuit(self, tor: int | None, circuit: str, key: str) -> str | None:
        """Note who was on a circuit of a Tor; the other key where there was one before."""
        if tor is None:
            return None
        before = self._circuits.setdefault((tor, circuit), key)
        return before if before != key else None

    @property
    def right(self) -> int:
        return sum(count for (_, what), count in self.counts.items() if what == "right")

    def codes(self) -> Counter[str]:
        """How often each failure came."""
        codes = Counter[str]()
        for (_, what), count in self.counts.items():
            if what not in ("right", "left"):
                codes[what] += count
        return codes

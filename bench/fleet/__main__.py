"""``python -m bench.fleet [PART ...]``: measure these parts, or all; write what there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from attrs import asdict

from bench import loopback
from bench.build import MADE, BuildError, native
from bench.fleet import page
from bench.fleet.cases import PARTS, Measured
from bench.machine import describe, today
from bench.peers.model import Missing, found, number_in
from bench.processes import ProcessError

KEPT = MADE / "fleet.json"


def main(words: Sequence[str]) -> None:
    """Measure, keep the figures beside those of earlier runs, and write the page."""
    unknown = set(words) - {part.key for part in PARTS} - {"none"}
    if unknown:
        raise SystemExit(f"There are {', '.join(part.key for part in PARTS)}; none writes the page")
    version = number_in(found("haproxy"), "-v")
    for program in ("socks", "load"):
        native(program)
    if not loopback.make_own():
        raise ProcessError("There may be no loopback of its own here, which the figures need")
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for part in PARTS:
        if not words or part.key in words:
            kept[part.key] = [asdict(one) for one in part.measure()]
            KEPT.write_text(json.dumps(kept, indent=1))
    machine = ", ".join(f"{name} {value}" for name, value in describe().items())
    about = f"Measured on {today()}, with HAProxy {version}: {machine}."
    page.write({key: [Measured(**one) for one in part] for key, part in kept.items()}, about)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (BuildError, Missing, ProcessError) as problem:
        raise SystemExit(f"bench: {problem}") from None

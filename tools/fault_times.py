#!/usr/bin/env python3
"""Measures how long faults last for clients, and writes the table in docs/reliability.md anew.

The tests of faults are run three times, one after the other, and note what they saw.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
TURNS = 3
BEGIN = "<!-- what follows is written by tools.fault_times -->"
END = "<!-- what precedes is written by tools.fault_times -->"
HEAD = ("fault", "what a client saw", "until it served again", "test")


def measure(turns: int) -> list[dict[str, Any]]:
    """Run the tests that take part in it, and return what they have noted."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes"
        for _ in range(turns):
            subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                    *takers(),
                    f"--fault-times={notes}",
                ],
                cwd=ROOT,
                check=True,
            )
        return [json.loads(line) for line in notes.read_text().splitlines()]


def takers() -> list[str]:
    """The files of tests that note something."""
    found = (ROOT / "tests").rglob("test_*.py")
    return sorted(
        str(one.relative_to(ROOT)) for one in found if "fault_times.note" in one.read_text()
    )


def table(notes: Iterable[Mapping[str, Any]]) -> str:
    """The table, in Markdown, in the order of the notes."""
    faults: dict[str, list[Mapping[str, Any]]] = {}
    for note in notes:
        faults.setdefault(note["fault"], []).append(note)
    rows = [HEAD, ("---",) * len(HEAD), *(row(fault, same) for fault, same in faults.items())]
    return "".join(f"| {' | '.join(one)} |\n" for one in rows)


def row(fault: str, notes: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """The row of one fault."""
    seconds = [float(note["seconds"]) for note in notes]
    # What was seen most often: a busy machine shows one status more, or less.
    saw = [str(note["saw"]) for note in notes]
    time = f"{median(seconds):.1f} s; at most {max(seconds):.1f} s in {len(seconds)}"
    return fault, max(saw, key=saw.count), time, f"`{notes[0]['test']}`"


def write(notes: Iterable[Mapping[str, Any]], page: Path = PAGE) -> None:
    """Put the table in the place of the one that is there."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, behind = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table(notes)}\n{END}{behind}", encoding="utf-8")


if __name__ == "__main__":
    write(measure(TURNS))

"""The page of the documentation that shows a run."""

from __future__ import annotations

from pathlib import Path

from bench import pictures, tables
from bench.build import ROOT
from bench.results import Report

PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"

BEGIN = "<!-- what follows is written by make bench -->"
END = "<!-- what precedes is written by make bench -->"


def write(report: Report, page: Path = PAGE, images: Path = IMAGES) -> None:
    """Put tables and pictures into the documentation."""
    page.write_text(between_markers(page.read_text(), tables.of_report(report)))
    pictures.write(report, images)


def between_markers(text: str, tables: str) -> str:
    """The text with what stands between its markers made new."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"

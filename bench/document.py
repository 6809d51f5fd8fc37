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
    drawn = [
        f"![{picture.title}](images/{picture.file})" for picture in pictures.write(report, images)
    ]
    parts = (BEGIN, *drawn, tables.of_report(report), END)
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, behind = rest.partition(END)
    page.write_text(before + "\n\n".join(parts) + behind)

"""The page of the documentation that shows a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import curve_pictures, pictures, tables
from bench.build import ROOT
from bench.results import Grown, Report

PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"

BEGIN = "<!-- what follows is written by make bench -->"
END = "<!-- what precedes is written by make bench -->"
CURVES_BEGIN = "<!-- what follows is written by make bench, too: the curves -->"
CURVES_END = "<!-- what precedes is written by make bench, too: the curves -->"


def write(report: Report, page: Path = PAGE, images: Path = IMAGES) -> None:
    """Put tables and pictures into the documentation: of what was compared, and of the curves, each
    where there is any."""
    if report.results:
        drawn = [_shown(picture.title, picture.file) for picture in pictures.write(report, images)]
        fill(page, BEGIN, END, [*drawn, tables.of_report(report)])
    curves = [curve for curve in report.curves if curve.points]
    if curves:
        sections = [_section(curve, images) for curve in curves]
        fill(page, CURVES_BEGIN, CURVES_END, [tables.of_curves(report), *sections])


def _section(curve: Grown, images: Path) -> str:
    title = f"{curve.title}, over {curve.setting_title}"
    shown = _shown(title, curve_pictures.write(curve, images))
    return f"### {title}\n\n{shown}\n\n{tables.of_curve(curve)}"


def _shown(title: str, file: str) -> str:
    return f"![{title}](images/{file})"


def fill(page: Path, begin: str, end: str, parts: Sequence[str]) -> None:
    """Put these paragraphs between two marks of a page, for what is there."""
    before, _, rest = page.read_text().partition(begin)
    _, _, behind = rest.partition(end)
    page.write_text(before + "\n\n".join([begin, *parts, end]) + behind)

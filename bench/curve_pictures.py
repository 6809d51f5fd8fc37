"""Curves as SVG: for each figure a panel of its own, beside one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log1p
from pathlib import Path
from xml.sax.saxutils import escape

from attrs import frozen

from bench.metrics import Metric
from bench.pictures import OWN, TEXT, WIDTH, begin
from bench.results import Grown
from bench.spread import Spread
from bench.tables import number

_TOP, _ROOM, _BELOW = 78, 120, 44
_MARGIN, _MOST_PANELS = 30, 3


@frozen
class _Panel:
    """Where one figure is shown, over the counts from left to right: as far apart as their
    logarithms, since each is several times the one before it. The lowest value shown is 0."""

    left: float
    width: float
    most: int
    """The greatest count."""
    highest: float

    def x(self, count: int) -> float:
        """Where it stands."""
        return self.left + self.width * log1p(count) / log1p(self.most)

    def y(self, value: float) -> float:
        """How low it stands."""
        return _TOP + _ROOM * (1 - value / self.highest)


def write(curve: Grown, folder: Path) -> str:
    """Draw it; the result is the file's name."""
    name = f"curve-{curve.key}.svg"
    (folder / name).write_text(draw(curve))
    return name


def draw(curve: Grown) -> str:
    """Medians as points of a line; a thin line spans the quartiles of each."""
    metrics = curve.metrics[:_MOST_PANELS]
    lines = list(begin(curve.title, _TOP + _ROOM + _BELOW))
    share = WIDTH / len(metrics)
    for place, metric in enumerate(metrics):
        lines += _panel(curve, metric, share * place + _MARGIN, share - 2 * _MARGIN)
    return "\n".join([*lines, "</svg>", ""])


def _panel(curve: Grown, metric: Metric, left: float, width: float) -> Iterable[str]:
    spreads = {point.count: point.spread(metric) for point in curve.points}
    known = {count: spread for count, spread in spreads.items() if spread is not None}
    most = max(1, *known) if known else 1
    highest = max((spread.high for spread in known.values()), default=0.0) or 1.0
    panel = _Panel(left, width, most, highest)
    middle, bottom = left + width / 2, _TOP + _ROOM
    yield _text(middle, _TOP - 26, metric.title, 13)
    yield f'<path d="M{left:.1f} {bottom}h{width:.1f}" stroke="{TEXT}" stroke-width="1"/>'
    for count in known:
        yield _text(panel.x(count), bottom + 16, f"{count:,}", 10)
    yield _text(middle, bottom + 34, curve.axis, 11)
    yield from _line(panel, list(known.items()), metric.scale)


def _line(panel: _Panel, points: Sequence[tuple[int, Spread]], scale: float) -> Iterable[str]:
    middles = [(panel.x(count), panel.y(spread.median)) for count, spread in points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in middles)
    yield f'<path d="M{path}" fill="none" stroke="{OWN}" stroke-width="2"/>'
    for (x, y), (_, spread) in zip(middles, points, strict=True):
        low, high = panel.y(spread.low), panel.y(spread.high)
        yield f'<path d="M{x:.1f} {high:.1f}V{low:.1f}" stroke="{TEXT}" stroke-width="2"/>'
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{OWN}"/>'
        yield _text(x, high - 8, number(spread.median * scale), 10)


def _text(x: float, y: float, text: str, size: int) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="middle"'
    return f"<text {place}>{escape(text)}</text>"

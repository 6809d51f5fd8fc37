"""Bars as SVG, in colours that can be read on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from attrs import frozen

from bench.metrics import Metric
from bench.results import Report, Result, of_tortxd
from bench.spread import Spread
from bench.tables import number

WIDTH, _LABELS, _NUMBERS = 720, 230, 70
_TOP, _ROW, _BAR = 44, 26, 16
OWN, _OTHERS, TEXT = "#a05cc8", "#8290a0", "#7d7d7d"


@frozen
class Bar:
    """One who was measured."""

    label: str
    spread: Spread
    is_own: bool = False
    """Whether it is tortxd."""


@frozen
class Picture:
    """What is shown of a run."""

    file: str
    title: str
    setting: str
    case: str
    metric: str


PICTURES = (
    Picture(
        "bench-requests.svg",
        "Requests a second, 50 clients, over a plain SOCKS server",
        "near",
        "small-50",
        "rate",
    ),
    Picture(
        "bench-cpu.svg",
        "CPU a request in ms, 50 clients, over a plain SOCKS server",
        "near",
        "small-50",
        "cpu",
    ),
    Picture(
        "bench-tor.svg",
        "Requests a second, 50 clients, over a private Tor network",
        "tor",
        "small-50",
        "rate",
    ),
    Picture(
        "bench-cold.svg",
        "Round trips until the first response from a destination",
        "far",
        "cold",
        "round_trips",
    ),
    Picture(
        "bench-memory.svg",
        "Memory in MB with 500 downloads that nobody reads",
        "near",
        "stalled",
        "rss",
    ),
)


def write(report: Report, folder: Path) -> list[Picture]:
    """Draw what was measured in the run; the result is which pictures those are."""
    made: list[Picture] = []
    cases = {(case[0].setting, case[0].case): case for case in report.cases()}
    for picture in PICTURES:
        results = cases.get((picture.setting, picture.case), [])
        metrics = {metric.key: metric for result in results for metric in result.metrics}
        metric = metrics.get(picture.metric)
        bars = [] if metric is None else list(_bars(results, metric))
        if metric is not None and bars:
            (folder / picture.file).write_text(draw(picture.title, bars, metric.scale))
            made.append(picture)
    return made


def draw(title: str, bars: Sequence[Bar], scale: float = 1.0) -> str:
    """Bars from the left, each as long as its median; a thin line spans the quartiles."""
    height = _TOP + _ROW * len(bars) + 8
    longest = max(bar.spread.high for bar in bars)
    room = WIDTH - _LABELS - _NUMBERS
    lines = list(begin(title, height))
    for row, bar in enumerate(bars):
        lines += _row(bar, _TOP + row * _ROW, room / longest, scale)
    return "\n".join([*lines, "</svg>", ""])


def begin(title: str, height: int) -> Iterable[str]:
    """What each picture begins with."""
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{TEXT}">'
    )
    yield f"<title>{escape(title)}</title>"
    yield f'<text x="8" y="24" font-size="15" font-weight="600">{escape(title)}</text>'


def _row(bar: Bar, top: int, width: float, scale: float) -> Iterable[str]:
    low, middle, high = (
        value * width for value in (bar.spread.low, bar.spread.median, bar.spread.high)
    )
    base, centre = top + _BAR - 3, top + _BAR / 2
    colour = OWN if bar.is_own else _OTHERS
    weight = ' font-weight="600"' if bar.is_own else ""
    yield (
        f'<text x="{_LABELS - 8}" y="{base}" text-anchor="end"{weight}>{escape(bar.label)}</text>'
    )
    yield (
        f'<rect x="{_LABELS}" y="{top}" width="{middle:.1f}" height="{_BAR}" rx="2" '
        f'fill="{colour}"/>'
    )
    yield (
        f'<path d="M{_LABELS + low:.1f} {centre}H{_LABELS + high:.1f}" stroke="{TEXT}" '
        'stroke-width="2"/>'
    )
    text = number(bar.spread.median * scale)
    yield f'<text x="{_LABELS + high + 6:.1f}" y="{base}"{weight}>{text}</text>'


def _bars(results: Sequence[Result], metric: Metric) -> Iterable[Bar]:
    for own_way in dict.fromkeys(result.own_way for result in results):
        beside = [result for result in results if result.own_way == own_way]
        own = of_tortxd(beside, metric)
        if own is not None:
            yield Bar(f"tortxd, {own_way}", own, is_own=True)
        for result in beside:
            theirs = result.of_peer(metric)
            if theirs is not None:
                yield Bar(result.peer_title, theirs)

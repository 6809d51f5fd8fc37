"""Pictures of what came of a run, and the page that they stand on."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import document, pictures
from bench.pictures import Bar
from bench.spread import Spread
from tests.bench.made_up import report, result

SVG = "{http://www.w3.org/2000/svg}"


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def drawn(*bars: Bar) -> ElementTree.Element:
    return ElementTree.fromstring(pictures.draw("A title <&>", bars))


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    bars = [Bar(str(size), Spread(size, size, size)) for size in (100.0, 50.0, 25.0)]
    widths = [float(rect.attrib["width"]) for rect in drawn(*bars).iter(f"{SVG}rect")]
    assert widths[1:] == [pytest.approx(widths[0] / 2), pytest.approx(widths[0] / 4)]


def test_nothing_stands_beyond_the_edge() -> None:
    picture = drawn(Bar("a", Spread(10, 80, 100)), Bar("b", Spread(1, 2, 3)))
    width, height = (float(picture.attrib[name]) for name in ("width", "height"))
    for text in picture.iter(f"{SVG}text"):
        assert 0 < float(text.attrib["x"]) < width - 40
        assert 0 < float(text.attrib["y"]) < height


def test_the_picture_says_what_it_shows() -> None:
    picture = drawn(Bar("Me & you", Spread(1, 2, 3)))
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert texts == ["A title <&>", "Me & you", "2"]
    assert picture.findtext(f"{SVG}title") == "A title <&>"


@pytest.mark.parametrize("page", ["#ffffff", "#121212"])
def test_text_and_bars_can_be_read_on_light_and_dark_pages(page: str) -> None:
    picture = drawn(Bar("me", Spread(1, 2, 3), is_own=True), Bar("you", Spread(1, 2, 3)))
    assert contrast(picture.attrib["fill"], page) >= 4
    for rect in picture.iter(f"{SVG}rect"):
        assert contrast(rect.attrib["fill"], page) >= 3


def test_pictures_are_drawn_of_what_was_measured(tmp_path: Path) -> None:
    made = pictures.write(report(result("privoxy", [(1, 2), (2, 4)])), tmp_path)
    assert [picture.file for picture in made] == ["bench-requests.svg", "bench-cpu.svg"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(one.file for one in made)
    text = (tmp_path / "bench-requests.svg").read_text()
    assert "tortxd, as an HTTP proxy" in text and "Privoxy" in text


def test_nothing_is_drawn_where_everyone_failed(tmp_path: Path) -> None:
    failed = result("privoxy", [], problem="3 turns failed: it ended")
    assert pictures.write(report(failed), tmp_path) == []


def test_only_what_stands_between_the_markers_is_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Before\n\n{document.BEGIN}\n\nold\n\n{document.END}\n\nBehind\n")
    document.write(report(result("privoxy", [(1, 2)])), page, tmp_path)
    text = page.read_text()
    assert text.startswith("Before\n\n") and text.endswith("\n\nBehind\n")
    assert "old" not in text and "| Privoxy " in text
    assert "](images/bench-requests.svg)" in text and "bench-memory.svg" not in text
    document.write(report(result("privoxy", [(1, 2)])), page, tmp_path)
    assert page.read_text() == text


def test_the_page_of_the_documentation_has_the_markers() -> None:
    text = document.PAGE.read_text()
    assert text.count(document.BEGIN) == text.count(document.END) == 1
    assert text.index(document.BEGIN) < text.index(document.END)

"""What it costs as there is more: what is measured when, and how it is shown."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from xml.etree import ElementTree

import pytest

from bench import curve_pictures, document, tables
from bench.curves import CURVES, Curve
from bench.load import Target
from bench.options import Options
from bench.plan import curve_seconds, curve_turns, curves_of, parts
from bench.processes import ProcessError
from bench.readers import reading
from bench.results import Report
from tests.bench.made_up import curve, curves, report, result

SVG = "{http://www.w3.org/2000/svg}"
GROWN = curve((1, [100, 300, 200]), (1000, [50, 50, 50]))


def chosen(*arguments: str) -> list[str]:
    return [one.key for one in curves_of(Options.parse(arguments))]


def test_they_take_less_than_six_minutes() -> None:
    options = Options.parse(["--curves"])
    assert sum(curve_seconds(one, options) for one in curves_of(options)) < 360


def test_they_are_part_of_a_whole_run_and_of_no_other() -> None:
    everything = [one.key for one in CURVES]
    assert chosen() == chosen("--curves") == everything
    assert chosen("--quick") == chosen("--only", "near") == chosen("--peers", "privoxy") == []


def test_with_them_alone_nothing_else_is_measured_or_written_over() -> None:
    options = Options.parse(["--curves"])
    assert parts(options, []) == []
    assert options.json != Options.parse([]).json


def test_one_can_be_chosen() -> None:
    assert chosen("--curves", "--only", "keys") == ["keys"]
    assert chosen("--curves", "--only", "tor") == ["circuits", "readers"]


@pytest.mark.parametrize("one", CURVES, ids=lambda one: one.key)
def test_what_stays_only_grows_and_all_else_takes_turns(one: Curve) -> None:
    all_turns = [*one.counts] * curve_turns(Options.parse(["--curves"]))
    order = one.order(curve_turns(Options.parse(["--curves"])))
    assert order == (sorted(all_turns) if one.is_lasting else all_turns)


def test_a_table_has_the_medians_of_each_count() -> None:
    lines = tables.of_curve(GROWN).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert rows[0] == ["clients", "requests/s", "CPU, ms/request", "median, ms"]
    assert [row[:3] for row in rows[2:]] == [["1", "200", "5"], ["1,000", "50", "20"]]


def test_what_failed_stands_below_the_table() -> None:
    assert tables.of_curve(curve((1, [1]), problem="it ended")).endswith("\n\nit ended")


def test_a_point_stands_as_high_as_its_median_and_the_farther_the_more_there_is() -> None:
    picture = ElementTree.fromstring(curve_pictures.draw(curve((1, [50]), (10, [100]))))
    points = [
        (float(one.attrib["cx"]), float(one.attrib["cy"])) for one in picture.iter(f"{SVG}circle")
    ]
    (x1, y1), (x2, y2) = points[:2]
    assert x1 < x2
    top, bottom = curve_pictures._TOP, curve_pictures._TOP + curve_pictures._ROOM
    assert y1 == pytest.approx((top + bottom) / 2)
    assert y2 == pytest.approx(top)


def test_nothing_of_the_picture_stands_beyond_its_edge() -> None:
    picture = ElementTree.fromstring(curve_pictures.draw(GROWN))
    width, height = (float(picture.attrib[name]) for name in ("width", "height"))
    for text in picture.iter(f"{SVG}text"):
        assert 0 < float(text.attrib["x"]) < width
        assert 0 < float(text.attrib["y"]) < height


def test_they_are_the_same_after_they_were_kept() -> None:
    made = curves(GROWN)
    kept = Report.from_json(made.to_json())
    assert kept.to_json() == made.to_json()
    assert tables.of_curve(kept.curves[0]) == tables.of_curve(GROWN)


def test_each_run_leaves_what_the_other_has_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    markers = (document.BEGIN, document.END, document.CURVES_BEGIN, document.CURVES_END)
    page.write_text("{}\n{}\nBetween\n{}\nold\n{}\nBehind\n".format(*markers))
    document.write(report(result("privoxy", [(1, 2)])), page, tmp_path)
    document.write(curves(GROWN), page, tmp_path)
    document.write(report(result("privoxy", [(1, 2)])), page, tmp_path)
    text = page.read_text()
    assert "| Privoxy " in text and "Between" in text and text.endswith("\nBehind\n")
    assert "### More clients, over a plain SOCKS server" in text and "old" not in text
    assert "](images/curve-clients.svg)" in text
    assert (tmp_path / "curve-clients.svg").exists()


def test_where_all_failed_nothing_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("as it was")
    document.write(curves(curve(problem="it ended")), page, tmp_path)
    assert page.read_text() == "as it was"


def test_the_page_of_the_documentation_has_a_place_for_them() -> None:
    text = document.PAGE.read_text()
    assert text.count(document.CURVES_BEGIN) == text.count(document.CURVES_END) == 1
    assert text.index(document.END) < text.index(document.CURVES_BEGIN)


# --- readers of /events -----------------------------------------------------------------------


class Events:
    """A server of events that the test sends."""

    def __init__(self, answer: bytes) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.target = Target("127.0.0.1", self.listening.getsockname()[1], 0)
        self.answer = answer
        self.heads: list[bytes] = []
        self.clients: list[socket.socket] = []
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            self.heads.append(client.recv(4096))
            self.clients.append(client)
            client.sendall(self.answer)

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for one in (self.listening, *self.clients):
            one.close()


@pytest.fixture
def events() -> Iterator[Events]:
    made = Events(b"HTTP/1.1 200 OK\r\n\r\n")
    yield made
    made.close()


def test_readers_count_what_they_are_told(events: Events) -> None:
    with reading(events.target, "a-token", 2) as readers:
        assert all(b"\r\nAuthorization: Bearer a-token\r\n" in head for head in events.heads)
        for client in events.clients:
            client.sendall(b"data: 1\n\n")
    assert readers.received == 2 * len(b"data: 1\n\n")


def test_a_reader_that_is_sent_away_is_a_problem(events: Events) -> None:
    with pytest.raises(ProcessError, match="sent away"), reading(events.target, "", 1):
        events.clients[0].close()


def test_a_reader_that_is_not_let_in_is_a_problem(events: Events) -> None:
    events.answer = b"HTTP/1.1 401 Unauthorized\r\n\r\n"
    with pytest.raises(ProcessError, match="401"), reading(events.target, "", 1):
        pass

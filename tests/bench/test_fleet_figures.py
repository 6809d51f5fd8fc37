"""What a fleet could do on paper, and the page that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.fleet.cases import PARTS, Measured
from bench.fleet.page import BEGIN, END, write
from bench.fleet.paper import Costs, capacity, members_fed

COSTS = Costs(balancer=0.001, member=0.004, tor=0.002, carried=1000)


def test_a_member_does_what_the_dearer_of_daemon_and_tor_has_time_for() -> None:
    found = capacity(COSTS, 3)
    assert (found.units, found.member_bound) == (750, "the daemons' cores")
    assert capacity(Costs(0.001, 0.004, 0.005, 1), 3).member_bound == "the Tors' threads"


def test_the_bound_is_haproxy_when_members_need_more_than_a_core_of_it() -> None:
    assert members_fed(COSTS) == pytest.approx(4)
    assert capacity(COSTS, 4).bound == "the daemons' cores"
    more = capacity(COSTS, 10)
    assert more.balancer_cores == pytest.approx(2.5)
    assert more.bound == "HAProxy's core"


def test_bodies_are_counted_in_bits() -> None:
    assert capacity(COSTS, 1).bits == pytest.approx(250 * 8000)


def figures(p50: float) -> dict[str, float]:
    spent = dict.fromkeys(("balancer", "members", "tors", "relays"), 0.001)
    return {"rate": 1 / p50, "speed": 1e6, "p50": p50, **spent}


def test_the_page_shows_each_case_and_what_the_balancer_adds(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nbehind\n")
    results = {
        part.key: [
            Measured(case.key, way, [figures(0.004 + way / 1000)] * 3)
            for case in part.cases
            for way in case.ways
        ]
        for part in PARTS
    }
    write(results, "Measured then.", page)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "behind")
    assert "old" not in lines
    for part in PARTS:
        for case in part.cases:
            assert f"**{case.title}, over {part.setting.title}**" in lines
    added = [
        line for line in lines if line.startswith("| HAProxy, 3 members") and "3 [3 - 3]" in line
    ]
    assert len(added) == 1
    assert "### On paper" in lines


def test_the_page_shows_what_there_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}{END}")
    write({}, "Measured then.", page)
    assert page.read_text() == f"{BEGIN}\n\nMeasured then.\n\n{END}"

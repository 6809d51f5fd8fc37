"""Tables of what came of a run."""

from __future__ import annotations

import pytest

from bench import tables
from bench.results import Report
from tests.bench.made_up import report, result


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.03912, "0.0391"), (1.0, "1"), (12.34, "12.3"), (999.4, "999"), (18980.4, "18,980")],
)
def test_numbers_have_three_digits_or_all_before_the_point(value: float, text: str) -> None:
    assert tables.number(value) == text


def test_all_lines_of_a_table_are_equally_long() -> None:
    lines = tables.table([["", "MB/s"], ["somebody", "1"], ["me", "1,234.5"]]).splitlines()
    assert lines == [
        "|          |    MB/s |",
        "|----------|--------:|",
        "| somebody |       1 |",
        "| me       | 1,234.5 |",
    ]


def test_a_case_shows_medians_and_the_ratios_of_what_is_compared() -> None:
    head, _, own, other = cells(tables.of_case([result("privoxy", [(100, 200), (300, 400)])]))
    assert head == [
        "",
        *("requests/s", "CPU, ms/request", "median, ms"),
        *("ratio: requests/s", "ratio: CPU, ms/request"),
    ]
    assert own[:2] == ["**tortxd**, as an HTTP proxy", "200"]
    assert other[:3] == ["Privoxy", "300", "3.75"]
    assert other[-2:] == ["0.62 [0.56 - 0.69]", "1.67 [1.50 - 1.83]"]


def test_tortxd_stands_before_the_peers_that_were_asked_alike() -> None:
    results = [
        result("privoxy", [(1, 2)]),
        result("node", [(5, 2)], own_way="by /proxy?url="),
        result("socks", [(3, 9)]),
    ]
    names = [row[0] for row in cells(tables.of_case(results))[2:]]
    assert names == [
        *("**tortxd**, as an HTTP proxy", "Privoxy", "Socks"),
        *("**tortxd**, by /proxy?url=", "Node"),
    ]


def test_whoever_failed_is_named_with_the_reason() -> None:
    table = tables.of_case([result("privoxy", [], problem="3 turns failed: it ended")])
    assert cells(table)[-1][0] == "Privoxy (3 turns failed: it ended)"
    assert cells(table)[-1][1:] == [""] * 5


def test_a_setting_shows_what_each_case_is_about() -> None:
    near = [result("privoxy", [(1, 2)]), result("node", [(4, 2)])]
    bulk = [result("node", [(6, 2)], case="down")]
    rows = cells(tables.of_setting([near, bulk]))
    assert rows[0] == ["tortxd by each", "", "Privoxy", "Node"]
    assert rows[2][1:] == ["requests/s", "0.50 [0.50 - 0.50]", "2.00 [2.00 - 2.00]"]
    assert rows[3][2:] == ["", "3.00 [3.00 - 3.00]"]


def test_a_report_names_machine_versions_date_and_who_is_missing() -> None:
    text = tables.of_report(report(result("privoxy", [(1, 2)])))
    for part in ("2026-01-02", "Abacus 3000", "cores 2", "10 pairs"):
        assert part in text
    assert "- Privoxy: 3.4\n" in text
    assert "- Node.js: missing, since npm is not installed\n" in text
    assert "the SOCKS port itself" not in text  # it has no version


def test_a_report_is_the_same_after_it_was_kept() -> None:
    made = report(result("privoxy", [(1, 2), (3, 4)], problem="1 turns failed: so it is"))
    kept = Report.from_json(made.to_json())
    assert tables.of_report(kept) == tables.of_report(made)
    assert kept.to_json() == made.to_json()

"""The page on reliability: each test that it names exists, and the tool fills its table."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tools.fault_times import BEGIN, END, PAGE, ROOT, takers, write

_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_test_that_it_names_exists() -> None:
    named = _NAMED.findall(PAGE.read_text())
    assert len(named) > 12
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text())
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        assert name in {one.name for one in tree.body if isinstance(one, functions)}, (file, name)


def test_each_fault_names_a_test() -> None:
    tables = re.findall(r"(?m)^\| fault \|.*\n\| ---.*\n((?:\|.*\n)+)", PAGE.read_text())
    assert len(tables) >= 4
    for row in "".join(tables).splitlines():
        assert _NAMED.search(row), row


def test_each_fault_that_is_measured_has_a_row() -> None:
    page = PAGE.read_text()
    for file in takers():
        assert f"`{file}::" in page, file


def test_the_tool_fills_the_table_with_medians(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nbehind\n")
    same = {"fault": "It breaks", "test": "tests/t.py::test_it"}
    write(
        [
            same | {"saw": saw, "seconds": seconds}
            for saw, seconds in (("503", 1.0), ("504", 9.0), ("503", 2.0))
        ],
        page,
    )
    assert page.read_text().splitlines() == [
        "before",
        BEGIN,
        "",
        "| fault | what a client saw | until it served again | test |",
        "| --- | --- | --- | --- |",
        "| It breaks | 503 | 2.0 s; at most 9.0 s in 3 | `tests/t.py::test_it` |",
        "",
        END,
        "behind",
    ]

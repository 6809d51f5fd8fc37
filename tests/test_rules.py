"""Every promise of docs/security.md is shown by a test of the running daemon, named for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.documents import names, read, rows, section

ROOT = Path(__file__).resolve().parents[1]
PROMISES = rows(section(read("docs/security.md"), "## Promises"))
BLACK_BOX = ("tests/daemon", "tests/browser")


def shown() -> dict[int, set[str]]:
    """The files with tests that are named for a promise, by its number."""
    found: dict[int, set[str]] = {}
    for folder in BLACK_BOX:
        for file in sorted((ROOT / folder).glob("test_*.py")):
            for number in re.findall(r"def test_rule_(\d\d)_", file.read_text("utf-8")):
                found.setdefault(int(number), set()).add(file.relative_to(ROOT).as_posix())
    return found


def test_the_promises_are_numbered() -> None:
    assert [int(row[0]) for row in PROMISES] == list(range(1, 32))


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: str(row[0]))
def test_every_promise_is_shown_where_the_page_says(row: list[str]) -> None:
    files = shown()[int(row[0])]
    told = [name for name in names(row[2]) if name.startswith(BLACK_BOX)]
    assert told
    for name in told:
        assert name in files or any(file.startswith(name + "/") for file in files), name

"""The documentation as its tests read it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(path: str) -> str:
    """A document's text, by its path from the root."""
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a document in one language."""
    return [body for found, body in _FENCE.findall(text) if found == language]


def prose(text: str) -> str:
    """A document without its code blocks."""
    return _FENCE.sub("", text)


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next of the same rank."""
    level = heading.split(" ")[0]
    after = text.split(f"{heading}\n", 1)[1]
    return re.split(rf"^#{{1,{len(level)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without their heads."""
    found: list[list[str]] = []
    head = True
    for line in text.splitlines():
        if not line.startswith("|"):
            head = True
        elif set(line) <= set("| -"):
            head = False
        elif not head:
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def names(cell: str) -> list[str]:
    """What a cell says in code."""
    return re.findall(r"`([^`]+)`", cell)


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}

#!/usr/bin/env python3
"""Writes the table of options in docs/configuration.md anew, from tortxd/options.py."""

import re
from pathlib import Path

from tortxd.options import OPTIONS, Option

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
HEAD = ("option", "TOML", "environment", "default", "meaning")
TABLE = re.compile(r"^\| option \| TOML \|.*\n(?:\|.*\n)*", re.MULTILINE)
"""Where it stands in the document."""


def table() -> str:
    """The table, in Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *map(cells, OPTIONS)]
    return "".join(f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in rows)


def cells(option: Option) -> tuple[str, ...]:
    """The row of one option."""
    words = f"--{option.flag}" if option.metavar is None else f"--{option.flag} {option.metavar}"
    return (
        f"`{words}`",
        f"`{option.key}`" if option.in_file else "",
        ", ".join(f"`{variable.name}`" for variable in option.variables),
        option.default_text,
        f"{option.purpose} {option.note}".rstrip(),
    )


def main() -> None:
    """Put the table in the place of the one that is there."""
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(TABLE.sub(lambda _: table(), text, count=1), encoding="utf-8")


if __name__ == "__main__":
    main()

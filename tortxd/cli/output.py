"""Where a command's output goes: tables with colours in a terminal, aligned text in a pipe, or
JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tortxd.cli.words import plain

Row = Sequence[str]
_COLOURS = {"green": ";32", "yellow": ";33", "red": ";31"}


class Output:
    """Writes to standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @property
    def is_terminal(self) -> bool:
        """Whether people read it."""
        return sys.stdout.isatty() and not self.as_json

    def json(self, value: Any) -> None:
        """A value, indented in a terminal and on one line in a pipe."""
        indent = 2 if sys.stdout.isatty() else None
        self.line(json.dumps(value, indent=indent))

    def line(self, text: str = "") -> None:
        """A line."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def table(self, header: Row, rows: Sequence[Row], empty: str) -> None:
        """Rows under a header.

        :param empty: a sentence for when there is none.
        """
        rows = [tuple(map(plain, row)) for row in rows]
        if self.is_terminal:
            self._rich(header, rows, empty)
            return
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.line("  ".join(cells).rstrip())

    def _rich(self, header: Row, rows: Sequence[Row], empty: str) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        if not rows:
            self.line(empty)
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for name in header:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*map(_literal, row))
        Console().print(table)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Names and what they have, aligned."""
        width = max(map(len, facts), default=0)
        for name, text in facts.items():
            self.line(f"{self.dim(name.ljust(width))}  {plain(text)}")

    def bold(self, text: str, colour: str = "") -> str:
        """Text that stands out in a terminal."""
        return self._styled(text, f"1{_COLOURS.get(colour, '')}")

    def dim(self, text: str) -> str:
        """Text that stands back."""
        return self._styled(text, "2")

    def _styled(self, text: str, code: str) -> str:
        if not self.is_terminal or os.environ.get("NO_COLOR"):
            return text
        return f"\x1b[{code}m{text}\x1b[0m"


def _literal(text: str) -> Any:
    """Text in which nothing is markup."""
    from rich.text import Text

    return Text(text)


def note(text: str) -> None:
    """A line beside the output, on standard error."""
    sys.stderr.write(f"{plain(text)}\n")
    sys.stderr.flush()

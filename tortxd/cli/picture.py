"""What ``tortxd top`` shows, drawn. Pure, apart from the library that draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tortxd.cli import words
from tortxd.cli.watching import Watched

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

KEYS = "up/down choose   c close   r rotate its key   n new identity   q quit"
_MOST_TROUBLES = 6
"""Lines about what is wrong."""
_MOST_FAILURES = 3
_COLUMNS = (
    ("CIRCUIT", 7, None),
    ("STATE", 10, None),
    ("PATH", None, 3),
    ("KEY", 8, None),
    ("STREAMS", None, 2),
)
"""Names, and widths in characters or shares of what is left."""
_LONGEST_NAME = 20


class Picture(NamedTuple):
    """What there is to draw."""

    watched: Sequence[Watched]
    circuits: Sequence[tuple[Watched, dict[str, Any]]]
    """In their order."""
    chosen: tuple[str, str] | None
    """Member and id of the circuit that stands out."""
    message: str
    is_fleet: bool

    def drawn(self, height: int) -> RenderableType:
        """The picture, so many lines high."""
        from rich.console import Group
        from rich.text import Text

        head = self._fleet() if self.is_fleet else self._head()
        failures = self._failures()
        room = max(3, height - 5 - len(head) - len(failures))
        return Group(
            *head,
            Text(),
            self._table(room),
            *failures,
            _line(words.plain(self.message), "yellow"),
            Text(KEYS, style="dim"),
        )

    # --- the head --------------------------------------------------------------------------------

    def _head(self) -> list[Text]:
        """That of one gateway."""
        from rich.text import Text

        (one,) = self.watched
        health = one.state.status
        if one.is_live is None:
            return [Text("Connecting to tortxd.", style="dim")]
        if not one.is_live:
            return [Text("The connection to tortxd is lost; trying again.", style="bold red")]
        colour = {"ok": "green", "degraded": "yellow"}.get(health.get("status", ""), "red")
        text = Text(words.health(health) if health else "", style=f"bold {colour}")
        text.append(self._totals(), style="not bold default")
        reasons = words.reasons(health) if health else []
        return [text, *(_line(reason, "yellow") for reason in reasons[:_MOST_TROUBLES])]

    def _fleet(self) -> list[Text]:
        """That of a fleet: how many serve, all together, and what is wrong with whom."""
        from rich.text import Text

        ready, number = sum(one.is_ready for one in self.watched), len(self.watched)
        if all(one.is_live is None for one in self.watched):
            return [Text(f"Connecting to {words.counted(number, 'member')}.", style="dim")]
        colour = "green" if ready == number else "yellow" if ready else "red"
        text = Text(f"{ready} of {words.counted(number, 'member')} ready", style=f"bold {colour}")
        text.append(self._totals(), style="not bold default")
        troubles = [trouble for one in self.watched for trouble in _troubles(one)]
        more = len(troubles) - _MOST_TROUBLES
        if more > 0:
            troubles = [*troubles[: _MOST_TROUBLES - 1], (f"and {more + 1} more", "yellow")]
        return [text, *(_line(*trouble) for trouble in troubles)]

    def _totals(self) -> str:
        live = [one for one in self.watched if one.is_live]
        last = [one.state.bandwidth[-1] for one in live if one.state.bandwidth]
        under_way = sum(one.requests.get("underWay", 0) for one in live)
        return (
            f"   {sum(len(one.state.circuits) for one in live)} circuits"
            f"   {sum(len(one.state.streams) for one in live)} streams"
            f"   {under_way} requests under way"
            f"   read {words.size(sum(one['read'] for one in last))}/s"
            f"   wrote {words.size(sum(one['written'] for one in last))}/s"
        )

    # --- the table -------------------------------------------------------------------------------

    def _table(self, room: int) -> RenderableType:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, header_style="bold")
        columns: tuple[tuple[str, int | None, int | None], ...] = _COLUMNS
        if self.is_fleet:
            width = max(6, *(len(one.member.name) for one in self.watched))
            columns = (("MEMBER", min(width, _LONGEST_NAME), None), *columns)
        for name, fixed, ratio in columns:
            table.add_column(name, width=fixed, ratio=ratio, no_wrap=True, overflow="ellipsis")
        ids = [(watched.member.name, one["id"]) for watched, one in self.circuits]
        at = ids.index(self.chosen) if self.chosen in ids else 0
        begin = max(0, min(at - room // 2, len(ids) - room + 2))
        for watched, one in self.circuits[begin : begin + room - 2]:
            streams = watched.state.streams_on(one["id"])
            targets = ", ".join(words.plain(stream["target"]) for stream in streams[:3])
            more = f" and {len(streams) - 3} more" if len(streams) > 3 else ""
            cells = (
                *([watched.member.name] if self.is_fleet else []),
                one["id"],
                one["state"],
                words.path(one["path"]),
                one["isolation"] or "-",
                targets + more,
            )
            style = "reverse" if (watched.member.name, one["id"]) == self.chosen else ""
            table.add_row(*map(Text, map(words.plain, cells)), style=style)
        return table

    # --- failures --------------------------------------------------------------------------------

    def _failures(self) -> list[Text]:
        """The last requests that failed."""
        every = [
            (f"{one.member.name}  " if self.is_fleet else "", failure)
            for one in self.watched
            for failure in one.requests.get("failures", ())[:_MOST_FAILURES]
        ]
        if self.is_fleet:
            every.sort(key=lambda each: float(each[1]["age"]))
        return [
            _line(
                f"{words.plain(whose)}{words.age(one['age'])} ago  {words.plain(one['code'])}, "
                f"at fault: {words.FAULTS[one['fault']]}. {words.plain(one['error'])}",
                "red",
            )
            for whose, one in every[:_MOST_FAILURES]
        ]


def _troubles(one: Watched) -> list[tuple[str, str]]:
    """What is wrong with a member, with colours."""
    name, health = words.plain(one.member.name), one.state.status
    if one.is_live is None:
        return [(f"{name}: Connecting.", "dim")]
    if not one.is_live:
        reason = "The connection is lost." if one.error is None else words.clipped(one.error)
        return [(f"{name}: {words.plain(reason)}", "bold red")]
    reasons = words.reasons(health) if health else []
    if not one.is_ready:
        reasons = [f"{words.health(health)}." if health else "It says nothing yet.", *reasons]
    return [(f"{name}: {reason}", "yellow" if one.is_ready else "red") for reason in reasons]


def _line(text: str, style: str) -> Text:
    """One line, cut where the screen ends."""
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, overflow="ellipsis")

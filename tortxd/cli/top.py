"""``tortxd top``: Tor's circuits and streams, live, with keys that close and rotate."""

from __future__ import annotations

import os
import queue
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tortxd.cli import words
from tortxd.cli.asking import Asker
from tortxd.cli.events import Event, State, follow
from tortxd.cli.failures import CommandFailed, UsageFailed
from tortxd.cli.main import Settings, command

if TYPE_CHECKING:
    from rich.console import RenderableType

FRAME = 0.5
"""Seconds between two pictures, at most."""
REQUESTS = 2.0
"""Seconds between two questions for what became of requests."""
KEYS = "up/down choose   c close   r rotate its key   n new identity   q quit"
_COLUMNS = (
    ("CIRCUIT", 7, None),
    ("STATE", 10, None),
    ("PATH", None, 3),
    ("KEY", 8, None),
    ("STREAMS", None, 2),
)
"""Names, and widths in characters or shares of what is left."""
_ARROWS = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "k": "up",
    "j": "down",
}


@command("top")
def top(settings: Settings) -> None:
    """Watch circuits, streams, throughput and failures, live.

    The keys: up and down choose a circuit, c closes it, r rotates its isolation key, n makes new
    circuits for everyone, q quits.
    """
    if settings.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageFailed("top needs a terminal; `tortxd events --json` is for programs.")
    asker = settings.asker()
    asker.get("/requests")  # says at once where there is no daemon, or no token
    Top(asker).run()


class Top:
    """What is shown, and what keys do."""

    def __init__(self, asker: Asker) -> None:
        self.state = State()
        self.message = ""
        self.chosen: str | None = None
        """The id of the circuit that keys are about."""
        self.requests: dict[str, Any] = {}
        self.is_live: bool | None = None
        """Whether events come; None: nobody has tried for long enough to know."""
        self._asker = asker
        self._events: queue.SimpleQueue[Event | CommandFailed | None] = queue.SimpleQueue()
        self._asked = 0.0

    # --- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        """Show it until q or Ctrl-C; the terminal is left as it was."""
        from rich.live import Live

        threading.Thread(target=self._follow, daemon=True).start()
        with _keys() as read_key, Live(screen=True, auto_refresh=False) as live:
            while True:
                self._take_events()
                self._ask_for_requests()
                live.update(self.picture(live.console.height), refresh=True)
                key = read_key(FRAME)
                if key in ("q", "\x03", ""):
                    return
                if key is not None:
                    self.press(key)

    def _follow(self) -> None:
        try:
            for event in follow(self._asker, lost=lambda: self._events.put(None)):
                self._events.put(event)
        except CommandFailed as error:
            self._events.put(error)

    def _take_events(self) -> None:
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, CommandFailed):
                raise event
            self.is_live = event is not None
            if event is not None:
                self.state.take(event)

    def _ask_for_requests(self) -> None:
        now = time.monotonic()
        if now - self._asked < REQUESTS:
            return
        self._asked = now
        try:
            self.requests = self._asker.get("/requests")
        except CommandFailed:
            self.is_live = False

    # --- keys ------------------------------------------------------------------------------------

    def press(self, key: str) -> None:
        """A key was pressed."""
        ids = [one["id"] for one in self.circuits()]
        if self.chosen not in ids:
            self.chosen = None
        move = {"up": -1, "down": 1}.get(_ARROWS.get(key, ""))
        if move is not None and ids:
            at = ids.index(self.chosen) + move if self.chosen else 0
            self.chosen = ids[max(0, min(at, len(ids) - 1))]
        elif key == "n":
            self._do("/identity/new", None, "New circuits for everyone, from the next request on.")
        elif key in ("c", "r") and self.chosen is None:
            self.message = "Choose a circuit first, with up and down."
        elif key == "c":
            self._do(f"/circuits/{self.chosen}/close", None, f"Circuit {self.chosen} is closed.")
        elif key == "r":
            done = f"The key of circuit {self.chosen} has new circuits, from its next request on."
            self._do("/identity/new", {"circuit": self.chosen}, done)

    def _do(self, path: str, body: object, done: str) -> None:
        try:
            self._asker.post(path, body)
            self.message = done
        except CommandFailed as error:
            self.message = str(error)

    # --- the picture -----------------------------------------------------------------------------

    def circuits(self) -> list[dict[str, Any]]:
        """Those with streams first, then those of a key, then the newest."""
        busy = {one["circuit"] for one in self.state.streams.values()}
        newest = sorted(self.state.circuits.values(), key=lambda one: -int(one["id"], 36))
        return sorted(newest, key=lambda one: (one["id"] not in busy, one["isolation"] is None))

    def picture(self, height: int) -> RenderableType:
        """What the screen shows, so many lines high."""
        from rich.console import Group
        from rich.text import Text

        failures = self._failures()
        room = max(3, height - 6 - len(failures))
        return Group(
            self._head(),
            Text(),
            self._table(room),
            *failures,
            Text(words.plain(self.message), style="yellow"),
            Text(KEYS, style="dim"),
        )

    def _head(self) -> RenderableType:
        from rich.text import Text

        state = self.state
        if self.is_live is None:
            return Text("Connecting to tortxd.", style="dim")
        if not self.is_live:
            return Text("The connection to tortxd is lost; trying again.", style="bold red")
        health = state.status
        colour = {"ok": "green", "degraded": "yellow"}.get(health.get("status", ""), "red")
        last = state.bandwidth[-1] if state.bandwidth else {"read": 0, "written": 0}
        text = Text(words.health(health) if health else "", style=f"bold {colour}")
        text.append(
            f"   {len(state.circuits)} circuits   {len(state.streams)} streams   "
            f"{self.requests.get('underWay', 0)} requests under way   "
            f"read {words.size(last['read'])}/s   wrote {words.size(last['written'])}/s",
            style="not bold default",
        )
        for reason in words.reasons(health) if health else ():
            text.append(f"\n{reason}", style="not bold yellow")
        return text

    def _table(self, room: int) -> RenderableType:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, header_style="bold")
        for name, width, ratio in _COLUMNS:
            table.add_column(name, width=width, ratio=ratio, no_wrap=True, overflow="ellipsis")
        circuits = self.circuits()
        ids = [one["id"] for one in circuits]
        at = ids.index(self.chosen) if self.chosen in ids else 0
        begin = max(0, min(at - room // 2, len(circuits) - room + 2))
        for one in circuits[begin : begin + room - 2]:
            streams = self.state.streams_on(one["id"])
            targets = ", ".join(words.plain(stream["target"]) for stream in streams[:3])
            more = f" and {len(streams) - 3} more" if len(streams) > 3 else ""
            cells = (
                one["id"],
                one["state"],
                words.path(one["path"]),
                one["isolation"] or "-",
                targets + more,
            )
            style = "reverse" if one["id"] == self.chosen else ""
            table.add_row(*map(Text, map(words.plain, cells)), style=style)
        return table

    def _failures(self) -> list[RenderableType]:
        from rich.text import Text

        return [
            Text(
                f"{words.age(one['age'])} ago  {words.plain(one['code'])}, at fault: "
                f"{words.FAULTS[one['fault']]}. {words.plain(one['error'])}",
                style="red",
                no_wrap=True,
                overflow="ellipsis",
            )
            for one in self.requests.get("failures", ())[:3]
        ]


@contextmanager
def _keys() -> Iterator[Callable[[float], str | None]]:
    """The terminal's keys, one at a time: what gives the next one, waiting so many seconds at most;
    None: there was none, empty: there are no more."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read_key(seconds: float) -> str | None:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 16).decode("utf-8", "replace") if ready else None

    tty.setcbreak(descriptor)
    try:
        yield read_key
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

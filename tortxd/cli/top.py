"""``tortxd top``: Tor's circuits and streams, live, with keys that close and rotate."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tortxd.cli.events import Event
from tortxd.cli.failures import CommandFailed, NotReached, UsageFailed
from tortxd.cli.fleet import MISSHAPEN, MembersFailed, ask, check
from tortxd.cli.main import Settings, command
from tortxd.cli.merging import Came, Merged
from tortxd.cli.picture import Picture
from tortxd.cli.roster import Member, Roster
from tortxd.cli.watching import Watched, kept, requests
from tortxd.cli.words import clipped, counted

if TYPE_CHECKING:
    from rich.console import RenderableType

FRAME = 0.5
"""Seconds between two pictures, at most."""
REQUESTS = 2.0
"""Seconds between two questions for what became of requests."""
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
    """Watch circuits, streams, throughput and failures, live; of a fleet, those of all members.

    The keys: up and down choose a circuit, c closes it, r rotates its isolation key, n makes new
    circuits for everyone, q quits.
    """
    if settings.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageFailed("top needs a terminal; `tortxd events --json` is for programs.")
    roster = settings.roster()
    # Says at once where there is no daemon, or no token.
    if roster.is_fleet:
        replies = ask(roster.members, lambda asker: asker.get("/requests"))
        if all(one.error is not None for one in replies):
            check(replies)
    else:
        roster.members[0].asker.get("/requests")
    Top(roster).run()


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


class Top:
    """What is shown, and what keys do.

    :param start: does what takes a while, so that the picture goes on.
    """

    def __init__(
        self, roster: Roster, start: Callable[[Callable[[], None]], None] = _in_background
    ) -> None:
        self.watched = [Watched(member) for member in roster.members]
        self.message = ""
        self.chosen: tuple[str, str] | None = None
        """Member and id of the circuit that keys are about."""
        self._by_name = {one.member.name: one for one in self.watched}
        self._roster = roster
        self._start = start
        self._refused: list[tuple[str, CommandFailed]] = []

    # --- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        """Show it until q or Ctrl-C; the terminal is left as it was."""
        from rich.live import Live

        merged: Merged[Event] = Merged(self._roster.members, kept)
        merged.start()
        for one in self.watched:
            threading.Thread(target=self._poll, args=(one,), daemon=True).start()
        with _keys() as read_key, Live(screen=True, auto_refresh=False) as live:
            while True:
                self.take(merged.waiting())
                live.update(self.picture(live.console.height), refresh=True)
                key = read_key(FRAME)
                if key in ("q", "\x03", ""):
                    return
                if key is not None:
                    self.press(key)

    def take(self, every: Iterable[Came[Event]]) -> None:
        """This has come of the members.

        :raises CommandFailed: there is none left to watch.
        """
        for came in every:
            self._by_name[came.member.name].take(came)
            if came.error is None:
                continue
            if not self._roster.is_fleet:
                raise came.error
            if came.is_over:
                self._refused.append((came.member.name, came.error))
            if len(self._refused) == len(self.watched):
                raise MembersFailed(self._refused)

    def _poll(self, watched: Watched) -> None:
        """Ask for what became of requests, for ever."""
        while True:
            try:
                watched.requests = requests(watched.member.asker.get("/requests"))
            except NotReached:
                watched.is_live = False
            except (CommandFailed, *MISSHAPEN):
                watched.requests = {}
            time.sleep(REQUESTS)

    # --- keys ------------------------------------------------------------------------------------

    def press(self, key: str) -> None:
        """A key was pressed."""
        ids = [(watched.member.name, one["id"]) for watched, one in self.circuits()]
        if self.chosen not in ids:
            self.chosen = None
        move = {"up": -1, "down": 1}.get(_ARROWS.get(key, ""))
        if move is not None and ids:
            at = ids.index(self.chosen) + move if self.chosen else 0
            self.chosen = ids[max(0, min(at, len(ids) - 1))]
        elif key == "n":
            self._renew_all()
        elif key in ("c", "r") and self.chosen is None:
            self.message = "Choose a circuit first, with up and down."
        elif key in ("c", "r") and self.chosen is not None:
            name, id = self.chosen
            member = self._roster.named(name)
            shown = f"{name}/{id}" if self._roster.is_fleet else id
            if key == "c":
                self._do([member], f"/circuits/{id}/close", None, f"Circuit {shown} is closed.")
            else:
                done = f"The key of circuit {shown} has new circuits, from its next request on."
                self._do([member], "/identity/new", {"circuit": id}, done)

    def _renew_all(self) -> None:
        members = self._roster.members
        at = f" at {counted(len(members), 'member')}" if self._roster.is_fleet else ""
        done = f"New circuits for everyone{at}, from the next request on."
        self._do(members, "/identity/new", None, done)

    def _do(self, members: Sequence[Member], path: str, body: object, done: str) -> None:
        def work() -> None:
            replies = ask(members, lambda asker: asker.post(path, body))
            failed = [
                (f"{one.member.name}: " if self._roster.is_fleet else "") + clipped(one.error)
                for one in replies
                if one.error is not None
            ]
            self.message = " ".join(failed) or done

        self._start(work)

    # --- the picture -----------------------------------------------------------------------------

    def circuits(self) -> list[tuple[Watched, dict[str, Any]]]:
        """Those with streams first, then those of a key, then the newest; of a fleet, not those of
        members that are lost."""
        found: list[tuple[tuple[bool, bool, int], Watched, dict[str, Any]]] = []
        for watched in self.watched:
            if self._roster.is_fleet and not watched.is_live:
                continue
            state = watched.state
            busy = {one["circuit"] for one in state.streams.values()}
            for one in state.circuits.values():
                rank = (one["id"] not in busy, one["isolation"] is None, -int(one["id"], 36))
                found.append((rank, watched, one))
        found.sort(key=lambda each: each[0])
        return [(watched, one) for _, watched, one in found]

    def picture(self, height: int) -> RenderableType:
        """What the screen shows, so many lines high."""
        shown = Picture(
            self.watched, self.circuits(), self.chosen, self.message, self._roster.is_fleet
        )
        return shown.drawn(height)


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

"""Pictures of what the command shows in a terminal, as pages for a browser to photograph."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console
from rich.terminal_theme import MONOKAI

from tortxd.cli.asking import Asker
from tortxd.cli.events import follow
from tortxd.cli.gateways import Gateway
from tortxd.cli.merging import Came
from tortxd.cli.roster import Member, Roster
from tortxd.cli.top import Top

WIDTH, HEIGHT = 112, 30
"""Characters and lines."""
_PAGE = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 18px 22px; background: {background}; color: {foreground} }}
pre {{ margin: 0; font: 14px/1.35 "DejaVu Sans Mono", monospace }}
</style><body><pre>{code}</pre>"""


def recorded(show: Callable[[Console], None]) -> str:
    """A page that looks like a terminal in which ``show`` has printed."""
    console = Console(
        file=io.StringIO(), record=True, force_terminal=True, width=WIDTH, height=HEIGHT
    )
    show(console)
    return console.export_html(theme=MONOKAI, inline_styles=True, code_format=_PAGE)


def top(gateway: Gateway) -> str:
    """``tortxd top``, as it is now."""
    asker = Asker(gateway)
    picture = Top(Roster([Member("", asker)], is_fleet=False))
    (watched,) = picture.watched
    for event in follow(asker):
        watched.take(Came(watched.member, event))
        if event.kind == "bandwidth":
            break
    watched.requests = asker.get("/requests")
    for key in ("j", "j"):
        picture.press(key)
    return recorded(lambda console: console.print(picture.picture(HEIGHT)))

"""The command itself: its options, its list of commands, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import click

from tortxd._version import __version__
from tortxd.cli.asking import Asker
from tortxd.cli.failures import USAGE, CommandFailed, ReaderGone, UsageFailed
from tortxd.cli.output import Output, note
from tortxd.cli.roster import Roster, choose

INTERRUPTED = 130
"""The exit status at Ctrl-C, as shells have it."""
_F = TypeVar("_F", bound=Callable[..., Any])


class _Entry(NamedTuple):
    module: str
    summary: str


COMMANDS = {
    "See what Tor does": {
        "status": _Entry("seeing", "Whether requests are served, and what is wrong."),
        "circuits": _Entry("seeing", "The circuits that are open, with their paths."),
        "streams": _Entry("seeing", "The streams on them, with their destinations."),
        "events": _Entry("following", "What changes, as it does."),
        "top": _Entry("top", "All of it, live; keys close and rotate."),
        "metrics": _Entry("figures", "The figures for Prometheus."),
    },
    "Steer it": {
        "newid": _Entry("steering", "New circuits: for everyone, a key, or a circuit's key."),
        "close": _Entry("steering", "Close a circuit or a stream."),
    },
    "Fetch through it": {
        "get": _Entry("fetching", "Fetch a URL through Tor, like curl."),
        "verify": _Entry("judging", "Whether requests go through Tor, with evidence."),
    },
    "Run it": {
        "serve": _Entry("running", "Run the daemon."),
        "demo": _Entry("running", "Show it all on a private Tor network."),
        "dashboard": _Entry("running", "Open the dashboard in a browser."),
        "config": _Entry("judging", "The options in force, and where each was set."),
    },
}
"""By section; each command is a function of its name, in the module that is named."""
_ENTRIES = {name: entry for section in COMMANDS.values() for name, entry in section.items()}


class Settings:
    """What the options that all commands share say."""

    def __init__(self) -> None:
        self.gateways: tuple[str, ...] = ()
        self.fleet: str | None = None
        self.token_file: str | None = None
        self.as_json = False

    def add(
        self,
        gateways: tuple[str, ...],
        fleet: str | None,
        token_file: str | None,
        *,
        as_json: bool,
    ) -> None:
        """What stands after the command counts for more than what stands before it."""
        self.gateways = gateways or self.gateways
        self.fleet = fleet or self.fleet
        self.token_file = token_file or self.token_file
        self.as_json = as_json or self.as_json

    @property
    def output(self) -> Output:
        """Where output goes."""
        return Output(as_json=self.as_json)

    def roster(self) -> Roster:
        """Whom the command asks: one gateway, or the members of a fleet."""
        roster = choose(self.gateways, self.fleet, self.token_file, os.environ)
        if roster.note is not None:
            note(roster.note)
        return roster

    def asker(self) -> Asker:
        """The same for a command that asks one.

        :raises UsageFailed: there are several.
        """
        members = self.roster().members
        if len(members) > 1:
            raise UsageFailed(
                "This command asks one gateway: give --gateway once, with its URL or, of a fleet, "
                "the member's name."
            )
        return members[0].asker


def _shared(function: _F) -> _F:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Write JSON."),
        click.option("--token-file", metavar="FILE", help="The file with the token to show."),
        click.option(
            "--gateway",
            "gateways",
            metavar="URL",
            multiple=True,
            help="The gateway to ask, or a member of the fleet; repeat it for several. Without it, "
            "the one that runs here.",
        ),
        click.option(
            "--fleet",
            metavar="FILE",
            type=click.Path(),
            help="Ask all gateways that this file has.",
        ),
    ):
        function = option(function)
    return function


def command(name: str, **attributes: Any) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function that takes :class:`Settings` and what its own options say."""

    def decorate(function: Callable[..., None]) -> click.Command:
        def run(
            gateways: tuple[str, ...],
            fleet: str | None,
            token_file: str | None,
            as_json: bool,
            **values: Any,
        ) -> None:
            settings = click.get_current_context().ensure_object(Settings)
            settings.add(gateways, fleet, token_file, as_json=as_json)
            try:
                function(settings, **values)
                sys.stdout.flush()
            except BrokenPipeError:
                raise ReaderGone from None

        run.__doc__ = function.__doc__
        vars(run)["__click_params__"] = vars(function).get("__click_params__", [])
        return click.command(name, cls=click.Command, **attributes)(_shared(run))

    return decorate


class _Lazy(click.Group):
    """Imports the module of a command when that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _ENTRIES.get(cmd_name)
        if entry is None:
            return None
        module = import_module(f"tortxd.cli.{entry.module}")
        found: click.Command = getattr(module, cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in section.items()])


@click.group("tortxd", cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="tortxd %(version)s")
@_shared
@click.pass_context
def cli(
    ctx: click.Context,
    gateways: tuple[str, ...],
    fleet: str | None,
    token_file: str | None,
    as_json: bool,
) -> None:
    """See and steer tortxd, which serves HTTP through Tor.

    Exit status: 0, 1 (the request failed), 2 (usage), 3 (no daemon is reached), 4 (Tor is not
    ready); of a fleet, 3 if any member is not reached, else 4 if any has no Tor that is ready.
    """
    ctx.ensure_object(Settings).add(gateways, fleet, token_file, as_json=as_json)


def run(arguments: Sequence[str]) -> int:
    """Run the command with these arguments; the result is its exit status."""
    try:
        status = cli.main(list(arguments), prog_name="tortxd", standalone_mode=False)
    except ReaderGone:
        # Python would complain once more when it flushes, at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except CommandFailed as error:
        for sentence in error.sentences:
            note(f"tortxd: {sentence}")
        return error.status
    except click.ClickException as error:
        error.show()
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def main() -> None:
    """Run the command, and end the process with its exit status."""
    sys.exit(run(sys.argv[1:]))

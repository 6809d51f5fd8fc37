"""Commands about the daemon itself: ``serve``, ``demo``, ``dashboard``."""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import quote

import click

from tortxd.cli.failures import CommandFailed, UsageFailed
from tortxd.cli.main import Settings, command

_PASS_ON: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {"ignore_unknown_options": True, "allow_interspersed_args": False},
}


@click.command("serve", **_PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> None:
    """Run the daemon, with the options of `twistd tortxd`."""
    from twisted.scripts.twistd import run

    sys.argv = ["tortxd serve", "-n", "--pidfile=", "tortxd", *arguments]
    run()


@click.command("demo", **_PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Show it all on a private Tor network of real tor processes, then go on serving."""
    from twisted.internet.task import react

    from tortxd.testing.demo import Options, main

    react(main, (Options.parse(list(arguments)),))


@command("dashboard")
@click.option("--print", "only_print", is_flag=True, help="Print the address; open no browser.")
def dashboard(settings: Settings, only_print: bool) -> None:
    """Open the dashboard in a browser, which is given the token for operators.

    The address with the token is for nobody else: who has it may do what operators do.
    """
    asker = settings.asker()
    url = asker.gateway.url
    if url.startswith("unix:"):
        raise UsageFailed("A browser does not reach a unix socket.")
    asker.ask("GET", "/health", as_client=True).json()
    token = asker.token
    if token is None:
        raise CommandFailed(
            "There is no token to show: name the file of the operators' token with --token-file. "
            "The daemon keeps it as operator-token in its data directory, unless its "
            "operator_token_file names another."
        )
    address = f"{url}/?token={quote(token, safe='')}"
    if settings.as_json:
        settings.output.json({"url": address})
    elif only_print or not _opened(address):
        settings.output.line(address)
    else:
        settings.output.line(f"The dashboard of {url} opens in your browser.")


def _opened(address: str) -> bool:
    """Whether there is a browser with a window, which has been told to open it."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    import webbrowser

    return webbrowser.open(address)

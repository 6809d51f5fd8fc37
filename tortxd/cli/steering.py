"""Commands that change something: ``newid``, ``close``."""

from __future__ import annotations

import math
from typing import Any

import click

from tortxd.cli.failures import CommandFailed, UsageFailed
from tortxd.cli.main import Settings, command
from tortxd.cli.words import counted


@command("newid")
@click.option("--isolation", metavar="KEY", help="For this isolation key of yours alone.")
@click.option("--proxy-user", metavar="USER:PASSWORD", help="For the key that this proxy user is.")
@click.option("--circuit", metavar="ID", help="For the isolation key of which this circuit is.")
def newid(
    settings: Settings, isolation: str | None, proxy_user: str | None, circuit: str | None
) -> None:
    """Have new circuits made: for everyone, or for one isolation key.

    What is under way goes on as it is. The guard stays: Tor keeps it for months on purpose.
    """
    named = {"isolation": isolation, "proxyUser": proxy_user, "circuit": circuit}
    body = {name: value for name, value in named.items() if value is not None}
    if len(body) > 1:
        raise UsageFailed("Give one of --isolation, --proxy-user and --circuit.")
    as_client = bool(body) and circuit is None
    value = settings.asker().post("/identity/new", body or None, as_client=as_client)
    if settings.as_json:
        settings.output.json(value)
    else:
        settings.output.line(_what_was_done(value))


def _what_was_done(value: dict[str, Any]) -> str:
    keys, connections = value["keys"], value["connections"]
    whose = "the key" if value["renewed"] == "key" else f"everyone ({counted(keys, 'key')})"
    said = f"New circuits for {whose}, from the next request on"
    if connections:
        said += f"; {counted(connections, 'connection')} to the old ones retired"
    wait = value["nextNewnym"]
    if value["renewed"] == "all" and wait:
        said += f". Tor makes the next in {math.ceil(wait)} s"
    return said + "."


@command("close")
@click.argument("id", metavar="ID")
@click.option("--circuit", "kind", flag_value="circuit", help="ID is a circuit's.")
@click.option("--stream", "kind", flag_value="stream", help="ID is a stream's.")
def close(settings: Settings, id: str, kind: str | None) -> None:
    """Close a circuit, with the streams on it, or a stream."""
    if not id.isascii() or not id.isalnum():
        raise UsageFailed("An id has letters and digits, as `tortxd circuits` shows them.")
    asker = settings.asker()
    if kind is None:
        there = [
            name
            for name in ("circuit", "stream")
            if any(one["id"] == id for one in asker.get(f"/{name}s")[f"{name}s"])
        ]
        if len(there) > 1:
            raise UsageFailed(
                f"There are a circuit {id} and a stream {id}: add --circuit or --stream."
            )
        if not there:
            raise CommandFailed(f"There is no circuit and no stream {id} now.")
        (kind,) = there
    value = asker.post(f"/{kind}s/{id}/close")
    if settings.as_json:
        settings.output.json(value)
    else:
        settings.output.line(f"The {kind} {id} is closed.")

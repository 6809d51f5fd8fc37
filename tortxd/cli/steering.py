"""Commands that change something: ``newid``, ``close``."""

from __future__ import annotations

import math

import click

from tortxd.cli import words
from tortxd.cli.asking import Asker
from tortxd.cli.failures import CommandFailed, UsageFailed
from tortxd.cli.fleet import Json, ask, check, consult, described, labelled
from tortxd.cli.locating import check_id, kinds_of, locate
from tortxd.cli.main import Settings, command
from tortxd.cli.output import Output
from tortxd.cli.roster import Member, Roster
from tortxd.cli.words import counted


@command("newid")
@click.option("--isolation", metavar="KEY", help="For this isolation key of yours alone.")
@click.option("--proxy-user", metavar="USER:PASSWORD", help="For the key that this proxy user is.")
@click.option(
    "--circuit", metavar="[MEMBER/]ID", help="For the isolation key of which this circuit is."
)
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
    if circuit is not None:
        _renew_circuit(settings, circuit)
        return
    output = settings.output

    def question(asker: Asker) -> tuple[Json, str]:
        value = asker.post("/identity/new", body or None, as_client=bool(body))
        return value, _what_was_done(value)

    def alone(_: Asker, done: tuple[Json, str]) -> None:
        _say(output, *done)

    consult(
        settings,
        question,
        alone=alone,
        together=lambda replies: output.facts(
            {one.member.name: words.clipped(one.value[1]) for one in replies if one.value}
        ),
        as_json=lambda replies: {
            "members": [described(one, one.value and one.value[0]) for one in replies]
        },
    )


def _renew_circuit(settings: Settings, circuit: str) -> None:
    """Renew the key of a circuit, which one member has."""
    roster = settings.roster()
    place = locate(roster, circuit, ("circuit",)) if roster.is_fleet else None
    member = roster.members[0] if place is None else place.member
    body = {"circuit": circuit if place is None else place.id}
    value = _done_by(roster, member, "/identity/new", body)
    done = _what_was_done(value)
    if place is None:
        _say(settings.output, value, done)
    else:
        _say(settings.output, labelled(member, value), f"{member.name}: {words.clipped(done)}")


def _done_by(roster: Roster, member: Member, path: str, body: Json | None = None) -> Json:
    """What a gateway says that it has done."""
    if not roster.is_fleet:
        done: Json = member.asker.post(path, body)
        return done
    replies = ask([member], lambda asker: asker.post(path, body))
    check(replies)
    return replies[0].value or {}


def _say(output: Output, value: Json, sentence: str) -> None:
    if output.as_json:
        output.json(value)
    else:
        output.line(words.plain(sentence))


def _what_was_done(value: Json) -> str:
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
@click.argument("id", metavar="[MEMBER/]ID")
@click.option("--circuit", "kind", flag_value="circuit", help="ID is a circuit's.")
@click.option("--stream", "kind", flag_value="stream", help="ID is a stream's.")
def close(settings: Settings, id: str, kind: str | None) -> None:
    """Close a circuit, with the streams on it, or a stream.

    Of a fleet, MEMBER/ID says whose it is, where several members have that ID.
    """
    kinds = ("circuit", "stream") if kind is None else (kind,)
    roster = settings.roster()
    if roster.is_fleet:
        member, id, kind = locate(roster, id, kinds)
    else:
        (member,) = roster.members
        check_id(id)
        if kind is None:
            kind = _kind_of(member.asker, id)
    value = _done_by(roster, member, f"/{kind}s/{id}/close")
    if roster.is_fleet:
        _say(settings.output, labelled(member, value), f"The {kind} {member.name}/{id} is closed.")
    else:
        _say(settings.output, value, f"The {kind} {id} is closed.")


def _kind_of(asker: Asker, id: str) -> str:
    """Whether a gateway's id is a circuit's or a stream's."""
    there = kinds_of(asker, id, ("circuit", "stream"))
    if len(there) > 1:
        raise UsageFailed(f"There are a circuit {id} and a stream {id}: add --circuit or --stream.")
    if not there:
        raise CommandFailed(f"There is no circuit and no stream {id} now.")
    return there[0]

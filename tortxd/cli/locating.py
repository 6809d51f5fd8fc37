"""Which member of a fleet has a circuit or a stream: ``MEMBER/ID``, or an ID that one alone has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tortxd.cli.asking import Asker
from tortxd.cli.failures import CommandFailed, UsageFailed
from tortxd.cli.fleet import ask, check
from tortxd.cli.roster import Member, Roster


class Place(NamedTuple):
    """Where something is."""

    member: Member
    id: str
    kind: str
    """``circuit`` or ``stream``."""


def locate(roster: Roster, text: str, kinds: Sequence[str]) -> Place:
    """Where that is which ``text`` names.

    :param kinds: what it may be.
    :raises CommandFailed: it is nowhere, or more than one.
    """
    name, _, id = text.rpartition("/")
    check_id(id)
    members = [roster.named(name)] if name else roster.members
    if name and len(kinds) == 1:  # its gateway says whether there is one
        return Place(members[0], id, kinds[0])
    replies = ask(members, lambda asker: kinds_of(asker, id, kinds))
    places = [Place(one.member, id, kind) for one in replies for kind in one.value or ()]
    if len(places) == 1:
        return places[0]
    if not places:
        check(replies)  # it may be at a member that has not answered
        at = f" at {name}" if name else ""
        raise CommandFailed(f"There is no {' and no '.join(kinds)} {id}{at} now.")
    owners = list(dict.fromkeys(place.member.name for place in places))
    if len(owners) > 1:
        choice = " or ".join(f"{owner}/{id}" for owner in owners[:10])
        raise UsageFailed(f"Several members have a {places[0].kind} {id}: say {choice}.")
    raise UsageFailed(
        f"There are a circuit {id} and a stream {id} at {owners[0]}: add --circuit or --stream."
    )


def check_id(id: str) -> None:
    """See that it may be an id.

    :raises UsageFailed: it may not.
    """
    if not id.isascii() or not id.isalnum():
        raise UsageFailed("An id has letters and digits, as `tortxd circuits` shows them.")


def kinds_of(asker: Asker, id: str, kinds: Sequence[str]) -> list[str]:
    """Of which of these kinds a gateway has something with this id."""
    return [
        kind for kind in kinds if any(one["id"] == id for one in asker.get(f"/{kind}s")[f"{kind}s"])
    ]

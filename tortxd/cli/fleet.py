"""The one door to the members of a fleet: they are asked at the same time, and one that fails hides
none of the others.

What a member says is of that member alone: its name stands beside it, whatever it says itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from tortxd.cli.asking import Asker, stranger
from tortxd.cli.failures import NOT_REACHED, NOT_READY, CommandFailed, NotReached
from tortxd.cli.output import Row
from tortxd.cli.roster import Member
from tortxd.cli.words import clipped

if TYPE_CHECKING:
    from tortxd.cli.main import Settings

PATIENCE = 15.0
"""Seconds that all members together have for an answer that no destination is asked for."""
MISSHAPEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What comes of reading an answer that is none of tortxd's."""
_T = TypeVar("_T")
Json = Mapping[str, Any]


class Reply(NamedTuple, Generic[_T]):
    """What came of asking a member: a value, a failure, or a value that is one."""

    member: Member
    value: _T | None = None
    error: CommandFailed | None = None

    @property
    def is_reached(self) -> bool:
        """Whether the member has answered, if only to say no."""
        return not isinstance(self.error, NotReached)


class MembersFailed(CommandFailed):
    """Members failed: what is said of each, and the worst exit status.

    :param before: failures that were said before, and count as well.
    """

    def __init__(
        self, failed: Sequence[tuple[str, CommandFailed]], before: Sequence[CommandFailed] = ()
    ) -> None:
        super().__init__("Members failed.")
        self._failed = failed
        self.status = worst([*before, *(error for _, error in failed)])

    @property
    def sentences(self) -> list[str]:
        return [f"{name}: {clipped(error, 1000)}" for name, error in self._failed]


def worst(errors: Iterable[CommandFailed]) -> int:
    """The exit status for these: that a member is not reached counts for more than that it has no
    Tor, and this for more than whatever else."""
    statuses = {error.status for error in errors}
    for status in (NOT_REACHED, NOT_READY):
        if status in statuses:
            return status
    return min(statuses)


# --- asking ---------------------------------------------------------------------------------------


def ask(
    members: Sequence[Member], question: Callable[[Asker], _T], patience: float = PATIENCE
) -> list[Reply[_T]]:
    """Ask all at the same time; the replies are in the order of the members.

    :param patience: seconds, after which a member counts as not reached.
    """
    replies: dict[str, Reply[_T]] = {}
    faults: list[BaseException] = []

    def run(member: Member) -> None:
        try:
            replies[member.name] = Reply(member, question(member.asker))
        except CommandFailed as error:
            replies[member.name] = Reply(member, error=error)
        except MISSHAPEN:
            replies[member.name] = Reply(member, error=stranger(member.url))
        except BaseException as error:  # a fault of ours is no member's
            faults.append(error)

    # Not a pool: the process ends without waiting for a member that hangs.
    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in members]
    for thread in threads:
        thread.start()
    end = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if faults:
        raise faults[0]
    came = dict(replies)
    return [
        came.get(one.name) or Reply(one, error=NotReached(f"{one.url} does not answer in time."))
        for one in members
    ]


def consult(
    settings: Settings,
    question: Callable[[Asker], _T],
    *,
    alone: Callable[[Asker, _T], None],
    together: Callable[[Sequence[Reply[_T]]], None],
    as_json: Callable[[Sequence[Reply[_T]]], Json],
    judge: Callable[[_T], CommandFailed | None] = lambda _: None,
    patience: float = PATIENCE,
) -> None:
    """Ask whoever is meant, show what they say, and fail where one has failed.

    :param alone: shows what one gateway says, in words or as JSON.
    :param together: shows in words what the members of a fleet say.
    :param as_json: the same for programs.
    :param judge: how a value counts that is shown: None, or as this failure.
    :raises CommandFailed: it was so.
    """
    roster = settings.roster()
    if not roster.is_fleet:
        (member,) = roster.members
        try:
            value = question(member.asker)
        except MISSHAPEN:
            raise stranger(member.url) from None
        alone(member.asker, value)
        if (failure := judge(value)) is not None:
            raise failure
        return
    replies = ask(roster.members, question, patience)
    if settings.as_json:
        settings.output.json(as_json(replies))
    else:
        together(replies)
    check(replies, judge)


def check(
    replies: Sequence[Reply[_T]], judge: Callable[[_T], CommandFailed | None] = lambda _: None
) -> None:
    """See that no member has failed.

    :raises MembersFailed: one has.
    """
    failed: list[tuple[str, CommandFailed]] = []
    for one in replies:
        error = one.error if one.value is None else judge(one.value)
        if error is not None:
            failed.append((one.member.name, error))
    if failed:
        raise MembersFailed(failed)


# --- what programs read ---------------------------------------------------------------------------


def labelled(member: Member, value: Json) -> dict[str, Any]:
    """An object of a member's, which says whose it is."""
    own = {"member": member.name}
    return own | dict(value) | own


def described(reply: Reply[Any], value: Json | None = None) -> dict[str, Any]:
    """Who was asked, with what it says, or how it failed."""
    own = {"member": reply.member.name, "gateway": reply.member.url}
    if reply.error is not None:
        return own | {"error": str(reply.error), "code": reply.error.code}
    return own | dict(value or {}) | own


def members_json(replies: Sequence[Reply[Any]]) -> Json:
    """What each says, where that is an object."""
    return {"members": [described(one, one.value) for one in replies]}


# --- lists ----------------------------------------------------------------------------------------


class Listing(NamedTuple):
    """What of a gateway's is listed."""

    name: str
    """Of the route, and of the list in its answer."""
    header: Row
    row: Callable[[Json], Row]
    empty: str
    """A sentence for when there is none."""


def listing(settings: Settings, shown: Listing) -> None:
    """List what a gateway has, or what all members have in one list."""
    output = settings.output

    def question(asker: Asker) -> tuple[Json, list[Row]]:
        value = asker.get(f"/{shown.name}")
        listed = value[shown.name]
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise stranger(asker.gateway.url)
        return value, [] if settings.as_json else [shown.row(one) for one in listed]

    def alone(_: Asker, value: tuple[Json, list[Row]]) -> None:
        if settings.as_json:
            output.json(value[0])
        else:
            output.table(shown.header, value[1], shown.empty)

    def together(replies: Sequence[Reply[tuple[Json, list[Row]]]]) -> None:
        rows = [
            (one.member.name, *map(clipped, row))
            for one in replies
            if one.value
            for row in one.value[1]
        ]
        output.table(("MEMBER", *shown.header), rows, shown.empty)

    def as_json(replies: Sequence[Reply[tuple[Json, list[Row]]]]) -> Json:
        every = [
            labelled(one.member, each)
            for one in replies
            if one.value
            for each in one.value[0][shown.name]
        ]
        return {shown.name: every, "members": [described(one) for one in replies]}

    consult(settings, question, alone=alone, together=together, as_json=as_json)

"""What ``tortxd top`` knows of each gateway that it watches."""

from __future__ import annotations

from typing import Any

from tortxd.cli import words
from tortxd.cli.events import Event, State
from tortxd.cli.failures import CommandFailed
from tortxd.cli.fleet import Json
from tortxd.cli.merging import Came
from tortxd.cli.roster import Member

_LONGEST = 300
"""Characters of a text that is kept."""
_MOST = 20
"""Relays of a path, and reasons, that are kept."""


class Watched:
    """A gateway, as its events and its answers make it up."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.state = State()
        self.requests: dict[str, Any] = {}
        self.is_live: bool | None = None
        """Whether events come; None: nobody has tried for long enough to know."""
        self.error: CommandFailed | None = None
        """Why they do not, where that is known."""

    @property
    def is_ready(self) -> bool:
        """Whether it serves requests, by what it says."""
        return self.is_live is True and self.state.status.get("status") in ("ok", "degraded")

    def take(self, came: Came[Event]) -> None:
        """Something has come of it."""
        self.is_live = came.value is not None
        self.error = came.error
        if came.value is not None:
            self.state.take(came.value)


def kept(_: Member, event: Event) -> Event:
    """An event with what the picture shows, and nothing else: whatever a gateway sends, it is not
    much.

    :raises LookupError, TypeError, ValueError: it is no event.
    """
    data = event.data
    match event.kind:
        case "snapshot":
            value: Any = {
                "circuits": [_circuit(one) for one in data.get("circuits", ())],
                "streams": [_stream(one) for one in data.get("streams", ())],
                "bandwidth": [_bandwidth(one) for one in data.get("bandwidth", ())[-300:]],
            }
            if "status" in data:
                value["status"] = _status(data["status"])
        case "status":
            value = _status(data)
        case "circuit":
            value = _circuit(data)
        case "stream":
            value = _stream(data)
        case "bandwidth":
            value = _bandwidth(data)
        case _:
            value = None
    return Event(event.id, event.kind, value)


def requests(value: Json) -> dict[str, Any]:
    """The same of what became of requests."""
    failures = [
        {name: _text(one[name]) for name in ("code", "error", "fault")} | {"age": float(one["age"])}
        for one in value["failures"][:3]
        if one["fault"] in words.FAULTS
    ]
    return {"underWay": _count(value["underWay"]), "failures": failures}


def _text(value: object) -> str:
    return words.clipped(value, _LONGEST)


def _count(value: float) -> int:
    return min(int(value), 10**9)


def _or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _id(value: str) -> str:
    if not value.isascii() or not value.isalnum() or len(value) > 20:
        raise ValueError("no id")
    return value


def _circuit(one: Json) -> Json:
    names = ("nickname", "fingerprint", "country")
    return {
        "id": _id(one["id"]),
        "state": _text(one["state"]),
        "path": [{name: _or_none(each[name]) for name in names} for each in one["path"][:_MOST]],
        "isolation": _or_none(one["isolation"]),
    }


def _stream(one: Json) -> Json:
    return {
        "id": _id(one["id"]),
        "state": _text(one["state"]),
        "circuit": _or_none(one["circuit"]),
        "target": _text(one["target"]),
    }


def _bandwidth(one: Json) -> Json:
    return {"read": float(one["read"]), "written": float(one["written"])}


def _status(one: Json) -> Json:
    value: dict[str, Any] = {
        "status": _text(one["status"]),
        "reasons": list(map(_text, one.get("reasons", [])[:_MOST])),
    }
    value |= {name: _text(one[name]) for name in ("warning", "reason") if one.get(name)}
    if "retryIn" in one:
        value["retryIn"] = float(one["retryIn"])
    bootstrap = one["bootstrap"]
    summary = _text(bootstrap["summary"])
    return value | {"bootstrap": {"progress": _count(bootstrap["progress"]), "summary": summary}}

"""What the origin has to offer. See :class:`tortxd.testing.origin.Origin` for the list."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

from attrs import frozen

from tortxd.testing.model import Relay
from tortxd.testing.origin_http import Body, Canned, Connection, Ending, Framing, Reply, Request

PAGE = (
    b"<!DOCTYPE html>\n<html lang=en><title>It works</title>\n"
    b"<p>This page came through a private Tor network.\n"
)


@frozen
class Asked:
    """A request with all that a route may want to know."""

    connection: Connection
    request: Request
    body: Body
    arguments: tuple[str, ...]
    """What follows the route's name in the path."""
    query: tuple[tuple[str, str], ...]
    exit_of: Callable[[], Relay | None]
    """Looks up the exit that made the connection; None when none did."""

    def first(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return dict(reversed(self.query)).get(name, default)


Route = Callable[[Asked], Reply | Canned]
Routes = Mapping[str, Route]
"""By path, or the first part of one; ``*`` is for all other paths."""


def find(
    asked_for: bytes, routes: Routes | None = None
) -> tuple[Route, tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The route, its arguments and the query of a request target, be it a path or a whole URL."""
    parts = urlsplit(asked_for.decode("latin-1"))
    name, *arguments = parts.path.strip("/").split("/")
    table = ROUTES if routes is None else routes
    route = table.get(parts.path) or table.get(f"/{name}") or table.get("*", _not_found)
    return route, tuple(arguments), tuple(parse_qsl(parts.query, keep_blank_values=True))


def json_reply(value: object, status: int = 200) -> Reply:
    """A value as JSON."""
    body = json.dumps(value).encode()
    return Reply(status, (("Content-Type", "application/json"),), body)


def text_reply(text: str, status: int = 200, *headers: tuple[str, str]) -> Reply:
    """A text as it is."""
    return Reply(status, (("Content-Type", "text/plain; charset=utf-8"), *headers), text.encode())


def _not_found(_: Asked) -> Reply:
    return text_reply("not found\n", 404)


def _page(_: Asked) -> Reply:
    return Reply(headers=(("Content-Type", "text/html; charset=utf-8"),), body=PAGE)


def _received(asked: Asked) -> dict[str, object]:
    return {"length": asked.body.length, "sha256": asked.body.sha256}


def _echo(asked: Asked) -> Reply:
    whole = asked.body.length == len(asked.body.start)
    pairs = asked.request.headers
    return json_reply(
        {
            "method": asked.request.method.decode("latin-1"),
            "target": asked.request.target.decode("latin-1"),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in pairs],
            "body": base64.b64encode(asked.body.start).decode() if whole else None,
            **_received(asked),
        }
    )


def _upload(asked: Asked) -> Reply:
    return json_reply(_received(asked))


def _sized(framing: Framing) -> Route:
    def reply(asked: Asked) -> Reply:
        cut = asked.first("cut")
        default = "close" if cut else "keep"
        return Reply(
            headers=(("Content-Type", "application/octet-stream"),),
            size=int(asked.arguments[0]),
            framing=framing,
            cut=int(cut) if cut else None,
            ending=cast(Ending, asked.first("ending", default)),
        )

    return reply


def _reset(_: Asked) -> Reply:
    return Reply(size=100_000, cut=50_000, ending="abort")


def _status(asked: Asked) -> Reply:
    status = int(asked.arguments[0])
    return text_reply(f"{status}\n", status)


def _redirect(asked: Asked) -> Reply:
    return text_reply(
        "elsewhere\n", int(asked.first("status", "302")), ("Location", asked.first("to"))
    )


def _head(asked: Asked) -> Reply:
    return text_reply(asked.request.head.decode("latin-1"))


def _hang(_: Asked) -> Canned:
    return Canned(b"", "hang")


def _gzip(_: Asked) -> Reply:
    headers = (("Content-Type", "text/html; charset=utf-8"), ("Content-Encoding", "gzip"))
    return Reply(headers=headers, body=gzip.compress(PAGE, mtime=0))


def _respond(asked: Asked) -> Reply:
    given = [value for name, value in asked.query if name == "header"]
    pairs = (value.partition(":") for value in given)
    headers = tuple((name, value.strip()) for name, _, value in pairs)
    return Reply(int(asked.first("status", "200")), headers, asked.first("body").encode())


def _raw(asked: Asked) -> Canned:
    # From the target itself: any byte may be meant, and a query parser would make text of it.
    data = unquote_to_bytes(asked.request.target.partition(b"?")[2])
    return Canned(data, "close")


def address_of(asked: Asked) -> str:
    """Where a request comes from: the exit's address, or the peer's where there is no exit."""
    exit_relay = asked.exit_of()
    return exit_relay.address if exit_relay else asked.connection.peer[0]


def _ip(asked: Asked) -> Reply:
    return json_reply({"ip": address_of(asked)})


def is_tor(asked: Asked) -> Reply:
    """What check.torproject.org/api/ip says."""
    exit_relay = asked.exit_of()
    address = exit_relay.address if exit_relay else asked.connection.peer[0]
    return json_reply({"IsTor": exit_relay is not None, "IP": address})


ROUTES: Routes = {
    "/": _page,
    "/echo": _echo,
    "/upload": _upload,
    "/bytes": _sized("length"),
    "/chunked": _sized("chunked"),
    "/close": _sized("close"),
    "/reset": _reset,
    "/status": _status,
    "/redirect": _redirect,
    "/head": _head,
    "/hang": _hang,
    "/gzip": _gzip,
    "/respond": _respond,
    "/raw": _raw,
    "/ip": _ip,
    "/api/ip": is_tor,
}

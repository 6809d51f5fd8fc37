"""What callers of the routes can say beside method and path, as it is described to them."""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from tortxd.gateway.control.schemas import Schema


class Where(Enum):
    """Where a parameter stands, as OpenAPI names it."""

    QUERY = "query"
    HEADER = "header"
    PATH = "path"


@frozen
class Parameter:
    """One of them."""

    name: str
    where: Where
    meaning: str
    """A sentence or several."""
    schema: Schema
    required: bool = False
    """Those of the path always are."""


PRETTY = Parameter(
    "pretty",
    Where.QUERY,
    "Indents the JSON for people, whatever Accept says; `0` and `false` do not.",
    {"type": "string"},
)
TIMEOUT = Parameter(
    "Tortxd-Timeout",
    Where.HEADER,
    "Seconds from the request to the response's headers, waiting for Tor included; at most the "
    "daemon's own limit.",
    {"type": "string", "pattern": r"^(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,9})?$", "examples": ["30"]},
)
_KEY = {"type": "string", "minLength": 1, "maxLength": 256, "examples": ["alice"]}
_ISOLATES = (
    "An isolation key of 1 to 256 bytes. Requests with different keys never share a circuit; with "
    "equal keys of the same caller they may. Without one, the destination's site takes its place."
)
ISOLATION = Parameter(
    "Tor-Stream-Isolation",
    Where.HEADER,
    f"{_ISOLATES} `X-Tor-Stream-Isolation` means the same.",
    _KEY,
)
URL = Parameter(
    "url",
    Where.QUERY,
    "The target: http, https, or, for WebSockets, ws or wss. It is percent-encoded, as by "
    "encodeURIComponent.",
    {"type": "string", "examples": ["https://example.com/?a=1&b=2"]},
    required=True,
)
ISOLATION_QUERY = Parameter(
    "isolation", Where.QUERY, f"{_ISOLATES} For callers that cannot set headers.", _KEY
)
REDIRECTED = Parameter(
    "redirected",
    Where.QUERY,
    "Stands in the links that the gateway makes of redirects to another origin: such a request "
    "goes without Authorization, and with a body it is refused.",
    {"type": "string", "examples": ["1"]},
)
PAGE_TOKEN = Parameter(
    "token",
    Where.QUERY,
    "The operator token, which is changed for a cookie.",
    {"type": "string"},
)
CIRCUIT = Parameter(
    "id", Where.PATH, "The circuit's id, as in `/circuits`.", {"type": "string", "examples": ["12"]}
)
STREAM = Parameter(
    "id", Where.PATH, "The stream's id, as in `/streams`.", {"type": "string", "examples": ["40"]}
)
TYPES = Parameter(
    "types",
    Where.QUERY,
    "Which kinds of events, separated by commas: `status`, `circuit`, `stream`, `bandwidth`. All "
    "where it is absent.",
    {"type": "string", "examples": ["circuit,stream"]},
)
LAST_EVENT_ID = Parameter(
    "Last-Event-ID",
    Where.HEADER,
    "The `id` of the last event that the reader had: it goes on behind that, or gets a snapshot.",
    {"type": "string"},
)

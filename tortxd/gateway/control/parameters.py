"""What callers of the routes can say beside method and path, as it is described to them."""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from tortxd.gateway.control.schemas import Schema
from tortxd.policy.steering import LONGEST_STICKY, MOST_NAMED, MOST_RETRIES, header_of


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


def _list_of(member: str) -> str:
    """The pattern of a list of some such members, as HTTP has lists (RFC 9110, section 5.6.1)."""
    return rf"^[ \t,]*{member}([ \t]*,[ \t,]*{member}){{0,{MOST_NAMED - 1}}}[ \t,]*$"


_SECONDS_AND_STRICT = (
    r"^(?=[0-9]{1,9}(?![0-9]))"
    r"0*([1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400)"
    r"([ \t]*,[ \t]*[sS][tT][rR][iI][cC][tT])?$"
)
"""From 1 to 86,400."""

PRETTY = Parameter(
    "pretty",
    Where.QUERY,
    "Indents the JSON for people, whatever Accept says; `0` and `false` do not.",
    {"type": "string"},
)
LIVE = Parameter(
    "live",
    Where.QUERY,
    "Asks whether the daemon can go on by itself, not whether requests are served: the status is "
    "200 unless only a restart would help.",
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
_STEERING: tuple[tuple[bytes, str, Schema], ...] = (
    (
        b"exit-country",
        "The countries in one of which the request must leave Tor: two-letter codes (ISO 3166-1), "
        "separated by commas. Where no exit is there, it fails with `exit_unavailable`.",
        {"type": "string", "pattern": _list_of("[A-Za-z]{2}"), "examples": ["de", "de, fr"]},
    ),
    (
        b"exit",
        "The fingerprints of the relays by one of which the request must leave Tor, separated by "
        "commas. With countries, both must be right.",
        {
            "type": "string",
            "pattern": _list_of(r"\$?[0-9A-Fa-f]{40}"),
            "examples": ["B9D3A0C7E6F1482955AA0D3B6C7E8F90A1B2C3D4"],
        },
    ),
    (
        b"sticky",
        f"Seconds, up to {LONGEST_STICKY}, for which the isolation key keeps its exit from now on. "
        "When that exit goes, it has another one, which Tortxd-Exit-Changed tells; with `strict` "
        "behind a comma, the request fails with `exit_unavailable` instead.",
        {"type": "string", "pattern": _SECONDS_AND_STRICT, "examples": ["600", "600, strict"]},
    ),
    (
        b"retry",
        f"How often, {MOST_RETRIES} times at most, the request is tried again, each time on a "
        "fresh circuit: a GET, HEAD or OPTIONS without a body, as long as nothing of a response "
        "has come.",
        {"type": "string", "pattern": f"^0{{0,8}}[0-{MOST_RETRIES}]$", "examples": ["2"]},
    ),
)
STEERING = tuple(
    Parameter(header_of(name), Where.HEADER, meaning, schema) for name, meaning, schema in _STEERING
)
STEERING_QUERY = tuple(
    Parameter(name.decode(), Where.QUERY, f"{meaning} For callers that cannot set headers.", schema)
    for name, meaning, schema in _STEERING
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

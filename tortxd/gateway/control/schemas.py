"""What the control plane's answers look like, as JSON Schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tortxd.errors import kinds

Schema = Mapping[str, Any]
"""A JSON Schema (draft 2020-12)."""


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def _text(*examples: str) -> Schema:
    return {"type": "string", "examples": list(examples)}


_TEXT = {"type": "string"}
_TRUTH = {"type": "boolean"}
_TIME = {"type": "string", "format": "date-time", "examples": ["2026-11-27T10:31:02Z"]}
_SECONDS = {"type": "number", "minimum": 0, "description": "Seconds."}
_ADDRESS = {"type": "string", "description": "An IP address.", "examples": ["203.0.113.9"]}
_SOCKS_URL = _or_null(
    {
        "type": "string",
        "description": "socks5h://HOST:PORT, or a unix socket.",
        "examples": ["socks5h://127.0.0.1:9050"],
    }
)
_RELAY = _object(
    {
        "fingerprint": {
            "type": "string",
            "pattern": "^[0-9A-F]{40}$",
            "examples": ["B9D3A0C7E6F1482955AA0D3B6C7E8F90A1B2C3D4"],
        },
        "nickname": _or_null(_text("relay")),
        "address": _or_null(_ADDRESS),
        "country": _or_null(
            {
                "type": "string",
                "description": "ISO 3166-1 alpha-2, lower case.",
                "examples": ["de"],
            }
        ),
    }
)
_CIRCUIT_ID, _STREAM_ID = _text("12"), _text("40")
_CIRCUIT_MEMBERS = {
    "id": _CIRCUIT_ID,
    "state": _text("BUILT"),
    "purpose": _or_null(_text("GENERAL")),
    "path": _list(_RELAY),
    "streams": _list(_STREAM_ID),
}
_OWN_CIRCUIT = _object(_CIRCUIT_MEMBERS)
"""The circuit that has carried a client's request."""
_TAG = {
    "type": "string",
    "pattern": "^[0-9a-f]{8}$",
    "examples": ["5b09c1d2"],
    "description": "Opaque; equal for the circuits and streams of one isolation key.",
}
_COUNT = {"type": "integer", "minimum": 0}
_BYTES = {"type": "integer", "minimum": 0, "description": "Bytes."}
_WAYS = ("proxy", "absolute-form", "connect", "library", "probe")
_REASONS: dict[str, Schema] = {"reason": _or_null(_TEXT), "remoteReason": _or_null(_TEXT)}
"""Of what has ended, in an event."""
CIRCUIT = _object(
    {
        **_CIRCUIT_MEMBERS,
        "flags": _list(_text("NEED_CAPACITY")),
        "buildTime": _or_null(_SECONDS),
        "conflux": _or_null(
            _object({"set": _text("5B09C1D2"), "leg": {"type": "integer", "minimum": 1}})
        ),
        "guard": {
            **_or_null(_TRUTH),
            "description": "Whether its first hop is one of Tor's guards; null: not known.",
        },
        "isolation": _or_null(_TAG),
        "age": _SECONDS,
    },
    _REASONS,
)
STREAM = _object(
    {
        "id": _STREAM_ID,
        "state": _text("SUCCEEDED"),
        "circuit": _or_null(_CIRCUIT_ID),
        "target": _text("example.com:443"),
        "purpose": _or_null(_text("USER")),
        "way": _or_null(_one_of(*_WAYS, "socks", "unknown")),
        "isolation": _or_null(_TAG),
        "age": _SECONDS,
    },
    _REASONS,
)
BANDWIDTH = _object({"read": _BYTES, "written": _BYTES}, {"age": _SECONDS})
_BOOTSTRAP = _object(
    {
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "tag": _text("done"),
        "summary": _text("Done"),
    }
)

HEALTH = _object(
    {
        "status": _one_of("ok", "degraded", "starting", "bootstrapping", "down", "stopping"),
        "since": _TIME,
        "age": _SECONDS,
        "bootstrap": _BOOTSTRAP,
        "tor": _SOCKS_URL,
        "network": _one_of("public", "private", "unknown"),
        "version": _text("0.1.0"),
    },
    {
        "reasons": _list(_TEXT),
        "warning": _TEXT,
        "reason": _TEXT,
        "retryIn": _SECONDS,
    },
)
IP = _object({"exitIp": _ADDRESS, "viaTor": {"const": True}, "circuit": _or_null(_OWN_CIRCUIT)})
VERIFICATION = _object(
    {
        "isTor": _TRUTH,
        "exitIp": _or_null(_ADDRESS),
        "verdict": _one_of("verified", "unverified", "contradicted"),
        "evidence": _object(
            {
                "controlPort": _object(
                    {"streamOnCircuit": _TRUTH, "circuit": _or_null(_OWN_CIRCUIT)}
                ),
                "checkService": _object(
                    {
                        "answered": _TRUTH,
                        "isTor": _or_null(_TRUTH),
                        "error": _or_null(_text("origin_timeout")),
                    }
                ),
            }
        ),
        "proxyUrl": _SOCKS_URL,
        "age": _SECONDS,
    }
)
NEW_IDENTITY = _object(
    {
        "renewed": _one_of("key", "all"),
        "keys": {
            **_COUNT,
            "description": "How many isolation keys; of all, those used since they were renewed.",
        },
        "connections": {
            **_COUNT,
            "description": "Connections that were closed, or will be when their exchange ends.",
        },
        "nextNewnym": {
            **_or_null(_SECONDS),
            "description": "Seconds until Tor carries out another NEWNYM at once; null: not known.",
        },
    }
)
CIRCUITS = _object({"circuits": _list(CIRCUIT)})
STREAMS = _object({"streams": _list(STREAM)})
CLOSED = _object({"closed": _text("12")})
REQUESTS = _object(
    {
        "underWay": _COUNT,
        "connections": _COUNT,
        "pool": _COUNT,
        "counts": _list(
            _object({"way": _one_of(*_WAYS, "unknown"), "outcome": _text("ok"), "count": _COUNT})
        ),
        "intervals": _list(
            _object(
                {
                    "age": _SECONDS,
                    "requests": _COUNT,
                    "failed": _COUNT,
                    "median": _or_null(_SECONDS),
                    "longest": _or_null(_SECONDS),
                }
            )
        ),
        "failures": _list(
            _object(
                {
                    "age": _SECONDS,
                    "way": _one_of(*_WAYS, "unknown"),
                    "code": _text("resolve_failed"),
                    "fault": _one_of("client", "destination", "tor", "gateway"),
                    "error": _text("The destination's name could not be resolved."),
                    "retryable": _TRUTH,
                    "torReason": _or_null(_text("RESOLVEFAILED")),
                    "circuit": _or_null(_CIRCUIT_ID),
                    "exit": _or_null(_RELAY),
                    "isolation": _or_null(_TAG),
                }
            )
        ),
    }
)
CONFIG = _object(
    {
        "options": _list(
            _object(
                {
                    "name": _text("timeout"),
                    "option": _text("--timeout"),
                    "value": {"examples": [30.0]},
                    "source": _one_of("environment", "option", "file", "program", "default"),
                    "set": _or_null(_text("TORTXD_TIMEOUT")),
                }
            )
        ),
        "endpoints": _list(_text("http://127.0.0.1:3080")),
    }
)
SNAPSHOT = _object(
    {},
    {
        "status": HEALTH,
        "circuits": _list(CIRCUIT),
        "streams": _list(STREAM),
        "bandwidth": _list(BANDWIDTH),
    },
)
LISTING = _object(
    {
        "status": HEALTH["properties"]["status"],
        "version": _text("0.1.0"),
        "routes": {
            "type": "object",
            "additionalProperties": _TEXT,
            "examples": [{"GET /health": "whether requests are served, and how far Tor is"}],
        },
    }
)
OPENAPI = {
    "type": "object",
    "required": ["openapi", "info", "paths", "components"],
    "properties": {"openapi": {"type": "string", "pattern": r"^3\.1\.[0-9]+$"}},
    "description": "OpenAPI 3.1.",
    "examples": [
        {
            "openapi": "3.1.1",
            "info": {"title": "tortxd", "version": "0.1.0"},
            "paths": {},
            "components": {},
        }
    ],
}
ERROR = {
    "type": "object",
    "required": ["error", "code", "retryable"],
    "properties": {
        "error": {
            "type": "string",
            "description": "A sentence for people.",
            "examples": ["Tor is not ready yet."],
        },
        "code": {**_one_of(*sorted(kinds())), "description": "For programs."},
        "retryable": {"type": "boolean", "description": "Whether trying again may help."},
        "bootstrap": _BOOTSTRAP,
    },
}
"""Every error; some say more."""

RENEWAL = {
    "type": "object",
    "properties": {
        "isolation": {
            "type": "string",
            "minLength": 1,
            "maxLength": 256,
            "description": "An isolation key of 1 to 256 bytes.",
        },
        "proxyUser": {
            "type": "string",
            "minLength": 1,
            "description": "User and password, with a colon between them, by which a program that "
            "uses the HTTP proxy names its isolation key.",
        },
        "circuit": {
            "type": "string",
            "description": "The id of a circuit, whose isolation key is meant: for operators.",
        },
    },
    "maxProperties": 1,
    "additionalProperties": False,
    "examples": [{"isolation": "alice"}, {"proxyUser": "bob:password"}],
}
"""What a request for a new identity may name."""

COMPONENTS: Mapping[str, Schema] = {
    "Bandwidth": BANDWIDTH,
    "Bootstrap": _BOOTSTRAP,
    "Circuit": CIRCUIT,
    "CircuitOfProbe": _OWN_CIRCUIT,
    "Circuits": CIRCUITS,
    "Closed": CLOSED,
    "Config": CONFIG,
    "Error": ERROR,
    "Health": HEALTH,
    "Ip": IP,
    "Listing": LISTING,
    "NewIdentity": NEW_IDENTITY,
    "Relay": _RELAY,
    "Requests": REQUESTS,
    "Snapshot": SNAPSHOT,
    "Stream": STREAM,
    "Streams": STREAMS,
    "Verification": VERIFICATION,
    "WhatToRenew": RENEWAL,
}
"""Those that the description of the API names, and refers to wherever they stand."""

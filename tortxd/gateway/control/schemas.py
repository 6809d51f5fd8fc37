"""What the control plane's answers look like, as JSON Schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


_TEXT = {"type": "string"}
_TRUTH = {"type": "boolean"}
_SECONDS = {"type": "number", "minimum": 0, "description": "Seconds."}
_ADDRESS = {"type": "string", "description": "An IP address."}
_SOCKS_URL = _or_null({"type": "string", "description": "socks5h://HOST:PORT, or a unix socket."})
_RELAY = _object(
    {
        "fingerprint": {"type": "string", "pattern": "^[0-9A-F]{40}$"},
        "nickname": _or_null(_TEXT),
        "address": _or_null(_ADDRESS),
        "country": _or_null({"type": "string", "description": "ISO 3166-1 alpha-2, lower case."}),
    }
)
_CIRCUIT_MEMBERS = {
    "id": _TEXT,
    "state": _TEXT,
    "purpose": _or_null(_TEXT),
    "path": _list(_RELAY),
    "streams": _list(_TEXT),
}
_OWN_CIRCUIT = _object(_CIRCUIT_MEMBERS)
"""The circuit that has carried a client's request."""
_TAG = {
    "type": "string",
    "pattern": "^[0-9a-f]{8}$",
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
        "flags": _list(_TEXT),
        "buildTime": _or_null(_SECONDS),
        "conflux": _or_null(_object({"set": _TEXT, "leg": {"type": "integer", "minimum": 1}})),
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
        "id": _TEXT,
        "state": _TEXT,
        "circuit": _or_null(_TEXT),
        "target": _TEXT,
        "purpose": _or_null(_TEXT),
        "way": _or_null(_one_of(*_WAYS, "socks", "unknown")),
        "isolation": _or_null(_TAG),
        "age": _SECONDS,
    },
    _REASONS,
)
BANDWIDTH = _object({"read": _BYTES, "written": _BYTES}, {"age": _SECONDS})
_BOOTSTRAP = _object(
    {"progress": {"type": "integer", "minimum": 0, "maximum": 100}, "tag": _TEXT, "summary": _TEXT}
)

HEALTH = _object(
    {
        "status": _one_of("ok", "degraded", "starting", "bootstrapping", "down"),
        "bootstrap": _BOOTSTRAP,
        "tor": _SOCKS_URL,
        "network": _one_of("public", "private", "unknown"),
        "version": _TEXT,
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
                    {"answered": _TRUTH, "isTor": _or_null(_TRUTH), "error": _or_null(_TEXT)}
                ),
            }
        ),
        "proxyUrl": _SOCKS_URL,
        "age": _SECONDS,
    }
)
NEW_IDENTITY = _object({"renewed": _one_of("key", "all")})
CIRCUITS = _object({"circuits": _list(CIRCUIT)})
STREAMS = _object({"streams": _list(STREAM)})
CLOSED = _object({"closed": _TEXT})
REQUESTS = _object(
    {
        "underWay": _COUNT,
        "connections": _COUNT,
        "pool": _COUNT,
        "counts": _list(
            _object({"way": _one_of(*_WAYS, "unknown"), "outcome": _TEXT, "count": _COUNT})
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
                    "code": _TEXT,
                    "fault": _one_of("client", "destination", "tor", "gateway"),
                    "error": _TEXT,
                    "retryable": _TRUTH,
                    "torReason": _or_null(_TEXT),
                    "circuit": _or_null(_TEXT),
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
                    "name": _TEXT,
                    "option": _TEXT,
                    "value": {},
                    "source": _one_of("default", "file", "environment", "option", "program"),
                    "set": _or_null(_TEXT),
                }
            )
        )
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
        "version": _TEXT,
        "routes": {"type": "object", "additionalProperties": _TEXT},
    }
)
ERROR = {
    "type": "object",
    "required": ["error", "code", "retryable"],
    "properties": {"error": _TEXT, "code": _TEXT, "retryable": _TRUTH},
}
"""Every error; some say more."""

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
_CIRCUIT = _object(_CIRCUIT_MEMBERS)
_STREAM = _object(
    {
        "id": _TEXT,
        "state": _TEXT,
        "circuit": _or_null(_TEXT),
        "target": _TEXT,
        "purpose": _or_null(_TEXT),
        "age": _SECONDS,
    }
)
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
IP = _object({"exitIp": _ADDRESS, "viaTor": {"const": True}, "circuit": _or_null(_CIRCUIT)})
VERIFICATION = _object(
    {
        "isTor": _TRUTH,
        "exitIp": _or_null(_ADDRESS),
        "verdict": _one_of("verified", "unverified", "contradicted"),
        "evidence": _object(
            {
                "controlPort": _object({"streamOnCircuit": _TRUTH, "circuit": _or_null(_CIRCUIT)}),
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
CIRCUITS = _object({"circuits": _list(_object({**_CIRCUIT_MEMBERS, "age": _SECONDS}))})
STREAMS = _object({"streams": _list(_STREAM)})
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

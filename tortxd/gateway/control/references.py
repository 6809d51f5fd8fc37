"""Schemas, and what else is named, as parts of the description of the API refer to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tortxd.gateway.control.schemas import COMPONENTS, Schema

Json = dict[str, Any]


def reference(kind: str, name: str) -> Json:
    """What refers to one of the components: of the ``schemas``, ``responses`` or ``headers``."""
    return {"$ref": f"#/components/{kind}/{name}"}


def json_content(schema: Schema) -> Json:
    """The content of a request or response that is JSON."""
    return {"application/json": {"schema": referring(schema)}}


def referring(value: Any) -> Any:
    """A schema, or a part of one, with references in place of what the components have."""
    for name, component in COMPONENTS.items():
        if value == component:
            return reference("schemas", name)
    return inside(value)


def inside(value: Any) -> Any:
    """The same, but for itself: a component."""
    if isinstance(value, Mapping):
        return {key: referring(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [referring(inner) for inner in value]
    return value

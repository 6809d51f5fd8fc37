"""The errors of the routes, as the description of the API has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tortxd.errors import (
    BadRequest,
    DestinationError,
    ForbiddenHost,
    ForbiddenOrigin,
    InternalError,
    NotFound,
    NotServed,
    Overloaded,
    RequestTimeout,
    TooLarge,
    TorDown,
    TorError,
    TortxdError,
    Unauthorized,
    kinds,
)
from tortxd.gateway.control import descriptions
from tortxd.gateway.control.endpoints import Endpoint
from tortxd.gateway.control.references import Json, reference

_ON_EVERY_ROUTE: tuple[type[TortxdError], ...] = (
    BadRequest,
    Unauthorized,
    ForbiddenHost,
    ForbiddenOrigin,
    RequestTimeout,
    TooLarge,
    InternalError,
    NotServed,
    TorDown,  # at a stop
    Overloaded,
)
_FURTHER_STATUSES: Mapping[type[TortxdError], tuple[int, ...]] = {TooLarge: (414, 431)}


def error_response(status: int, errors: set[type[TortxdError]]) -> Json:
    """The response that any of these errors is, all of one status."""
    codes = sorted(error.code for error in errors)
    names = ["Tortxd-Error", "Proxy-Status"]
    if any(issubclass(error, DestinationError | TorError) for error in errors):
        names.append("Tortxd-Attempts")
    if status == Unauthorized.status:
        names.append("WWW-Authenticate")
    if any(error.retry_after is not None for error in errors):
        names.append("Retry-After")
    schema = {
        "allOf": [
            reference("schemas", "Error"),
            {"type": "object", "properties": {"code": {"enum": codes}}},
        ]
    }
    return {
        "description": " ".join(f"`{code}`: {_meaning(kinds()[code])}" for code in codes),
        "headers": {name: reference("headers", name) for name in names},
        "content": {"application/json": {"schema": schema}},
    }


def _meaning(error: type[TortxdError]) -> str:
    return descriptions.NOT_FOUND if error is NotFound else error.sentence


class Errors:
    """The errors' responses, each of which is named and described once."""

    def __init__(self) -> None:
        self.responses: Json = {
            f"Error{status}": error_response(status, found)
            for status, found in sorted(by_status(_ON_EVERY_ROUTE).items())
        }
        """Without the name of a route, those that every route may give."""

    def reference(self, status: int, errors: set[type[TortxdError]], route: str) -> Json:
        """A reference to the response for these."""
        response = error_response(status, errors)
        name = f"Error{status}"
        for other, known in self.responses.items():
            if other.startswith(name) and known == response:
                return reference("responses", other)
        name += route
        self.responses[name] = response
        return reference("responses", name)


def errors_of(endpoint: Endpoint) -> set[type[TortxdError]]:
    """What may go wrong on a route."""
    declared = (*_ON_EVERY_ROUTE, *endpoint.errors)
    return {kind for kind in kinds().values() if issubclass(kind, declared)}


def by_status(errors: Iterable[type[TortxdError]]) -> dict[int, set[type[TortxdError]]]:
    """Errors by the statuses with which they are answered."""
    found: dict[int, set[type[TortxdError]]] = {}
    for error in errors:
        for status in (error.status, *_FURTHER_STATUSES.get(error, ())):
            found.setdefault(status, set()).add(error)
    return found

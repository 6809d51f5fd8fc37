"""The description of the API (OpenAPI 3.1.1), made of the routes as they are declared."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tortxd._version import __version__
from tortxd.gateway.control import descriptions
from tortxd.gateway.control.endpoints import Endpoint
from tortxd.gateway.control.error_responses import Errors, by_status, error_response, errors_of
from tortxd.gateway.control.parameters import PRETTY, Parameter, Where
from tortxd.gateway.control.references import Json, inside, json_content, reference, referring
from tortxd.gateway.control.schemas import COMPONENTS
from tortxd.policy.access import Audience

_ANY_METHOD = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE")
"""Those that OpenAPI can describe."""
_TOKENS_FOR = {
    Audience.PROXY: ("", "clientToken"),
    Audience.CLIENT: ("", "clientBearer", "clientToken"),
    Audience.PAGE: ("", "clientBearer", "clientToken", "operatorCookie"),
    Audience.OPERATOR: ("operatorBearer", "operatorToken", "operatorCookie"),
}
"""By which of these a route is open; the empty name: by none, where no client token is set."""

_ALWAYS_THERE = frozenset({"Tortxd-Error", "Proxy-Status", "WWW-Authenticate", "Set-Cookie"})
_OF_THE_WAY = tuple(
    name for name in descriptions.HEADERS if name.startswith("Tortxd-") and "Error" not in name
)


def document(endpoints: Iterable[Endpoint], url: str | None = None) -> Json:
    """The whole description.

    :param url: under which the caller knows the gateway, without a slash at its end.
    """
    errors = Errors()
    paths = {_path(endpoint): _path_item(endpoint, errors) for endpoint in endpoints}
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "tortxd",
            "summary": "The Tor network for programs and pages, and what it does",
            "description": descriptions.API,
            "license": {"name": "MIT", "identifier": "MIT"},
            "version": __version__,
        },
        **({} if url is None else {"servers": [{"url": url}]}),
        "tags": [{"name": name, "description": text} for name, text in descriptions.TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": {name: inside(schema) for name, schema in COMPONENTS.items()},
            "responses": errors.responses,
            "headers": {name: _header(name) for name in descriptions.HEADERS},
            "securitySchemes": descriptions.SECURITY_SCHEMES,
        },
    }


# --- paths ----------------------------------------------------------------------------------------

_VARIABLE = re.compile(r"<(?:\w+:)?(\w+)>")


def _path(endpoint: Endpoint) -> str:
    return _VARIABLE.sub(r"{\1}", endpoint.path)


def _name(endpoint: Endpoint) -> str:
    """A word for a route, in names of the description."""
    words = re.findall(r"[A-Za-z]+", endpoint.path) or ["root"]
    return "".join(word.capitalize() for word in words)


def _path_item(endpoint: Endpoint, errors: Errors) -> Json:
    item: Json = {}
    if parameters := _parameters_of(endpoint):
        item["parameters"] = [_parameter(one) for one in parameters]
    methods = endpoint.methods or _ANY_METHOD
    for method in (method.decode("ascii").lower() for method in methods):
        item[method] = _operation(endpoint, method, errors)
    return item


def _operation(endpoint: Endpoint, method: str, errors: Errors) -> Json:
    operation: Json = {
        "operationId": method + _name(endpoint),
        "tags": ["operators" if endpoint.audience is Audience.OPERATOR else "clients"],
        "summary": endpoint.summary[:1].upper() + endpoint.summary[1:],
    }
    if endpoint.description is not None:
        operation["description"] = endpoint.description
    if endpoint.body is not None:
        operation["requestBody"] = {"content": json_content(endpoint.body)}
    elif endpoint.handler is None and method not in ("get", "head", "trace"):
        operation["requestBody"] = {"content": {"*/*": {}}}
    operation["responses"] = _responses(endpoint, errors)
    operation["security"] = [{name: []} if name else {} for name in _TOKENS_FOR[endpoint.audience]]
    return operation


def _parameters_of(endpoint: Endpoint) -> tuple[Parameter, ...]:
    return endpoint.parameters if endpoint.schema is None else (*endpoint.parameters, PRETTY)


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.where.value,
        "description": parameter.meaning,
        "required": parameter.required or parameter.where is Where.PATH,
        "schema": dict(parameter.schema),
    }


# --- responses ------------------------------------------------------------------------------------


def _responses(endpoint: Endpoint, errors: Errors) -> Json:
    responses: Json = {}
    if endpoint.handler is None:
        responses["default"] = {
            "description": "The destination's response, whatever its status.",
            "headers": {name: reference("headers", name) for name in _OF_THE_WAY},
            "content": {"*/*": {}},
        }
    else:
        for status in endpoint.statuses:
            responses[str(status)] = {
                "description": endpoint.summary[:1].upper() + endpoint.summary[1:] + ".",
                "content": _content(endpoint),
            }
    for status, meaning in endpoint.without_body.items():
        headers = {name: reference("headers", name) for name in ("Location", "Set-Cookie")}
        responses[str(status)] = {"description": meaning, "headers": headers}
    for status, found in sorted(by_status(errors_of(endpoint)).items()):
        key = str(status)
        if key in responses:
            responses[key] = _either(responses[key], error_response(status, found))
        elif endpoint.audience is Audience.PAGE:
            responses[key] = _as_page(error_response(status, found))
        else:
            responses[key] = errors.reference(status, found, _name(endpoint))
    return dict(sorted(responses.items()))


def _content(endpoint: Endpoint) -> Json:
    content = {} if endpoint.schema is None else json_content(endpoint.schema)
    if endpoint.text is not None:
        content[endpoint.text] = {"schema": {"type": "string"}}
        if endpoint.events:
            events = {name: referring(schema) for name, schema in endpoint.events.items()}
            content[endpoint.text]["x-events"] = events
    return content


def _either(response: Json, error: Json) -> Json:
    """A response that may be an error as well, in which case Tortxd-Error is there."""
    schemas = [one["content"]["application/json"]["schema"] for one in (response, error)]
    return {
        "description": f"{response['description']} Or, with Tortxd-Error, {error['description']}",
        "content": {"application/json": {"schema": {"anyOf": schemas}}},
    }


def _as_page(response: Json) -> Json:
    """A response that is a page, where a browser asks."""
    return {
        **response,
        "content": {**response["content"], "text/html": {"schema": {"type": "string"}}},
    }


def _header(name: str) -> Json:
    header: Json = {"description": descriptions.HEADERS[name], "schema": {"type": "string"}}
    if name in _ALWAYS_THERE:
        header["required"] = True
    return header

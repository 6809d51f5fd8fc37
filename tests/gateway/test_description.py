"""``/openapi.json``: a valid document, of what there is, to which the gateway keeps."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate
from pytest_twisted import ensureDeferred
from twisted.internet.utils import getProcessOutputAndValue

from tests.gateway.conftest import OPERATOR, Gateway
from tortxd._version import __version__
from tortxd.errors import DestinationError, TorError, TorTimeout, kinds
from tortxd.gateway.control.endpoints import Endpoint
from tortxd.gateway.control.openapi import document
from tortxd.gateway.control.parameters import Where
from tortxd.gateway.control.routes import ENDPOINTS
from tortxd.policy import query, request
from tortxd.policy.access import Audience
from tortxd.policy.request import read_by_gateway

DOCUMENT = document(ENDPOINTS, "http://localhost:3080")
OWN = [endpoint for endpoint in ENDPOINTS if endpoint.handler is not None]


def path_of(endpoint: Endpoint) -> str:
    return re.sub(r"<(\w+)>", r"{\1}", endpoint.path)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value:
        if isinstance(one, dict | list):
            yield from objects(one)


def test_it_is_valid() -> None:
    validate(DOCUMENT)
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    assert DOCUMENT["info"]["version"] == __version__


def test_every_route_that_is_served_is_in_it_with_its_methods() -> None:
    found = {path: item.keys() - {"parameters"} for path, item in DOCUMENT["paths"].items()}
    declared = {
        path_of(one): {method.decode().lower() for method in one.methods or ()} for one in OWN
    }
    assert {"get", "post", "put", "delete", "trace"} <= found.pop("/proxy")
    assert found == declared


def test_operations_have_names_of_their_own() -> None:
    names = [one["operationId"] for one in objects(DOCUMENT) if "operationId" in one]
    assert len(names) == len(set(names)) > 7


def test_every_parameter_in_a_path_is_declared() -> None:
    for endpoint in ENDPOINTS:
        declared = {one.name for one in endpoint.parameters if one.where is Where.PATH}
        assert set(re.findall(r"<(\w+)>", endpoint.path)) == declared, endpoint.path


def test_every_header_that_directs_the_gateway_is_declared_for_proxy() -> None:
    (proxy,) = (one for one in ENDPOINTS if one.path == "/proxy")
    declared = {one.name.lower().encode() for one in proxy.parameters if one.where is Where.HEADER}
    other_names = {request.ISOLATION_ALIAS, request._CREDENTIALS}
    assert declared == request.DIRECTIVES - other_names
    declared = {one.name.encode() for one in proxy.parameters if one.where is Where.QUERY}
    assert declared == query._KNOWN


def test_headers_that_are_declared_reach_the_routes() -> None:
    headers = {one.name for each in OWN for one in each.parameters if one.where is Where.HEADER}
    for name in headers:
        assert read_by_gateway([(name.encode(), b"1")]) == [(name.encode(), b"1")]


def test_every_code_is_in_it_under_its_status() -> None:
    responses = DOCUMENT["components"]["responses"]
    for name, response in responses.items():
        for code in codes_in(response):
            assert name.startswith(f"Error{kinds()[code].status}") or code == "too_large"
    found = {code for response in responses.values() for code in codes_in(response)}
    assert found | {"not_found", "method_not_allowed"} == kinds().keys()


def codes_in(response: Any) -> list[str]:
    schema = response["content"]["application/json"]["schema"]
    codes: list[str] = schema["allOf"][1]["properties"]["code"]["enum"]
    return codes


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=path_of)
def test_a_route_has_the_errors_that_are_declared_and_those_of_all(endpoint: Endpoint) -> None:
    item = DOCUMENT["paths"][path_of(endpoint)]
    (answers,) = {json.dumps(item[method]["responses"]) for method in item.keys() - {"parameters"}}
    found = {}
    for status, answer in json.loads(answers).items():
        name = answer.get("$ref", "").rpartition("/")[2]
        answer = DOCUMENT["components"]["responses"].get(name, answer)
        found[status] = set(re.findall(r"`(\w+)`: ", answer["description"]))
    codes = set().union(*found.values())
    assert codes >= {"bad_request", "unauthorized", "forbidden_host", "internal", "overloaded"}
    for code, kind in kinds().items():
        if issubclass(kind, endpoint.errors):
            assert code in found[str(kind.status)]
    assert ("connect_failed" in codes) == (DestinationError in endpoint.errors)
    assert ("tor_timeout" in codes) == (not {TorError, TorTimeout}.isdisjoint(endpoint.errors))
    steered = any(one.name == "Tortxd-Exit" for one in endpoint.parameters)
    assert ("exit_unavailable" in codes) == steered


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=path_of)
def test_routes_are_open_with_the_tokens_of_those_whom_they_are_for(endpoint: Endpoint) -> None:
    for method, operation in DOCUMENT["paths"][path_of(endpoint)].items():
        if method == "parameters":
            continue
        schemes = [name for one in operation["security"] for name in one or [""]]
        for_operators = endpoint.audience is Audience.OPERATOR
        assert operation["tags"] == ["operators" if for_operators else "clients"]
        assert ("" in schemes) != for_operators
        if for_operators:
            assert {name[:8] for name in schemes} == {"operator"}
        if endpoint.audience is Audience.PROXY:
            assert not any("Bearer" in name for name in schemes)


def test_everything_that_is_named_is_referred_to_and_stands_once() -> None:
    references = {one["$ref"] for one in objects(DOCUMENT) if "$ref" in one}
    for kind in ("schemas", "responses", "headers"):
        for name in DOCUMENT["components"][kind]:
            assert f"#/components/{kind}/{name}" in references
    schemas = [json.dumps(one) for one in objects(DOCUMENT) if "additionalProperties" in one]
    assert len(schemas) == len(set(schemas))


@ensureDeferred
async def test_it_names_the_gateway_as_the_caller_knows_it(either: Gateway) -> None:
    reply = await either.ask("/openapi.json", "Accept: application/json")
    assert reply.status == 200
    assert reply.json == document(ENDPOINTS, reply.json["servers"][0]["url"])
    assert reply.json["servers"] == [{"url": "http://localhost:3080"}]
    reply = await either.ask("/openapi.json", host="127.0.0.1:8080")
    assert reply.json["servers"] == [{"url": "http://127.0.0.1:8080"}]


@ensureDeferred
async def test_requests_made_of_it_are_answered_as_it_says(
    gateway: Gateway, tmp_path: Path
) -> None:
    """Some hundreds, right and wrong ones; not of what goes to destinations or does not end."""
    (tmp_path / "schemathesis.toml").write_text(
        f'[auth.openapi.operatorToken]\napi_key = "{OPERATOR.decode()}"\n'
        # The exits that requests choose are not there.
        '[[operations]]\ninclude-path = "/ip"\n'
        'checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 503]\n'
    )
    arguments = [
        "run",
        f"http://127.0.0.1:{gateway.port}/openapi.json",
        "--exclude-path=/proxy",
        "--exclude-path=/events",
        "--max-examples=8",
        "--generation-deterministic",
        "--continue-on-failure",
        "--no-shrink",
        "--no-color",
    ]
    out, err, status = await getProcessOutputAndValue(
        sys.executable, ["-m", "schemathesis.cli", *arguments], path=str(tmp_path)
    )
    assert status == 0, (out + err).decode()[-6000:]
    assert re.search(rb"\b[1-9][0-9]{2,} passed", out)

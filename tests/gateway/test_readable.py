"""JSON that people read is indented; what programs read, and what comes of destinations, is not."""

from __future__ import annotations

import json

import pytest
from pytest_twisted import ensureDeferred

from tests.gateway.asking import forward
from tests.gateway.conftest import OPERATOR, Gateway
from tests.gateway.tunnels import refused
from tests.web_client import Reply

TERMINAL = "Accept: */*"
BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PROGRAM = "Accept: application/json"
TOKEN = f"Tortxd-Token: {OPERATOR.decode()}"


def is_indented(reply: Reply) -> bool:
    """Whether a reply is indented JSON; if not, it is compact."""
    indented = json.dumps(reply.json, indent=2).encode() + b"\n"
    assert bytes(reply.body) in (indented, json.dumps(reply.json).encode() + b"\n")
    assert reply["Content-Length"] == str(len(reply.body))
    assert reply["Content-Type"].startswith("application/json")
    return bytes(reply.body) == indented


@pytest.mark.parametrize(
    ("query", "headers", "indented"),
    [
        ("", (), False),
        ("", (PROGRAM,), False),
        ("", ("Accept: application/json, */*;q=0.5",), False),
        ("", ("accept: application/problem+JSON",), False),
        ("", ("Accept: text/plain", "Accept: application/json"), False),
        ("", (TERMINAL,), True),
        ("", (BROWSER,), True),
        ("", ("Accept: text/plain", "Accept: */*"), True),
        ("?pretty", (), True),
        ("?pretty", (PROGRAM,), True),
        ("?live&pretty=1", (PROGRAM,), True),
        ("?pretty=0", (), False),
        ("?pretty=false", (PROGRAM,), False),
        ("?prettyprint", (), False),
        ("?else=pretty", (), False),
    ],
)
@ensureDeferred
async def test_who_reads(
    either: Gateway, query: str, headers: tuple[str, ...], indented: bool
) -> None:
    for path in ("/health", "/circuits", "/streams", "/ip", "/verify-tor"):
        reply = await either.ask(path + query, TOKEN, *headers)
        assert reply.status == 200
        assert is_indented(reply) is indented


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/no-such-route", None, 404),
        ("POST", "/health", None, 405),
        ("POST", "/health", b"x", 405),
        ("GET", "/circuits", None, 401),
        ("GET", "/events", None, 401),
        ("POST", "/identity/new", b"alice", 400),
        ("POST", "/identity/new", b"x" * 70_000, 413),
        ("GET", "/health?" + "x" * 9000, None, 414),
    ],
)
@ensureDeferred
async def test_errors_of_own_routes(
    gateway: Gateway, method: str, path: str, body: bytes | None, status: int
) -> None:
    """Those too that the front gives, or that a head decides whose body has not come."""
    for headers, indented in (((), False), ((TERMINAL,), True), ((PROGRAM,), False)):
        reply = await gateway.ask(path, *headers, method=method, body=body)
        assert reply.status == status
        assert is_indented(reply) is indented


@ensureDeferred
async def test_errors_of_proxy_are_compact(either: Gateway) -> None:
    for path in ("/proxy", "/proxy?url=x", "/proxy?url=http://127.0.0.1/", "/proxy?url=x&pretty"):
        assert not is_indented(await either.ask(path, TERMINAL))
    either.socks.code = 5
    reply = await either.fetch("/", TERMINAL)
    assert reply.json["code"] == "connect_refused"
    assert not is_indented(reply)


@ensureDeferred
async def test_errors_of_proxy_mode_are_compact(gateway: Gateway) -> None:
    assert not is_indented(await forward(gateway, "http://127.0.0.1/?pretty", TERMINAL))
    assert not is_indented(await refused(gateway, "127.0.0.1:443", TERMINAL))


@ensureDeferred
async def test_what_destinations_say_is_as_it_was(either: Gateway) -> None:
    compact = await either.fetch("/echo")
    asked = await either.fetch("/echo", TERMINAL)
    assert not compact.body.startswith(b"{\n")
    assert not asked.body.startswith(b"{\n")


@ensureDeferred
async def test_the_answer_to_a_head_has_the_same_length(either: Gateway) -> None:
    reply = await either.ask("/circuits", TOKEN, TERMINAL, method="HEAD")
    assert int(reply["Content-Length"]) > 100
    assert not reply.body

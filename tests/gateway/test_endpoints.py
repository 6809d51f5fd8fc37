"""The control plane's routes as they are declared, and answers that come bit by bit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from jsonschema import Draft202012Validator
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer

from tests.gateway.conftest import OPERATOR, Gateway, port_of
from tests.web_client import Reply, ask, connect
from tortxd.errors import OriginReset
from tortxd.gateway.answers import OWN_HEADERS, Answer, StreamedAnswer
from tortxd.gateway.control.endpoints import Call, Context, Endpoint
from tortxd.gateway.control.routes import ENDPOINTS
from tortxd.gateway.control.schemas import ERROR
from tortxd.policy.access import Audience
from tortxd.tor.status import (
    BackingOff,
    Bootstrapping,
    Degraded,
    Failed,
    Launching,
    Ready,
    Status,
    Stopped,
)

TOKEN = f"Tortxd-Token: {OPERATOR.decode()}"
ID_OF = {"circuits": "7", "streams": "1"}
"""The ids of what the gateway's Tor has open."""
DESCRIBED = [endpoint for endpoint in ENDPOINTS if endpoint.schema is not None]


def check(reply: Reply, schema: Any) -> None:
    """See that an answer is as its schema has it."""
    Draft202012Validator(schema).validate(reply.json)


@pytest.mark.parametrize("endpoint", DESCRIBED, ids=lambda endpoint: endpoint.path)
@ensureDeferred
async def test_answers_are_as_declared(either: Gateway, endpoint: Endpoint) -> None:
    Draft202012Validator.check_schema(endpoint.schema or {})
    assert endpoint.methods is not None
    method = endpoint.methods[0].decode()
    path = endpoint.path.replace("<id>", ID_OF.get(endpoint.path.split("/")[1], ""))
    reply = await either.ask(path, TOKEN, method=method)
    assert reply.status == 200
    check(reply, endpoint.schema)


@pytest.mark.parametrize(
    "status",
    [
        Ready(),
        Degraded(("The clock is wrong.",)),
        Launching(),
        Bootstrapping(50, "loading_descriptors", "Loading"),
        Bootstrapping(50, "loading_descriptors", "Loading", "No route"),
        BackingOff(2.0, "Tor exited."),
        Failed("No tor."),
        Stopped(),
    ],
    ids=str,
)
@ensureDeferred
async def test_health_is_as_declared_in_every_state(either: Gateway, status: Status) -> None:
    either.link.status = status
    (health,) = (one for one in ENDPOINTS if one.path == "/health")
    check(await either.ask("/health"), health.schema)


@ensureDeferred
async def test_verdicts_and_circuits_are_as_declared(either: Gateway) -> None:
    either.link.only_circuit = None
    for endpoint in DESCRIBED:
        if endpoint.methods == (b"GET",):
            check(await either.ask(endpoint.path, TOKEN), endpoint.schema)


@ensureDeferred
async def test_errors_are_as_declared(either: Gateway) -> None:
    for path in ("/nothing", "/circuits", "/proxy", "/proxy?url=http://localhost/"):
        reply = await either.ask(path)
        assert reply.status >= 400
        check(reply, ERROR)


def test_only_what_relays_has_no_handler() -> None:
    assert [one.path for one in ENDPOINTS if one.handler is None] == ["/proxy"]


# --- streams --------------------------------------------------------------------------------------


Feed = Callable[[IConsumer], Any]


class Streaming:
    """A gateway with a route that streams what the test says."""

    def __init__(self) -> None:
        self.port = 0
        self.feed: Feed = lambda _: None

    async def handle(self, context: Context, call: Call) -> Answer | StreamedAnswer:
        async def feed(consumer: IConsumer) -> None:
            await self.feed(consumer)

        headers = [(b"Content-Type", b"text/event-stream"), *OWN_HEADERS]
        return StreamedAnswer(200, headers, feed)


@pytest_twisted.async_yield_fixture
async def streaming(gateway: Gateway) -> AsyncIterator[Streaming]:
    from tortxd.gateway.control.app import Api

    here = Streaming()
    route = Endpoint("/stream", Audience.OPERATOR, (b"GET",), here.handle, "a stream")
    routes = (*ENDPOINTS, route)
    api = Api(gateway.core, "http://a.example/", "http://a.example/", endpoints=routes)
    port = gateway.reactor.listenTCP(0, api.site(), interface="127.0.0.1")
    here.port = port_of(port)
    yield here
    await port.stopListening()


@ensureDeferred
async def test_a_stream_comes_bit_by_bit(gateway: Gateway, streaming: Streaming) -> None:
    going_on: Deferred[None] = Deferred()

    async def feed(consumer: IConsumer) -> None:
        consumer.write(b"first")
        await going_on
        consumer.write(b"second")

    streaming.feed = feed
    wire = await connect(gateway.reactor, streaming.port)
    wire.send(f"GET /stream HTTP/1.1\r\nHost: localhost\r\n{TOKEN}\r\n\r\n".encode())
    await wire.when_came(b"first")
    assert b"second" not in wire.raw
    going_on.callback(None)
    reply = await wire.reply()
    assert reply.whole
    assert reply.body == b"firstsecond"


@ensureDeferred
async def test_a_stream_has_its_head_at_once_and_ends_with_its_client(
    gateway: Gateway, streaming: Streaming
) -> None:
    ended: Deferred[None] = Deferred()

    async def feed(consumer: IConsumer) -> None:
        try:
            await Deferred()
        finally:
            ended.callback(None)

    streaming.feed = feed
    wire = await connect(gateway.reactor, streaming.port)
    wire.send(f"GET /stream HTTP/1.1\r\nHost: localhost\r\n{TOKEN}\r\n\r\n".encode())
    await wire.when_came(b"text/event-stream")
    wire.transport.abortConnection()
    await ended


@ensureDeferred
async def test_a_stream_that_breaks_off_does_not_look_whole(
    gateway: Gateway, streaming: Streaming
) -> None:
    async def feed(consumer: IConsumer) -> None:
        consumer.write(b"half")
        raise OriginReset

    streaming.feed = feed
    reply = await ask(gateway.reactor, streaming.port, "/stream", TOKEN)
    assert reply.body == b"half"
    assert not reply.whole


@ensureDeferred
async def test_a_stream_has_no_body_for_head(gateway: Gateway, streaming: Streaming) -> None:
    async def feed(consumer: IConsumer) -> None:
        raise AssertionError

    streaming.feed = feed
    reply = await ask(gateway.reactor, streaming.port, "/stream", TOKEN, method="HEAD")
    assert reply.status == 200
    assert not reply.body


@ensureDeferred
async def test_a_stream_is_for_those_whom_its_route_is_for(
    gateway: Gateway, streaming: Streaming
) -> None:
    reply = await ask(gateway.reactor, streaming.port, "/stream")
    assert (reply.status, reply.json["code"]) == (401, "unauthorized")

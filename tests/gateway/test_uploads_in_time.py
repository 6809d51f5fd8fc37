"""How long a request with a body may take, and who is to blame when it takes too long."""

from __future__ import annotations

from pytest_twisted import ensureDeferred

from tests.gateway.asking import in_memory, post
from tests.gateway.conftest import Gateway, Policy


@ensureDeferred
async def test_a_client_that_stops_sending_is_to_blame(
    gateway: Gateway, make_policy: Policy
) -> None:
    gateway.core.policy = make_policy(idle_timeout=0.3)
    wire = await gateway.connect()
    wire.send(post(gateway, "/upload", "Content-Length: 9") + b"a" * 6)
    reply = await wire.reply(b"POST")
    assert (reply.status, reply.json["code"]) == (408, "request_timeout")
    assert reply.json["retryable"] is False  # part of it is at the destination
    await gateway.socks.served[0].lost


@ensureDeferred
async def test_a_destination_that_stops_reading_is_to_blame(
    gateway: Gateway, make_policy: Policy
) -> None:
    gateway.core.policy = make_policy(idle_timeout=1.0)
    gateway.socks.origin = None
    wire = await gateway.connect()
    wire.send(post(gateway, "/upload", "Content-Length: 100000000") + b"a" * 30_000_000)
    served = await gateway.socks.asked()
    served.transport.pauseProducing()
    reply = await wire.reply(b"POST")
    assert (reply.status, reply.json["code"]) == (504, "origin_timeout")
    served.transport.abortConnection()  # which would not see by itself that the gateway has left
    await served.lost


@ensureDeferred
async def test_the_way_there_and_the_answer_share_one_timeout(gateway: Gateway) -> None:
    _, clock, transport = in_memory(gateway)
    gateway.socks.held = True
    transport.protocol.dataReceived(post(gateway, "/hang", "Content-Length: 2") + b"ab")
    served = await gateway.socks.asked()
    clock.advance(4)  # of 5
    served.answer()
    await gateway.origin.when_requested(1)
    clock.advance(0.9)
    assert not transport.value()
    clock.advance(0.2)
    assert transport.value().startswith(b"HTTP/1.1 504 ")


@ensureDeferred
async def test_the_upload_itself_does_not_count(gateway: Gateway) -> None:
    _, clock, transport = in_memory(gateway)
    transport.protocol.dataReceived(post(gateway, "/hang", "Content-Length: 2") + b"a")
    await gateway.origin.when_requested(1)
    clock.advance(100)
    transport.protocol.dataReceived(b"b")
    clock.advance(4.9)
    assert not transport.value()
    clock.advance(0.2)
    assert transport.value().startswith(b"HTTP/1.1 504 ")

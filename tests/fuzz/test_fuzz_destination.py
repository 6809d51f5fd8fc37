"""Hostile destinations: clients get what was sent as it was, or see that they did not."""

from __future__ import annotations

import json

from hypothesis import event
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from tests.fuzz import second_opinion
from tests.fuzz.cutting import CUTS, SPOILING, Cuts, Spoiling, cut, spoil
from tests.fuzz.messages import orderly_responses, responses
from tests.fuzz.profile import fuzzed
from tests.fuzz.second_opinion import Message, Refused
from tests.fuzz.world import Client, client_of, example, send_pieces, turns, until
from tests.gateway.conftest import Gateway
from tests.socks_server import Served
from tortxd.errors import BadResponse
from tortxd.wire.http1 import ResponseReader

_SECOND = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"
WAYS = st.sampled_from((b"/proxy?url=http%3A%2F%2Fa.example", b"http://a.example"))
METHODS = st.sampled_from((b"GET", b"GET", b"HEAD", b"POST", b"DELETE"))
ENDINGS = st.sampled_from(("stay", "stay", "stay", "close", "reset", "cut off"))
REASONS = {"close": "DONE", "reset": "CONNRESET", "cut off": None, "stay": None}


def expected(data: bytes, method: bytes, ending: str) -> Message | None:
    """What another reader makes of the answer; of one that is too lax for it, what ours does, of
    which the gateway should make no more and no less."""
    try:
        return second_opinion.response(data, method, ended=ending == "close")
    except Refused:
        return leniently_read(data, method, ended=ending == "close")


def leniently_read(data: bytes, method: bytes, *, ended: bool) -> Message | None:
    reader = ResponseReader(method)
    try:
        head = reader.feed(data)
    except BadResponse:
        return None
    if head is None:
        return None
    body = reader.body(head)
    content = b""
    try:
        content = body.feed(reader.rest)
    except BadResponse:
        return Message(head.status, 1, head.headers, content, whole=False)
    whole = body.done or (head.until_close and ended)
    rest = reader.rest if head.length == 0 else body.rest
    named = [(name.lower(), value) for name, value in head.headers]
    return Message(head.status, 1, named, content, whole, rest)


def shown(client: Client, method: bytes) -> Message | None:
    """What the client has got so far."""
    return second_opinion.response(client.raw, method)


async def ask(gateway: Gateway, client: Client, method: bytes, way: bytes, part: int) -> Served:
    """Make a request, of which perhaps not all of the body comes; give the destination's end."""
    fields = b"Host: localhost\r\n"
    if method == b"POST":
        fields += b"Content-Length: 10\r\n"
    line = method + b" " + way + b"/first HTTP/1.1\r\n"
    client.transport.write(
        line + fields + b"\r\n" + b"0123456789"[: part if method == b"POST" else 0]
    )
    await until(gateway, lambda: bool(gateway.socks.served), "nobody was asked")
    return gateway.socks.served[0]


@fuzzed(
    150,
    data=orderly_responses() | responses(),
    spoiling=st.just([]) | SPOILING,
    cuts=CUTS,
    way=WAYS,
    method=METHODS,
    part=st.sampled_from((10, 10, 0, 5)),
    patient=st.booleans(),
    ending=ENDINGS,
)
@ensureDeferred
async def test_rule_07_no_answer_is_more_whole_than_it_was(
    gateway: Gateway,
    data: bytes,
    spoiling: Spoiling,
    cuts: Cuts,
    way: bytes,
    method: bytes,
    part: int,
    patient: bool,
    ending: str,
) -> None:
    """A response that is malformed or broken off (rule 14) never looks whole, one that is whole
    comes as it was sent, and what it leaves behind is not the answer to the next request."""
    gateway.socks.origin = None
    gateway.link.reason = REASONS[ending]
    async with example(gateway):
        data = spoil(data, spoiling)
        client = await client_of(gateway)
        served = await ask(gateway, client, method, way, part)
        if patient:
            await until(gateway, lambda: b"\r\n\r\n" in served.received, "no request came")
        await send_pieces(gateway, served.transport, cut(data, cuts))
        if ending == "close":
            served.transport.loseConnection()
        elif ending != "stay":
            served.transport.abortConnection()
        await turns(gateway)
        other = expected(data, method, ending)
        if ending != "stay" or (other is not None and other.whole):
            await until(gateway, lambda: is_answered(client, method), "no answer came")
        check(client, other, method, ending)
        if is_answered(client, method) and not client.closed and part == 10:
            assert other is not None or b"Tortxd-Error" in client.raw
            await check_next(gateway, client, method, way, may_go_on(other))
        client.transport.abortConnection()
        await until(gateway, lambda: client.closed, "the connection was not closed")


def is_answered(client: Client, method: bytes) -> bool:
    answer = shown(client, method)
    return client.closed or (answer is not None and answer.whole)


def check(client: Client, other: Message | None, method: bytes, ending: str) -> None:
    """The client's answer against another reading of what the destination sent."""
    answer = shown(client, method)
    event(f"{ending}: {None if answer is None else answer.start}, {other and other.whole}")
    if answer is None:
        assert not client.raw or client.raw.startswith((b"HTTP/1.1 102 ", b"HTTP/1.1 103 "))
        return
    named = dict(answer.headers)
    if b"tortxd-error" in named:
        assert answer.start in (502, 504)
        if method != b"HEAD":
            assert answer.whole
            assert json.loads(answer.body)["code"].encode() == named[b"tortxd-error"]
        return
    assert other is not None
    assert answer.start == other.start
    if answer.whole:
        assert other.whole
        assert answer.body == other.body
    else:
        assert other.body.startswith(answer.body)


def may_go_on(other: Message | None) -> bool:
    """Whether the destination's connection may carry another request: it has said no more than it
    was asked for, nor that this was its last answer."""
    if other is None or not other.whole or other.rest.strip(b"\r\n"):
        return False
    return (b"connection", b"close") not in other.headers


async def check_next(
    gateway: Gateway, client: Client, method: bytes, way: bytes, goes_on: bool
) -> None:
    """The next request on the connection is answered by what belongs to it."""
    first = shown(client, method)
    assert first is not None
    assert not first.rest
    client.raw = b""
    client.transport.write(b"GET " + way + b"/second HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def asked() -> list[Served]:
        return [one for one in gateway.socks.served if b"/second" in one.received]

    await until(gateway, lambda: client.closed or bool(asked()), "the second request did not come")
    if client.closed:
        assert (b"connection", b"close") in first.headers
        return
    (served,) = asked()
    assert goes_on or served is not gateway.socks.served[0]
    served.transport.write(_SECOND)
    await until(gateway, lambda: is_answered(client, b"GET"), "the second answer did not come")
    second = shown(client, b"GET")
    assert second is not None
    assert (second.start, second.body) == (200, b"second")

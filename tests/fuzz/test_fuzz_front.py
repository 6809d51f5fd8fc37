"""Streams of requests on real sockets: each answer belongs to its request; nothing else passes."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from hypothesis import event
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from tests.fuzz import second_opinion
from tests.fuzz.cutting import CUTS, SPOILING, Cuts, Spoiling, cut, spoil
from tests.fuzz.profile import fuzzed
from tests.fuzz.reading import Asked, Reading, requests_in
from tests.fuzz.second_opinion import Message
from tests.fuzz.streams import ORIGIN, streams
from tests.fuzz.world import Client, client_of, example, send_pieces, until
from tests.gateway.conftest import Gateway

_PLAIN_HEADERS = {b"host", b"content-length", b"transfer-encoding", b"x-a", b"x-b", b"accept"}
_USUAL = (
    f"{ORIGIN}/echo?id=".encode(),
    b"/proxy?url=http%3A%2F%2Forigin.test.example%2Fecho%3Fid%3D",
)
_METHODS = {b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS"}


def destination(asked: Asked) -> bytes | None:
    """The path at the destination that a request asks for, unquoted."""
    target = asked.target.decode("ascii")
    if target.startswith("/proxy?"):
        urls = parse_qs(urlsplit(target).query, encoding="latin-1").get("url", [""])
        target = urls[0]
    if "://" not in target:
        return None
    parts = urlsplit(target)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return unquote_to_bytes(path.encode("latin-1", "replace"))


def is_ordinary(asked: Asked) -> bool:
    """Whether nothing about it is odd, so that it must be served."""
    path = destination(asked)
    return (
        asked.method in _METHODS
        and asked.minor == 1
        and asked.all(b"host") == [b"localhost"]
        and {name for name, _ in asked.headers} <= _PLAIN_HEADERS
        and asked.target.startswith(_USUAL)
        and path is not None
        and path[9:].isdigit()
        and b"%25" not in asked.target
    )


def due(reading: Reading) -> int:
    """How many requests must be answered: up to the first that may end the connection."""
    count = 0
    for asked, rest in zip(reading.asked, reading.rest, strict=True):
        if not asked.whole or not is_ordinary(asked):
            break
        count += 1
        # What follows at once behind a chunked body is not kept.
        if asked.chunked and rest:
            break
    return count


def answers_in(raw: bytes, reading: Reading, *, ended: bool) -> list[Message]:
    """The answers that a client got, the last one perhaps in part."""
    answers: list[Message] = []
    while b"\r\n\r\n" in raw:  # of one that has no more there is nothing to read
        number = len(answers)
        if number < len(reading.asked):
            method = reading.asked[number].method
        else:  # to what could not be read; if that was a HEAD, without the body
            method = b"HEAD" if raw.endswith(b"\r\n\r\n") else b"GET"
        answer = second_opinion.response(raw, method, ended=ended)
        if answer is None:
            break
        answers.append(answer)
        raw = answer.rest
        # Behind its last answer a connection says nothing.
        if is_tunnel(reading, answers) or (b"connection", b"close") in answer.headers:
            assert not raw or is_tunnel(reading, answers)
            break
    return answers


def is_tunnel(reading: Reading, answers: list[Message]) -> bool:
    """Whether the last answer opened a tunnel."""
    last = len(answers) - 1
    if last < 0 or last >= len(reading.asked):
        return False
    return reading.asked[last].method == b"CONNECT" and answers[last].start == 200


def in_tunnel(client: Client, reading: Reading) -> bool:
    """Whether the client's connection is a tunnel by now."""
    return is_tunnel(reading, answers_in(client.raw, reading, ended=False))


def check_answer(asked: Asked, answer: Message) -> None:
    """What a request was answered belongs to it."""
    named = dict(answer.headers)
    if asked.whole and is_ordinary(asked):
        assert answer.start == 200, (asked, answer)
        assert b"tortxd-error" not in named
    if b"tortxd-error" in named:
        if asked.method != b"HEAD":
            assert json.loads(answer.body)["code"].encode() == named[b"tortxd-error"]
    elif answer.start == 200 and b"/echo" in (destination(asked) or b"") and answer.body:
        echo = json.loads(answer.body)
        assert echo["method"].encode() == asked.method
        assert unquote_to_bytes(echo["target"].encode()) == destination(asked)
        assert b64decode(echo["body"]) == asked.body


def check_destinations(gateway: Gateway, reading: Reading) -> None:
    """What left the gateway: requests of this client alone, each once, and in one reading."""
    may = Counter((asked.method, destination(asked)) for asked in reading.asked)
    bodies = {(asked.method, destination(asked)): asked for asked in reading.asked}
    for served in gateway.socks.served:
        if served.target is None or served.target[1] != 80:
            continue
        if served.received and any(
            asked.method == b"CONNECT" and rest.startswith(served.received)
            for asked, rest in zip(reading.asked, reading.rest, strict=True)
        ):
            continue
        got = requests_in(served.received)
        for request in got.asked:
            key = (request.method, unquote_to_bytes(request.target))
            may.subtract([key])
            assert may[key] >= 0, f"{key} was not asked for, or once too often"
            asked = bodies[key]
            assert asked.body.startswith(request.body)
            assert asked.whole or not request.whole or not request.body
            assert len(request.all(b"host")) == 1
        assert all(request.whole for request in got.asked[:-1])
        behind = got.rest[-1] if got.asked else served.received
        assert not behind, f"what is this: {behind!r}"


ENDINGS = st.sampled_from(("wait", "wait", "wait", "fin", "reset"))


@fuzzed(90, stream=streams(), spoiling=SPOILING, cuts=CUTS, ending=ENDINGS, slow=st.booleans())
@ensureDeferred
async def test_rule_07_a_stream_of_requests_has_one_reading(
    gateway: Gateway, stream: bytes, spoiling: Spoiling, cuts: Cuts, ending: str, slow: bool
) -> None:
    """What reaches destinations is what an independent reader finds in the stream, and no answer
    carries another request's data, however the stream is cut, spoilt or ended."""
    async with example(gateway):
        await converse(gateway, spoil(stream, spoiling), cuts, ending, slow=slow)


async def converse(
    gateway: Gateway, stream: bytes, cuts: Cuts, ending: str, *, slow: bool = False
) -> None:
    reading = requests_in(stream)
    client = await client_of(gateway, slow=slow)
    await send_pieces(gateway, client.transport, cut(stream, cuts))
    wanted = due(reading)
    whole = sum(asked.whole for asked in reading.asked)
    event(f"{ending}, {len(reading.asked)} read, {wanted} due")
    if ending == "wait":

        def answered() -> bool:
            answers = answers_in(client.raw, reading, ended=False)
            told = sum(answer.whole for answer in answers)
            # A slow reader may be amid an answer to what is no request.
            done = told >= whole and told == len(answers)
            return client.closed or done or in_tunnel(client, reading)

        await until(gateway, answered, "no answer came")
        if in_tunnel(client, reading):
            through = reading.rest[len(answers_in(client.raw, reading, ended=False)) - 1]
            far_end = gateway.socks.served[-1]
            await until(gateway, lambda: far_end.received == through, "bytes were lost or added")
            client.transport.abortConnection()  # a tunnel would outlive the client's FIN: rule 18
        client.transport.loseConnection()
    elif ending == "fin" and not client.closed:
        client.transport.loseWriteConnection()
        await until(
            gateway, lambda: client.closed or in_tunnel(client, reading), "a FIN was not understood"
        )
    client.transport.abortConnection()
    await until(gateway, lambda: client.closed, "the connection was not closed")
    answers = answers_in(client.raw, reading, ended=True)
    if ending == "wait":
        assert sum(answer.whole for answer in answers) == len(answers) >= wanted
    for asked, answer in zip(reading.asked, answers, strict=False):
        if answer.whole:
            check_answer(asked, answer)
    await until(gateway, lambda: not gateway.factory.connections, "a connection is left")
    check_destinations(gateway, reading)

"""Bodies in the library: sent no faster than they are taken, read as they were meant."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import gzip
import io
import os
import zlib
from typing import Any

import brotli
import pytest
import zstandard
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from tests.client_world import Request, World, ok, world
from tests.socks_server import Served
from tortxd.errors import BadRequest, BadResponse, OriginReset, OriginTimeout

URL = "http://example.com/"
TEXT = b"".join(b"%d, " % number for number in range(5000))


# --- content codings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(TEXT)),
        (b"GZIP", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        (b"deflate", zlib.compress(TEXT)),
        (b"br", brotli.compress(TEXT)),
        (b"zstd", zstandard.compress(TEXT)),
        (b"gzip, br", brotli.compress(gzip.compress(TEXT))),
        (b"identity", TEXT),
        (b"unheard-of", TEXT),
    ],
)
@ensureDeferred
async def test_bodies_are_decoded(coding: bytes, body: bytes) -> None:
    async with world(lambda _: ok(body, b"Content-Encoding: " + coding)) as here:
        for unbuffered in (False, True):
            response = await here.client().get(URL, unbuffered=unbuffered)
            assert await response.content() == TEXT
            left = response.headers.getRawHeaders(b"content-encoding")
            assert left == ([coding] if coding == b"unheard-of" else None)
        assert here.seen[0].headers[b"accept-encoding"] == b"gzip, deflate, br, zstd"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(TEXT)[:-1]),
        (b"gzip", gzip.compress(TEXT)[:-9]),
        (b"gzip", gzip.compress(TEXT) + gzip.compress(TEXT)[:50]),
        (b"gzip", b"plain text"),
        (b"deflate", gzip.compress(TEXT)),
        (b"br", brotli.compress(TEXT)[:-2]),
        (b"zstd", zstandard.compress(TEXT)[:-2]),
        (b"gzip, gzip, gzip, gzip, gzip, gzip", TEXT),
    ],
)
@ensureDeferred
async def test_what_is_cut_or_mislabelled_is_an_error(coding: bytes, body: bytes) -> None:
    async with world(lambda _: ok(body, b"Content-Encoding: " + coding)) as here:
        for unbuffered in (False, True):
            with pytest.raises(BadResponse, match="compressed"):
                await (await here.client().get(URL, unbuffered=unbuffered)).content()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No\r\nContent-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 304 No\r\nContent-Length: 9\r\nContent-Encoding: gzip\r\n\r\n",
    ],
)
@ensureDeferred
async def test_no_body_is_no_cut_one(answer: bytes) -> None:
    async with world(lambda _: answer) as here:
        assert await (await here.client().get(URL)).content() == b""


@ensureDeferred
async def test_head_says_how_long_it_would_be() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Encoding: gzip\r\n\r\n"
    async with world(lambda _: answer) as here:
        client = here.client()
        for _ in range(2):
            response = await client.head(URL)
            assert response.length == 0
            assert response.headers.getRawHeaders(b"content-length") == [b"9"]
            assert await response.content() == b""
        assert len(here.socks.served) == 1


@ensureDeferred
async def test_whoever_names_codings_gets_those() -> None:
    async with world(lambda _: ok()) as here:
        await here.client().get(URL, headers={"Accept-Encoding": "identity"})
        assert here.seen[0].headers[b"accept-encoding"] == b"identity"


class Sipping(Protocol):
    """Reads one piece, and no more until it is told to."""

    transport: Any

    def __init__(self) -> None:
        self.pieces: list[int] = []
        self.first: Deferred[None] = Deferred()
        self.ended: Deferred[BaseException | None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(len(data))
        self.transport.pauseProducing()
        if not self.first.called:
            self.first.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(reason.value)


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd"])
@ensureDeferred
async def test_what_expands_waits_for_who_reads_it(coding: bytes) -> None:
    plain = bytes(50_000_000)
    encode: Any = {
        b"gzip": gzip.compress,
        b"br": lambda data: brotli.compress(data, quality=1),
        b"zstd": zstandard.compress,
    }
    body = encode[coding](plain)
    async with world(lambda _: ok(body, b"Content-Encoding: " + coding)) as here:
        response = await here.client().get(URL, unbuffered=True)
        reader = Sipping()
        response.deliverBody(reader)
        await reader.first
        for number in range(1, 10):
            await turn(here)
            assert len(reader.pieces) == number
            reader.transport.resumeProducing()
        assert max(reader.pieces) <= 200_000
        reader.transport.loseConnection()
        assert isinstance(await reader.ended, OriginReset)


@ensureDeferred
async def test_what_expands_leaves_others_their_turn() -> None:
    """A body of which all is taken is decoded in many turns of the reactor, and within the
    timeout."""
    body = gzip.compress(bytes(20_000_000))
    async with world(lambda _: ok(body, b"Content-Encoding: gzip")) as here:
        turns = 0
        reading = (await here.client().get(URL)).content()
        while not reading.called:
            await turn(here)
            turns += 1
        assert len(await reading) == 20_000_000
        assert turns >= 15


@ensureDeferred
async def test_decoding_ends_with_the_timeout() -> None:
    body = zstandard.compress(bytes(250_000_000))
    async with world(lambda _: ok(body, b"Content-Encoding: zstd")) as here:
        response = await here.client(timeout=0.3).get(URL, unbuffered=True)
        seen = 0

        def count(data: bytes) -> None:
            nonlocal seen
            seen += len(data)
            # As slow as who does something with it.
            end = here.reactor.seconds() + 0.01
            while here.reactor.seconds() < end:
                pass

        with pytest.raises(OriginTimeout):
            await response.collect(count)
        assert seen < 250_000_000


async def turn(here: World) -> None:
    """One turn of the reactor."""
    await deferLater(here.reactor, 0.0)


# --- reading --------------------------------------------------------------------------------------


@ensureDeferred
async def test_a_body_that_is_not_read_is_not_sent() -> None:
    """What the destination sends waits in the kernel's buffers, and is all there later."""
    size = 20_000_000
    sent: list[Any] = []

    def flood(asked: Request) -> bytes:
        sent.append(asked.transport)
        return ok(bytes(size))

    async with world(flood) as here:
        response = await here.client().get(URL, unbuffered=True)
        reader = Sipping()
        response.deliverBody(reader)
        await reader.first
        for _ in range(50):
            await turn(here)
        assert sum(reader.pieces) < 1_000_000
        raw: Any = response.original
        assert len(raw.body._pieces) <= 1
        taken = sum(reader.pieces)
        reader.dataReceived = lambda data: reader.pieces.append(len(data))  # type: ignore[method-assign]
        reader.transport.resumeProducing()
        assert isinstance(await reader.ended, ResponseDone)
        assert sum(reader.pieces) == size > taken


@ensureDeferred
async def test_a_body_is_read_once() -> None:
    async with world(lambda _: ok()) as here:
        response = await here.client().get(URL, unbuffered=True)
        assert await response.content() == b"hello"
        with pytest.raises(RuntimeError):
            response.deliverBody(Protocol())
        buffered = await here.client().get(URL)
        for _ in range(3):
            assert await buffered.content() == b"hello"


@ensureDeferred
async def test_who_reads_no_further_ends_the_stream() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    async with world(lambda _: answer) as here:
        client = here.client()
        reading = (await client.get(URL)).content()
        reading.cancel()
        with pytest.raises(CancelledError):
            await reading
        await here.socks.served[0].lost

        def stop(_: bytes) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await (await client.get(URL)).collect(stop)
        await here.socks.served[1].lost


@ensureDeferred
async def test_a_body_that_ends_with_the_connection() -> None:
    """Without a control port nobody knows better than the connection."""

    def answer(asked: Request) -> None:
        asked.transport.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        asked.transport.loseConnection()

    async with world(answer) as here:
        assert await (await here.client().get(URL)).content() == b"all of it"


@ensureDeferred
async def test_a_body_that_ends_with_a_reset_is_cut() -> None:
    async with world(lambda _: b"HTTP/1.1 200 OK\r\n\r\nhalf") as here:
        response = await here.client().get(URL)
        here.socks.served[0].transport.abortConnection()
        with pytest.raises(OriginReset):
            await response.content()


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (b"text/plain; charset=utf-8", "ü".encode(), "ü"),
        (b'text/plain;Charset = "UTF-8"', "ü".encode(), "ü"),
        (b"text/plain; charset=klingon", b"\xfc", "ü"),
        (b"text/plain; charset=hex", b"\xfc", "ü"),
        (b"text/plain; charset=unicode_escape", b"\\d", "\\d"),
        (b"text/plain; charset=", b"\xfc", "ü"),
        (b"text/plain", b"\xfc", "ü"),
        (b"\xff; charset=\xff", b"\xfc", "ü"),
        (b"application/json", '"ü"'.encode(), '"ü"'),
    ],
)
@ensureDeferred
async def test_text(kind: bytes, body: bytes, text: str) -> None:
    async with world(lambda _: ok(body, b"Content-Type: " + kind)) as here:
        assert await (await here.client().get(URL)).text() == text


@ensureDeferred
async def test_text_that_is_none() -> None:
    async with world(lambda _: ok(b"\xff", b"Content-Type: text/plain; charset=utf-8")) as here:
        with pytest.raises(BadResponse, match="encoding"):
            await (await here.client().get(URL)).text()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"application/json", b'\xef\xbb\xbf{"a": "\xc3\xbc"}'),
        (b"text/plain", '{"a": "ü"}'.encode("utf-16")),
        (b"application/json; charset=latin-1", b'\xef\xbb\xbf{"a": "\xc3\xbc"}'),
        (b"application/json; charset=klingon", b'{"a": "\xc3\xbc"}'),
        (b"application/json; charset=iso-8859-1", b'{"a": "\xfc"}'),
    ],
)
@ensureDeferred
async def test_json(kind: bytes, body: bytes) -> None:
    async with world(lambda _: ok(body, b"Content-Type: " + kind)) as here:
        assert await here.client().get_json(URL) == {"a": "ü"}
        assert await (await here.client().get(URL)).json() == {"a": "ü"}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff{}", b"1" * 5000, b"[" * 100_000, b"\xef\xbb\xbf"]
)
@ensureDeferred
async def test_no_json(body: bytes) -> None:
    async with world(lambda _: ok(body)) as here:
        with pytest.raises(BadResponse, match="JSON"):
            await here.client().get_json(URL)
        with pytest.raises(BadResponse, match="JSON"):
            await (await here.client().get(URL)).json()


# --- uploads --------------------------------------------------------------------------------------


@implementer(IBodyProducer)
class Producer:
    """Writes what it is given, each in a turn of its own; notes what it is told."""

    def __init__(self, *pieces: bytes, length: Any = UNKNOWN_LENGTH) -> None:
        self.length = length
        self.told: list[str] = []
        self.written = 0
        self._pieces = list(pieces)
        self._done: Deferred[None] = Deferred()
        self._paused = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self.told.append("start")
        self._consumer = consumer
        self._go_on()
        return self._done

    def _go_on(self) -> None:
        while self._pieces and not self._paused:
            piece = self._pieces.pop(0)
            self.written += len(piece)
            self._consumer.write(piece)
        if not self._pieces and not self._done.called and self.told[-1] != "stop":
            self._done.callback(None)

    def pauseProducing(self) -> None:
        self._paused = True
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self._paused = False
        self.told.append("resume")
        self._go_on()

    def stopProducing(self) -> None:
        self._pieces.clear()
        self.told.append("stop")


async def received(here: World, end: bytes) -> Served:
    """The stream, when the destination has got bytes that end so."""
    served: Served = await here.socks.asked()
    while not served.received.endswith(end):
        await turn(here)
    return served


@ensureDeferred
async def test_an_upload_of_unknown_length_is_chunked_and_sent_once() -> None:
    async with world(lambda _: None) as here:
        producer = Producer(b"one", b"", b"two")
        asking = here.client().request("POST", URL, data=producer)
        served = await received(here, b"0\r\n\r\n")
        head, _, body = served.received.partition(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head
        assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        asking.cancel()
        with pytest.raises(CancelledError):
            await asking
        assert producer.told == ["start"]


@ensureDeferred
async def test_an_upload_waits_for_the_destination() -> None:
    """Nothing is read before it is reached, nor faster than it takes it."""
    async with world(lambda _: None) as here:
        here.socks.held = True
        pieces = [b"x" * 65536] * 400
        producer = Producer(*pieces, length=65536 * 400)
        asking = here.client().request("POST", URL, data=producer)
        served = await here.socks.asked()
        for _ in range(20):
            await turn(here)
        assert producer.told == []
        here.socks.origin = None  # it takes what it is sent, and reads on only when told to
        served.answer()
        served.transport.pauseProducing()
        while "pause" not in producer.told:
            await turn(here)
        assert producer.written < 65536 * 400
        served.transport.resumeProducing()
        while not served.received.endswith(b"x" * 65536) or producer._pieces:
            await turn(here)
        asking.cancel()
        with pytest.raises(CancelledError):
            await asking


@ensureDeferred
async def test_a_cancelled_upload_is_stopped() -> None:
    async with world(lambda _: None) as here:
        producer = Producer(b"some", length=9)
        producer._done = Deferred()
        producer._done.called = True  # it goes on for ever
        asking = here.client().request("POST", URL, data=producer)
        served = await received(here, b"some")
        asking.cancel()
        with pytest.raises(CancelledError):
            await asking
        assert producer.told == ["start", "stop"]
        await served.lost


@pytest.mark.parametrize(("length", "word"), [(2, "longer"), (9, "shorter")])
@ensureDeferred
async def test_an_upload_is_as_long_as_it_says(length: int, word: str) -> None:
    async with world(lambda _: None) as here:
        with pytest.raises(BadRequest, match=word):
            await here.client().request("POST", URL, data=Producer(b"four", length=length))
        await here.socks.served[0].lost
        assert not here.seen


@ensureDeferred
async def test_what_goes_wrong_with_the_callers_own_body_comes_as_it_is() -> None:
    class Broken(Producer):
        def startProducing(self, consumer: IConsumer) -> Deferred[None]:
            raise ZeroDivisionError

    async with world(lambda _: None) as here:
        with pytest.raises(ZeroDivisionError):
            await here.client().request("POST", URL, data=Broken())
        await here.socks.served[0].lost


@ensureDeferred
async def test_an_answer_before_the_upload_is_through() -> None:
    """What is left of the upload is of no use, and the connection neither."""

    class Endless(Producer):
        def _go_on(self) -> None:
            self._consumer.write(b"x")

    def early(asked: Request) -> None: ...

    async with world(early) as here:
        producer = Endless(length=9)
        asking = here.client().request("PUT", URL, data=producer)
        served = await received(here, b"x")
        served.transport.write(ok(b"no"))
        response = await asking
        assert await response.content() == b"no"
        assert producer.told == ["start", "stop"]
        await served.lost


@ensureDeferred
async def test_a_pipe_is_sent_as_it_comes() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        async with world(lambda _: None) as here:
            asking = here.client().post(URL, pipe)
            served = await received(here, b"0\r\n\r\n")
            assert served.received.endswith(b"\r\n\r\ne\r\nthrough a pipe\r\n0\r\n\r\n")
            asking.cancel()
            with pytest.raises(CancelledError):
                await asking


@ensureDeferred
async def test_the_framing_is_not_the_callers() -> None:
    async with world(lambda _: ok()) as here:
        headers = {
            "Content-Length": "3",
            "Transfer-Encoding": "chunked",
            "Connection": "close, X-Gone",
            "X-Gone": "1",
            "Expect": "100-continue",
            "TE": "trailers",
            "Host": "other.example",
        }
        await here.client().post(URL, b"12345", headers=headers)
        await here.client().post(URL)
        first, second = here.seen
        assert first.body == b"12345"
        assert first.headers == {
            b"host": b"other.example",
            b"content-length": b"5",
            b"accept-encoding": b"gzip, deflate, br, zstd",
        }
        assert second.headers[b"content-length"] == b"0"


@ensureDeferred
async def test_an_empty_upload() -> None:
    async with world(lambda _: ok()) as here:
        await here.client().request("POST", URL, data=io.BytesIO(b""))
        producer: Any = Producer(length=0)
        producer.startProducing = lambda consumer: succeed(None)
        await here.client().request("POST", URL, data=producer)
        assert [asked.headers[b"content-length"] for asked in here.seen] == [b"0", b"0"]

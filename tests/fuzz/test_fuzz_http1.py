"""One reading of a message: however it is cut, for another parser too, and after it is sent on."""

from __future__ import annotations

from hypothesis import event
from hypothesis import strategies as st

from tests.fuzz import second_opinion
from tests.fuzz.cutting import CUTS, SPOILING, Cuts, Spoiling, cut, spoil
from tests.fuzz.messages import chunked_bodies, padded_chunks, requests, responses
from tests.fuzz.profile import fuzzed
from tortxd.errors import TortxdError
from tortxd.wire.http1 import (
    OF_REQUEST,
    OF_RESPONSE,
    BodyReader,
    ChunkedBody,
    Headers,
    RequestHead,
    RequestReader,
    ResponseHead,
    ResponseReader,
    chunk,
    head_bytes,
    known_head,
)

Head = RequestHead | ResponseHead
Outcome = tuple[object, ...]

ANSWERED = st.sampled_from((b"GET", b"HEAD", b"POST"))


def read(reader: RequestReader | ResponseReader, data: bytes, cuts: Cuts) -> Outcome:
    """How far a message was understood."""
    pieces = cut(data, cuts)
    head: Head | None = None
    try:
        while head is None:
            if not pieces:
                return ("waiting",)
            head = reader.feed(pieces.pop(0))
    except TortxdError:
        return ("refused",)  # of two faults either may be named
    body = reader.body(head)  # type: ignore[arg-type]
    if body.done:
        return ("read", head, b"", True, reader.rest + b"".join(pieces))
    return ("read", head, *read_body(body, [piece for piece in (reader.rest, *pieces) if piece]))


def read_body(body: BodyReader, pieces: list[bytes]) -> Outcome:
    content = b""
    try:
        while pieces and not body.done:
            content += body.feed(pieces.pop(0))
    except TortxdError:
        return ("broken",)
    rest = body.rest + b"".join(pieces)
    return (content, body.done, rest)


@fuzzed(120, data=requests(), spoiling=SPOILING, cuts=CUTS)
def test_a_request_reads_the_same_however_it_is_cut(
    data: bytes, spoiling: Spoiling, cuts: Cuts
) -> None:
    data = spoil(data, spoiling)
    whole = read(RequestReader(), data, [])
    event(str(whole[0]))
    known = known_head(data)
    assert known is None or whole == ("read", known._replace(section=None), b"", True, b"")
    assert read(RequestReader(), data, cuts) == whole
    assert read(RequestReader(), data, list(range(len(data)))) == whole


@fuzzed(120, data=responses(), spoiling=SPOILING, cuts=CUTS, method=ANSWERED)
def test_a_response_reads_the_same_however_it_is_cut(
    data: bytes, spoiling: Spoiling, cuts: Cuts, method: bytes
) -> None:
    data = spoil(data, spoiling)
    whole = read(ResponseReader(method), data, [])
    event(str(whole[0]))
    assert read(ResponseReader(method), data, cuts) == whole
    assert read(ResponseReader(method), data, list(range(len(data)))) == whole


def lowered(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Headers as h11 shows them."""
    shown = [(name.lower(), value) for name, value in headers]
    return [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in shown]


@fuzzed(150, data=requests(), spoiling=SPOILING)
def test_a_request_that_is_taken_has_no_other_reading(data: bytes, spoiling: Spoiling) -> None:
    data = spoil(data, spoiling)
    outcome = read(RequestReader(), data, [])
    event(str(outcome[0]))
    if outcome[0] != "read":
        return
    head = outcome[1]
    assert isinstance(head, RequestHead)
    if len(head.hosts) != 1:
        return  # h11 wants exactly one; here that is for the policies to say
    other = second_opinion.request(data)
    assert other is not None
    assert other.start == (head.method, head.target)
    assert other.minor == head.minor
    assert other.headers == lowered(head.headers)
    if outcome[2] != "broken":
        assert (other.body, other.whole) == outcome[2:4]


@fuzzed(150, data=responses(), spoiling=SPOILING, method=ANSWERED, ended=st.booleans())
def test_a_response_that_is_taken_has_no_other_reading(
    data: bytes, spoiling: Spoiling, method: bytes, ended: bool
) -> None:
    """Where h11 takes it as well, which is stricter: it understands the same."""
    data = spoil(data, spoiling)
    outcome = read(ResponseReader(method), data, [])
    if outcome[0] != "read":
        event(str(outcome[0]))
        return
    head = outcome[1]
    assert isinstance(head, ResponseHead)
    try:
        other = second_opinion.response(data, method, ended=ended)
    except second_opinion.Refused:
        event("read, and refused by h11")
        return
    event("read by both")
    assert other is not None
    assert other.start == head.status
    assert without_framing(other.headers) == without_framing(lowered(head.headers))
    if outcome[2] != "broken":
        whole = outcome[3] is True or (head.until_close and ended)
        assert (other.body, other.whole) == (outcome[2], whole)


def without_framing(headers: Headers) -> Headers:
    """What goes on; of framing fields h11 shows what it has made of them."""
    framing = (b"content-length", b"transfer-encoding")
    return [field for field in headers if field[0] not in framing]


@fuzzed(60, data=requests(), spoiling=SPOILING)
def test_a_head_that_is_sent_on_reads_as_it_did(data: bytes, spoiling: Spoiling) -> None:
    outcome = read(RequestReader(), spoil(data, spoiling), [])
    if outcome[0] != "read":
        return
    head = outcome[1]
    assert isinstance(head, RequestHead)
    line = b"%b %b HTTP/1.%d" % (head.method, head.target, head.minor)
    again = read(RequestReader(), head_bytes(line, head.headers), [])
    assert again[:2] == ("read", head)


@fuzzed(80, data=chunked_bodies(), spoiling=SPOILING, cuts=CUTS)
def test_a_chunked_body_has_one_reading(data: bytes, spoiling: Spoiling, cuts: Cuts) -> None:
    data = spoil(data, spoiling)
    whole = read_body(ChunkedBody(OF_REQUEST), cut(data, []))
    assert read_body(ChunkedBody(OF_REQUEST), cut(data, cuts)) == whole
    assert read_body(ChunkedBody(OF_REQUEST), cut(data, list(range(len(data))))) == whole
    event(str(whole[0] if whole[0] == "broken" else whole[1]))
    if whole[0] == "broken":
        return
    content, done = whole[:2]
    assert isinstance(content, bytes)
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    other = second_opinion.request(head + data)
    assert other is not None
    assert (other.body, other.whole) == (content, done)
    if content:  # and one after it was framed anew
        anew = ChunkedBody(OF_REQUEST)
        assert read_body(anew, cut(chunk(content) + b"0\r\n\r\n", cuts)) == (content, True, b"")


@fuzzed(
    80, padded=padded_chunks(), behind=st.sampled_from((b"", b"HTTP/1.1 200 OK\r\n")), cuts=CUTS
)
def test_rule_07_padded_chunks_of_destinations_are_read(
    padded: tuple[bytes, bytes], behind: bytes, cuts: Cuts
) -> None:
    """Blanks around extensions change nothing (RFC 9112, section 7.1.1), and trailers are dropped
    whatever they are called. Where clients send such blanks, it is read in the same way or refused.
    """
    wire, content = padded
    expected = (content, True, behind)
    pieces = cut(wire + behind, cuts)
    assert read_body(ChunkedBody(OF_RESPONSE), [*pieces]) == expected
    assert read_body(ChunkedBody(OF_REQUEST), [*pieces]) in (expected, ("broken",))

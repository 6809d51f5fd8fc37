"""Content codings: whole, or an error; however far they expand, in pieces."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard
from backports import zstd
from hypothesis import strategies as st

from tests.fuzz.cutting import CUTS, Cuts, cut
from tests.fuzz.profile import fuzzed
from tortxd.client.codings import (
    CODINGS,
    OFFERED,
    PIECE,
    Brotli,
    Decoder,
    Deflate,
    Gzip,
    ZstandardZstd,
    Zstd,
    decoder_for,
)
from tortxd.errors import BadResponse

TEXT = b"".join(b"%d, " % number for number in range(5000))


def bare(data: bytes) -> bytes:
    """The deflate that some servers send."""
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


def zstd_with_checksum(data: bytes) -> bytes:
    compressed: bytes = zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: True})
    return compressed


Kind = tuple[Callable[[], Decoder], Callable[[bytes], bytes]]
KINDS: dict[str, Kind] = {
    "gzip": (Gzip, gzip.compress),
    "deflate": (Deflate, zlib.compress),
    "bare": (Deflate, bare),
    "br": (lambda: Brotli(brotli), lambda data: brotli.compress(data, quality=2)),
    "zstd": (lambda: Zstd(zstd), zstd_with_checksum),
    "zstandard": (lambda: ZstandardZstd(zstandard), zstd_with_checksum),
}
SEVERAL = ("gzip", "zstd", "zstandard")


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kind(name: str) -> Kind:
    return KINDS[name]


def decode(decoder: Decoder, pieces: list[bytes]) -> bytes:
    """What ``decoder`` makes of a body that comes in these pieces."""
    found = b""
    for piece in pieces:
        decoder.feed(piece)
        while decoded := decoder.read():
            found += decoded
    decoder.end()
    return found


def test_a_byte_at_a_time(kind: Kind) -> None:
    make, encode = kind
    data = encode(TEXT)
    assert decode(make(), [bytes((byte,)) for byte in data]) == TEXT
    assert decode(make(), [data]) == TEXT


def test_an_empty_body_is_empty(kind: Kind) -> None:
    """As browsers read it: servers name a coding for what they have not encoded."""
    make, encode = kind
    assert decode(make(), []) == b""
    assert decode(make(), [encode(b"")]) == b""


def test_what_is_cut_is_never_fewer_bytes(kind: Kind) -> None:
    make, encode = kind
    data = encode(TEXT[:2000])
    for length in range(1, len(data)):
        with pytest.raises(BadResponse):
            decode(make(), [data[:length]])


@pytest.mark.parametrize("data", [b"hello, hello", b"<html>" * 100, b"\xff" * 9, b"\0" * 9])
def test_what_is_mislabelled(kind: Kind, data: bytes) -> None:
    with pytest.raises(BadResponse):
        decode(kind[0](), [data])


def test_what_follows(name: str, kind: Kind) -> None:
    make, encode = kind
    one, two = encode(TEXT), encode(b"two")
    if name in SEVERAL:
        assert decode(make(), [one + two]) == TEXT + b"two"
        assert decode(make(), [one, two[:3], two[3:]]) == TEXT + b"two"
        with pytest.raises(BadResponse):
            decode(make(), [one + two[:-1]])
    for rest in (b"garbage", b"x"):
        for pieces in ([one + rest], [one, rest]):
            with pytest.raises(BadResponse):
                decode(make(), pieces)


def test_gzip_is_padded_with_zeros() -> None:
    assert decode(Gzip(), [gzip.compress(b"a"), b"\0\0", b"\0" + gzip.compress(b"b")]) == b"ab"


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd", "zstandard"])
def test_what_is_damaged(name: str) -> None:
    """Those have checksums."""
    make, encode = KINDS[name]
    data = encode(TEXT)
    for place in range(10, len(data), 97):
        damaged = data[:place] + bytes((data[place] ^ 0x55,)) + data[place + 1 :]
        with pytest.raises(BadResponse):
            decode(make(), [damaged])


def test_what_expands_comes_in_pieces(name: str, kind: Kind) -> None:
    """100 MB from a few kB, of which nobody makes more than is asked for."""
    make, encode = kind
    data = encode(bytes(100_000_000))
    assert len(data) < 110_000
    decoder = make()
    decoder.feed(data)
    # Packages that bound what they give do so by a little more than they are told.
    most = 2**21 if name == "zstandard" else 2 * PIECE
    for _ in range(5):
        assert 0 < len(decoder.read()) <= most


def test_a_window_that_is_too_large_is_refused() -> None:
    """RFC 9659: nobody need keep more than 8 MiB."""
    option = zstd.CompressionParameter.window_log
    data = zstd.compress(bytes(2**25), options={option: 25})
    for name in ("zstd", "zstandard"):
        with pytest.raises(BadResponse):
            decode(KINDS[name][0](), [data])


@fuzzed(
    200,
    data=st.binary(max_size=3000) | st.sampled_from((TEXT, bytes(200_000))),
    cuts=CUTS,
    spoilt=st.none() | st.tuples(st.integers(0, 5000), st.binary(max_size=3)),
    coding=st.sampled_from(sorted(KINDS)),
)
def test_whole_or_an_error(
    data: bytes, cuts: Cuts, spoilt: tuple[int, bytes] | None, coding: str
) -> None:
    make, encode = KINDS[coding]
    encoded = encode(data)
    if spoilt is not None:
        place = spoilt[0] % (len(encoded) + 1)
        encoded = encoded[:place] + spoilt[1] + encoded[place + len(spoilt[1]) :]
    try:
        decoded = decode(make(), cut(encoded, cuts))
    except BadResponse:
        assert spoilt is not None
    else:
        checked = coding not in ("bare", "br")  # those have no checksum
        if spoilt is None or (checked and decoded):
            assert decoded == data


# --- which, and over which ------------------------------------------------------------------------


def test_every_coding_is_known_here() -> None:
    assert OFFERED == b"gzip, deflate, br, zstd"


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ([], []),
        ([b"identity"], []),
        ([b""], []),
        ([b"gzip"], []),
        ([b"X-GZIP"], []),
        ([b"deflate , gzip"], []),
        ([b"br", b"zstd"], []),
        ([b"aes128gcm"], [b"aes128gcm"]),
        ([b"aes128gcm, gzip"], [b"aes128gcm"]),
        ([b"gzip, aes128gcm"], [b"gzip", b"aes128gcm"]),
    ],
)
def test_what_is_undone_and_what_stays(values: list[bytes], left: list[bytes]) -> None:
    decoder, stays = decoder_for(values)
    assert stays == left
    named = b",".join(values).replace(b"identity", b"").strip(b" ,").lower()
    assert (decoder is None) == (not named or named.endswith(b"aes128gcm"))


def test_several_codings_one_over_the_other() -> None:
    data = brotli.compress(gzip.compress(zlib.compress(TEXT)))
    decoder, left = decoder_for([b"deflate, gzip", b"br"])
    assert decoder is not None
    assert not left
    assert decode(decoder, [bytes((byte,)) for byte in data]) == TEXT
    for length in (5, len(data) - 1):
        again, _ = decoder_for([b"deflate, gzip, br"])
        assert again is not None
        with pytest.raises(BadResponse):
            decode(again, [data[:length]])


def test_too_many_of_them() -> None:
    decoder_for([b"gzip"] * 5)
    with pytest.raises(BadResponse):
        decoder_for([b"gzip"] * 6)


WITHOUT = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None
from tortxd.client.codings import CODINGS, OFFERED
print(OFFERED.decode(), type(CODINGS[b"zstd"]()).__name__ if b"zstd" in CODINGS else None)
"""
STANDARD = ("compression.zstd", "backports.zstd")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ((), "gzip, deflate, br, zstd Zstd"),
        (STANDARD, "gzip, deflate, br, zstd ZstandardZstd"),
        ((*STANDARD, "zstandard"), "gzip, deflate, br None"),
        (("brotli", "brotlicffi"), "gzip, deflate, zstd Zstd"),
    ],
)
def test_what_is_offered_is_what_is_there(missing: tuple[str, ...], said: str) -> None:
    ran: Any = subprocess.run(
        [sys.executable, "-c", WITHOUT, *missing], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout == said + "\n", ran.stderr


def test_an_old_brotli_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot bound what it gives."""
    from tortxd.client import codings

    class Old:
        class Decompressor:
            pass

    monkeypatch.setitem(sys.modules, "brotli", Old)
    assert b"br" not in codings._found()
    assert b"br" in CODINGS


EMPTY = gzip.compress(b"")


def test_work_for_nothing_is_shared_out() -> None:
    """Empty members, which are nothing to give, do not keep the reactor from others."""
    decoder = Gzip()
    decoder.feed(EMPTY * 5000)
    turns = 0
    while not (piece := decoder.read()) and decoder.busy:
        turns += 1
    assert piece == b""
    assert turns > 10
    decoder.end()


def test_work_for_nothing_between_codings_is_shared_out() -> None:
    """A few hundred bytes that expand to megabytes of nothing."""
    inner = gzip.compress(EMPTY * 100_000)
    decoder, _ = decoder_for([b"gzip, gzip, gzip"])
    assert decoder is not None
    decoder.feed(gzip.compress(inner))
    turns = 0
    while not (piece := decoder.read()) and decoder.busy:
        turns += 1
    assert piece == b""
    assert turns > 100
    decoder.end()

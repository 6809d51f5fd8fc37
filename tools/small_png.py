"""PNG pictures with a palette: a picture of text has few colours, and is a third as large so."""

from __future__ import annotations

import struct
import zlib
from collections import Counter

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = 256
_ALIKE = 100
"""Squares of the distance below which one colour stands for another."""
_CHANNELS = {2: 3, 6: 4}  # true colour, and with alpha (PNG, section 11.2.1)

Colour = bytes


def with_palette(png: bytes) -> bytes:
    """The same picture with 256 colours at most, and for others the nearest of these.

    :param png: of 8 bits a channel, not interlaced, as Chromium writes them; its alpha is dropped.
    """
    width, height, pixels = _decoded(png)
    used = Counter(pixels)
    palette = _palette(used)
    places = {colour: place for place, colour in enumerate(palette)}
    for colour in used:
        if colour not in places:
            places[colour] = min(range(len(palette)), key=lambda at: _apart(palette[at], colour))
    data = bytes(places[pixel] for pixel in pixels)
    # Filters do not help where a byte is a place in a palette (section 12.7).
    rows = b"".join(b"\0" + data[at : at + width] for at in range(0, len(data), width))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", b"".join(palette)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return _SIGNATURE + b"".join(_chunk(name, content) for name, content in chunks)


def _palette(used: Counter[Colour]) -> list[Colour]:
    """The colours that are used most, and of several that nobody can tell apart the first."""
    palette: list[Colour] = []
    for colour, _ in used.most_common():
        if len(palette) < _COLOURS and all(_apart(one, colour) >= _ALIKE for one in palette):
            palette.append(colour)
    return palette


def _apart(one: Colour, other: Colour) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _chunk(name: bytes, content: bytes) -> bytes:
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _decoded(png: bytes) -> tuple[int, int, list[Colour]]:
    """Width, height, and the colours of all pixels."""
    at, width, height, channels, packed = len(_SIGNATURE), 0, 0, 0, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        name, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if name == b"IHDR":
            width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", content)
            assert (depth, interlaced) == (8, 0)
            channels = _CHANNELS[kind]
        elif name == b"IDAT":
            packed += content
        at += length + 12
    lines, stride = zlib.decompress(packed), width * channels
    pixels: list[Colour] = []
    before = bytearray(stride)
    for start in range(0, len(lines), stride + 1):
        line = bytearray(lines[start + 1 : start + 1 + stride])
        _unfilter(lines[start], line, before, channels)
        pixels += [bytes(line[at : at + 3]) for at in range(0, stride, channels)]
        before = line
    return width, height, pixels


def _unfilter(kind: int, line: bytearray, above: bytearray, step: int) -> None:
    """Undo a line's filter (section 9.2)."""
    for at in range(len(line)):
        left, corner = (line[at - step], above[at - step]) if at >= step else (0, 0)
        guess = (0, left, above[at], (left + above[at]) // 2, _paeth(left, above[at], corner))[kind]
        line[at] = (line[at] + guess) & 255


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda one: abs(guess - one))

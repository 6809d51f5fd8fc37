"""Content codings (RFC 9110, section 8.4.1), undone piece by piece, without I/O.

A decoder is fed bytes as they come and read until it gives none: however far they expand, each
piece is a bounded one, and the next is made when it is asked for. What is cut, corrupt or not in
the coding at all is an error, never fewer bytes.

``br`` and ``zstd`` are there where a package that decodes them is: brotli or brotlicffi 1.2 (older
ones cannot bound what they give), Python 3.14's ``compression.zstd``, its backport, or zstandard.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from tortxd.errors import BadResponse

PIECE = 64 * 1024
"""Bytes that a decoder gives at once, about."""
MEMBERS = 200
"""Members, perhaps all empty, that are gone through for one piece."""
FED = 256 * 1024
"""Bytes that one coding gives the next, perhaps for nothing, for one piece."""
MAX_CODINGS = 5
"""Codings, one over the other, that are undone."""

_ZSTD_WINDOW_LOG = 23
"""8 MiB, which every decoder must take and none need exceed (RFC 9659)."""
_ZSTD_SLICE = 64
"""Bytes that zstandard, which cannot bound what it gives, is fed at once: no more than 16 blocks,
of 128 KiB at most (RFC 8878, section 3.1.1.2)."""


class Decoder:
    """Undoes one coding."""

    busy = False
    """Whether the last read gave nothing because it had worked long enough: it may give more
    without further bytes, when others have had their turn."""

    def feed(self, data: bytes) -> None:
        """Take more of the encoded bytes."""
        raise NotImplementedError

    def read(self) -> bytes:
        """The next piece; empty when that takes more bytes, or more work (see :attr:`busy`).

        :raises BadResponse: if what was fed is not in the coding.
        """
        raise NotImplementedError

    def end(self) -> None:
        """No more bytes will come. None at all make an empty body, whatever its coding.

        :raises BadResponse: if there should have been more.
        """
        raise NotImplementedError


def _cut() -> BadResponse:
    return BadResponse("The destination's compressed response ends before it is whole.")


def _corrupt() -> BadResponse:
    return BadResponse("The destination's response is not compressed as it says, or is damaged.")


class _Members(Decoder):
    """A coding that is a sequence of members, each with an end of its own."""

    padding = b""
    """Bytes that may fill up what follows a member."""
    several = True
    """Whether a further member may follow."""

    def __init__(self) -> None:
        self._pending = b""
        self._engine: Any = None
        self._members = 0

    def feed(self, data: bytes) -> None:
        self._pending += data

    def read(self) -> bytes:
        members = self._members
        self.busy = False
        while self._has_more():
            if self._members - members > MEMBERS:
                self.busy = True
                break
            if self._engine is None:
                if self._members and not self._goes_on():
                    break
                self._engine = self._begin()
                if self._engine is None:
                    break
            try:
                piece = self._decode()
            except BadResponse:
                raise
            except Exception:  # each package has errors of its own
                raise _corrupt() from None
            if self._engine.eof:
                self._pending = self._engine.unused_data + self._pending
                self._engine = None
                self._members += 1
            if piece:
                return piece
        return b""

    def end(self) -> None:
        if self._engine is not None or self._pending:
            raise _cut()

    def _goes_on(self) -> bool:
        self._pending = self._pending.lstrip(self.padding)
        if self._pending and not self.several:
            raise _corrupt()
        return bool(self._pending)

    def _has_more(self) -> bool:
        """Whether there may be a piece without further bytes."""
        return bool(self._pending)

    def _begin(self) -> Any:
        """What decodes the member that begins now; None if it takes more bytes to tell."""
        raise NotImplementedError

    def _decode(self) -> bytes:
        """The next piece, which uses up what it can of ``_pending``."""
        raise NotImplementedError


class _Zlib(_Members):
    _full = False
    """Whether the last piece was as large as may be: zlib may hold back more."""

    def _has_more(self) -> bool:
        return bool(self._pending) or self._full

    def _decode(self) -> bytes:
        piece: bytes = self._engine.decompress(self._pending, PIECE)
        self._pending = self._engine.unconsumed_tail
        self._full = len(piece) == PIECE and not self._engine.eof
        return piece


class Gzip(_Zlib):
    """``gzip`` (RFC 1952): one member or several, and zeros behind them, as files on tapes have."""

    padding = b"\0"

    def _begin(self) -> Any:
        return zlib.decompressobj(16 + zlib.MAX_WBITS)


class Deflate(_Zlib):
    """``deflate``: the zlib format (RFC 1950), and the bare deflate (RFC 1951) that some send."""

    several = False

    def _begin(self) -> Any:
        if len(self._pending) < 2:
            return None
        first, second = self._pending[:2]
        wrapped = first & 0x0F == 8 and (first << 8 | second) % 31 == 0
        return zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


class Brotli(Decoder):
    """``br`` (RFC 7932)."""

    def __init__(self, package: Any) -> None:
        self._pending = b""
        self._begun = False
        self._more = False
        """Whether there may be a piece without further bytes."""
        self._engine = package.Decompressor()

    def feed(self, data: bytes) -> None:
        self._begun = self._begun or bool(data)
        self._pending += data

    def read(self) -> bytes:
        engine = self._engine
        while self._pending or self._more:
            data = b""
            if engine.can_accept_more_data():
                data, self._pending = self._pending, b""
            try:
                piece: bytes = engine.process(data, output_buffer_limit=PIECE)
            except Exception:  # the packages have errors of their own
                raise _corrupt() from None
            self._more = not engine.is_finished() and (
                bool(piece) or not engine.can_accept_more_data()
            )
            if piece:
                return piece
        return b""

    def end(self) -> None:
        if self._begun and not self._engine.is_finished():
            raise _cut()


class Zstd(_Members):
    """``zstd`` (RFC 8878) with Python's own package: one frame or several."""

    def __init__(self, package: Any) -> None:
        super().__init__()
        self._package = package

    def _has_more(self) -> bool:
        return bool(self._pending) or (self._engine is not None and not self._engine.needs_input)

    def _begin(self) -> Any:
        window = self._package.DecompressionParameter.window_log_max
        return self._package.ZstdDecompressor(options={window: _ZSTD_WINDOW_LOG})

    def _decode(self) -> bytes:
        data, self._pending = self._pending, b""
        piece: bytes = self._engine.decompress(data, PIECE)
        return piece


class ZstandardZstd(_Members):
    """The same with the package zstandard."""

    def __init__(self, package: Any) -> None:
        super().__init__()
        self._frames = package.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)

    def _begin(self) -> Any:
        return self._frames.decompressobj()

    def _decode(self) -> bytes:
        data, self._pending = self._pending[:_ZSTD_SLICE], self._pending[_ZSTD_SLICE:]
        piece: bytes = self._engine.decompress(data)
        return piece


class _Stacked(Decoder):
    """Several codings, the outermost first."""

    def __init__(self, stages: Sequence[Decoder]) -> None:
        self._stages = stages
        self._fed = 0

    def feed(self, data: bytes) -> None:
        self._stages[0].feed(data)

    def read(self) -> bytes:
        self._fed = 0
        piece = self._pull(len(self._stages) - 1)
        self.busy = not piece and (self._fed > FED or any(stage.busy for stage in self._stages))
        return piece

    def end(self) -> None:
        for stage in self._stages:
            stage.end()

    def _pull(self, number: int) -> bytes:
        while True:
            piece = self._stages[number].read()
            if piece or number == 0 or self._stages[number].busy or self._fed > FED:
                return piece
            more = self._pull(number - 1)
            if not more:
                return b""
            self._stages[number].feed(more)
            self._fed += len(more)


# --- which there are ------------------------------------------------------------------------------


def _first_of(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            pass
    return None


def _found() -> dict[bytes, Callable[[], Decoder]]:
    found: dict[bytes, Callable[[], Decoder]] = {b"gzip": Gzip, b"deflate": Deflate}
    brotli = _first_of("brotli", "brotlicffi")
    if brotli is not None and hasattr(brotli.Decompressor, "can_accept_more_data"):
        found[b"br"] = lambda: Brotli(brotli)
    zstd = _first_of("compression.zstd", "backports.zstd")
    zstandard = None if zstd else _first_of("zstandard")
    if zstd is not None:
        found[b"zstd"] = lambda: Zstd(zstd)
    elif zstandard is not None:
        found[b"zstd"] = lambda: ZstandardZstd(zstandard)
    return found


CODINGS = _found()
"""What can be undone, by name."""
OFFERED = b", ".join(CODINGS)
"""The value of Accept-Encoding that asks for these."""
_ALIASES = {b"x-gzip": b"gzip"}  # RFC 9110, section 8.4.1.3


def decoder_for(values: Sequence[bytes]) -> tuple[Decoder | None, list[bytes]]:
    """What undoes the codings that Content-Encoding fields with these values name, and the names
    that are left: an unknown one stays, as in browsers, and so does what lies below it.

    :raises BadResponse: if there are more than :data:`MAX_CODINGS`.
    """
    names = [name.strip(b" \t").lower() for value in values for name in value.split(b",")]
    names = [name for name in names if name not in (b"", b"identity")]
    stages: list[Decoder] = []
    while names:
        make = CODINGS.get(_ALIASES.get(names[-1], names[-1]))
        if make is None:
            break
        if len(stages) == MAX_CODINGS:
            raise BadResponse("The destination's response is compressed too many times over.")
        stages.append(make())
        names.pop()
    if not stages:
        return None, names
    return (stages[0] if len(stages) == 1 else _Stacked(stages)), names

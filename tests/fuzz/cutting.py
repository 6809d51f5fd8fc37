"""Byte strings, spoilt and cut into pieces."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

Cuts = list[int]
Spoiling = list[tuple[int, str, bytes]]

CUTS: st.SearchStrategy[Cuts] = st.lists(st.integers(0, 2000), max_size=6)

_ODD = (b"\r", b"\n", b"\r\n", b"\x00", b" ", b"\t", b":", b"\x0b", b"\x7f", b"\x80", b"0", b",")
SPOILING: st.SearchStrategy[Spoiling] = st.one_of(
    st.just([]),
    st.just([]),
    st.lists(
        st.tuples(
            st.integers(0, 600),
            st.sampled_from(("insert", "replace", "delete", "repeat")),
            st.sampled_from(_ODD) | st.binary(min_size=1, max_size=2),
        ),
        min_size=1,
        max_size=3,
    ),
)


def cut(data: bytes, cuts: Cuts) -> list[bytes]:
    """``data`` in pieces, none of them empty."""
    places = sorted({place % len(data) for place in cuts} | {0, len(data)}) if data else []
    return [data[a:b] for a, b in pairwise(places)]


def spoil(data: bytes, spoiling: Spoiling) -> bytes:
    """``data`` with some bytes wrong."""
    for place, how, odd in spoiling:
        at = place % (len(data) + 1)
        if how == "insert":
            data = data[:at] + odd + data[at:]
        elif how == "replace":
            data = data[:at] + odd + data[at + len(odd) :]
        elif how == "delete":
            data = data[:at] + data[at + len(odd) :]
        else:
            data = data[:at] + data[at : at + 9] + data[at:]
    return data

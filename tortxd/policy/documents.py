"""What a browser may show as a document of the gateway's own origin."""

from __future__ import annotations

import re

DESTINATIONS = frozenset({b"document", b"iframe", b"frame", b"fencedframe", b"embed", b"object"})
"""Values of Sec-Fetch-Dest with which a browser shows what it gets."""

_SHOWN = frozenset(
    {
        b"application/octet-stream",
        b"text/plain",
        *(b"image/" + kind for kind in (b"apng", b"avif", b"bmp", b"gif", b"jpeg", b"jpg", b"jxl")),
        *(b"image/" + kind for kind in (b"png", b"vnd.microsoft.icon", b"webp", b"x-icon")),
        *(b"audio/" + kind for kind in (b"aac", b"flac", b"mp4", b"mpeg", b"ogg", b"opus")),
        *(b"audio/" + kind for kind in (b"wav", b"wave", b"webm", b"x-flac", b"x-wav")),
        *(b"video/" + kind for kind in (b"mp4", b"ogg", b"webm")),
    }
)
"""What may be a document of the gateway's origin as it is: it holds no script, refers to nothing
outside, and is no converter's to read, as JSON, PDF and playlists are."""

_TEXTUAL = re.compile(
    rb"(?:text|multipart|message)/.+"
    rb"|[^/]+/(?:.*[+-])?(?:ecmascript|html|javascript|json|svg|xml|yaml)(?:[+-].*)?"
    rb"|application/(?:http-index-format|sql|toml|x-ns-proxy-autoconfig|x-sh)"
)
"""What people can read as text."""
_JSON = re.compile(rb".*[/+]json")
_CHARSET = re.compile(rb';[ \t]*charset="?([0-9a-z_:.+-]{1,40})', re.IGNORECASE)

OPAQUE = b"application/octet-stream"
"""A download."""


def shown_as(content_type: bytes) -> bytes:
    """The type with which a browser may show this as a document: what is on the list as it is,
    other text as plain text, and the rest as a download.

    Of a list every member counts, because browsers take one of them (Fetch, "extract a MIME type").
    """
    essences = [part.partition(b";")[0].strip().lower() for part in content_type.split(b",")]
    if _SHOWN.issuperset(essences):
        return content_type
    if not any(map(_TEXTUAL.fullmatch, essences)):
        return OPAQUE
    if all(map(_JSON.fullmatch, essences)):
        return b"text/plain; charset=utf-8"  # RFC 8259, section 8.1
    charset = _CHARSET.search(content_type)
    return b"text/plain; charset=" + charset[1] if charset else b"text/plain"

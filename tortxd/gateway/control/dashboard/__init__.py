"""The dashboard: what operators see at ``/`` in a browser.

One page of plain files that lie beside this module: ``dashboard.html``, ``dashboard.css`` and small
scripts. Nothing is made of them but the page itself, which is told where its files are and which
nonce lets them in. They hold nothing of Tor's: all that is shown comes by the routes for operators,
and is put into the page as text.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.resources import files
from secrets import token_urlsafe

from tortxd.gateway.answers import Answer
from tortxd.gateway.control.endpoints import Call, Context, Endpoint, Handler
from tortxd.gateway.control.page import Address
from tortxd.policy.access import Audience
from tortxd.wire.http1 import Headers

FOLDER = "dashboard"
"""The files are below this, beside the other routes."""

_TYPES = {"css": b"text/css; charset=utf-8", "js": b"text/javascript; charset=utf-8"}

_HEADERS: Headers = [
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-DNS-Prefetch-Control", b"off"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
]


def _read() -> dict[str, bytes]:
    """The files, by their names."""
    there = files(__name__).iterdir()
    kept = (one for one in there if one.name.rpartition(".")[2] in {"html", *_TYPES})
    return {one.name: one.read_bytes() for one in kept}


_FILES = _read()
_PAGE = _FILES.pop("dashboard.html").decode()


def page(address: Address) -> tuple[bytes, Headers]:
    """The page as HTML, for whoever knows the gateway under ``address``, with its headers."""
    nonce = token_urlsafe(16)
    folder = escape(f"{address.links}{FOLDER}/")
    html = _PAGE.replace("{nonce}", nonce).replace("{folder}", folder)
    headers = [
        (b"Content-Type", b"text/html; charset=utf-8"),
        *_HEADERS,
        (b"Content-Security-Policy", _policy(nonce)),
        (b"X-Frame-Options", b"DENY"),
        (b"Cross-Origin-Opener-Policy", b"same-origin"),
    ]
    return html.encode("utf-8", "replace"), headers


def _policy(nonce: str) -> bytes:
    """What the page may load and do (rule 4).

    Responses of ``/proxy`` have the page's origin, so 'self' would let them in as scripts. The
    addresses of the files would do but for ``http://[::1]:3080``: a source has no IPv6 address
    (Content Security Policy 3, section 2.3.1). A nonce goes on to what a module imports.
    """
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ).encode()


def _giving(name: str) -> Handler:
    content_type = _TYPES[name.rpartition(".")[2]]
    headers = [
        (b"Content-Type", content_type),
        *_HEADERS,
        (b"Content-Security-Policy", b"sandbox; default-src 'none'; frame-ancestors 'none'"),
    ]

    async def give(_: Context, __: Call) -> Answer:
        return Answer(200, [*headers], _FILES[name])

    return give


def endpoints() -> Iterator[Endpoint]:
    """The routes of the files, for operators as the page is."""
    for name in sorted(_FILES):
        yield Endpoint(
            f"/{FOLDER}/{name}",
            Audience.OPERATOR,
            (b"GET",),
            _giving(name),
            "a file of the dashboard",
            in_list=False,
        )

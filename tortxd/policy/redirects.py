"""Redirects: a browser must follow them through the gateway, never past it.

To a client every hop looks same-origin, so it would take credentials and bodies along to wherever a
destination sends it. A link that leads to another origin is therefore marked, and stays so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from tortxd.errors import BadUrl, RedirectForbidden, TargetForbidden
from tortxd.policy.paths import without_dots
from tortxd.policy.request import Headers
from tortxd.policy.target import Target, TargetPolicy

_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
_HOST_FOLLOWS = frozenset({b"//", b"/\\", b"\\/", b"\\\\"})
_FRAGMENT_SAFE = "!$%&'()*+,/:;=?@-._~"


def gateway_link(
    reference: bytes,
    base: Target,
    policy: TargetPolicy,
    *,
    redirected: bool = False,
    kept: Sequence[tuple[bytes, bytes]] = (),
    mount: bytes = b"/proxy",
) -> bytes:
    """What the gateway says instead of a destination's ``Location`` or ``Content-Location``.

    ``base`` is what was asked for, ``redirected`` whether the way there had crossed origins
    already, ``kept`` what else its parameters were, and stays so. A reference that may not be
    followed becomes such a link as well, on which the client gets the error: the original must not
    reach a browser as something to follow.
    """
    reference, hash_, fragment = utf8(reference.strip(b" \t")).partition(b"#")
    url = resolve(reference, base)
    link = mount + b"?url=" + quote(url, safe="").encode("ascii")
    if redirected or not _same_origin(url, base, policy):
        link += b"&redirected=1"
    for name, value in kept:
        link += b"&%b=%b" % (name, quote(value, safe="").encode("ascii"))
    if hash_:
        link += b"#" + quote(fragment, safe=_FRAGMENT_SAFE).encode("ascii")
    return link


def check_redirected(headers: Headers, *, has_body: bool) -> list[tuple[bytes, bytes]]:
    """The headers of a request that comes from a redirect to another origin: no Authorization.

    Raises RedirectForbidden when it has a body.
    """
    if has_body:
        raise RedirectForbidden
    return [(name, value) for name, value in headers if name.lower() != b"authorization"]


def resolve(reference: bytes, base: Target) -> bytes:
    """Resolve a reference without a fragment (RFC 3986, section 5.2.2, strictly, with the paths of
    the URL standard).

    A backslash among the first two characters, where browsers see a host, makes what comes of it no
    URL.
    """
    if _ABSOLUTE.match(reference):
        return reference
    path, mark, query = reference.partition(b"?")
    if path[:2] in _HOST_FOLLOWS:
        return base.scheme.encode("ascii") + b":" + reference
    base_path, base_mark, base_query = base.path.partition(b"?")
    if not path:
        path = base_path
        if not mark:
            mark, query = base_mark, base_query
    else:
        path = path.replace(b"\\", b"/")
        if not path.startswith(b"/"):
            path = base_path[: base_path.rfind(b"/") + 1] + path
        path = without_dots(path)
    return base.origin.encode("ascii") + path + mark + query


def _same_origin(url: bytes, base: Target, policy: TargetPolicy) -> bool:
    try:
        return policy.parse(url).origin == base.origin
    except (BadUrl, TargetForbidden):
        return False


def utf8(value: bytes) -> bytes:
    """Escape the bytes of a value that is no UTF-8, as browsers do."""
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return b"".join(b"%%%02X" % byte if byte > 0x7F else bytes((byte,)) for byte in value)
    return value

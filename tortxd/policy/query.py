"""What the queries of ``/proxy?url=X``, ``/?token=T`` and ``/health?pretty`` ask for."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from attrs import field, frozen

from tortxd.errors import BadRequest
from tortxd.nearest import did_you_mean
from tortxd.policy.steering import NOTHING, PARAMETERS, Asked, read

_LONGEST_CACHED = 2048
"""Bytes of a query; see :mod:`tortxd.policy.target`."""

_KNOWN = PARAMETERS | {b"url", b"redirected", b"isolation"}

_NO = frozenset({b"0", b"false"})
_NAME = re.compile(rb"[A-Za-z0-9_-]{1,20}")
"""A name that errors repeat. What is longer, or not plain, may be half a target."""
_MEANT = sorted(name.decode() for name in _KNOWN - {b"redirected"})
"""What somebody may have meant; the gateway alone writes ``redirected``."""
_HOW_TO_ENCODE = (
    "If it belongs to the target, percent-encode the target: "
    "/proxy?url=http%3A%2F%2Fexample.com%2F%3Fa%3D1%26b%3D2, by encodeURIComponent(target) or "
    "curl -G --data-urlencode url=TARGET."
)


@frozen
class ProxyQuery:
    """The parameters of ``/proxy``."""

    url: bytes = field(repr=False)
    """Decoded once; neither parsed nor judged: :meth:`TargetPolicy.parse` does that."""
    redirected: bool = False
    """Whether the client comes from a redirect that led to another origin."""
    isolation: bytes | None = field(default=None, repr=False)
    """The isolation key, for callers that cannot set headers; not judged yet."""
    asked: Asked = NOTHING
    """How the request is steered, for the same callers."""
    kept: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    """The parameters that links to where it redirects have as well."""


def target_of(raw_query: bytes) -> ProxyQuery:
    """Read a raw query as browsers write it (WHATWG URL, application/x-www-form-urlencoded).

    ``url`` comes from here alone, once. Raises BadRequest when it is missing, when a parameter is
    doubled or malformed, or when one is not known, which is usually a part of a target that was not
    encoded.
    """
    if len(raw_query) > _LONGEST_CACHED:
        return _read(raw_query)
    return _cached(raw_query)


def _read(raw_query: bytes) -> ProxyQuery:
    given: dict[bytes, bytes] = {}
    for parameter in filter(None, raw_query.split(b"&")):
        name, _, value = parameter.partition(b"=")
        name = _decode(name)
        if name in given and name in _KNOWN:
            raise BadRequest(f"The {name.decode()} query parameter is given more than once.")
        given[name] = _decode(value)
    url = given.pop(b"url", b"")
    if not url:
        raise BadRequest("Missing url query parameter")
    for name in given:
        if name not in _KNOWN:
            raise BadRequest(f"{_unknown(name)} {_HOW_TO_ENCODE}")
    redirected = given.pop(b"redirected", b"0") != b"0"
    kept, isolation = tuple(sorted(given.items())), given.pop(b"isolation", None)
    return ProxyQuery(url, redirected, isolation, read(given) if given else NOTHING, kept)


_cached = lru_cache(1024)(_read)


def _unknown(name: bytes) -> str:
    if not _NAME.fullmatch(name):
        return "One of the parameters is not a parameter of /proxy."
    shown = name.decode()
    return f"`{shown}` is not a parameter of /proxy.{did_you_mean(shown, _MEANT)}"


def token_of(raw_query: bytes) -> bytes | None:
    """The token in a raw query, where there is one: an operator's, in the address of the page.

    Raises BadRequest when it is doubled.
    """
    parameters = (parameter.partition(b"=") for parameter in raw_query.split(b"&"))
    tokens = [_decode(value) for name, _, value in parameters if name == b"token"]
    if len(tokens) > 1:
        raise BadRequest("The token query parameter is given more than once.")
    return tokens[0] if tokens else None


def asks_for_pretty(raw_query: bytes) -> bool:
    """Whether a raw query has the parameter ``pretty``, as :func:`asks_for` has it."""
    return asks_for(b"pretty", raw_query)


def asks_for(parameter: bytes, raw_query: bytes) -> bool:
    """Whether a raw query has this parameter, with whatever value but ``0`` and ``false``. Of the
    gateway's own routes' parameters, others are passed over."""
    given = (one.partition(b"=") for one in raw_query.split(b"&"))
    return any(name == parameter and value not in _NO for name, _, value in given)


def _decode(value: bytes) -> bytes:
    return unquote_to_bytes(value.replace(b"+", b" "))

"""What the queries of ``/proxy?url=X`` and ``/?token=T`` ask for."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import unquote_to_bytes

from attrs import field, frozen

from tortxd.errors import BadRequest

_LONGEST_CACHED = 2048
"""Bytes of a query; see :mod:`tortxd.policy.target`."""


@frozen
class ProxyQuery:
    """The parameters of ``/proxy``."""

    url: bytes = field(repr=False)
    """Decoded once; neither parsed nor judged: :meth:`TargetPolicy.parse` does that."""
    redirected: bool = False
    """Whether the client comes from a redirect that led to another origin."""


def target_of(raw_query: bytes) -> ProxyQuery:
    """Read a raw query as browsers write it (WHATWG URL, application/x-www-form-urlencoded).

    ``url`` comes from here alone, once; parameters that the gateway does not know are ignored.
    Raises BadRequest when ``url`` is missing or doubled.
    """
    if len(raw_query) > _LONGEST_CACHED:
        return _read(raw_query)
    return _cached(raw_query)


def _read(raw_query: bytes) -> ProxyQuery:
    url: bytes | None = None
    redirected = False
    for parameter in raw_query.split(b"&"):
        name, _, value = parameter.partition(b"=")
        name = _decode(name)
        if name == b"url":
            if url is not None:
                raise BadRequest("The url query parameter is given more than once.")
            url = _decode(value)
        elif name == b"redirected":
            redirected = redirected or value != b"0"
    if not url:
        raise BadRequest("Missing url query parameter")
    return ProxyQuery(url, redirected)


_cached = lru_cache(1024)(_read)


def token_of(raw_query: bytes) -> bytes | None:
    """The token in a raw query, where there is one: the address by which the dashboard is opened.

    Raises BadRequest when it is doubled.
    """
    parameters = (parameter.partition(b"=") for parameter in raw_query.split(b"&"))
    tokens = [_decode(value) for name, _, value in parameters if name == b"token"]
    if len(tokens) > 1:
        raise BadRequest("The token query parameter is given more than once.")
    return tokens[0] if tokens else None


def _decode(value: bytes) -> bytes:
    return unquote_to_bytes(value.replace(b"+", b" "))

"""Which request follows from a redirect (Fetch, "HTTP-redirect fetch"); pure."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, field, frozen

from tortxd.errors import BadResponse, BadUrl, RedirectForbidden
from tortxd.policy.redirects import resolve, utf8
from tortxd.policy.target import Target, TargetPolicy

MAX_REDIRECTS = 20
STATUSES = frozenset((301, 302, 303, 307, 308))

_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_CREDENTIALS = frozenset(
    (b"authorization", b"cookie", b"cookie2", b"host", b"proxy-authorization", b"www-authenticate")
)
"""Headers that another origin does not get; Host is the first one's name."""
_OF_BODIES = frozenset(
    (
        b"content-encoding",
        b"content-language",
        b"content-location",
        b"content-type",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"content-md5",
        b"transfer-encoding",
        b"content-length",
    )
)
"""Headers that go with a body."""


@frozen
class HopRequest:
    """A request, as far as redirects change it."""

    method: bytes
    target: Target
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    has_body: bool = False
    trusted: bool = True
    """Whether it may have the caller's credentials: it has never led to another origin."""


def following(
    request: HopRequest, status: int, locations: Sequence[bytes], policy: TargetPolicy
) -> HopRequest | None:
    """The request that a response with ``status`` and these ``Location`` fields asks for; None if
    it is to be taken as it is, as a redirect that leads nowhere is.

    301 and 302 make a GET of a POST, and 303 of all but HEAD. The others stay what they are, with
    their body, within one origin.

    :raises BadResponse: if it redirects to two places, or to no URL.
    :raises TargetForbidden: if it redirects to where no request goes.
    :raises RedirectForbidden: if what another origin would get is more than a question.
    """
    if status not in STATUSES or not locations:
        return None
    target = _target(locations, request.target, policy)
    method, headers, has_body = request.method, request.headers, request.has_body
    if (status in (301, 302) and method == b"POST") or (
        status == 303 and method not in (b"GET", b"HEAD")
    ):
        method = b"GET"
    if method != request.method or (status == 303 and has_body):
        has_body = False
        headers = _without(headers, _OF_BODIES)
    trusted = request.trusted
    if target.origin != request.target.origin:
        if has_body:
            raise RedirectForbidden
        if method not in _SAFE:
            raise RedirectForbidden(
                "A redirect to another origin is followed with GET, HEAD and OPTIONS alone."
            )
        trusted = False
        headers = _without(headers, _CREDENTIALS)
    return evolve(
        request, method=method, target=target, headers=headers, has_body=has_body, trusted=trusted
    )


def _target(locations: Sequence[bytes], base: Target, policy: TargetPolicy) -> Target:
    location, *others = {value.strip(b" \t") for value in locations}
    if others:
        raise BadResponse("The destination redirects to two places at once.")
    reference = utf8(location).partition(b"#")[0]
    try:
        return policy.parse(resolve(reference, base))
    except BadUrl:
        pass
    raise BadResponse("The destination redirects to a malformed URL.")


def _without(
    headers: tuple[tuple[bytes, bytes], ...], names: frozenset[bytes]
) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name, value) for name, value in headers if name.lower() not in names)

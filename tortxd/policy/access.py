"""Who may ask: the Host, the calling web origin, and the token.

A page in a browser can make the browser send requests to a gateway on loopback. What it cannot do
is to forge Host, Origin and Sec-Fetch-Site; programs that send none of the latter two are local
ones.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from attrs import field, frozen

from tortxd.errors import BadRequest, ForbiddenHost, ForbiddenOrigin, Unauthorized
from tortxd.grammar import TOKEN
from tortxd.policy.request import (
    Fields,
    Headers,
    check_names,
    own_user,
    proxy_login,
    single,
)

_LOOPBACK = rb"localhost|127(?:\.(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}|\[::1\]"
_LOOPBACK_ORIGIN = re.compile(rb"https?://(?:" + _LOOPBACK + rb")(?::[0-9]{1,5})?")
_HOST = re.compile(rb"([A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_LONGEST_HOST = 300

_TOKEN = re.compile(TOKEN)
_TOKENS = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]*")

_UNTAINTED = frozenset({b"same-origin", b"none"})
"""Values of Sec-Fetch-Site with which no other site has a hand in the request, unless it is made
ahead of need (Sec-Purpose): what a page's speculation rules have Chromium prefetch from elsewhere
says ``none`` (measured on 156), as if the user had typed it."""

_BROWSERS = (b"origin", b"sec-fetch-site", b"sec-purpose")
"""Headers that only a browser sends."""

_EXPOSED = b", ".join(
    (
        b"Tortxd-Circuit",
        b"Tortxd-Exit",
        b"Tortxd-Exit-Address",
        b"Tortxd-Exit-Country",
        b"Tortxd-Exit-Changed",
        b"Tortxd-Attempts",
        b"Tortxd-Location",
        b"Tortxd-Error",
        b"Proxy-Status",
        b"Retry-After",
        b"Allow",
        b"Date",
    )
)
"""What the gateway may add to a response afterwards."""
_PREFLIGHT_SECONDS = b"600"
WHERE_OPERATORS_LOOK = (
    "operator-token, in the data directory, or in the file that operator_token_file names"
)
"""Where their token is, for sentences."""
_NOT_FOR_OTHERS = "Other web origins may not use the routes for operators."


class Audience(Enum):
    """Whom a route is for, and where its token is looked for."""

    PROXY = "proxy"
    """``/proxy``, for clients; Authorization is the destination's."""
    CLIENT = "client"
    """The gateway's own routes for clients."""
    OPERATOR = "operator"
    PAGE = "page"
    """The page at ``/``: for clients, and it shows operators more."""


@frozen
class Caller:
    """A request that may be served."""

    origin: bytes | None = None
    """The web origin that calls."""
    token: bytes | None = field(default=None, repr=False)
    """The token that was presented and is right, where one was needed."""
    operator: bool = False
    """Whether it is an operator who asks for the page."""
    preflight: Headers | None = None
    """For a preflight: the headers of its whole answer, a 204."""

    def cors(self, headers: Headers) -> Headers:
        """What a response with these headers adds, so that a page on that origin can read it."""
        return () if self.origin is None else _cors(self.origin, headers)


_PLAIN = Caller()


@frozen
class AccessPolicy:
    """Who may ask, on requests in origin-form.

    ``allow_hosts`` and ``allow_origins`` come on top of loopback. Tokens are compared in constant
    time.
    """

    allow_hosts: frozenset[bytes] = frozenset()
    """Lower case, without a port; IPv6 in brackets."""
    allow_origins: frozenset[bytes] = frozenset()
    """As browsers write them: lower case, the default port left out; ``null`` for pages that have
    none (in a sandbox, or from a file)."""
    token: bytes | None = field(default=None, repr=False)
    """What clients must present. None: nothing."""
    operator_token: bytes | None = field(default=None, repr=False)
    """What operators must present; clients may as well. None: nobody is an operator."""
    operator_cookie: bytes | None = field(default=None, repr=False)
    """The cookie that stands for the operator token in a browser, on the gateway's own origin."""
    _host: Callable[[bytes], bytes] = field(init=False, repr=False, eq=False)

    @_host.default
    def _remember_hosts(self) -> Callable[[bytes], bytes]:
        return lru_cache(256)(self._judge_host)

    def admit(
        self,
        fields: Fields,
        *,
        method: bytes,
        audience: Audience,
        page_token: bytes | None = None,
        minor: int = 1,
    ) -> Caller:
        """Judge one request: Host, then web origin, then the names of its headers, then token.

        ``page_token`` came in the address of the page, so that its sender becomes an operator: it
        must be an operator's. ``minor`` is the request's version, HTTP/1.0 or 1.1.
        Which methods a route of the gateway's own takes (OPTIONS) is no secret: that needs no
        token. Raises BadRequest for a missing, doubled or malformed Host, or for a header that
        nobody knows, ForbiddenHost, ForbiddenOrigin or Unauthorized.
        """
        host = self._one_host(fields, minor)
        origin = None
        if any(name in fields for name in _BROWSERS):
            origin = self._judge_origin(fields, host, method, audience)
            if origin and method == b"OPTIONS" and b"access-control-request-method" in fields:
                return Caller(origin, preflight=_preflight(origin, fields))
        check_names(fields)
        if method == b"OPTIONS" and audience is not Audience.PROXY:
            return Caller(origin)
        tokens = _tokens_in(fields, audience)
        own = origin is None or _is_own(origin, host)
        if own and audience is not Audience.PROXY:
            tokens += self._cookies(fields)
        if audience is Audience.PAGE:
            return self._admit_to_page(origin, tokens, page_token, own=own)
        token = self._judge_token(tokens, audience)
        if origin is None:
            return _PLAIN if token is None else Caller(token=token)
        return Caller(origin, token)

    def _admit_to_page(
        self, origin: bytes | None, tokens: list[bytes], page_token: bytes | None, *, own: bool
    ) -> Caller:
        """Who may see the page, and who sees on it what operators do: never another web origin."""
        if page_token is not None and not own:
            raise ForbiddenOrigin(_NOT_FOR_OTHERS)
        token = (
            _find(tokens if page_token is None else [page_token], self.operator_token)
            if own
            else None
        )
        if token is not None:
            return Caller(origin, token, operator=True)
        if page_token is not None:
            raise Unauthorized(
                f"This is not the operator token. That is in {WHERE_OPERATORS_LOOK}."
            )
        if self.token is None:
            return Caller(origin)
        token = _find(tokens, self.token, self.operator_token)
        if token is None:
            raise Unauthorized(
                "A token is needed. In a browser, open this address once with ?token=TOKEN behind "
                f"it, where TOKEN stands for what is in {WHERE_OPERATORS_LOOK}. "
                "Programs send theirs as the Tortxd-Token header."
            )
        return Caller(origin, token)

    def admit_proxy_mode(self, fields: Fields) -> Caller:
        """Judge a CONNECT or a request in absolute-form.

        No page can make a browser send one; one that uses the gateway as its proxy sends all it has
        to send in this way, and keeps web origins apart by itself. So only the token counts. Raises
        BadRequest for a header that nobody knows, and Unauthorized, with status 407.
        """
        check_names(fields)
        if self.token is None:
            return _PLAIN
        token = _find(_tokens_for_proxy(fields), self.token, self.operator_token)
        if token is None:
            raise Unauthorized(
                "A token is needed. Send it as Proxy-Authorization, with the user tortxd and the "
                "token as password.",
                status=407,
            )
        return Caller(token=token)

    def admit_options(self, fields: Fields, minor: int = 1) -> Caller:
        """Judge an ``OPTIONS *``, which asks what the gateway can do as a proxy: it is not meant
        for pages (Tor's HTTP CONNECT specification, "Avoiding cross-site probing attacks").

        Raises as :meth:`admit` and :meth:`admit_proxy_mode` do.
        """
        host = self._one_host(fields, minor)
        if any(name in fields for name in _BROWSERS):
            self._judge_origin(fields, host, b"OPTIONS", Audience.CLIENT)
        return self.admit_proxy_mode(fields)

    def cors(self, fields: Fields, headers: Headers) -> Headers:
        """What even an error response adds, so that a page on an allowed origin can read it."""
        origins = fields.get(b"origin", ())
        if len(origins) == 1 and self.allows_origin(origins[0]):
            return _cors(origins[0], headers)
        return ()

    def allows_origin(self, origin: bytes) -> bool:
        """Whether a web origin may call; ``null``, which any page can be, only where it was written
        out."""
        return origin in self.allow_origins or bool(_LOOPBACK_ORIGIN.fullmatch(origin))

    def _one_host(self, fields: Fields, minor: int) -> bytes:
        """The Host in lower case; empty where HTTP/1.0 has none, which no browser speaks."""
        hosts = fields.get(b"host", ())
        if not hosts and minor == 0:
            return b""
        if len(hosts) != 1 or not hosts[0]:
            raise BadRequest("The request must have exactly one Host header.")
        if len(hosts[0]) > _LONGEST_HOST:
            raise ForbiddenHost
        return self._host(hosts[0])

    def _judge_host(self, host: bytes) -> bytes:
        """The Host in lower case."""
        host = host.lower()
        match = _HOST.fullmatch(host)
        if match is None:
            raise BadRequest("The Host header is malformed.")
        name = match[1]
        if name != b"localhost" and name not in self.allow_hosts and not _is_literal(name):
            raise ForbiddenHost
        return host

    def _judge_origin(
        self, fields: Fields, host: bytes, method: bytes, audience: Audience
    ) -> bytes | None:
        ahead = b"sec-purpose" in fields
        untainted = not ahead and _UNTAINTED.issuperset(fields.get(b"sec-fetch-site", ()))
        origin = single(fields, b"origin")
        if origin is None:
            to_page = audience is Audience.PAGE and method == b"GET"
            navigates = to_page and _is_navigation(fields)
            if untainted or (navigates and not ahead):
                return None
        elif _is_own(origin, host):
            if untainted or audience is not Audience.OPERATOR:
                return origin
        elif audience is not Audience.OPERATOR and self.allows_origin(origin):
            return origin
        if audience is Audience.OPERATOR:
            raise ForbiddenOrigin(_NOT_FOR_OTHERS)
        raise ForbiddenOrigin

    def _cookies(self, fields: Fields) -> list[bytes]:
        """The operator token, where the cookie that stands for it is right: it is one caller
        whichever of the two it presents."""
        known, token = self.operator_cookie, self.operator_token
        right = _find(fields.get(b"cookie", ()), known) is not None
        return [token] if right and token is not None else []

    def _judge_token(self, tokens: Sequence[bytes], audience: Audience) -> bytes | None:
        if audience is Audience.OPERATOR:
            token = _find(tokens, self.operator_token)
            if token is None:
                raise Unauthorized(
                    f"This route is for operators. Send the token in {WHERE_OPERATORS_LOOK}, "
                    "as Authorization: Bearer or Tortxd-Token."
                )
            return token
        if self.token is None:
            return None
        token = _find(tokens, self.token, self.operator_token)
        if token is None:
            raise Unauthorized
        return token


def _is_literal(host: bytes) -> bool:
    """Whether a Host is an IP address: whoever asked looked up no name, so nobody can have rebound
    one.

    0.0.0.0, ``[::]`` and mapped IPv4 addresses lead to this machine as well, but browsers do not
    know them for loopback, and so tell of no foreign page (Sec-Fetch-Site) that asks there.
    """
    text = host.decode("ascii")
    try:
        if not text.startswith("["):
            return not IPv4Address(text).is_unspecified
        address = IPv6Address(text[1:-1])
    except ValueError:
        return False
    return "%" not in text and not address.is_unspecified and address.ipv4_mapped is None


def _is_own(origin: bytes, host: bytes) -> bool:
    return bool(host) and origin in (b"http://" + host, b"https://" + host)


def _is_navigation(fields: Fields) -> bool:
    """Whether a browser's own window goes there, at the top level."""
    return (
        single(fields, b"sec-fetch-mode") == b"navigate"
        and single(fields, b"sec-fetch-dest") == b"document"
    )


def _tokens_in(fields: Fields, audience: Audience) -> list[bytes]:
    tokens = list(fields.get(b"tortxd-token", ()))
    if audience is not Audience.PROXY:
        for value in fields.get(b"authorization", ()):
            scheme, _, credentials = value.partition(b" ")
            if scheme.lower() == b"bearer":
                tokens.append(credentials.strip(b" "))
    return tokens


def _tokens_for_proxy(fields: Fields) -> list[bytes]:
    tokens = list(fields.get(b"tortxd-token", ()))
    for value in fields.get(b"proxy-authorization", ()):
        scheme, _, credentials = value.partition(b" ")
        if scheme.lower() == b"bearer":
            tokens.append(credentials.strip(b" "))
    login = proxy_login(fields)
    if login is not None and own_user(login[0]) is not None:
        tokens.append(login[1])
    return tokens


def _find(tokens: Iterable[bytes], *right: bytes | None) -> bytes | None:
    """The right token that was presented, if any was."""
    found = None
    for token in tokens:
        for candidate in right:
            if candidate is not None and hmac.compare_digest(token, candidate):
                found = candidate
    return found


def _cors(origin: bytes, headers: Headers) -> Headers:
    """Fetch, "HTTP responses": every name is listed, since a star does not count where credentials
    go along."""
    return (
        (b"Access-Control-Allow-Origin", origin),
        (b"Access-Control-Expose-Headers", b", ".join([_EXPOSED, *dict(headers)])),
        (b"Vary", b"Origin"),
    )


def _preflight(origin: bytes, fields: Fields) -> Headers:
    """The answer to a preflight (Fetch, "CORS-preflight fetch"): what was asked for is allowed."""
    method = single(fields, b"access-control-request-method")
    names = b", ".join(fields.get(b"access-control-request-headers", ()))
    if method is None or not _TOKEN.fullmatch(method) or not _TOKENS.fullmatch(names):
        raise BadRequest("The preflight is malformed.")
    answer = [
        (b"Access-Control-Allow-Origin", origin),
        (b"Access-Control-Allow-Methods", method),
        (b"Access-Control-Max-Age", _PREFLIGHT_SECONDS),
        (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]
    if names:
        answer.append((b"Access-Control-Allow-Headers", names))
    if single(fields, b"access-control-request-private-network") == b"true":
        answer.append((b"Access-Control-Allow-Private-Network", b"true"))
    return answer

"""What the gateway itself reads from a request's headers."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence

from tortxd.errors import BadRequest
from tortxd.nearest import nearest
from tortxd.policy.names import ByName
from tortxd.policy.steering import PARAMETERS

Headers = Sequence[tuple[bytes, bytes]]
"""Names and values as parsed, in order, values without surrounding white space."""

Fields = Mapping[bytes, Sequence[bytes]]
"""The headers that mean something to the gateway: lower-cased names and all their values."""

ISOLATION = b"tor-stream-isolation"
ISOLATION_ALIAS = b"x-tor-stream-isolation"
_CREDENTIALS = b"proxy-authorization"
_OWN_USER = b"tortxd"
TIMEOUT = b"tortxd-timeout"
STEERING = {b"tortxd-" + parameter: parameter for parameter in PARAMETERS}
"""The headers that steer a request, and what the same is called as a parameter."""
DIRECTIVES = frozenset({ISOLATION, ISOLATION_ALIAS, _CREDENTIALS, TIMEOUT, *STEERING})
"""The headers by which a client directs the gateway."""

READ_BY_GATEWAY = DIRECTIVES | {
    b"host",
    b"origin",
    b"sec-fetch-site",
    b"sec-fetch-mode",
    b"sec-fetch-dest",
    b"sec-purpose",
    b"authorization",
    b"tortxd-token",
    b"cookie",
    b"access-control-request-method",
    b"access-control-request-headers",
    b"access-control-request-private-network",
}
"""The headers that mean something to the gateway; of Cookie, one cookie alone."""
_FOR_OWN_ROUTES = READ_BY_GATEWAY | {b"accept", b"last-event-id"}

UNKNOWN = b"tortxd-"
"""Where :func:`gateway_fields` puts the names of headers that were meant for the gateway and are
none of those."""
_OURS = (b"tortxd", b"xtortxd")
_ISOLATES = re.compile(rb"(?:x[-_.]?)?tor(?:[-_.].*isol|[-_.]?(?:stream|isol))")
"""How a name of Tor's begins that would isolate, or so its sender believes."""
_MEANT = {
    "isolation": "Tor-Stream-Isolation",
    "isolation-key": "Tor-Stream-Isolation",
    "key": "Tor-Stream-Isolation",
    "stream-isolation": "Tor-Stream-Isolation",
    "authorization": "Tortxd-Token",
    "auth": "Tortxd-Token",
    "token": "Tortxd-Token",
    "timeout": "Tortxd-Timeout",
    "retries": "Tortxd-Retry",
    "retry": "Tortxd-Retry",
    "country": "Tortxd-Exit-Country",
    "exit-country": "Tortxd-Exit-Country",
    "exit": "Tortxd-Exit",
    "sticky": "Tortxd-Sticky",
}
"""The headers there are, by what somebody may write behind a prefix of ours or of Tor's."""
_PREFIX = re.compile("(?:x-)?tor(?:txd)?[-_]", re.IGNORECASE)
_PLAIN_NAME = re.compile(rb"[A-Za-z0-9_-]{1,40}")
"""A name that errors repeat."""

_FROM_BROWSER = frozenset({b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"})

OPERATOR_COOKIE = b"tortxd-operator"
"""The name of the cookie by which a browser is known as an operator's."""


def gateway_fields(headers: Headers) -> Fields:
    """Pick the headers that mean something to the gateway, and the names of those that were meant
    to, under :data:`UNKNOWN`."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        key = _KEYS[name]
        if key is None:
            continue
        if key == b"cookie":
            found.setdefault(key, []).extend(_own_cookies(value))
        else:
            found.setdefault(key, []).append(name if key == UNKNOWN else value)
    return found


def _key(name: bytes) -> bytes | None:
    """What a header is to the gateway, by its name in lower case: that name, or :data:`UNKNOWN`;
    None, if it is nothing."""
    if name in READ_BY_GATEWAY:
        return name
    return UNKNOWN if _is_meant_for_us(name) else None


_KEYS = ByName(_key)


def _is_meant_for_us(key: bytes) -> bool:
    """Whether a header that nobody knows directs the gateway, or so its sender believes. Tor's own
    names are Tor's to extend (its HTTP CONNECT specification), but whoever asks for isolation by
    another name would do without it unawares."""
    return key.translate(None, b"-_.").startswith(_OURS) or bool(_ISOLATES.match(key))


def check_names(fields: Fields) -> None:
    """See that every header that was meant for the gateway is one that it knows: who asks for
    something under another name relies on what would not happen.

    Raises BadRequest with the name, where it is a plain one, and the nearest that there is.
    """
    if UNKNOWN not in fields:
        return
    name = fields[UNKNOWN][0]
    if not _PLAIN_NAME.fullmatch(name):
        raise BadRequest("One of the headers that begin with Tortxd is none that tortxd knows.")
    shown = name.decode("ascii")
    meant = nearest(_PREFIX.sub("", shown, 1), _MEANT)
    hint = "" if meant is None else f" Did you mean {_MEANT[meant]}?"
    raise BadRequest(f"{shown} is not a header that tortxd knows.{hint}")


def from_browser(fields: Fields) -> bool:
    """Whether a browser asks, as far as that can be told."""
    return not _FROM_BROWSER.isdisjoint(fields)


def read_by_gateway(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The same headers as a list, for the gateway's own routes, with the names of those that nobody
    knows, and with Accept and Last-Event-ID. Browsers send a gateway on localhost the cookies of
    every other service there: those are left out."""
    kept = []
    for name, value in headers:
        key = name.lower()
        if key == b"cookie":
            kept += [(name, OPERATOR_COOKIE + b"=" + own) for own in _own_cookies(value)]
        elif key in _FOR_OWN_ROUTES:
            kept.append((name, value))
        elif _is_meant_for_us(key):
            kept.append((name, b""))  # its name alone is told of
    return kept


def _own_cookies(value: bytes) -> list[bytes]:
    """The values of :data:`OPERATOR_COOKIE` in one Cookie field (RFC 6265, section 4.2.1)."""
    pairs = (pair.strip(b" \t").partition(b"=") for pair in value.split(b";"))
    return [own for name, _, own in pairs if name == OPERATOR_COOKIE]


def single(fields: Fields, *names: bytes) -> bytes | None:
    """The one value that these headers (other names of one thing) have, or None.

    Raises BadRequest when they contradict each other.
    """
    values = {value for name in names for value in fields.get(name, ())}
    if len(values) > 1:
        raise BadRequest(f"The {names[0].decode('ascii').title()} header is given more than once.")
    return values.pop() if values else None


def proxy_login(fields: Fields) -> tuple[bytes, bytes] | None:
    """User and password, where Proxy-Authorization has such (Basic, RFC 7617).

    Raises BadRequest when it is malformed.
    """
    credentials = single(fields, _CREDENTIALS)
    scheme, _, encoded = (credentials or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return user_and_password(b64decode(encoded.strip(b" "), validate=True))
    except ValueError:
        raise BadRequest("The Proxy-Authorization header is malformed.") from None


def user_and_password(login: bytes) -> tuple[bytes, bytes]:
    """Both, where they stand in one as in Basic (RFC 7617): no user has a colon in its name."""
    user, _, password = login.partition(b":")
    return user, password


def own_user(user: bytes) -> tuple[bytes | None, bytes] | None:
    """The key in a user name beside which the gateway's token stands as password, if it has one,
    and the parameters behind it: ``tortxd+KEY;exit-country=de``. None where it is another's."""
    if not user.startswith(_OWN_USER):
        return None
    name, _, parameters = user[len(_OWN_USER) :].partition(b";")
    if name and not name.startswith(b"+"):
        return None
    return name[1:] if name else None, parameters

"""What the gateway itself reads from a request's headers."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from hashlib import sha256

from attrs import evolve, field, frozen

from tortxd.errors import BadRequest, NotServed
from tortxd.nearest import nearest
from tortxd.policy.names import ByName

Headers = Sequence[tuple[bytes, bytes]]
"""Names and values as parsed, in order, values without surrounding white space."""

Fields = Mapping[bytes, Sequence[bytes]]
"""The headers that mean something to the gateway: lower-cased names and all their values."""

_ISOLATION = b"tor-stream-isolation"
_ISOLATION_ALIAS = b"x-tor-stream-isolation"
_CREDENTIALS = b"proxy-authorization"
_ISOLATION_USER = b"tor-iso"
_OWN_USER = b"tortxd"
_TIMEOUT = b"tortxd-timeout"
_NOT_SERVED = (b"tortxd-retry", b"tortxd-exit-country", b"tortxd-exit", b"tortxd-sticky")
_DIRECTIVES = frozenset({_ISOLATION, _ISOLATION_ALIAS, _CREDENTIALS, _TIMEOUT, *_NOT_SERVED})

READ_BY_GATEWAY = _DIRECTIVES | {
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

_LONGEST_KEY = 256
_KEY_LENGTH = f"An isolation key has 1 to {_LONGEST_KEY} bytes."
_TWO_KEYS = "Two different isolation keys are given."
_SECONDS = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,9})?")


@frozen
class Directives:
    """What the client asks of the gateway for this request."""

    isolation: bytes | None = field(default=None, repr=False)
    """The isolation key, 1 to 256 bytes."""
    timeout: float | None = None
    """Seconds; the daemon's own limit holds as well."""


_NONE = Directives()


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


def read_directives(fields: Fields, *, proxy_mode: bool = False) -> Directives:
    """Read the headers by which a client directs the gateway.

    ``proxy_mode``: the request is a CONNECT or in absolute-form, whose Proxy-Authorization names
    the key in further ways.

    Raises BadRequest for malformed ones, and NotServed for a retry or an exit that was asked for
    and would otherwise be ignored.
    """
    if _DIRECTIVES.isdisjoint(fields):
        return _NONE
    for name in _NOT_SERVED:
        if name in fields:
            raise NotServed(f"{name.decode('ascii').title()} is not served yet.")
    isolation = single(fields, _ISOLATION, _ISOLATION_ALIAS)
    login = proxy_login(fields)
    if login is not None:
        isolation = _with_login(isolation, *login, proxy_mode=proxy_mode)
    if isolation is not None and not 1 <= len(isolation) <= _LONGEST_KEY:
        raise BadRequest(_KEY_LENGTH)
    directives = single(fields, _TIMEOUT)
    timeout = None if directives is None else _seconds(directives)
    return Directives(isolation, timeout)


def with_key(directives: Directives, key: bytes) -> Directives:
    """The same with an isolation key that came beside the headers.

    Raises BadRequest when it is malformed, or when a header names another one.
    """
    if not 1 <= len(key) <= _LONGEST_KEY:
        raise BadRequest(_KEY_LENGTH)
    if directives.isolation not in (None, key):
        raise BadRequest(_TWO_KEYS)
    return evolve(directives, isolation=key)


def isolation_key(key: str | bytes) -> bytes:
    """A program's own isolation key as bytes.

    Raises BadRequest when it is malformed.
    """
    name = key if isinstance(key, bytes) else _encoded(key, "utf-8")
    if not 1 <= len(name) <= _LONGEST_KEY:
        raise BadRequest(_KEY_LENGTH)
    return name


def key_forms(key: str) -> frozenset[bytes]:
    """The bytes in which a header may hold this isolation key: most programs write UTF-8, browsers
    Latin-1.

    Raises BadRequest where no header can.
    """
    forms = {_encoded(key, coding) for coding in ("utf-8", "latin-1")}
    found = frozenset(form for form in forms if 1 <= len(form) <= _LONGEST_KEY)
    if not found:
        raise BadRequest(_KEY_LENGTH)
    return found


def _encoded(text: str, coding: str) -> bytes:
    try:
        return text.encode(coding)
    except UnicodeEncodeError:
        return b""


def proxy_login(fields: Fields) -> tuple[bytes, bytes] | None:
    """User and password, where Proxy-Authorization has such (Basic, RFC 7617).

    Raises BadRequest when it is malformed.
    """
    credentials = single(fields, _CREDENTIALS)
    scheme, _, encoded = (credentials or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, _, password = b64decode(encoded.strip(b" "), validate=True).partition(b":")
    except ValueError:
        raise BadRequest("The Proxy-Authorization header is malformed.") from None
    return user, password


def is_own_user(user: bytes) -> bool:
    """Whether the password beside this user is the gateway's token."""
    return user == _OWN_USER or user.startswith(_OWN_USER + b"+")


def _with_login(
    key: bytes | None, user: bytes, password: bytes, *, proxy_mode: bool
) -> bytes | None:
    """The isolation key with what Proxy-Authorization says of it.

    Tor's specification of HTTP CONNECT names ``tor-iso``, with the key as password. Its
    implementation isolates by other users and passwords as well, which programs rely on.
    """
    if user == _ISOLATION_USER:
        named: bytes | None = password
    elif not proxy_mode or user == _OWN_USER:
        return key
    elif is_own_user(user):
        named = user[len(_OWN_USER) + 1 :]
    else:
        return sha256(user + b":" + password).digest() if key is None else key
    if key is not None and key != named:
        raise BadRequest(_TWO_KEYS)
    return named


def _seconds(text: bytes) -> float:
    seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
    if seconds > 0:
        return seconds
    raise BadRequest("Tortxd-Timeout takes a number of seconds greater than 0.")

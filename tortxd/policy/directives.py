"""What a client asks of the gateway for one request: the key by which it is kept apart, the time
that it may take, and how it is steered."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256

from attrs import evolve, field, frozen

from tortxd.errors import BadRequest
from tortxd.nearest import did_you_mean
from tortxd.policy.request import (
    DIRECTIVES,
    ISOLATION,
    ISOLATION_ALIAS,
    STEERING,
    TIMEOUT,
    Fields,
    own_user,
    proxy_login,
    single,
    user_and_password,
)
from tortxd.policy.steering import (
    LISTS,
    NOTHING,
    PARAMETERS,
    Asked,
    Steering,
    header_of,
    read,
)

_ISOLATION_USER = b"tor-iso"
_LONGEST_KEY = 256
_KEY_LENGTH = f"An isolation key has 1 to {_LONGEST_KEY} bytes."
_TWO_KEYS = "Two different isolation keys are given."
_NO_KEY = "This proxy user has no isolation key. The gateway's own names it: tortxd+KEY."
_PARAMETER_NAME = re.compile(rb"[A-Za-z-]{1,20}")
_SECONDS = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,9})?")


@frozen
class Directives:
    """What the client asks of the gateway for this request."""

    isolation: bytes | None = field(default=None, repr=False)
    """The isolation key, 1 to 256 bytes."""
    timeout: float | None = None
    """Seconds; the daemon's own limit holds as well."""
    asked: Asked = NOTHING
    """How it is steered, as far as that is said."""

    @property
    def steering(self) -> Steering:
        """How it is steered."""
        return self.asked.steering()


_NONE = Directives()


def read_directives(fields: Fields, *, proxy_mode: bool = False) -> Directives:
    """Read the headers by which a client directs the gateway.

    ``proxy_mode``: the request is a CONNECT or in absolute-form, whose Proxy-Authorization names
    the key in further ways, and may steer it.

    Raises BadRequest for malformed ones.
    """
    if DIRECTIVES.isdisjoint(fields):
        return _NONE
    isolation, asked = single(fields, ISOLATION, ISOLATION_ALIAS), _steering_of(fields)
    login = proxy_login(fields)
    if login is not None:
        isolation = _with_login(isolation, *login, proxy_mode=proxy_mode)
        if proxy_mode:
            asked = asked.beside(_asked_by(login[0]))
    if isolation is not None:
        _check_key(isolation)
    timeout = single(fields, TIMEOUT)
    return Directives(isolation, None if timeout is None else _seconds(timeout), asked)


def _steering_of(fields: Fields) -> Asked:
    found = {}
    for name, parameter in STEERING.items():
        if name in fields:
            value = b", ".join(fields[name]) if parameter in LISTS else single(fields, name)
            found[parameter] = value or b""
    return read(found, header_of) if found else NOTHING


def _asked_by(user: bytes) -> Asked:
    """How a proxy user is steered: what stands behind the key in the name of the gateway's own."""
    own = own_user(user)
    if own is None:
        return NOTHING
    found: dict[bytes, bytes] = {}
    for parameter in filter(None, own[1].split(b";")):
        name, _, value = parameter.partition(b"=")
        name = name.strip(b" ").lower()
        if name not in PARAMETERS:
            raise BadRequest(_unknown_of_user(name))
        if name in found:
            raise BadRequest(f"The proxy user's {name.decode()} is given more than once.")
        found[name] = value.strip(b" ")
    return read(found) if found else NOTHING


def _unknown_of_user(name: bytes) -> str:
    if not _PARAMETER_NAME.fullmatch(name):
        return "One of the parameters of the proxy user is none that tortxd knows."
    shown = name.decode()
    hint = did_you_mean(shown, sorted(known.decode() for known in PARAMETERS))
    return f"`{shown}` is not a parameter of the proxy user.{hint}"


def with_parameters(directives: Directives, key: bytes | None, asked: Asked) -> Directives:
    """The same with what came beside the headers: an isolation key, and how it is steered.

    Raises BadRequest when the key is malformed, or when a header says otherwise.
    """
    if key is not None:
        _check_key(key)
        if directives.isolation not in (None, key):
            raise BadRequest(_TWO_KEYS)
        directives = evolve(directives, isolation=key)
    return evolve(directives, asked=directives.asked.beside(asked))


def _check_key(key: bytes) -> None:
    if not 1 <= len(key) <= _LONGEST_KEY:
        raise BadRequest(_KEY_LENGTH)


def isolation_key(key: str | bytes) -> bytes:
    """A program's own isolation key as bytes.

    Raises BadRequest when it is malformed.
    """
    name = key if isinstance(key, bytes) else _encoded(key, "utf-8")
    _check_key(name)
    return name


def key_forms(key: str) -> frozenset[bytes]:
    """The bytes in which a header may hold this isolation key: most programs write UTF-8, browsers
    Latin-1.

    Raises BadRequest where no header can.
    """
    return _of_right_length(_forms(key))


def keys_of_login(login: str) -> frozenset[bytes]:
    """The isolation key of a proxy user, in the forms that it may have, by ``USER:PASSWORD`` as
    such programs send it in proxy mode.

    Raises BadRequest where that names no key, or the proxy would refuse it.
    """
    found = set()
    for form in _forms(login):
        user, password = user_and_password(form)
        _asked_by(user)  # which refuses what the proxy would
        key = _with_login(None, user, password, proxy_mode=True)
        if key is not None:
            found.add(key)
    if not found:
        raise BadRequest(_NO_KEY)
    return _of_right_length(found)


def _forms(text: str) -> set[bytes]:
    """What text is in each coding of headers that has all of it, unless that is nothing."""
    return {_encoded(text, coding) for coding in ("utf-8", "latin-1")} - {b""}


def _of_right_length(keys: Iterable[bytes]) -> frozenset[bytes]:
    found = frozenset(key for key in keys if 1 <= len(key) <= _LONGEST_KEY)
    if not found:
        raise BadRequest(_KEY_LENGTH)
    return found


def _encoded(text: str, coding: str) -> bytes:
    try:
        return text.encode(coding)
    except UnicodeEncodeError:
        return b""


def _with_login(
    key: bytes | None, user: bytes, password: bytes, *, proxy_mode: bool
) -> bytes | None:
    """The isolation key with what Proxy-Authorization says of it.

    Tor's specification of HTTP CONNECT names ``tor-iso``, with the key as password. Its
    implementation isolates by other users and passwords as well, which programs rely on.
    """
    if user == _ISOLATION_USER:
        named: bytes | None = password
    elif not proxy_mode:
        return key
    elif (own := own_user(user)) is not None:
        named = own[0]
        if named is None:
            return key
    else:
        return key_of_user(user, password) if key is None else key
    if key is not None and key != named:
        raise BadRequest(_TWO_KEYS)
    return named


def key_of_user(user: bytes, password: bytes) -> bytes:
    """The isolation key that a proxy user is who is neither the gateway's own nor Tor's."""
    return sha256(user + b":" + password).digest()


def _seconds(text: bytes) -> float:
    seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
    if seconds > 0:
        return seconds
    raise BadRequest("Tortxd-Timeout takes a number of seconds greater than 0.")

"""Where a request is to leave Tor, for how long its key stays there, and how often it is tried.

The same things are said in header fields, in parameters of ``/proxy`` and behind the user's name in
proxy mode. Said in two places, they must be the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import evolve, field, frozen

from tortxd.errors import BadRequest

MOST_RETRIES = 3
LONGEST_STICKY = 86_400
"""Seconds."""
MOST_NAMED = 32
"""Countries or relays in one choice."""
_COUNTRY = re.compile("[A-Za-z]{2}")
_FINGERPRINT = re.compile(r"\$?([0-9A-Fa-f]{40})")
_STICKY = re.compile(rb"([0-9]{1,9})(?:[ \t]*,[ \t]*(strict))?", re.IGNORECASE)
_NUMBER = re.compile(rb"[0-9]{1,9}")


@frozen(cache_hash=True)
class Choice:
    """Which exits will do: those that every part of it names."""

    countries: frozenset[str] = frozenset()
    """ISO 3166-1 alpha-2 in lower case; empty: any."""
    fingerprints: frozenset[str] = frozenset()
    """40 hexadecimal digits in upper case; empty: any."""

    @property
    def is_any(self) -> bool:
        """Whether every exit will do."""
        return not (self.countries or self.fingerprints)


ANY = Choice()


@frozen(cache_hash=True)
class Sticky:
    """A key keeps its exit."""

    seconds: int
    """How long from now on, 1 to 86,400."""
    strict: bool = False
    """Whether nothing goes by another exit when that one has gone."""


@frozen(cache_hash=True)
class Steering:
    """What a client asks for."""

    choice: Choice = ANY
    sticky: Sticky | None = None
    retry: int = 0
    """Further tries, at most."""


UNSTEERED = Steering()


@frozen
class Asked:
    """The same as far as one place says it: None is what it does not say."""

    countries: frozenset[str] | None = field(default=None)
    fingerprints: frozenset[str] | None = field(default=None)
    sticky: Sticky | None = None
    retry: int | None = None

    def steering(self) -> Steering:
        """What that comes to."""
        if self is NOTHING:
            return UNSTEERED
        choice = Choice(self.countries or frozenset(), self.fingerprints or frozenset())
        steering = Steering(choice, self.sticky, self.retry or 0)
        return UNSTEERED if steering == UNSTEERED else steering  # compared by identity

    def beside(self, other: Asked) -> Asked:
        """Both together.

        :raises BadRequest: they contradict each other.
        """
        merged = self
        for name, parameter in _PARAMETER_OF.items():
            value = getattr(other, name)
            if value is None:
                continue
            if getattr(merged, name) not in (None, value):
                raise BadRequest(f"Two different values of {parameter} are given.")
            merged = evolve(merged, **{name: value})
        return merged


NOTHING = Asked()


# --- values -------------------------------------------------------------------------------------


def _countries(value: bytes) -> frozenset[str]:
    codes = _listed(value)
    if not codes or not all(map(_COUNTRY.fullmatch, codes)):
        raise ValueError("takes two-letter codes of countries, as in `de` or `de, fr`.")
    return frozenset(code.lower() for code in codes)


def _fingerprints(value: bytes) -> frozenset[str]:
    found = [_FINGERPRINT.fullmatch(one) for one in _listed(value)]
    if not found or None in found:
        raise ValueError("takes fingerprints of exit relays, each of 40 hexadecimal digits.")
    return frozenset(match[1].upper() for match in found if match is not None)


def _sticky(value: bytes) -> Sticky:
    match = _STICKY.fullmatch(value)
    seconds = 0 if match is None else int(match[1])
    if match is None or not 1 <= seconds <= LONGEST_STICKY:
        raise ValueError(f"takes seconds from 1 to {LONGEST_STICKY}, as in `600` or `600, strict`.")
    return Sticky(seconds, match[2] is not None)


def _retry(value: bytes) -> int:
    tries = int(value) if _NUMBER.fullmatch(value) else -1
    if not 0 <= tries <= MOST_RETRIES:
        raise ValueError(f"takes a number from 0 to {MOST_RETRIES}.")
    return tries


def _listed(value: bytes) -> list[str]:
    """The members of a list (RFC 9110, section 5.6.1), of which empty ones do not count."""
    members = [member.strip(b" \t") for member in value.split(b",")]
    found = [member.decode("latin-1") for member in members if member]
    if len(found) > MOST_NAMED:
        raise ValueError(f"takes {MOST_NAMED} at most.")
    return found


_READ: Mapping[bytes, tuple[str, Callable[[bytes], Any]]] = {
    b"exit-country": ("countries", _countries),
    b"exit": ("fingerprints", _fingerprints),
    b"sticky": ("sticky", _sticky),
    b"retry": ("retry", _retry),
}
PARAMETERS = frozenset(_READ)
"""What these things are called in queries and user names."""
LISTS = frozenset({b"exit-country", b"exit"})
"""Those that may be said in several header fields, which are then one list."""
_PARAMETER_OF = {name: parameter.decode() for parameter, (name, _) in _READ.items()}


def header_of(parameter: bytes) -> str:
    """What the header field is called that says the same."""
    return "Tortxd-" + parameter.decode("ascii").title()


def steering_for(
    *,
    exit_country: str | Iterable[str] | None = None,
    exit: str | Iterable[str] | None = None,
    sticky: int | None = None,
    strict: bool = False,
    retry: int = 0,
) -> Steering:
    """The same from a program's own values.

    :param exit_country: two-letter codes of countries (ISO 3166-1).
    :param exit: fingerprints of relays.
    :param sticky: seconds.
    :param strict: whether it fails where that exit has gone.
    :raises BadRequest: one is malformed.
    """
    if strict and sticky is None:
        raise BadRequest("strict goes with sticky: it says what a key does whose exit has gone.")
    given = {b"exit-country": exit_country, b"exit": exit, b"retry": str(retry) if retry else None}
    if sticky is not None:
        given[b"sticky"] = f"{sticky}, strict" if strict else str(sticky)
    values = {
        name: (value if isinstance(value, str) else ",".join(value)).encode("utf-8", "replace")
        for name, value in given.items()
        if value is not None
    }
    return read(values, lambda name: name.decode().replace("-", "_")).steering()


def read(given: Mapping[bytes, bytes], called: Callable[[bytes], str] = bytes.decode) -> Asked:
    """What these values say, which are given by the names of :data:`PARAMETERS`.

    :param called: what a sentence calls each of them.
    :raises BadRequest: one is malformed.
    """
    found: dict[str, Any] = {}
    for parameter, value in given.items():
        name, parse = _READ[parameter]
        try:
            found[name] = parse(value)
        except ValueError as error:
            raise BadRequest(f"{called(parameter)} {error}") from None
    return Asked(**found)


def as_parameters(steering: Steering) -> dict[bytes, bytes]:
    """What :func:`read` takes for the same."""
    choice, sticky = steering.choice, steering.sticky
    found: dict[bytes, bytes] = {}
    if choice.countries:
        found[b"exit-country"] = ", ".join(sorted(choice.countries)).encode()
    if choice.fingerprints:
        found[b"exit"] = ", ".join(sorted(choice.fingerprints)).encode()
    if sticky is not None:
        found[b"sticky"] = b"%d%b" % (sticky.seconds, b", strict" if sticky.strict else b"")
    if steering.retry:
        found[b"retry"] = b"%d" % steering.retry
    return found

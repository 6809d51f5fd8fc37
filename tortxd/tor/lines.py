"""Lines about circuits and streams, taken apart (control-spec, sections 4.1.1, 4.1.2 and 4.1.19).

The control port is not believed blindly: ids, states, paths and keywords have the form that
control-spec gives them, since they end up in headers, logs and pages; what has another form is
passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from socket import AF_INET, AF_INET6, inet_pton

from tortxd.tor.changes import Bandwidth, CircuitChanged, Source
from tortxd.wire.control import Implausible

OVER = frozenset(("CLOSED", "FAILED"))
"""The states of what has ended."""
_LONGEST_LINE = 8192
"""Characters. Targets and credentials have 255 bytes at most, each of which may be escaped."""
_LONGEST_TARGET = 300
_LONGEST_USERNAME = 1100
_STREAM_STATES = OVER | {"NEW", "SENTCONNECT", "SUCCEEDED", "DETACHED", "REMAP"}
_ID = re.compile(r"[A-Za-z0-9]{1,16}")
_KEYWORD = re.compile(r"[A-Z0-9_]{1,40}")
_FLAGS = re.compile(r"[A-Z0-9_,]{1,200}")
_HOP = r"\$[0-9A-Fa-f]{40}(?:[=~][A-Za-z0-9]{1,19})?"
_PATH = re.compile(rf"{_HOP}(?:,{_HOP}){{0,15}}")
_PORT = re.compile(r"[0-9]{1,5}")
_BYTES = re.compile(r"[0-9]{1,15}")
_CONFLUX_ID = re.compile(r"[0-9A-Fa-f]{1,64}")


def words_of(line: str, number: int = -1) -> list[str]:
    """The words of an event; with a ``number``, so many of them and the rest.

    :raises Implausible: it is longer than any.
    """
    if len(line) > _LONGEST_LINE:
        raise Implausible("a circuit or stream event that is too long")
    return line.split(None, number)


def fields_of(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The ``KEY=value`` words of an event. Quoted values with spaces are of no interest here."""
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            yield key, value


def split_path(path: str) -> Iterator[tuple[str, str | None]]:
    """Fingerprint and nickname of each hop of ``$FP~nick,$FP`` (control-spec, LongName)."""
    for hop in path.split(",") if path else ():
        text = hop.removeprefix("$")
        yield text[:40].upper(), text[41:] or None


def source_of(text: str) -> Source | None:
    """``127.0.0.1:43210``, ``[::1]:43210`` or ``::1:43210`` as host and port; None for others."""
    host, _, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or port == "0" or host.startswith("("):
        return None
    host = host.removeprefix("[").removesuffix("]")
    try:
        # Every stream has a source, and ipaddress would take ten times as long.
        inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except (OSError, ValueError):
        return None
    return host, int(port)


def username_of(text: str) -> str | None:
    """A SOCKS username without its quotes. One that Tor had to escape, or that holds a space, is
    none of ours, and stays as it is."""
    if len(text) > _LONGEST_USERNAME or not text.isascii() or not text.isprintable():
        return None
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' else text or None


def keyword(text: str) -> str | None:
    """A keyword; None for what has another form."""
    return text if _KEYWORD.fullmatch(text) else None


def is_id(text: str) -> bool:
    """Whether this can be the id of a circuit or a stream."""
    return _ID.fullmatch(text) is not None


def is_stream_state(text: str) -> bool:
    """Whether this can be the state of a stream."""
    return text in _STREAM_STATES or _KEYWORD.fullmatch(text) is not None


def is_target(text: str) -> bool:
    """Whether this can be the target of a stream."""
    return len(text) <= _LONGEST_TARGET and text.isascii() and text.isprintable()


def circuit_after(
    before: CircuitChanged, state: str, words: Sequence[str], now: float, event: str
) -> CircuitChanged:
    """The circuit as an event shows it, which need not say all.

    :param words: those after the state.
    """
    details = dict(fields_of(words))
    path = before.path
    if words and words[0] != path and _PATH.fullmatch(words[0]):
        path = words[0]
    flags, conflux = details.get("BUILD_FLAGS", ""), details.get("CONFLUX_ID", "")
    username = before.username or username_of(details.get("SOCKS_USERNAME", ""))
    return CircuitChanged(
        before.id,
        state,
        path,
        keyword(details["PURPOSE"]) if "PURPOSE" in details else before.purpose,
        flags if flags != before.flags and _FLAGS.fullmatch(flags) else before.flags,
        username,
        before.conflux or (conflux if _CONFLUX_ID.fullmatch(conflux) else None),
        before.leg,
        before.created,
        now if _is_built(before, state, event) else before.built,
        now,
        event,
        before.username is None and username is not None,
    )


def _is_built(before: CircuitChanged, state: str, event: str) -> bool:
    """Whether an event shows that a circuit has just been built, for the first time."""
    return state == "BUILT" and before.state != "BUILT" and event == "CIRC" and before.built is None


def bandwidth_of(line: str, now: float) -> Bandwidth | None:
    """What a BW event says (control-spec, section 4.1.4); None where it has another form."""
    words = line.split(None, 2)[:2]
    if len(words) < 2 or not all(map(_BYTES.fullmatch, words)):
        return None
    return Bandwidth(int(words[0]), int(words[1]), now)


def field_of(line: str, key: str) -> str:
    """The value of the first ``key=`` in an event; empty where it has none. For stream events, of
    which thousands come a second: :func:`fields_of` takes ten times as long."""
    key = f" {key}="
    begin = line.find(key)
    if begin < 0:
        return ""
    begin += len(key)
    end = line.find(" ", begin)
    return line[begin:] if end < 0 else line[begin:end]


def reasons_of(line: str) -> tuple[str | None, str | None]:
    """REASON and REMOTE_REASON of an event; None for what it does not say."""
    return keyword(field_of(line, "REASON")), keyword(field_of(line, "REMOTE_REASON"))


def age_of(line: str, utc: datetime) -> float:
    """How many seconds ago a circuit was made, by its TIME_CREATED; 0 where it has none."""
    try:
        created = datetime.fromisoformat(field_of(line, "TIME_CREATED")).replace(tzinfo=UTC)
    except ValueError:
        return 0.0
    return max(0.0, (utc - created).total_seconds())

"""What the control port answers, taken apart. Pure; the forms are those of control-spec, sections 3
and 4."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from attrs import frozen

from tortxd.addresses import is_address
from tortxd.errors import InternalError, SetupError, printable
from tortxd.tor.link import SocksAddress
from tortxd.tor.process import listener_address
from tortxd.tor.reasons import reason
from tortxd.tor.status import Bootstrapping

# Neither begins anew within what it has looked at: a long line would take minutes.
_WORD = re.compile(r'(?<![\w/-])([\w/-]+)=("(?:[^"\\]|\\.)*"|\S*)')
_QUOTED = re.compile(r'(?<!\\)"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
_BYTES = {key.encode(): value.encode() for key, value in _ESCAPED.items()}


_PROXIES = {"conn_pt": "pluggable transport", "conn_proxy": "proxy"}
"""What is connected to, instead of a relay, while bootstrapping has this tag."""
_LONGEST_TEXT = 300
"""Characters; Tor's own summaries and warnings have some 100."""
_LONGEST_STATUS = 8192
"""Characters of a status event that are looked at; one of Tor's has some 300."""
_LONGEST_LISTENERS = 65_536
"""Characters of what ``net/listeners/socks`` says that are looked at, each listener some 20."""
_SKEW = re.compile(r"Clock skew (-?\d+) ")


_GUARD = re.compile(r"\$?([0-9A-Fa-f]{40})(?=[=~ ]|$)")
_MOST_GUARDS = 1000
"""Tor has some 20, of which it uses two."""
_COOKIE_FILE = re.compile(rb'COOKIEFILE="((?:[^"\\]|\\.)*)"')
_METHODS = re.compile(r"METHODS=([A-Z,]+)")
_ESCAPED_BYTE = re.compile(rb"\\([0-7]{1,3}|.)")


@frozen
class AuthenticationOffer:
    """What PROTOCOLINFO says of authentication (control-spec, section 3.21)."""

    methods: frozenset[str]
    cookie: Path | None
    """The file that holds the cookie."""


def parse_protocolinfo(reply: str) -> AuthenticationOffer:
    """Read the AUTH line; where there is none, nothing is offered."""
    line = next((line for line in reply.split("\n") if line.startswith("AUTH ")), "")
    methods, cookie = _METHODS.search(line), _COOKIE_FILE.search(line.encode("latin-1"))

    def plain(escape: re.Match[bytes]) -> bytes:
        code = escape[1]
        octal = code[:1] in b"01234567"
        return bytes((int(code, 8) & 0xFF,)) if octal else _BYTES.get(code, code)

    path = None if cookie is None else os.fsdecode(_ESCAPED_BYTE.sub(plain, cookie[1]))
    return AuthenticationOffer(
        frozenset(methods[1].split(",") if methods else ()),
        Path(path) if path is not None and path.startswith("/") else None,
    )


class CommandRefused(InternalError):
    """Tor did not accept a command; ``reply_code`` is its three-digit code (control-spec, 4)."""

    def __init__(self, sentence: str, reply_code: int) -> None:
        super().__init__(sentence)
        self.reply_code = reply_code


def for_people(text: str) -> str:
    """What Tor says in words of its own, for a log and a page: short, and without what could end a
    line there."""
    return printable(text[:_LONGEST_TEXT])


def in_words(name: str) -> str:
    """A reason that is a keyword, as a sentence; another as it is."""
    return reason(name).connecting or for_people(name)


def skew_in_words(seconds: int) -> str:
    """A sentence about a clock that is off by so much; ahead, where that is positive. In round
    numbers, so that it stays the same from one time that Tor says so to the next."""
    direction, amount = "ahead of" if seconds > 0 else "behind", _rounded(seconds)
    some = "" if amount is None else f"some {amount} "
    return f"This machine's clock is {some}{direction} the network's: set it right."


def jump_in_words(seconds: int) -> str:
    """A sentence about a clock that has jumped so far; ahead, where that is positive."""
    direction = "ahead" if seconds > 0 else "back"
    amount = _rounded(seconds) or f"{abs(seconds)} seconds"
    cause = ", or it was suspended" if seconds > 0 else ""
    return f"This machine's clock jumped some {amount} {direction}{cause}: Tor builds new circuits."


def _rounded(seconds: int) -> str | None:
    """So long, in the largest unit of which it is more than one; None: that is below minutes."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if abs(seconds) >= 1.5 * length:
            return f"{round(abs(seconds) / length)} {unit}"
    return None


def in_utf8(text: str) -> str:
    """What a control port has sent, whose characters are bytes (:mod:`tortxd.wire.control`), read
    as UTF-8, as file names and words for people are. What is not UTF-8 stays as it is."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def unquoted(text: str) -> str:
    """A value without its quotes and escapes, read as UTF-8; unquoted text as it is. Octal escapes
    are bytes."""
    match = _QUOTED.fullmatch(text)
    if match is None:
        return text

    def plain(escape: re.Match[str]) -> str:
        code = escape[1]
        return chr(int(code, 8) & 0xFF) if code[0] in "01234567" else _ESCAPED.get(code, code)

    return in_utf8(_ESCAPE.sub(plain, match[1]))


def parse_info(reply: str, keys: Sequence[str]) -> dict[str, str]:
    """The reply to GETINFO for these keys; values of several lines have them, separated."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in reply.split("\n"):
        key, equals, value = line.partition("=")
        if equals and key in keys and key not in found:
            lines = found[key] = [value] if value else []
        elif line != "OK":
            lines.append(line)
    return {key: "\n".join(value) for key, value in found.items()}


def parse_conf(reply: str) -> list[str]:
    """The values of one option in a reply to GETCONF; none where it has its default."""
    values = []
    for line in reply.split("\n"):
        _, equals, value = line.partition("=")
        if equals:
            values.append(unquoted(value))
    return values


@frozen
class StatusEvent:
    """A status event, or the reply to ``status/bootstrap-phase`` (control-spec, section 4.1.10)."""

    severity: str
    action: str
    arguments: dict[str, str]


def parse_status(line: str) -> StatusEvent:
    """``NOTICE BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="Connecting to a relay"`` and the like."""
    severity, _, rest = line.partition(" ")
    action, _, arguments = rest[:_LONGEST_STATUS].partition(" ")
    return StatusEvent(severity, action, {k: unquoted(v) for k, v in _WORD.findall(arguments)})


def bootstrap_of(event: StatusEvent) -> Bootstrapping:
    """The progress that a BOOTSTRAP event shows, and what Tor complains of. A clock that is off is
    left out: see :func:`skew_of`."""
    arguments = event.arguments
    progress = arguments.get("PROGRESS", "0")
    return Bootstrapping(
        progress=min(100, int(progress)) if re.fullmatch("[0-9]{1,3}", progress) else 0,
        tag=for_people(arguments.get("TAG", "starting")),
        summary=for_people(arguments.get("SUMMARY", "Starting")),
        warning=_warning(arguments),
    )


def _warning(arguments: Mapping[str, str]) -> str | None:
    warning, name = arguments.get("WARNING", ""), arguments.get("REASON", "")
    if name == "CLOCK_SKEW" or not (warning or name):
        return None
    sentence = reason(name).connecting or reason(warning).connecting
    if sentence is None:
        return f"{for_people((warning or name).rstrip('.'))}."
    proxy = _PROXIES.get(arguments.get("TAG", ""))
    if proxy is None:
        return sentence
    return sentence.replace("A guard or bridge", f"The {proxy}").replace(
        "a guard or bridge", f"the {proxy}"
    )


def skew_of(event: StatusEvent) -> int | None:
    """By how many seconds this machine's clock is ahead, where a BOOTSTRAP or CLOCK_SKEW event says
    so."""
    arguments = event.arguments
    text = arguments.get("SKEW", "")
    if arguments.get("REASON") == "CLOCK_SKEW" and (
        match := _SKEW.search(arguments.get("WARNING", ""))
    ):
        text = match[1]
    return int(text) if re.fullmatch(r"-?\d{1,12}", text) else None


def jump_of(event: StatusEvent) -> int | None:
    """By how many seconds the clock has jumped, where a CLOCK_JUMPED event says so."""
    text = event.arguments.get("TIME", "")
    return int(text) if re.fullmatch(r"-?\d{1,12}", text) else None


def guards_of(reply: str) -> frozenset[str]:
    """The fingerprints in ``entry-guards``, a line for each guard (control-spec, section 3.9)."""
    lines = islice(reply.split("\n"), _MOST_GUARDS)
    return frozenset(match[1].upper() for line in lines if (match := _GUARD.match(line)))


def relay_address(status: str) -> str | None:
    """The address in a router status entry: ``r NAME ID DIGEST DATE TIME IP ORPORT DIRPORT``
    (dir-spec, section 3.4.1). None where that is no address."""
    for line in status.split("\n"):
        words = line.split()
        if len(words) >= 7 and words[0] == "r":
            return words[-3] if is_address(words[-3]) else None
    return None


def listeners(value: str) -> list[SocksAddress]:
    """The addresses in ``net/listeners/socks``: quoted, separated by spaces. What is no address is
    left out."""
    quoted = _QUOTED.findall(value[:_LONGEST_LISTENERS])
    found = (listener_address(unquoted(f'"{text}"')) for text in quoted)
    return [address for address in found if address is not None]


def choose_socks(
    listening: Sequence[SocksAddress],
    configured: Iterable[str],
    named: SocksAddress | None = None,
) -> SocksAddress:
    """The SOCKS port of an attached Tor that keeps different credentials apart.

    The control port is not believed blindly: what it names counts where only this machine reaches
    it, so that no request leaves the machine but through Tor, whoever answers there.

    :param listening: what ``net/listeners/socks`` names.
    :param configured: the values of SocksPort, with their flags; none means Tor's default, which
        isolates.
    :param named: the address to use, which is then not looked for among the listening ones (a
        forwarded port has another name there).
    :raises SetupError: there is none, it is not on loopback, or it has NoIsolateSOCKSAuth.
    """
    isolating: set[SocksAddress] = set()
    mixing: set[SocksAddress] = set()
    any_mixing = unplaced_mixing = False
    for value in configured:
        where, mixes = _socks_line(value)
        any_mixing = any_mixing or mixes
        if where is None:
            unplaced_mixing = unplaced_mixing or mixes
        else:
            (mixing if mixes else isolating).add(where)
    refusal = SetupError(
        "That Tor's SOCKS port has NoIsolateSOCKSAuth, so it would put different users onto one "
        "circuit; remove the flag from its SocksPort line, or name another port with `socks`."
    )
    if named is not None:
        if any_mixing and named not in isolating:
            raise refusal
        return named
    if not listening:
        raise SetupError(
            "That Tor has no SOCKS port open; give it a SocksPort, or name one with `socks`."
        )
    near = [address for address in listening if address.is_local]
    if not near:
        raise SetupError(
            f"That Tor's SOCKS port listens at {listening[0]}, which is not a loopback address. A "
            "control port's word is not enough for that: if you trust it, name it with `socks`."
        )
    for address in near:
        if address in isolating or (address not in mixing and not unplaced_mixing):
            return address
    raise refusal


def _socks_line(value: str) -> tuple[SocksAddress | None, bool]:
    """Where a SocksPort value listens, and whether it mixes users. None where that cannot be told
    from the line: the port is Tor's to choose, or the host is a name."""
    if value.startswith('unix:"'):
        end = value.rfind('"') + 1
        where: SocksAddress | None = listener_address("unix:" + unquoted(value[5:end]))
        flags = value[end:].split()
    else:
        address, *flags = value.split() or [""]
        where = listener_address(
            f"127.0.0.1:{address}" if address.isdecimal() else in_utf8(address)
        )
    return where, "noisolatesocksauth" in (flag.lower() for flag in flags)

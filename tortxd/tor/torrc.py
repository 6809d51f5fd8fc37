"""The configuration of the Tor that we launch: which lines are ours, and the whole file.

How Tor reads a line was measured with ``tor --dump-config`` (0.4.9.11), for no manual says it:
option names have no case, may follow one ``+`` or ``/``, and may be abbreviated to any prefix
(``Cont 9051`` was taken); a comment ends at its line's end even after a backslash, so the next line
counts; space, tab, vertical tab, form feed and carriage return may stand before a name. Values are
best given quoted, because an unquoted ``#`` starts a comment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from tortxd.errors import SetupError
from tortxd.tor.link import SocksAddress

OWNED = (
    "ControlPort",
    "ControlPortFileGroupReadable",
    "ControlPortWriteToFile",
    "ControlSocket",
    "ControlSocketsGroupWritable",
    "CookieAuthentication",
    "CookieAuthFile",
    "CookieAuthFileGroupReadable",
    "DataDirectory",
    "DataDirectoryGroupReadable",
    "HashedControlPassword",
    "Log",
    "RunAsDaemon",
    "SafeLogging",
    "SocksPort",
    "User",
    "%include",
    "__ControlPort",
    "__DisableSignalHandlers",
    "__HashedControlSessionPassword",
    "__LeaveStreamsUnattached",
    "__OwningControllerFD",
    "__OwningControllerProcess",
    "__SocksPort",
)
"""The options that only tortxd sets: those that the contract names, those that would open the
control port by another door, and those that would take Tor out of our hands."""

_LISTENERS = ("DNSPort", "HTTPTunnelPort", "NATDPort", "TransPort", "__HTTPTunnelPort")
"""Further ways in that the user may open, on loopback."""

_SPACE = " \t\v\f\r"
_OWNED_FOLDED = tuple((name.lower(), name) for name in OWNED)


def one_line(text: str, what: str) -> str:
    """``text`` unchanged, if it can stand in one torrc line or control command.

    :raises SetupError: it holds CR, LF or NUL; ``what`` names it in the sentence.
    """
    if any(c in text for c in "\r\n\0"):
        raise SetupError(f"{what} holds a line break or a NUL, which tortxd does not take.")
    return text


def quoted(value: str) -> str:
    """``value`` as a quoted string of torrc and of the control protocol.

    :raises SetupError: it holds CR, LF or NUL.
    """
    escaped = one_line(value, "A value of Tor's configuration").replace("\\", "\\\\")
    return '"' + escaped.replace('"', '\\"') + '"'


def exposed_listener(line: str) -> str | None:
    """The option by which this torrc line opens a way into Tor beyond loopback, or None.

    Without an address Tor listens on 127.0.0.1. An address that is a name counts as exposed.
    """
    key, value = _key_and_value(line)
    name = next((n for n in _LISTENERS if key and n.lower().startswith(key)), None)
    address, _, _ = value.strip(' "').partition(" ")
    host, colon, _ = address.rpartition(":")
    if name is None or not colon or address.startswith("unix:"):
        return None
    return None if SocksAddress(host.strip("[]")).is_local else name


def owned_option(line: str) -> str | None:
    """The owned option that this torrc line would set, in Tor's spelling, or None.

    A name that is cut short so that Tor could take it for an owned one counts too. Continuation
    lines are judged like any other: whether the line before really continues is not worth being
    wrong about.
    """
    key, _ = _key_and_value(line)
    if not key:
        return None
    for folded, name in _OWNED_FOLDED:
        if folded == key:
            return name
    for folded, name in _OWNED_FOLDED:
        if folded.startswith(key):
            return name
    return None


def _key_and_value(line: str) -> tuple[str, str]:
    """The option of a line in lower case, and the rest; nothing of a comment."""
    text = line.strip(_SPACE + "\n")
    if text.startswith("#"):
        return "", ""
    for separator in "\t\v\f\r#":
        text = text.replace(separator, " ")
    key, _, value = text.partition(" ")
    return key.removesuffix("\\").lstrip("+/").lower(), value


def check_lines(lines: Iterable[str], file: str = "The torrc file") -> None:
    """Judge the user's further torrc lines.

    :param file: how a sentence calls the file that has them.
    :raises SetupError: a line sets an owned option, which the sentence names, or is none.
    """
    for number, line in enumerate(lines, 1):
        one_line(line, f"{file}, line {number},")
        name = owned_option(line)
        if name is not None:
            raise SetupError(
                f"{file}, line {number}, sets {name} (or shortens it), which tortxd itself "
                "decides; remove that line."
            )


def line_of(complaint: str, lines: Iterable[str]) -> int | None:
    """Which of these lines Tor complains of, from 1 on: it names the option, not the line. Where an
    option stands several times, the value tells; else the first counts. None: it cannot be told."""
    first = None
    words = {word.lower() for word in re.findall(r"[\w%]+", complaint)}
    for number, line in enumerate(lines, 1):
        key, value = _key_and_value(line)
        if not key or key not in words:
            continue
        text = value.strip(' "')
        word = text and text in complaint  # which says it faster of what is long
        if word and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", complaint):
            return number
        first = first or number
    return first


def socks_port(address: SocksAddress, *, automatic: bool = False) -> str:
    """The value of ``SocksPort`` for this address; with ``automatic`` Tor chooses the port.

    Isolation is Tor's default (IsolateSOCKSAuth, IsolateClientAddr) and cannot be weakened, since
    the option is ours. KeepAliveIsolateSOCKSAuth is left off on purpose: circuits then age as Tor's
    dirty circuits do, which is what pooled connections are measured by.
    """
    if address.path is not None:
        # Quoted as a whole too: a "#" begins a comment unless the value itself begins with a quote.
        return quoted(f"unix:{quoted(address.path)} ExtendedErrors")
    host = one_line(address.host, "The SOCKS address")
    host = f"[{host}]" if ":" in host else host
    return quoted(f"{host}:{'auto' if automatic else address.port} ExtendedErrors")


def torrc_text(
    *,
    tor_dir: Path,
    control_socket: Path,
    socks: str,
    owner: int,
    lines: Iterable[str] = (),
) -> str:
    """The whole configuration file.

    :param tor_dir: Tor's DataDirectory; its default cookie file lies in it.
    :param control_socket: where the control port listens.
    :param socks: the value of SocksPort, from :func:`socks_port`.
    :param owner: the process id whose death ends Tor (looked at every 15 s; TAKEOWNERSHIP on the
        control connection works at once, as soon as there is one).
    :param lines: the user's own, which :func:`check_lines` has passed. They come last, so that a
        trailing backslash swallows nothing of ours.
    :raises SetupError: a value holds CR, LF or NUL, or a line sets an owned option.
    """
    given = tuple(lines)
    check_lines(given)
    ours = (
        f"DataDirectory {quoted(os.fspath(tor_dir))}",
        f"ControlPort {quoted('unix:' + quoted(os.fspath(control_socket)))}",
        "CookieAuthentication 1",
        f"SocksPort {socks}",
        f"__OwningControllerProcess {owner}",
        "SafeLogging 1",
        "Log notice stdout",
        "RunAsDaemon 0",
        "ClientOnly 1",
        # A Tor that went to sleep before it was stopped would not bootstrap when started again.
        "DormantCanceledByStartup 1",
    )
    return "\n".join((*ours, *given)) + "\n"

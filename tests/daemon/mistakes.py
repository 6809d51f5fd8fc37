"""Starts that cannot succeed: what is wrong with each, and the one line that it ends with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from attrs import field, frozen

from tests.tor.lone_tor import NOWHERE


def written(name: str, text: str, mode: int = 0o600) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        file = folder / name
        file.write_text(text)
        file.chmod(mode)
        return str(file)

    return write


def pipe(name: str) -> Callable[[Path], str]:
    """A FIFO, in a folder of its own where the name has one, which then is what is given."""

    def make(folder: Path) -> str:
        file = folder / name
        file.parent.mkdir(mode=0o700, exist_ok=True)
        os.mkfifo(file, 0o600)
        return str(folder / file.relative_to(folder).parts[0])

    return make


LOCAL = "\n".join(NOWHERE)
TORRC_LINE = len(NOWHERE) + 1
"""Of what follows in a torrc file."""


def torrc(line: str) -> Callable[[Path], str]:
    return written("torrc-file", f"{LOCAL}\n{line}\n")


def toml(line: str) -> Callable[[Path], str]:
    return written("tortxd.toml", f"{line}\n")


@frozen
class Start:
    """One way to start wrongly."""

    id: str
    line: str
    """All that is said, after ``tortxd: ``."""
    options: tuple[str, ...] = ()
    environ: dict[str, str] = field(factory=dict)
    file: Callable[[Path], str] | None = None
    """Writes the file whose name stands for ``FILE`` in options and line."""


SERVER_FORMS = (
    "It takes a port (3080), an address and port (127.0.0.1:3080, [::1]:3080), or a Twisted server "
    "endpoint (tcp:3080:interface=127.0.0.1, unix:/run/tortxd/http)."
)
CLIENT_FORMS = (
    "It takes a port (9051), a host and port (127.0.0.1:9051), a path (/run/tor/control), or a "
    "Twisted client endpoint (tcp:127.0.0.1:9051, unix:/run/tor/control)."
)
SOCKS_FORMS = "a port (9050), a host and port (127.0.0.1:9050) or unix:PATH"
EXPOSED = (
    "listens on more than loopback, at 0.0.0.0:3080: anyone there could use this Tor. Set "
    "--token-file, or --open if that is meant, or listen on 127.0.0.1:PORT."
)
HELP = "See twistd tortxd --help."
NOT_THERE = "/nonexistent cannot be read: No such file or directory."

STARTS = [
    # --- options -----------------------------------------------------------------------------
    Start(
        "unknown option",
        f"There is no option --no-such-option. {HELP}",
        ("--no-such-option",),
    ),
    Start(
        "misspelt option",
        f"There is no option --data_dir. Did you mean --data-dir? {HELP}",
        ("--data_dir=x",),
    ),
    Start(
        "option of twistd",
        "There is no option -n. It is one of twistd's own, which come before the word tortxd. "
        f"{HELP}",
        ("-n",),
    ),
    Start(
        "option cut short",
        f"There is no option --idle. {HELP}",
        ("--idle=3",),
    ),
    Start("no value", f"--socks takes a value. {HELP}", ("--socks",)),
    Start(
        "value for a flag",
        f"--open takes no value. {HELP}",
        ("--open=yes",),
    ),
    Start("word too many", f"canteen is no option: those begin with --. {HELP}", ("canteen",)),
    # --- where it listens, and whom it reaches -------------------------------------------------
    Start(
        "http port taken",
        "The gateway cannot listen on 127.0.0.1:TAKEN: Address already in use. Choose another "
        "endpoint with --http.",
        ("--http=tcp:TAKEN:interface=127.0.0.1",),
    ),
    Start(
        "socks port taken",
        "The SOCKS port 127.0.0.1:TAKEN cannot be had (Address already in use); stop what holds "
        "it, or choose another --socks.",
        ("--socks=TAKEN",),
    ),
    Start(
        "url to listen on",
        f"--http does not understand 'http://localhost:3081'. {SERVER_FORMS}",
        ("--http=http://localhost:3081",),
    ),
    Start(
        "port too high", f"--http does not understand '70000'. {SERVER_FORMS}", ("--http=70000",)
    ),
    Start(
        "no folder",
        "The gateway cannot listen on /nonexistent/socket: there is no such folder. Choose another "
        "endpoint with --http.",
        ("--http=unix:/nonexistent/socket",),
    ),
    Start(
        "folder of a lock file",
        "The gateway cannot listen on /proc/socket: No such file or directory. Choose another "
        "endpoint with --http.",
        ("--http=unix:/proc/socket",),
    ),
    Start(
        "number of an endpoint",
        f"--http does not understand 'tcp:3081:backlog=many'. {SERVER_FORMS}",
        ("--http=tcp:3081:backlog=many",),
    ),
    Start(
        "interface with a name",
        f"--http does not understand 'tcp:3081:interface=eth0'. {SERVER_FORMS}",
        ("--http=tcp:3081:interface=eth0",),
    ),
    Start(
        "endpoint that Twisted does not make",
        f"--http does not understand 'systemd:domain=UNIX'. {SERVER_FORMS}",
        ("--http=systemd:domain=UNIX",),
    ),
    Start(
        "path too long for a socket",
        f"The gateway cannot listen on /{'x' * 120}: a socket's path has 107 bytes at most. Choose "
        "another endpoint with --http.",
        (f"--http=/{'x' * 120}",),
    ),
    Start(
        "one port for both",
        "--http and --socks name one port, 127.0.0.1:3081. Choose another for one of them.",
        ("--http=3081", "--socks=3081"),
    ),
    Start(
        "word before a socks port",
        "--socks takes a port (9050), an address and port (127.0.0.1:9050) or unix:PATH, not "
        "'tcp:9050'.",
        ("--socks=tcp:9050",),
    ),
    Start(
        "control port that Twisted does not reach",
        f"--control does not understand 'ssl:localhost'. {CLIENT_FORMS}",
        ("--control=ssl:localhost",),
    ),
    Start("exposed gateway", f"--http {EXPOSED}", ("--http=tcp:3080",)),
    Start(
        "bad socks",
        f"--socks takes {SOCKS_FORMS}, not 'nowhere'.",
        ("--socks=nowhere",),
    ),
    Start(
        "exposed socks",
        "--socks listens on more than loopback, and SOCKS clients present no token: anyone there "
        "could use this Tor. Set --open if that is meant, or use 127.0.0.1.",
        ("--socks=0.0.0.0:9050",),
    ),
    Start(
        "bad control",
        f"--control does not understand 'nonsense'. {CLIENT_FORMS}",
        ("--control=nonsense",),
    ),
    # --- other values --------------------------------------------------------------------------
    Start(
        "bad number",
        "--timeout takes a number of seconds greater than 0, not 'soon'.",
        ("--timeout=soon",),
    ),
    Start(
        "zero",
        "--idle-timeout takes a number of seconds greater than 0, not 0.",
        ("--idle-timeout=0",),
    ),
    Start(
        "bad alias",
        "--alias takes HOST[:PORT]=HOST[:PORT], for example localhost:8080=name.onion:80, not "
        "'foo'.",
        ("--alias=foo",),
    ),
    Start(
        "alias of a local name",
        "--alias: the right side of 'a.example=localhost': Local names are not sent to Tor.",
        ("--alias=a.example=localhost",),
    ),
    Start(
        "bad origin",
        "--allow-origin takes a web origin, for example https://app.example:8443, without a "
        "path or a wildcard, not '*'.",
        ("--allow-origin=*",),
    ),
    Start(
        "host with a port",
        "--allow-host takes a host name or address, without a port, not 'app.example:3080'.",
        ("--allow-host=app.example:3080",),
    ),
    Start(
        "bad user agent",
        "--user-agent takes tor-browser, keep, auto, or printable ASCII, not '\\t'.",
        ("--user-agent=\t",),
    ),
    Start(
        "local service",
        "--ip-url: Tor is asked for public addresses only.",
        ("--ip-url=http://127.0.0.1/",),
    ),
    Start(
        "malformed service",
        "--check-url: The host of the target URL is malformed.",
        ("--check-url=http://[/",),
    ),
    Start(
        "service by ftp",
        "--ip-url takes an http or https URL, for example https://check.example/, not 'ftp://a.example/'.",
        ("--ip-url=ftp://a.example/",),
    ),
    # --- files ---------------------------------------------------------------------------------
    Start("no token file", f"--token-file: {NOT_THERE}", ("--token-file=/nonexistent",)),
    Start(
        "empty token file",
        "--token-file: FILE must hold one line that is not empty.",
        ("--token-file=FILE",),
        file=written("empty", "\n"),
    ),
    Start(
        "two words for a token",
        "--token-file: FILE holds more than one word of ASCII.",
        ("--token-file=FILE",),
        file=written("two-words", "one two\n"),
    ),
    Start(
        "no password file",
        f"--control-password-file: {NOT_THERE}",
        ("--control-password-file=/nonexistent",),
    ),
    Start(
        "a device for a password",
        "--control-password-file: /dev/zero cannot be read: it is a device.",
        ("--control-password-file=/dev/zero",),
    ),
    Start(
        "a token from a pipe that nobody writes to",
        "--token-file: FILE cannot be read: it is a pipe whose end has not come in 5 seconds.",
        ("--token-file=FILE",),
        file=pipe("token"),
    ),
    Start(
        "an operator token that is a pipe",
        "The operator token FILE/operator-token cannot be used (it is a pipe).",
        ("--data-dir=FILE",),
        file=pipe("data/operator-token"),
    ),
    Start(
        "another machine's control port",
        "--control is another machine's, control.invalid:9051: the SOCKS port that a Tor names is "
        "an address of its own machine. Say how it is reached from here, with --socks.",
        ("--control=control.invalid:9051",),
    ),
    Start(
        "directory is a file",
        "The data directory FILE cannot be used (it is not a folder); choose another --data-dir.",
        ("--data-dir=FILE",),
        file=written("a-file", ""),
    ),
    Start(
        "no tor",
        "There is no tor executable at /nonexistent; install the package tor, or name one with "
        "--tor.",
        ("--tor=/nonexistent",),
    ),
    Start(
        "no tor of that name",
        "There is no tor executable called no-such-tor on PATH; install the package tor, or name "
        "one with --tor.",
        ("--tor=no-such-tor",),
    ),
    Start(
        "old tor",
        "FILE is Tor 0.4.5; tortxd needs 0.4.7 or newer.",
        ("--tor=FILE",),
        file=written("old-tor", "#!/bin/sh\necho 'Tor version 0.4.5.1.'\n", 0o700),
    ),
    Start(
        "another program",
        "FILE does not answer --version as tor does; name one with --tor.",
        ("--tor=FILE",),
        file=written("no-tor", "#!/bin/sh\necho 'GNU tar'\n", 0o700),
    ),
    Start("no torrc", f"--torrc: {NOT_THERE}", ("--torrc=/nonexistent",)),
    Start(
        "owned torrc line",
        f"--torrc: FILE, line {TORRC_LINE}, sets ControlPort (or shortens it), which tortxd itself "
        "decides; remove that line.",
        ("--torrc=FILE",),
        file=torrc("controlport 9051"),
    ),
    Start(
        "unknown torrc line",
        f"--torrc: FILE, line {TORRC_LINE}: Unknown option 'NoSuchTorOption'.",
        ("--torrc=FILE",),
        file=torrc("NoSuchTorOption 1"),
    ),
    Start(
        "bad torrc line",
        f"--torrc: FILE, line {TORRC_LINE}: Could not parse NumCPUs: Integer many is malformed or "
        "out of bounds. Allowed values are between 0 and 2147483647.",
        ("--torrc=FILE",),
        file=torrc("NumCPUs many"),
    ),
    Start(
        "bad list of relays",
        f"--torrc: FILE, line {TORRC_LINE}: Entry '{{zz' in ExitNodes is malformed. Discarding "
        "entire list.",
        ("--torrc=FILE",),
        file=torrc("ExitNodes {zz"),
    ),
    Start(
        "exposed torrc line",
        f"--torrc: FILE, line {TORRC_LINE}: DNSPort listens on more than loopback, where nobody is "
        "asked for a token: anyone there could use this Tor. Set --open if that is meant.",
        ("--torrc=FILE",),
        file=torrc("DNSPort 0.0.0.0:5353"),
    ),
    Start("no toml", f"--config: {NOT_THERE}", ("--config=/nonexistent",)),
    Start(
        "not toml",
        "--config: FILE is not TOML: Expected '=' after a key in a key/value pair (at line 1, "
        "column 7).",
        ("--config=FILE",),
        file=toml("socks 9050"),
    ),
    Start(
        "unknown key",
        "--config: unknown key in FILE: sockz. Did you mean socks?",
        ("--config=FILE",),
        file=toml("sockz = 9050"),
    ),
    Start(
        "key with a dash",
        "--config: unknown key in FILE: data-dir. Did you mean data_dir?",
        ("--config=FILE",),
        file=toml("data-dir = '/x'"),
    ),
    Start(
        "section",
        "--config: unknown section in FILE: tortxd. Keys stand at its beginning, without one; "
        "aliases in [aliases].",
        ("--config=FILE",),
        file=toml("[tortxd]\ntimeout = 5"),
    ),
    Start(
        "key of two lines",
        "--config: unknown key in FILE: 'a\\nb'.",
        ("--config=FILE",),
        file=toml('"a\\nb" = 1'),
    ),
    Start("empty name of a file", "--config takes a file.", ("--config=",)),
    Start(
        "empty name of a token file",
        "--token-file takes text that is not empty and has no control characters.",
        ("--token-file=",),
    ),
    Start(
        "key of another type",
        "--config: timeout in FILE must be a number.",
        ("--config=FILE",),
        file=toml("timeout = '5'"),
    ),
    Start(
        "bad value in a file",
        "idle_timeout in FILE takes a number of seconds greater than 0, not -5.",
        ("--config=FILE",),
        file=toml("idle_timeout = -5"),
    ),
    # --- the environment -----------------------------------------------------------------------
    Start(
        "unknown variable",
        "Unknown environment variable: TORTXD_COLOUR.",
        environ={"TORTXD_COLOUR": "1"},
    ),
    Start(
        "misspelt variable",
        "Unknown environment variable: TORTXD_TIMEOT. Did you mean TORTXD_TIMEOUT?",
        environ={"TORTXD_TIMEOT": "1"},
    ),
    Start(
        "variable in lower case",
        "Unknown environment variable: TORTXD_timeout. Did you mean TORTXD_TIMEOUT?",
        environ={"TORTXD_timeout": "1"},
    ),
    Start(
        "port variable",
        "Unknown environment variable: TORTXD_PORT. TORTXD_HTTP says where the gateway listens, "
        "and GATEWAY_PORT on which port.",
        environ={"TORTXD_PORT": "3080"},
    ),
    Start(
        "old port variable",
        "GATEWAY_PORT takes a port from 1 to 65535, for example 3080, not 'abc'.",
        environ={"GATEWAY_PORT": "abc"},
    ),
    Start(
        "bad flag variable",
        "TORTXD_OPEN takes 1 or 0, not 'yes'.",
        environ={"TORTXD_OPEN": "yes"},
    ),
    Start(
        "bad number variable",
        "TORTXD_TIMEOUT takes a number of seconds greater than 0, not '1m'.",
        environ={"TORTXD_TIMEOUT": "1m"},
    ),
    Start(
        "no file of that name",
        f"TORTXD_CONFIG: {NOT_THERE}",
        environ={"TORTXD_CONFIG": "/nonexistent"},
    ),
]

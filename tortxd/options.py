"""The daemon's options: a table with one entry for each.

From it follow the options of ``twistd tortxd`` and their ``--help``, the keys and types of a TOML
file, the environment variables, what sentences call an option, the defaults of
:class:`tortxd.config.DaemonConfig`, and the reference in ``docs/configuration.md``, which
``tools/options_table.py`` writes. A new option is an entry here and a field there, which judges its
values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from attrs import field, frozen

from tortxd.endpoints import loopback_http
from tortxd.errors import SetupError, in_quotes
from tortxd.rates import Rate

__all__ = [
    "BY_KEY",
    "KEYS",
    "OPTIONS",
    "RELOADABLE",
    "Kind",
    "Option",
    "Variable",
    "default_of",
    "variable_of",
]


# --- kinds ----------------------------------------------------------------------------------------


Reader = Callable[[str, str], object]
"""Reads the text of a variable. Takes its name as well, for the sentence of a SetupError."""


def _as_it_is(text: str, _: str) -> object:
    return text


def _separated_by_commas(text: str, _: str) -> object:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _one_or_zero(text: str, name: str) -> object:
    if text not in ("1", "0"):
        raise SetupError(f"{name} takes 1 or 0, not {in_quotes(text)}.")
    return text == "1"


def _port_on_loopback(text: str, name: str) -> object:
    port = int(text) if re.fullmatch(r"[0-9]{1,5}", text) else 0
    if 1 <= port <= 65535:
        return loopback_http(port)
    raise SetupError(
        f"{name} takes a port from 1 to 65535, for example 3080, not {in_quotes(text)}."
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text_or_port(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _all_fit(value: object, fits: Callable[[object], bool]) -> bool:
    """Whether each item of a list fits; one may stand without a list around it."""
    return all(map(fits, value if isinstance(value, list) else [value]))


@frozen(eq=False)
class Kind:
    """What kind of value an option takes, and how it is written."""

    in_toml: str
    """What a key of a TOML file takes; ends the sentence "KEY must be ..."."""
    fits: Callable[[object], bool] = field(repr=False)
    """Whether a value of a TOML file is of this kind."""
    read: Reader = field(default=_as_it_is, repr=False)
    """Reads a variable of the environment."""
    repeatable: bool = False
    """Whether the command line may give it several times; a variable holds all, with commas."""


TEXT = Kind("text", _is_text)
FILE = TEXT
TEXT_OR_PORT = Kind("text, or a port", _is_text_or_port)
NUMBER = Kind("a number", _is_number)
WHOLE_NUMBER = Kind(
    "a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)
)
RATE = Kind("a number, or text such as 5:300", lambda value: _is_number(value) or _is_text(value))
FLAG = Kind("true or false", lambda value: isinstance(value, bool), _one_or_zero)
"""Off unless it is given, on the command line without a value."""
TEXTS = Kind(
    "a list of text",
    lambda value: _all_fit(value, _is_text),
    _separated_by_commas,
    repeatable=True,
)
ENDPOINTS = Kind(
    "an endpoint, a port, or a list of them",
    lambda value: _all_fit(value, _is_text_or_port),
    _separated_by_commas,
    repeatable=True,
)
TABLE = Kind(
    'a table of text, for example "localhost:8080" = "name.onion:80"',
    lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    _separated_by_commas,
    repeatable=True,
)


# --- columns --------------------------------------------------------------------------------------


class Variable(NamedTuple):
    """An environment variable that an option is read from."""

    name: str
    read: Reader = _as_it_is


def variable_of(key: str) -> str:
    """What the variable of an option with this key is called."""
    return f"TORTXD_{key.upper()}"


@frozen(kw_only=True, eq=False)
class Option:
    """One option. Its texts are Markdown, for the reference; a terminal is shown no backticks."""

    key: str
    """Its name in a TOML file, and of the field in ``DaemonConfig``."""
    flag: str = field()
    """Its name on the command line, without the dashes in front."""
    kind: Kind
    metavar: str | None = None
    """What stands for its value in ``--help``. None: it is a flag."""
    help: str
    """What it is for: one or two sentences."""
    note: str = ""
    """What the reference says of it besides."""
    default: Any = None
    """In a form that the field of ``DaemonConfig`` takes."""
    default_text: str = field()
    """The default in words."""
    old_variables: tuple[Variable, ...] = ()
    """Those of the gateway that tortxd replaces; its own wins over them."""
    in_file: bool = True
    """Whether it can stand in a TOML file, and is a field of ``DaemonConfig``."""
    reloadable: bool = False
    """Whether a running daemon can take another value: only later requests depend on it, no port
    and no Tor."""

    @flag.default
    def _like_the_key(self) -> str:
        return self.key.replace("_", "-")

    @default_text.default
    def _default_as_it_is(self) -> str:
        default = self.default
        return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"

    @property
    def purpose(self) -> str:
        """``help``, and whether it may be repeated."""
        return f"{self.help} Repeatable." if self.kind.repeatable else self.help

    @property
    def variables(self) -> tuple[Variable, ...]:
        """What it is read from in the environment; one that is set wins over those behind it."""
        return (Variable(variable_of(self.key), self.kind.read), *self.old_variables)


# --- the table ------------------------------------------------------------------------------------

OPTIONS = (
    Option(
        key="config",
        kind=FILE,
        metavar="FILE",
        help="A TOML file with the same keys as these options.",
        default_text="none",
        in_file=False,
    ),
    Option(
        key="http",
        kind=ENDPOINTS,
        metavar="ENDPOINT",
        help="Where the gateway listens: `PORT`, `ADDRESS:PORT`, `/PATH` or a Twisted endpoint.",
        note="See [endpoints](#endpoints).",
        default=loopback_http(3080),
        default_text="`3080`, on 127.0.0.1 and ::1",
        old_variables=(Variable("GATEWAY_PORT", _port_on_loopback),),
    ),
    Option(
        key="socks",
        kind=TEXT_OR_PORT,
        metavar="ADDRESS",
        help="SOCKS port of the launched Tor: `PORT`, `HOST:PORT` or `unix:PATH`. With "
        "`--control`: the one to use.",
        default_text="`9050`, or a free port",
        old_variables=(Variable("TOR_SOCKS_PORT"),),
    ),
    Option(
        key="control",
        kind=TEXT_OR_PORT,
        metavar="ENDPOINT",
        help="Attach to the Tor at this control port and launch none: `PORT`, `HOST:PORT` or "
        "`/PATH`.",
        note="See [attaching](#attaching).",
        default_text="none",
    ),
    Option(
        key="control_password_file",
        kind=FILE,
        metavar="FILE",
        help="Holds the password of that control port.",
        note="For a Tor with `HashedControlPassword`.",
        default_text="its cookie",
    ),
    Option(
        key="data_dir",
        kind=FILE,
        metavar="FOLDER",
        help="Where Tor's state and the token for operators are kept.",
        note="See [below](#the-data-directory).",
        default_text="`$STATE_DIRECTORY`, else `$XDG_STATE_HOME/tortxd`, else "
        "`~/.local/state/tortxd`",
    ),
    Option(
        key="tor",
        kind=FILE,
        metavar="FILE",
        help="The tor executable, 0.4.7 or newer.",
        default_text="`tor`, found on `PATH`",
    ),
    Option(
        key="torrc",
        kind=FILE,
        metavar="FILE",
        help="Further torrc lines for the launched Tor.",
        note="See [launching](#launching).",
        default_text="none",
    ),
    Option(
        key="token_file",
        kind=FILE,
        metavar="FILE",
        help="Holds the token that clients must present.",
        note="See [secrets](#secrets).",
        default_text="none is asked for",
        reloadable=True,
    ),
    Option(
        key="operator_token_file",
        kind=FILE,
        metavar="FILE",
        help="Holds the token for operators, where several daemons share one.",
        note="See [secrets](#secrets).",
        default_text="`operator-token` in the data directory",
        reloadable=True,
    ),
    Option(
        key="allow_origins",
        flag="allow-origin",
        kind=TEXTS,
        metavar="ORIGIN",
        help="Web origin that may call from a browser, for example `https://app.example`.",
        note="`null` stands for pages without one (from files, or in a sandbox, into which any "
        "page can put itself).",
        default=(),
        default_text="loopback ones",
        reloadable=True,
    ),
    Option(
        key="allow_hosts",
        flag="allow-host",
        kind=TEXTS,
        metavar="NAME",
        help="Further name in `Host` to answer to.",
        default=(),
        default_text="`localhost`, and every IP address",
        reloadable=True,
    ),
    Option(
        key="aliases",
        flag="alias",
        kind=TABLE,
        metavar="FROM=TO",
        help="A target that stands for another, for example `localhost:8080=name.onion:80`.",
        note="See [aliases](#aliases).",
        default=(),
        default_text="none",
        reloadable=True,
    ),
    Option(
        key="open",
        kind=FLAG,
        help="Serve addresses that are not loopback without a token.",
        note="See [who may reach it](#who-may-reach-it).",
        default=False,
        default_text="off",
    ),
    Option(
        key="timeout",
        kind=NUMBER,
        metavar="SECONDS",
        help="From a request to the head of its response.",
        note="Waiting for Tor included; the upload of a body aside, for which `--idle-timeout` "
        "counts.",
        default=60.0,
        reloadable=True,
    ),
    Option(
        key="idle_timeout",
        kind=NUMBER,
        metavar="SECONDS",
        help="Without a byte of a body, either way.",
        default=300.0,
        reloadable=True,
    ),
    Option(
        key="drain",
        kind=NUMBER,
        metavar="SECONDS",
        help="What requests have left when the daemon stops.",
        note="See [stopping](#stopping).",
        default=2.0,
        reloadable=True,
    ),
    Option(
        key="circuit_rate",
        kind=RATE,
        metavar="RATE",
        help="Fresh circuits that requests may ask of Tor: a second, and after a colon at once; "
        "or `unlimited`.",
        note="See [fresh circuits](#fresh-circuits).",
        default=Rate(10.0, 600),
    ),
    Option(
        key="caller_circuit_rate",
        kind=RATE,
        metavar="RATE",
        help="The same for each caller.",
        # Room for a browser whose pages take from a hundred sites, each of which has its own.
        default=Rate(5.0, 300),
    ),
    Option(
        key="max_clients",
        kind=WHOLE_NUMBER,
        metavar="NUMBER",
        help="Connections of clients that may be open at once.",
        note="See [limits](#limits).",
        default_text="what the file descriptors allow",
        reloadable=True,
    ),
    Option(
        key="max_requests",
        kind=WHOLE_NUMBER,
        metavar="NUMBER",
        help="Requests that may be under way at once, tunnels and WebSockets among them.",
        default_text="what the file descriptors allow",
        reloadable=True,
    ),
    Option(
        key="client_share",
        kind=NUMBER,
        metavar="PART",
        help="The part of these that one client alone may have: `1` is all.",
        # So that another one always finds a place, and nearly all are to be had on a desktop.
        default=0.75,
        reloadable=True,
    ),
    Option(
        key="max_header_size",
        kind=WHOLE_NUMBER,
        metavar="BYTES",
        help="Of a request's head, from 8192 to 1048576; half of it may be the target.",
        # More than browsers send, whose cookies for one site may reach 40 KiB.
        default=65536,
        reloadable=True,
    ),
    Option(
        key="header_timeout",
        kind=NUMBER,
        metavar="SECONDS",
        help="For a request's head, from its first byte.",
        default=10.0,
        reloadable=True,
    ),
    Option(
        key="keepalive_timeout",
        kind=NUMBER,
        metavar="SECONDS",
        help="That a client's connection is kept open between two requests.",
        # As long as browsers keep theirs.
        default=300.0,
        reloadable=True,
    ),
    Option(
        key="user_agent",
        kind=TEXT,
        metavar="VALUE",
        help="`auto`, `tor-browser`, `keep`, or a value.",
        note="What destinations see: [below](#user-agent).",
        default="auto",
        reloadable=True,
    ),
    Option(
        key="user",
        kind=TEXT,
        metavar="NAME",
        help="Which user root becomes before Tor starts.",
        note="See [as root](#as-root).",
        default_text="none",
    ),
    Option(
        key="log_format",
        kind=TEXT,
        metavar="FORMAT",
        help="What the log is made of: lines of `text`, or of `json`, an object each.",
        note="See [the log](#the-log).",
        default="text",
    ),
    Option(
        key="log_level",
        kind=TEXT,
        metavar="LEVEL",
        help="The least that is logged: `debug`, `info`, `warn`, `error` or `critical`.",
        default="info",
        reloadable=True,
    ),
    Option(
        key="log_requests",
        kind=FLAG,
        help="Log a line for each request that has ended: how it came and ended, times and bytes; "
        "neither where it went, nor for whom.",
        note="See [requests in the log](#requests-in-the-log).",
        default=False,
        default_text="off",
        reloadable=True,
    ),
    Option(
        key="check_url",
        kind=TEXT,
        metavar="URL",
        help="What `/verify-tor` asks.",
        note='It answers `{"IsTor": true, "IP": "..."}`.',
        default="https://check.torproject.org/api/ip",
    ),
    Option(
        key="ip_url",
        kind=TEXT,
        metavar="URL",
        help="What `/ip` asks.",
        note='It answers `{"ip": "..."}`.',
        default="https://api.ipify.org?format=json",
    ),
)
"""As ``--help`` and the reference show them."""

RELOADABLE = tuple(option.key for option in OPTIONS if option.reloadable)
"""What a running daemon reads again."""
BY_KEY = {option.key: option for option in OPTIONS}
KEYS = frozenset(option.key for option in OPTIONS if option.in_file)
"""What a TOML file may hold; ``DaemonConfig`` has a field for each."""


def default_of(key: str) -> Any:
    """For the field of this name."""
    return BY_KEY[key].default

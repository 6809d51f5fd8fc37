"""Configuration: frozen values, made in Python or of what a TOML file, the environment and options
give (:mod:`tortxd.sources`).

Every error is a SetupError whose sentence names the key, as it was given, and says what it takes;
the values of tokens and passwords appear in none, nor in any ``repr``.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import Attribute, evolve, field, frozen

from tortxd.addresses import SocksAddress, host_and_port, is_ipv6
from tortxd.endpoints import (
    BEHIND_BALANCER,
    bound,
    client_endpoint,
    http_address,
    is_local_endpoint,
    loopback_http,
    plain,
    server_endpoints,
    split_endpoint,
)
from tortxd.errors import SetupError, in_quotes
from tortxd.files import read_whole, secret_in
from tortxd.options import RELOADABLE, default_of
from tortxd.rates import Rate
from tortxd.runtime import default_data_dir
from tortxd.sources import collect, names

__all__ = ["DEFAULT_HTTP", "Config", "DaemonConfig", "SocksAddress", "default_data_dir"]

MOST_PLACES = 1_000_000
"""No machine has descriptors for more clients."""
SHORTEST_OPERATOR_TOKEN = 16
"""Characters, as for the token that a daemon makes itself."""
DEFAULT_HTTP: tuple[str, ...] = default_of("http")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOSTNAME = re.compile(r"[a-z0-9._-]{1,253}")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._~%-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_WORD = re.compile(r"[\x21-\x7e]+")
_FIELD = re.compile(r"`([a-z_]+)`")


# --- what fields share ----------------------------------------------------------------------------


def _positive(_: object, attribute: Attribute[float], value: object) -> None:
    if not isinstance(value, float) or not math.isfinite(value) or value <= 0:
        text = f"{value:g}" if isinstance(value, float) else in_quotes(str(value))
        raise SetupError(
            f"`{attribute.name}` takes a number of seconds greater than 0, not {text}."
        )


def _not_negative(_: object, attribute: Attribute[float], value: object) -> None:
    if not isinstance(value, float) or not math.isfinite(value) or value < 0:
        text = f"{value:g}" if isinstance(value, float) else in_quotes(str(value))
        raise SetupError(f"`{attribute.name}` takes a number of seconds, 0 or more, not {text}.")


def _between(least: int, most: int) -> Callable[[object, Attribute[int | None], object], None]:
    """A validator of whole numbers; where the default is None, that may be, too."""

    def check(_: object, attribute: Attribute[int | None], value: object) -> None:
        if value is None and attribute.default is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise SetupError(
                f"`{attribute.name}` takes a whole number from {least} to {most}, not "
                f"{in_quotes(str(value))}."
            )

    return check


def _true_or_false(_: object, attribute: Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise SetupError(f"`{attribute.name}` takes True or False.")


def _one_of(*choices: str) -> Callable[[object, Attribute[str], str], None]:
    """A validator."""

    def check(_: object, attribute: Attribute[str], value: str) -> None:
        if value not in choices:
            known = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise SetupError(f"`{attribute.name}` takes {known}, not {in_quotes(str(value))}.")

    return check


def _http_url(_: object, attribute: Attribute[str], value: str) -> None:
    if not re.match(r"https?://[^/]", value, re.IGNORECASE) or not _PRINTABLE.fullmatch(value):
        raise SetupError(
            f"`{attribute.name}` takes an http or https URL, for example "
            "https://check.example/, not "
            f"{in_quotes(value)}."
        )


def _word(_: object, attribute: Attribute[str | None], value: str | None) -> None:
    if value is not None and not (isinstance(value, str) and _WORD.fullmatch(value)):
        raise SetupError(f"`{attribute.name}` takes one word of ASCII.")


def _one_line(_: object, attribute: Attribute[Any], value: Any) -> None:
    for line in value if isinstance(value, tuple) else (value,):
        _check_line(attribute.name, line)


def _check_line(key: str, line: Any) -> None:
    if line in ("", Path()) or _CONTROL.search(str(line)):
        raise SetupError(f"`{key}` takes text that is not empty and has no control characters.")


def _number(value: float | str) -> float:
    """A float. What is not a number stays as it is, for the validator to refuse."""
    try:
        return value if isinstance(value, bool) else float(value)
    except (ValueError, OverflowError):
        return value  # type: ignore[return-value]


def _whole_number(value: int | str | None) -> int | None:
    """What is not a whole number stays as it is, for the validator to refuse."""
    digits = isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value.strip(), re.ASCII)
    return int(value) if digits else value  # type: ignore[arg-type,return-value]


def _file(value: str | os.PathLike[str] | None) -> Path | None:
    return None if value is None else _directory(value)


def _directory(value: str | os.PathLike[str]) -> Path:
    """An absolute path; an empty text stays an empty path, which the validator refuses."""
    return Path(os.path.abspath(os.path.expanduser(value))) if os.fspath(value) else Path()


def _executable(value: str | os.PathLike[str] | None) -> Path | None:
    """A bare name stays one: it is looked for on PATH."""
    return Path(value) if value is not None and "/" not in os.fspath(value) else _file(value)


def _texts(values: str | Iterable[str] | Mapping[str, str]) -> tuple[str, ...]:
    if isinstance(values, str):
        return (values,)
    if isinstance(values, Mapping):
        return tuple(f"{left}={right}" for left, right in values.items())
    return tuple(values)


def _http(values: str | int | Iterable[str | int]) -> tuple[str, ...]:
    """Endpoint descriptions, each once."""
    items = (values,) if isinstance(values, str | int) else tuple(values)
    descriptions: list[str] = []
    for text in map(str, items):
        _check_line("http", text)
        descriptions += server_endpoints(text.strip(), "`http`")
    return tuple(dict.fromkeys(descriptions))


def _control(value: str | int | None) -> str | None:
    if value is None:
        return None
    _check_line("control", str(value))
    return client_endpoint(str(value).strip(), "`control`")


def _socks(value: SocksAddress | str | int | None) -> SocksAddress | None:
    return SocksAddress.parse(str(value)) if isinstance(value, str | int) else value


def _circuit_rate(value: Rate | str | float | None) -> Rate | None:
    return _rate(value, "`circuit_rate`")


def _caller_circuit_rate(value: Rate | str | float | None) -> Rate | None:
    return _rate(value, "`caller_circuit_rate`")


def _rate(value: Rate | str | float | None, name: str) -> Rate | None:
    if value is None or isinstance(value, Rate):
        return value
    return Rate.parse(str(value), name)


def _origins(values: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(map(_origin, _texts(values)))


def _origin(value: str) -> str:
    """As browsers write it: lower case, the default port left out (RFC 6454, section 6.2)."""
    origin = value.strip().lower()
    if origin == "null":
        return origin
    if not _ORIGIN.fullmatch(origin):
        raise SetupError(
            "`allow_origins` takes a web origin, for example https://app.example:8443, without a "
            f"path or a wildcard, not {in_quotes(value)}."
        )
    scheme, _, authority = origin.partition("://")
    default = {"http": ":80", "https": ":443"}.get(scheme, "")
    return f"{scheme}://{authority.removesuffix(default)}"


def _hosts(values: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(map(_host, _texts(values)))


def _host(value: str) -> str:
    """A Host name: lower case, IPv6 in brackets."""
    name = value.strip().lower().removesuffix(".")
    inner = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if is_ipv6(inner):
        return f"[{ipaddress.IPv6Address(inner)}]"
    if not _HOSTNAME.fullmatch(name):
        raise SetupError(
            f"`allow_hosts` takes a host name or address, without a port, not {in_quotes(value)}."
        )
    return name


# --- the library ----------------------------------------------------------------------------------


@frozen
class Config:
    """How the library's clients reach Tor and the gateway. Raises SetupError."""

    socks_addr: str = "127.0.0.1:9050"
    """``HOST:PORT``, ``PORT`` or ``unix:PATH`` of Tor's SOCKS port."""
    http_gateway_addr: str = "127.0.0.1:3080"
    """``HOST:PORT`` of the gateway, which is asked where an exit is chosen or kept."""
    timeout: float = field(default=60.0, converter=_number, validator=_positive)
    """Seconds for a whole exchange, the body too."""
    verify_tls: bool = True
    """Whether certificates of destinations must be valid."""
    check_url: str = field(default=default_of("check_url"), kw_only=True, validator=_http_url)
    """What says whether a request came from Tor."""
    ip_url: str = field(default=default_of("ip_url"), kw_only=True, validator=_http_url)
    """What says from which address a request came."""
    token: str | None = field(default=None, kw_only=True, repr=False, validator=_word)
    """What the gateway asks its clients for, where it is asked (:meth:`TorHttpClient.isolated`) and
    has one."""
    socks: SocksAddress = field(init=False, repr=False, eq=False)
    """``socks_addr``, read."""
    gateway: tuple[str, int] = field(init=False, repr=False, eq=False)
    """``http_gateway_addr``, read: host and port."""

    @socks.default
    def _read_socks(self) -> SocksAddress:
        return SocksAddress.parse(self.socks_addr, name="`socks_addr`")

    @gateway.default
    def _read_gateway(self) -> tuple[str, int]:
        return host_and_port(self.http_gateway_addr, "`http_gateway_addr`")


# --- the daemon -----------------------------------------------------------------------------------


@frozen(kw_only=True)
class DaemonConfig:
    """How the daemon runs: one field for every option, and what the secret files hold.

    Text is taken in the forms that the options have. The files are read once, when the
    configuration is made. Raises SetupError, which names fields in backticks; from :meth:`load`,
    options, variables and keys.
    """

    http: tuple[str, ...] = field(default=default_of("http"), converter=_http)
    """Twisted server endpoint descriptions of the gateway; none: it does not listen. Ports and
    addresses with a port are taken too, see
    :func:`tortxd.endpoints.server_endpoints`."""
    socks: SocksAddress | None = field(default=None, converter=_socks)
    """None: 9050 or a free port, or the port that the attached Tor names."""
    control: str | None = field(default=None, converter=_control)
    """A Twisted client endpoint description of the Tor to attach to. None: launch one."""
    control_password_file: Path | None = field(default=None, converter=_file, validator=_one_line)
    data_dir: Path = field(
        factory=lambda: default_data_dir(os.environ), converter=_directory, validator=_one_line
    )
    tor: Path | None = field(default=None, converter=_executable, validator=_one_line)
    """None: found on PATH."""
    torrc: Path | None = field(default=None, converter=_file, validator=_one_line)
    token_file: Path | None = field(default=None, converter=_file, validator=_one_line)
    operator_token_file: Path | None = field(default=None, converter=_file, validator=_one_line)
    """None: the daemon makes a token of its own, in the data directory."""
    allow_origins: tuple[str, ...] = field(default=default_of("allow_origins"), converter=_origins)
    """Web origins beyond loopback ones, as browsers write them."""
    allow_hosts: tuple[str, ...] = field(default=default_of("allow_hosts"), converter=_hosts)
    """Host names beyond loopback ones, lower case, IPv6 in brackets."""
    aliases: tuple[str, ...] = field(
        default=default_of("aliases"), converter=_texts, validator=_one_line
    )
    """``HOST[:PORT]=HOST[:PORT]`` each; a mapping is taken too. The target policy reads them."""
    open: bool = field(default=default_of("open"), validator=_true_or_false)
    timeout: float = field(default=default_of("timeout"), converter=_number, validator=_positive)
    """Seconds from a request to the response headers."""
    idle_timeout: float = field(
        default=default_of("idle_timeout"), converter=_number, validator=_positive
    )
    """Seconds without a byte either way on a body."""
    drain: float = field(default=default_of("drain"), converter=_number, validator=_not_negative)
    """Seconds that requests have left at a stop."""
    circuit_rate: Rate | None = field(default=default_of("circuit_rate"), converter=_circuit_rate)
    """How many fresh circuits requests may cause; ``RATE:BURST``. None: without limit."""
    caller_circuit_rate: Rate | None = field(
        default=default_of("caller_circuit_rate"), converter=_caller_circuit_rate
    )
    """The same for each caller."""
    max_clients: int | None = field(
        default=default_of("max_clients"),
        converter=_whole_number,
        validator=_between(1, MOST_PLACES),
    )
    """Connections of clients at once. None: what the file descriptors allow."""
    max_requests: int | None = field(
        default=default_of("max_requests"),
        converter=_whole_number,
        validator=_between(1, MOST_PLACES),
    )
    """Requests under way at once. None: what the file descriptors allow."""
    client_share: float = field(default=default_of("client_share"), converter=_number)
    """The part of these that one client alone may have."""
    max_header_size: int = field(
        default=default_of("max_header_size"),
        converter=_whole_number,
        validator=_between(8192, 1_048_576),
    )
    """Bytes of a request's head."""
    header_timeout: float = field(
        default=default_of("header_timeout"), converter=_number, validator=_positive
    )
    """Seconds for a request's head."""
    keepalive_timeout: float = field(
        default=default_of("keepalive_timeout"), converter=_number, validator=_positive
    )
    """Seconds that a client's connection is kept between two requests."""
    user_agent: str = field(default=default_of("user_agent"))
    user: str | None = field(default=None, validator=_one_line)
    """Which user a daemon becomes that root has started. An app that runs a TorService sees to that
    itself."""
    log_format: str = field(default=default_of("log_format"), validator=_one_of("text", "json"))
    """What the daemon's own log is made of. An app that runs a TorService has a log of its own."""
    log_level: str = field(
        default=default_of("log_level"),
        validator=_one_of("debug", "info", "warn", "error", "critical"),
    )
    """The least that the daemon's own log holds."""
    log_requests: bool = field(default=default_of("log_requests"), validator=_true_or_false)
    """Whether each request is logged when it has ended; never where it went, nor for whom."""
    check_url: str = field(default=default_of("check_url"), validator=_http_url)
    ip_url: str = field(default=default_of("ip_url"), validator=_http_url)
    given_as: Mapping[str, str] | None = field(default=None, init=False, repr=False, eq=False)
    """What each field is called where its value came from, or could have come from. None: the
    configuration was made in Python, where fields have their own names."""
    set_as: Mapping[str, str] | None = field(default=None, init=False, repr=False, eq=False)
    """By fields that were set, the names under which they were; None: a program has set them."""
    token: bytes | None = field(init=False, repr=False, eq=False)
    """What ``token_file`` holds."""
    operator_token: bytes | None = field(init=False, repr=False, eq=False)
    """What ``operator_token_file`` holds."""
    control_password: bytes | None = field(init=False, repr=False, eq=False)
    """What ``control_password_file`` holds."""

    @client_share.validator
    def _check_client_share(self, _: Attribute[float], value: object) -> None:
        if not isinstance(value, float) or not 0 < value <= 1:
            text = f"{value:g}" if isinstance(value, float) else in_quotes(str(value))
            raise SetupError(
                f"`client_share` takes a number greater than 0 and at most 1, not {text}."
            )

    @user_agent.validator
    def _check_user_agent(self, _: Attribute[str], value: str) -> None:
        if not _PRINTABLE.fullmatch(value):
            raise SetupError(
                "`user_agent` takes tor-browser, keep, auto, or printable ASCII, not "
                f"{in_quotes(value)}."
            )

    @socks.validator
    def _check_socks(self, _: Attribute[Any], value: SocksAddress | None) -> None:
        """A Tor of our own listens at addresses of this machine: names are not looked up."""
        if self.control is None and value is not None and not value.has_address:
            raise SetupError(
                "`socks` takes a port (9050), an address and port (127.0.0.1:9050) or unix:PATH, "
                f"not {in_quotes(str(value))}."
            )

    @token.default
    def _read_token(self) -> bytes | None:
        return _token(self.token_file, "`token_file`")

    @operator_token.default
    def _read_operator_token(self) -> bytes | None:
        token = _token(self.operator_token_file, "`operator_token_file`")
        if token is None:
            return None
        if len(token) < SHORTEST_OPERATOR_TOKEN:
            raise SetupError(
                f"`operator_token_file`: {self.operator_token_file} holds fewer than "
                f"{SHORTEST_OPERATOR_TOKEN} characters, which could be guessed."
            )
        if token == self.token:
            raise SetupError(
                f"`operator_token_file`: {self.operator_token_file} holds what `token_file` holds: "
                "each client would be an operator."
            )
        return token

    @control_password.default
    def _read_control_password(self) -> bytes | None:
        return _secret(self.control_password_file, "`control_password_file`")

    @classmethod
    def load(cls, options: Mapping[str, object], environ: Mapping[str, str]) -> DaemonConfig:
        """Read file, environment and options, each over the one before it.

        ``options`` has the fields' names and ``config`` for keys; None, an empty list and a false
        ``open`` mean that it was not given. Raises SetupError, for exposed addresses too.
        """
        settings = collect(options, environ)
        user = settings.get("user")
        values: dict[str, Any] = {
            "data_dir": default_data_dir(environ, for_another=user is not None)
        }
        values |= {key: setting.value for key, setting in settings.items()}
        given_as = names(settings, options=bool(options))
        try:
            config = cls(**values)
            config.check_exposure()
        except SetupError as error:
            raise SetupError(_spelled(str(error), given_as)) from error
        object.__setattr__(config, "given_as", given_as)
        set_as = {key: setting.name for key, setting in settings.items()}
        object.__setattr__(config, "set_as", set_as)
        return config

    def reloaded(self, other: DaemonConfig) -> DaemonConfig:
        """This one, with what may change while the daemon runs as ``other`` has it. The files of
        secrets are read again.

        :raises SetupError: one cannot be.
        """
        merged = evolve(self, **{key: getattr(other, key) for key in RELOADABLE})
        for name in ("given_as", "set_as"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours is not None and theirs is not None:
                kept = {key: said for key, said in ours.items() if key not in RELOADABLE}
                read = {key: said for key, said in theirs.items() if key in RELOADABLE}
                object.__setattr__(merged, name, kept | read)
        return merged

    def spelled(self, sentence: str) -> str:
        """A sentence of a SetupError, in which each field has the name of the option, the variable
        or the key that it came from."""
        return sentence if self.given_as is None else _spelled(sentence, self.given_as)

    @contextmanager
    def names_as_given(self) -> Iterator[None]:
        """Raise SetupErrors of the block with such sentences (:meth:`spelled`)."""
        try:
            yield
        except SetupError as error:
            raise SetupError(self.spelled(str(error))) from error

    @property
    def http_ports(self) -> frozenset[int]:
        """The TCP ports that ``http`` names, so far as they are fixed.

        :raises SetupError: systemd was to pass a socket, and has not.
        """
        split = (split_endpoint(bound(description)) for description in self.http)
        ports = [named.get("port", "".join(words[1:2])) for words, named in split]
        return frozenset(int(port) for port in ports if re.fullmatch(r"[0-9]{1,5}", port)) - {0}

    @property
    def probe_address(self) -> tuple[str, int] | None:
        """Host and port of the first endpoint of ``http`` that takes HTTP as it is, by TCP; None:
        there is none, or its port is not fixed."""
        return next(filter(None, map(http_address, map(bound, self.http))), None)

    @property
    def http_may_lack(self) -> frozenset[str]:
        """Endpoints that need not exist: ``[::1]``, which some machines lack, where it stands for
        one half of a port on both loopback addresses."""
        pairs = (loopback_http(port) for port in self.http_ports)
        return frozenset(second for first, second in pairs if {first, second} <= set(self.http))

    def check_exposure(self) -> None:
        """Refuse to be an open proxy. Raises SetupError.

        A token does not help on the SOCKS port, where Tor asks for none.
        """
        if self.open:
            return
        if self.token_file is None and not all(map(is_local_endpoint, self.http)):
            exposed = bound(next(one for one in self.http if not is_local_endpoint(one)))
            if exposed.startswith(BEHIND_BALANCER):
                raise SetupError(
                    f"`http` serves whoever a balancer sends to {plain(exposed)}: anyone there "
                    "could use this Tor. Set `token_file`, or `open` if that is meant."
                )
            raise SetupError(
                f"`http` listens on more than loopback, at {plain(exposed)}: anyone there could "
                "use this Tor. Set `token_file`, or `open` if that is meant, or listen on "
                "127.0.0.1:PORT."
            )
        if self.control is None and self.socks is not None and not self.socks.is_local:
            raise SetupError(
                "`socks` listens on more than loopback, and SOCKS clients present no token: anyone "
                "there could use this Tor. Set `open` if that is meant, or use 127.0.0.1."
            )


def _spelled(sentence: str, given_as: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda match: given_as.get(match[1], match[0]), sentence)


def _token(path: Path | None, name: str) -> bytes | None:
    """The one word that a file holds."""
    token = _secret(path, name)
    if token is None or _WORD.fullmatch(token.decode("latin-1")):
        return token
    raise SetupError(f"{name}: {path} holds more than one word of ASCII.")


def _secret(path: Path | None, name: str) -> bytes | None:
    """What a file holds, without the white space around it."""
    if path is None:
        return None
    _check_line(name.strip("`"), path)
    try:
        secret = secret_in(read_whole(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file has such a name"
        raise SetupError(f"{name}: {path} cannot be read: {reason}.") from error
    if secret is None:
        raise SetupError(f"{name}: {path} must hold one line that is not empty.")
    return secret

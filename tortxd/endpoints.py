"""Twisted endpoints as a configuration names them, in Twisted's own words or in fewer. Read as
text, without a look-up; only where a socket that systemd has passed listens, that socket is
asked."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tortxd.addresses import is_address, is_ipv6, is_loopback
from tortxd.errors import SetupError, in_quotes
from tortxd.grammar import bracketed

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
_HOST_PORT = re.compile(rf"(\*|{_HOST.pattern}|\[[0-9A-Fa-f:.]+\]):([0-9]{{1,5}})")

_SERVER_FORMS = (
    "a port (3080), an address and port (127.0.0.1:3080, [::1]:3080), or a Twisted server endpoint "
    "(tcp:3080:interface=127.0.0.1, unix:/run/tortxd/http)"
)
_CLIENT_FORMS = (
    "a port (9051), a host and port (127.0.0.1:9051), a path (/run/tor/control), or a Twisted "
    "client endpoint (tcp:127.0.0.1:9051, unix:/run/tor/control)"
)
_SERVERS: dict[str, tuple[str, ...] | None] = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "ssl": None,
    "systemd": None,
}
"""Twisted's own kinds of server endpoints, and the arguments of those that are judged here."""
_INTRODUCIBLE = ("tcp", "tcp6", "unix", "systemd")
"""Those behind which a balancer may say whose a connection is."""
_BACKLOG_AT = {"tcp": 2, "tcp6": 1, "unix": 2, "ssl": 5}
"""Behind how many arguments the backlog stands, in those kinds that have one."""
BEHIND_BALANCER = "haproxy:"
"""What a description begins with whose endpoint takes the PROXY protocol. Twisted has the word."""
BACKLOG = 1024
"""Clients that may wait until they are accepted. Twisted has 50 of them; the next one asks again
after a second."""
_CLIENTS: dict[str, tuple[str, ...] | None] = {
    "tcp": ("host", "port", "timeout", "bindAddress"),
    "unix": ("path", "timeout", "lockPath"),
    "ssl": None,
    "tls": None,
}
_NUMBERS = {
    "backlog": "[0-9]{1,9}",
    "lockfile": "[0-9]",
    "mode": "[0-7]{1,4}",
    "timeout": "[0-9]{1,9}",
}
"""Arguments that Twisted takes for numbers; ``mode`` is octal."""


def is_local_endpoint(description: str) -> bool:
    """Whether a Twisted server endpoint description is known to serve this machine alone.

    ``tcp:`` without an interface listens everywhere; what is not understood counts as exposed.

    :raises SetupError: systemd was to pass a socket, and has not.
    """
    positional, named = split_endpoint(bound(description))
    kind = positional[0].lower()
    if kind == "unix":
        return True
    if kind in ("tcp", "tcp4", "tcp6"):
        interface = named.get("interface", positional[2] if len(positional) > 2 else "")
        return is_loopback(interface)
    return kind == "ssl" and is_loopback(named.get("interface", ""))


def http_address(description: str) -> tuple[str, int] | None:
    """Host and port by which this machine reaches a Twisted server endpoint, if that takes HTTP as
    it is, by TCP, at a port that is known."""
    if split_endpoint(description)[0][0] not in ("tcp", "tcp6"):
        return None
    host, _, port = plain(description).rpartition(":")
    host = host.strip("[]")
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    return (loopback.get(host, host), int(port)) if port.isdecimal() and int(port) else None


def begins_with_http(description: str) -> bool:
    """Whether what connects to a Twisted server endpoint may begin with HTTP at once (or with TLS),
    as on Twisted's own kinds. Behind ``haproxy:`` it has to say first for whom it comes."""
    return split_endpoint(description)[0][0] in _SERVERS


def is_local_client(description: str) -> bool:
    """Whether a Twisted client endpoint description is known to lead to this machine: a unix
    socket, or a loopback address. What is not understood counts as another one."""
    positional, named = split_endpoint(description)
    kind = positional[0].lower()
    host = named.get("host", "".join(positional[1:2]))
    return kind == "unix" or (kind == "tcp" and is_loopback(host))


def split_endpoint(description: str) -> tuple[list[str], dict[str, str]]:
    """Split as Twisted does: ``:`` separates, ``=`` names, a backslash takes the next as it is."""
    positional: list[str] = []
    named: dict[str, str] = {}
    key: str | None = None
    text = ""
    characters = iter(description + ":")
    for character in characters:
        if character == "\\":
            text += next(characters, "")
        elif character == "=" and key is None:
            key, text = text, ""
        elif character == ":":
            if key is None:
                positional.append(text)
            else:
                named[key] = text
            key, text = None, ""
        else:
            text += character
    return positional or [""], named


def with_backlog(description: str) -> str:
    """A Twisted server endpoint description that says how many clients may wait; as it is where it
    says so already, or where that is not for us to say."""
    (kind, *positional), named = split_endpoint(description)
    if "backlog" in named or len(positional) > _BACKLOG_AT.get(kind, -1):
        return description
    return f"{description}:backlog={BACKLOG}"


def bound(description: str) -> str:
    """An endpoint description that names the address: where it stands for a socket that systemd has
    passed, that of the socket. Any other stays as it is.

    :raises SetupError: there is no such socket, or that is not how one is named.
    """
    if split_endpoint(description)[0][0] != "systemd":
        return description
    from tortxd.inherited import inherited  # few daemons have such

    try:
        address = inherited(description).address
    except SetupError:
        raise
    except Exception as error:  # Twisted reads the description
        raise not_a_server(description, "`http`") from error
    if not isinstance(address, tuple):
        return f"unix:{_escaped(os.fsdecode(address))}"
    host, port = address[:2]
    return f"{'tcp6' if ':' in host else 'tcp'}:{port}:interface={_escaped(host)}"


def plain(description: str) -> str:
    """An endpoint's address without the words and escapes of its description: ``127.0.0.1:3080``,
    ``/run/tor/control``; what is not understood stays as it is."""
    positional, named = split_endpoint(description.removeprefix(BEHIND_BALANCER))
    kind, *rest = positional
    if kind == "unix":
        return named.get("path") or named.get("address") or "".join(rest[:1])
    if kind not in ("tcp", "tcp6"):
        return description
    names = _SERVERS[kind] if "".join(rest[:1]).isdecimal() else ("host", "port")
    arguments = {**dict(zip(names or (), rest, strict=False)), **named}
    everywhere = "::" if kind == "tcp6" else "0.0.0.0"  # noqa: S104
    host = arguments.get("host") or arguments.get("interface") or everywhere
    port = arguments.get("port")
    return f"{bracketed(host)}:{port}"


def loopback_http(port: int) -> tuple[str, str]:
    """The endpoints that serve on loopback; there may be no ``[::1]``."""
    return (f"tcp:{port}:interface=127.0.0.1", rf"tcp6:{port}:interface=\:\:1")


def wildcard_http(port: int) -> str:
    """The endpoint that serves on every IPv4 address."""
    return f"tcp:{port}:interface=0.0.0.0"


def server_endpoints(text: str, name: str) -> tuple[str, ...]:
    """The Twisted server endpoint descriptions that ``text`` means: ``PORT``, ``ADDRESS:PORT``,
    ``/PATH``, or such a description itself.

    A port alone, and ``localhost``, are both loopback addresses; ``*`` is every IPv4 address.

    :param name: what a SetupError calls it.
    """
    refusal = not_a_server(text, name)
    if text.startswith(BEHIND_BALANCER):
        return _behind_balancer(text, name)
    if re.fullmatch(r"[0-9]{1,5}", text):
        return loopback_http(_port(text, refusal))
    if text.startswith("/"):
        return (f"unix:{_escaped(text)}",)
    positional, named = split_endpoint(text)
    kind = positional[0]
    if kind not in _SERVERS and (match := _HOST_PORT.fullmatch(text)):
        return _listeners(match[1], _port(match[2], refusal), refusal)
    arguments = _arguments(positional[1:], named, _SERVERS.get(kind))
    if arguments is None or not (kind in _SERVERS or _provides(_server_plugins(), kind)):
        raise refusal
    if kind in ("tcp", "tcp6"):
        _port(arguments.get("port", ""), refusal, least=0)
        interface = arguments.get("interface", "")
        if interface not in ("", "localhost") and not is_address(interface):
            raise refusal  # a name would have to be looked up
    elif kind == "unix" and not arguments.get("address"):
        raise refusal
    _check_numbers(arguments, refusal)
    return (text,)


def _behind_balancer(text: str, name: str) -> tuple[str, ...]:
    """The same, of one that takes the PROXY protocol. Its header comes ahead of TLS, for which
    Twisted's own kind has no room."""
    try:
        behind = server_endpoints(text.removeprefix(BEHIND_BALANCER), name)
    except SetupError:
        raise not_a_server(text, name) from None
    if len(behind) > 1 or split_endpoint(behind[0])[0][0] not in _INTRODUCIBLE:
        raise not_a_server(text, name)
    return (BEHIND_BALANCER + behind[0],)


def client_endpoint(text: str, name: str) -> str:
    """The Twisted client endpoint description that ``text`` means: ``PORT`` (of 127.0.0.1),
    ``HOST:PORT``, ``/PATH``, or such a description itself. Parameters as of server_endpoints."""
    refusal = not_a_client(text, name)
    if re.fullmatch(r"[0-9]{1,5}", text):
        return f"tcp:127.0.0.1:{_port(text, refusal)}"
    if text.startswith("/"):
        return f"unix:{_escaped(text)}"
    positional, named = split_endpoint(text)
    kind = positional[0].lower()
    if kind not in _CLIENTS and (match := _HOST_PORT.fullmatch(text)):
        host = "127.0.0.1" if match[1] == "localhost" else match[1].strip("[]")
        if match[1] == "*" or (":" in host and not is_ipv6(host)):
            raise refusal
        return f"tcp:{_escaped(host)}:{_port(match[2], refusal)}"
    if not (kind in _CLIENTS or _provides(_client_plugins(), kind)):
        raise refusal
    arguments = _arguments(positional[1:], named, _CLIENTS.get(kind))
    if arguments is None:
        raise refusal
    if kind == "tcp":
        host = arguments.get("host", "")
        if not _HOST.fullmatch(host) and not is_ipv6(host):
            raise refusal
        _port(arguments.get("port", ""), refusal)
    elif kind == "unix" and not arguments.get("path"):
        raise refusal
    _check_numbers(arguments, refusal)
    return text


def _server_plugins() -> Iterable[Any]:
    """Loaded only for a kind that Twisted itself does not have: txtorcon's plugins install the
    reactor."""
    from twisted.internet.interfaces import IStreamServerEndpointStringParser
    from twisted.plugin import getPlugins

    return getPlugins(IStreamServerEndpointStringParser)


def _client_plugins() -> Iterable[Any]:
    from twisted.internet.interfaces import IStreamClientEndpointStringParserWithReactor
    from twisted.plugin import getPlugins

    return getPlugins(IStreamClientEndpointStringParserWithReactor)


def _provides(plugins: Iterable[Any], kind: str) -> bool:
    return any(plugin.prefix.lower() == kind for plugin in plugins)


def not_a_server(text: str, name: str) -> SetupError:
    """The error that shows what a server endpoint looks like; it calls the option ``name``."""
    return SetupError(f"{name} does not understand {in_quotes(text)}. It takes {_SERVER_FORMS}.")


def not_a_client(text: str, name: str) -> SetupError:
    """The error that shows what a client endpoint looks like; it calls the option ``name``."""
    return SetupError(f"{name} does not understand {in_quotes(text)}. It takes {_CLIENT_FORMS}.")


def _check_numbers(arguments: Mapping[str, str], refusal: SetupError) -> None:
    for argument, form in _NUMBERS.items():
        if argument in arguments and not re.fullmatch(form, arguments[argument]):
            raise refusal


def _port(digits: str, refusal: SetupError, *, least: int = 1) -> int:
    port = int(digits) if re.fullmatch(r"[0-9]{1,5}", digits) else -1
    if least <= port <= 65535:
        return port
    raise refusal


def _listeners(host: str, port: int, refusal: SetupError) -> tuple[str, ...]:
    if host == "localhost":
        return loopback_http(port)
    if host == "*":
        return (wildcard_http(port),)
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise refusal from None
    kind = "tcp" if address.version == 4 else "tcp6"
    return (f"{kind}:{port}:interface={_escaped(str(address))}",)


def _arguments(
    positional: list[str], named: Mapping[str, str], signature: tuple[str, ...] | None
) -> dict[str, str] | None:
    """The arguments of an endpoint by name; None where they are not those of its kind. Without a
    signature, nothing is known of them."""
    if signature is None:
        return dict(named)
    arguments = dict(zip(signature, positional, strict=False))
    others = set(signature) - arguments.keys()
    fits = len(positional) <= len(signature) and named.keys() <= others
    return {**arguments, **named} if fits else None


def _escaped(text: str) -> str:
    """``text`` as one argument of an endpoint description."""
    return re.sub(r"([\\:=])", r"\\\1", text)

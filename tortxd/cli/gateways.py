"""Which daemons a command asks, and with which tokens.

A token goes to a gateway only if its daemon has said itself where the token lies
(:mod:`tortxd.runtime`), or if the user has named the token's file: whoever else listens at an
address must not get it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tortxd.cli.failures import UsageFailed
from tortxd.runtime import Running, run_dirs, running

VARIABLE = "TORTXD_GATEWAY"
DEFAULT = "http://localhost:3080"


class Gateway(NamedTuple):
    """A gateway to ask."""

    url: str
    """``http://HOST:PORT``, ``https://HOST:PORT`` or ``unix:PATH``."""
    token_file: Path | None = None
    """The operators' token, or what the user has named. None: there is none to show."""
    client_token_file: Path | None = None
    """What clients show. None: nothing, so that keys are those of any client on this machine."""
    is_named: bool = True
    """Whether the user has named it."""


def find(
    named: Sequence[str], token_file: str | None, environ: Mapping[str, str]
) -> tuple[list[Gateway], str | None]:
    """The gateways that a command asks, and a note for the user, where there is one.

    :param named: by options; none: the variable, else the daemon of this user that runs here.
    :raises UsageFailed: a name is none of a gateway.
    """
    token = None if token_file is None else Path(token_file).expanduser()
    daemons = running(run_dirs(environ))
    names = [normal(name) for name in named or named_by_variable(environ)]
    if names:
        return [at(name, token, token, daemons) for name in names], None
    reachable = [daemon for daemon in daemons if daemon.gateways]
    if not reachable:
        return [Gateway(DEFAULT, token, token, is_named=False)], None
    newest = reachable[0]
    note = None
    if len(reachable) > 1:
        note = (
            f"{len(reachable)} daemons run here; this asks the newest, {newest.gateways[0]}. "
            "Choose with --gateway."
        )
    found = _of(newest, newest.gateways[0], token, token)
    return [found._replace(is_named=False)], note


def named_by_variable(environ: Mapping[str, str]) -> list[str]:
    """The gateways that the variable names."""
    return [name.strip() for name in environ.get(VARIABLE, "").split(",") if name.strip()]


def normal(name: str, option: str = "--gateway") -> str:
    """A gateway as users write it (``3080``, ``HOST:PORT``, a URL, ``unix:PATH``), as a URL.

    :param option: what has named it, for the sentence.
    :raises UsageFailed: it is none.
    """
    if name.startswith("unix:"):
        return name
    text = f"http://localhost:{name}" if name.isdecimal() else name
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageFailed(
            f"{option} takes a URL (http://localhost:3080), a port or unix:PATH, not {name!r}."
        )
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def at(
    url: str, token: Path | None, client_token: Path | None, daemons: Sequence[Running]
) -> Gateway:
    """The gateway at a URL, with the tokens that the user has named, or that its daemon, which is
    one of those that run here, has."""
    for daemon in daemons:
        if url in daemon.gateways:
            return _of(daemon, url, token, client_token)
    for daemon in daemons:
        for own in daemon.gateways:
            if _on_loopback(url) == _on_loopback(own):
                # Another name of this machine may be another address, where someone else listens;
                # with TLS, the certificate says who.
                return _of(daemon, own if own.startswith("http:") else url, token, client_token)
    return Gateway(url, token, client_token)


def _of(daemon: Running, url: str, token: Path | None, client_token: Path | None) -> Gateway:
    """One of a daemon's, with its own tokens or those that the user has named."""
    return Gateway(url, token or daemon.operator_token, client_token or daemon.client_token)


def _on_loopback(url: str) -> str:
    """The same for all names of this machine's loopback; others stay as they are."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    return f"{parts.scheme}://localhost:{parts.port}" if is_loopback else url

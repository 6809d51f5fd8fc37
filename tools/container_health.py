#!/usr/bin/env python3
"""Ends with 0 when the daemon in this container serves requests, as Docker's HEALTHCHECK and
Kubernetes' probes ask; with ``--live``, when it can go on by itself.

Where it listens and where its clients' token lies is in the file by which the command finds it,
too. Only where there is none is the configuration read, from environment and TOML, which costs
three times as much of the processor.
"""

import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tortxd.files import read_whole, secret_in
from tortxd.runtime import run_dirs, running

PATIENCE = 8.0
"""Seconds."""
LONGEST = 65_536
"""Bytes of an answer."""


def main() -> int:
    """Ask the gateway; print what it answers, for ``docker inspect`` and ``kubectl describe``."""
    live = sys.argv[1:] == ["--live"]
    if sys.argv[1:] and not live:
        print("usage: container-health [--live]", file=sys.stderr)
        return 2
    try:
        address, token = _announced() or _configured()
        status, answer = _ask(address, "/health?live" if live else "/health", token)
    except (OSError, ValueError) as error:
        print(error)
        return 1
    print(answer)
    return 0 if status == 200 else 1


def _announced() -> tuple[tuple[str, int] | str, bytes | None] | None:
    """Address, or path of the unix socket, and token of the daemon that runs here."""
    for daemon in running(run_dirs(os.environ)):
        for url in daemon.gateways:
            parts = urlsplit(url)
            if parts.scheme == "unix":
                return parts.path, _token(daemon.client_token)
            if parts.scheme == "http" and parts.hostname and parts.port:
                return (parts.hostname, parts.port), _token(daemon.client_token)
    return None


def _token(path: Path | None) -> bytes | None:
    return None if path is None else secret_in(read_whole(path))


def _configured() -> tuple[tuple[str, int], bytes | None]:
    from tortxd.config import DaemonConfig
    from tortxd.errors import SetupError

    try:
        config = DaemonConfig.load({}, os.environ)
        address = config.probe_address
    except SetupError as error:
        raise ValueError(str(error)) from error
    if address is None:
        raise ValueError("No TCP endpoint of the gateway takes HTTP as it is.")
    return address, config.token


def _ask(address: tuple[str, int] | str, path: str, token: bytes | None) -> tuple[int, str]:
    """Status and body of the answer.

    :raises OSError: there is none.
    :raises ValueError: it is none of HTTP.
    """
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n".encode()
    if token is not None:
        request += b"Tortxd-Token: " + token + b"\r\n"
    if isinstance(address, str):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(address)
    else:
        connection = socket.create_connection(address, PATIENCE)
    with connection, connection.makefile("rb") as answer:
        connection.sendall(request + b"\r\n")
        head, _, body = answer.read(LONGEST).partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():
        raise ValueError("The gateway's answer is not HTTP.")
    return int(words[1]), body.decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main())

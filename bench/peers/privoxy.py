"""Privoxy, in C, with a thread for each connection and no filters."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bench.load import Target
from bench.peers.model import Peer, found, free_port, listening, number_in
from bench.settings import Behind
from bench.ways import Way

_CONFIG = """\
listen-address 127.0.0.1:{port}
forward-socks5t / {host}:{socks_port} .
toggle 0
keep-alive-timeout 300
default-server-timeout 60
connection-sharing 1
socket-timeout 300
max-client-connections 20000
"""


@contextmanager
def _start(behind: Behind) -> Iterator[Target]:
    port = free_port()
    lines = _CONFIG.format(port=port, host=behind.socks_host, socks_port=behind.socks_port)
    with tempfile.NamedTemporaryFile("w", prefix="tortxd-bench-privoxy-") as config:
        config.write(lines)
        config.flush()
        command = (found("privoxy"), "--no-daemon", config.name)
        with listening("privoxy", port, command) as target:
            yield target


PRIVOXY = Peer(
    "privoxy",
    "Privoxy",
    (Way.PROXY, Way.CONNECT),
    _start,
    lambda: number_in(found("privoxy"), "--version"),
)

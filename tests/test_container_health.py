"""What Docker and Kubernetes run to ask a daemon how it is: tools/container_health.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tortxd.runtime import Running, announce

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "the-token-of-clients"


class Gateway(HTTPServer):
    """A stand-in, which says what it is told to and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.asked: list[tuple[str, str | None]] = []
        """Paths, each with the token."""
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Tortxd-Token"]))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b'{"status": "canned"}')

    def log_message(self, format: str, *words: Any) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.shutdown()
    gateway.server_close()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


def probe(folder: Path, *words: str, **environ: str) -> tuple[int, str]:
    """Exit status and output."""
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "container_health.py"), *words],
        env={"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in ran.stderr
    return ran.returncode, ran.stdout.strip()


def test_a_daemon_that_says_where_it_is(gateway: Gateway, token: Path, tmp_path: Path) -> None:
    """Its first gateway that can be asked, with the token of its clients."""
    gateways = ("https://127.0.0.1:1", gateway.url, "http://127.0.0.1:1")
    daemon = Running(os.getpid(), gateways, tmp_path / "operators", token)
    announcement = announce([tmp_path / "tortxd" / "run"], daemon)
    assert probe(tmp_path) == (0, '{"status": "canned"}')
    assert probe(tmp_path, "--live")[0] == 0
    gateway.status = 503
    assert probe(tmp_path) == (1, '{"status": "canned"}')
    announcement.withdraw()
    assert gateway.asked == [("/health", TOKEN), ("/health?live", TOKEN), ("/health", TOKEN)]


def test_a_daemon_that_could_not_say_so(gateway: Gateway, token: Path, tmp_path: Path) -> None:
    """Its disk is full, say: it goes by the configuration, past what wants the PROXY protocol."""
    http = f"haproxy:tcp:1,tcp:{gateway.server_port}:interface=0.0.0.0"
    environ = {"TORTXD_HTTP": http, "TORTXD_TOKEN_FILE": str(token)}
    assert probe(tmp_path, "--live", **environ) == (0, '{"status": "canned"}')
    assert gateway.asked == [("/health?live", TOKEN)]


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"TORTXD_HTTP": "127.0.0.1:1"}, "Connection refused"),
        ({"TORTXD_HTTP": "haproxy:tcp:3080", "TORTXD_OPEN": "1"}, "No TCP endpoint"),
        ({"TORTXD_HTTP": "nonsense"}, "TORTXD_HTTP"),
    ],
)
def test_where_nobody_answers(tmp_path: Path, environ: dict[str, str], says: str) -> None:
    status, said = probe(tmp_path, **environ)
    assert status == 1
    assert says in said


def test_words_that_it_does_not_know(tmp_path: Path) -> None:
    assert probe(tmp_path, "--dead") == (2, "")

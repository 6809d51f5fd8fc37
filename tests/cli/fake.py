"""A gateway that answers as the test says, on a loopback port, in a thread of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import define, field, frozen

RELAYS = [
    {"fingerprint": letter * 40, "nickname": name, "address": "192.0.2.1", "country": country}
    for letter, name, country in (("A", "first", "fr"), ("B", None, None), ("C", "last", "de"))
]
CIRCUIT = {
    "id": "12",
    "state": "BUILT",
    "purpose": "GENERAL",
    "path": RELAYS,
    "streams": ["34"],
    "flags": ["NEED_CAPACITY"],
    "buildTime": 0.83,
    "conflux": None,
    "guard": True,
    "isolation": "0badcafe",
    "age": 75.0,
}
STREAM = {
    "id": "34",
    "state": "SUCCEEDED",
    "circuit": "12",
    "target": "a.example:443",
    "purpose": "USER",
    "way": "proxy",
    "isolation": "0badcafe",
    "age": 1.2,
}
RENEWED = {"renewed": "key", "keys": 1, "connections": 0, "nextNewnym": 0.0}
HEALTH = {
    "status": "ok",
    "since": "2026-11-27T10:31:02Z",
    "age": 185.2,
    "bootstrap": {"progress": 100, "tag": "done", "summary": "Done"},
    "tor": "socks5h://127.0.0.1:9050",
    "network": "public",
    "version": "0.1.0",
}
SNAPSHOT = {"status": HEALTH, "circuits": [CIRCUIT], "streams": [STREAM], "bandwidth": []}
VERIFICATION = {
    "isTor": True,
    "exitIp": "192.0.2.7",
    "verdict": "verified",
    "evidence": {
        "controlPort": {"streamOnCircuit": True, "circuit": CIRCUIT},
        "checkService": {"answered": True, "isTor": True, "error": None},
    },
    "proxyUrl": "socks5h://127.0.0.1:9050",
    "age": 0.0,
}
FAILURE = {
    "age": 3.2,
    "way": "proxy",
    "code": "resolve_failed",
    "fault": "destination",
    "error": "The destination's name could not be resolved.",
    "retryable": True,
    "torReason": "RESOLVEFAILED",
    "circuit": "12",
    "exit": RELAYS[2],
    "isolation": "0badcafe",
}
REQUESTS = {
    "underWay": 3,
    "connections": 5,
    "pool": 2,
    "counts": [
        {"way": "proxy", "outcome": "ok", "count": 40},
        {"way": "connect", "outcome": "resolve_failed", "count": 2},
        {"way": "proxy", "outcome": "client_gone", "count": 1},
    ],
    "intervals": [],
    "failures": [FAILURE],
}


@frozen
class Canned:
    """An answer."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    length: int | None = None
    """What Content-Length says; None: the truth."""


def said(value: object, status: int = 200, **headers: str) -> Canned:
    """JSON."""
    named = tuple((name.replace("_", "-"), text) for name, text in headers.items())
    return Canned(
        json.dumps(value).encode(), status, (("Content-Type", "application/json"), *named)
    )


def error(code: str, sentence: str, status: int) -> Canned:
    """An error of the gateway's own."""
    value = {"error": sentence, "code": code, "retryable": False}
    return said(value, status, Tortxd_Error=code)


def wire(*events: tuple[str, object]) -> bytes:
    return b"".join(
        f"id: x-{number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()
        for number, (kind, data) in enumerate(events, 1)
    )


def streamed(*events: tuple[str, object]) -> Canned:
    return Canned(wire(*events), 200, (("Content-Type", "text/event-stream"),))


@frozen
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@define
class FakeGateway:
    """See the module's description."""

    answers: dict[str, Canned | list[Canned] | Callable[[], Canned]] = field(factory=dict)
    """By path without its query; of a list, one after the other; what is called may wait."""
    asked: list[Asked] = field(factory=list)
    server: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer_to(self, path: str) -> Canned:
        answer = self.answers.get(path.partition("?")[0])
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        if callable(answer):
            answer = answer()
        return answer or error("not_found", "There is no such route.", 404)

    def start(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.asked.append(Asked(self.command, self.path, dict(self.headers), body))
                answer = fake.answer_to(self.path)
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                length = len(answer.body) if answer.length is None else answer.length
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

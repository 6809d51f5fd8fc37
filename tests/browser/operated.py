"""A gateway whose operators' routes say what a test has made up, for the dashboard before it.

The page, its files, access and ``/proxy`` are the real ones, over no Tor at all; what ``/events``,
``/requests`` and ``/config`` give, and what closes circuits, is canned.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IConsumer

from tests.browser.watching import Watch
from tests.daemon.process import installed
from tests.gateway.conftest import OPERATOR, FakeLink, policy, port_of
from tests.socks_server import SocksServer
from tortxd.addresses import SocksAddress
from tortxd.errors import NotFound
from tortxd.gateway.answers import OWN_HEADERS, Answer, StreamedAnswer, json_answer
from tortxd.gateway.control.endpoints import Call, Context, Endpoint
from tortxd.gateway.front.listener import FrontFactory
from tortxd.gateway.gateway import Gateway as Core
from tortxd.policy.access import AccessPolicy, Audience
from tortxd.testing import Origin

Json = dict[str, Any]
ACCESS = AccessPolicy(operator_token=OPERATOR, operator_cookie=b"cookie-of-this-process")

READY: Json = {
    "status": "ok",
    "bootstrap": {"progress": 100, "tag": "done", "summary": "Done"},
    "tor": "socks5h://127.0.0.1:9050",
    "network": "public",
    "version": "0.1.0",
}
NAMES = (
    ("Quintex42", "us"),
    ("F3Netze", "de"),
    ("relayon0341", "de"),
    ("Aramis", "fr"),
    ("NTH13R3", "nl"),
    ("ForPrivacyNET", "ch"),
    ("Unnamed", "ro"),
    ("snowfall", "se"),
    ("ARelayWithAVeryLongName", "lu"),
    ("marylou1", "at"),
    ("pangolin", None),
)


def relay(number: int) -> Json:
    """One relay of those that there are."""
    nickname, country = NAMES[number % len(NAMES)]
    return {
        "fingerprint": f"{number % len(NAMES):040X}",
        "nickname": nickname,
        "address": f"192.0.2.{number % len(NAMES)}",
        "country": country,
    }


def circuit(number: int, **changes: Any) -> Json:
    """A circuit, built and in use."""
    path = [relay(0), relay(number + 1), relay(number * 3 + 2)]
    made: Json = {
        "id": str(number),
        "state": "BUILT",
        "purpose": "GENERAL",
        "path": path,
        "streams": [],
        "flags": [],
        "buildTime": 0.4 + number % 9 / 10,
        "conflux": None,
        "guard": True,
        "isolation": f"{number * 2654435761 % 2**32:08x}",
        "age": 3.0 * number,
    }
    return {**made, **changes}


def stream(number: int, on: str | None, **changes: Any) -> Json:
    """A stream, open."""
    made: Json = {
        "id": str(number),
        "state": "SUCCEEDED",
        "circuit": on,
        "target": f"www.site{number % 40}.example:443",
        "purpose": "USER",
        "way": ("proxy", "connect", "socks")[number % 3],
        "isolation": None,
        "age": 1.5,
    }
    return {**made, **changes}


def failure(number: int, code: str = "resolve_failed", **changes: Any) -> Json:
    """A request that failed."""
    made: Json = {
        "age": 4.0 + 20 * number,
        "way": "proxy",
        "code": code,
        "fault": "destination",
        "error": "The destination's name could not be resolved.",
        "retryable": True,
        "torReason": "RESOLVEFAILED",
        "circuit": "2",
        "exit": relay(3),
        "isolation": "9e3779b1",
    }
    return {**made, **changes}


def crowd(circuits: int, streams: int) -> Json:
    """What a Tor with so many has open; every fourth circuit is nobody's yet."""
    idle: Json = {"isolation": None, "age": 900.0}
    there = [circuit(n, **(idle if n % 4 == 3 else {})) for n in range(1, circuits + 1)]
    used = [one["id"] for one in there if one["isolation"]]
    return {
        "status": READY,
        "circuits": there,
        "streams": [stream(n, used[n % len(used)]) for n in range(streams)] if used else [],
        "bandwidth": [
            {
                "read": int(90_000 * (1 + n * n % 17 / 5) * (n % 60 > 8)),
                "written": int(20_000 * (1 + n % 7 / 4)),
                "age": float(280 - n),
            }
            for n in range(280)
        ]
        if circuits
        else [],
    }


def quiet() -> Json:
    """What ``/requests`` says before there was any."""
    return {
        "underWay": 0,
        "connections": 1,
        "pool": 0,
        "counts": [],
        "intervals": [
            {"age": 5.0 * n + 2, "requests": 0, "failed": 0, "median": None, "longest": None}
            for n in range(3, -1, -1)
        ],
        "failures": [],
    }


def busy() -> Json:
    """What it says after a while."""
    slow = {"fault": "tor", "torReason": "TIMEOUT", "error": "Tor did not connect in time."}
    local = {
        "fault": "client",
        "torReason": None,
        "retryable": False,
        "circuit": None,
        "exit": None,
        "isolation": None,
        "way": "connect",
        "error": "Local names are not sent to Tor. Map one with --alias.",
    }
    return {
        "underWay": 3,
        "connections": 9,
        "pool": 4,
        "counts": [
            {"way": "proxy", "outcome": "ok", "count": 1841},
            {"way": "connect", "outcome": "ok", "count": 210},
            {"way": "proxy", "outcome": "resolve_failed", "count": 12},
            {"way": "connect", "outcome": "tor_timeout", "count": 3},
            {"way": "connect", "outcome": "target_forbidden", "count": 1},
        ],
        "intervals": [
            {
                "age": 5.0 * n + 2,
                "requests": 4 + n % 5,
                "failed": int(n % 13 == 0),
                "median": 0.3 + n % 7 / 20,
                "longest": 0.6 + n % 11 / 6,
            }
            if n % 17
            else {"age": 5.0 * n + 2, "requests": 0, "failed": 0, "median": None, "longest": None}
            for n in range(55, -1, -1)
        ],
        "failures": [
            failure(0),
            failure(1, "tor_timeout", **slow),
            failure(2, "target_forbidden", **local),
            *(failure(n) for n in range(3, 14)),
        ],
    }


CONFIG: Json = {
    "endpoints": ["http://127.0.0.1:3080", "http://[::1]:3080"],
    "options": [
        {
            "name": "timeout",
            "option": "--timeout",
            "value": 30.0,
            "source": "environment",
            "set": "TORTXD_TIMEOUT",
        },
        {
            "name": "allow_origins",
            "option": "--allow-origin",
            "value": ["https://app.example"],
            "source": "option",
            "set": "--allow-origin",
        },
        {
            "name": "aliases",
            "option": "--alias",
            "value": {"localhost:8080": "name.onion:80"},
            "source": "file",
            "set": "aliases in /etc/tortxd.toml",
        },
        *(
            {
                "name": name,
                "option": f"--{name.replace('_', '-')}",
                "value": value,
                "source": "default",
                "set": None,
            }
            for name, value in (
                ("socks", "9050"),
                ("control", None),
                ("open", False),
                ("token_file", None),
                ("idle_timeout", 300.0),
                ("user_agent", "auto"),
                ("drain", 2.0),
            )
        ),
    ],
}


@define(eq=False)
class Operated:
    """A gateway in this process."""

    core: Core
    link: FakeLink
    origin: Origin
    api: Any = None
    """The routes."""
    port: int = 0
    told: Json = field(factory=lambda: crowd(0, 0))
    """The snapshot for whoever comes to ``/events``."""
    requests: Json = field(factory=quiet)
    posted: list[tuple[str, Json]] = field(factory=list)
    """What was asked to be changed, with the body."""
    watch: Watch = field(factory=Watch)
    """Looks at every change of these."""
    refuses: bool = False
    """Whether ``/events`` breaks off at once."""
    readers: list[tuple[IConsumer, Deferred[None]]] = field(factory=list)
    number: int = 0

    @property
    def url(self) -> str:
        """The dashboard's address for a browser that has the cookie."""
        return f"http://localhost:{self.port}/"

    @property
    def operators_url(self) -> str:
        """The same for one that has none yet."""
        return f"{self.url}?token={OPERATOR.decode()}"

    def tell(self, event: str, value: object) -> None:
        """Send an event to everyone who listens."""
        for consumer, _ in self.readers:
            self._write(consumer, event, value)

    def hang_up(self) -> None:
        """End the streams of events."""
        readers, self.readers = self.readers, []
        for _, over in readers:
            over.callback(None)

    def endpoints(self) -> Iterator[Endpoint]:
        """The routes that are canned."""
        operator, get, post = Audience.OPERATOR, (b"GET",), (b"POST",)
        yield Endpoint("/events", operator, get, self._events, "events")
        yield Endpoint("/requests", operator, get, self._giving(lambda: self.requests), "requests")
        yield Endpoint("/config", operator, get, self._giving(lambda: CONFIG), "config")
        yield Endpoint("/circuits", operator, get, self._giving(lambda: self.told), "circuits")
        for one in self.told["circuits"] or [{"id": "1"}, {"id": "2"}, {"id": "3"}]:
            path = f"/circuits/{one['id']}/close"
            yield Endpoint(path, operator, post, self._posted(path), "closes")
        yield Endpoint("/identity/new", operator, post, self._posted("/identity/new"), "renews")

    def _giving(self, value: Callable[[], object]) -> Any:
        async def give(_: Context, __: Call) -> Answer:
            return json_answer(200, value())

        return give

    def _posted(self, path: str) -> Any:
        async def take(_: Context, call: Call) -> Answer:
            self.posted.append((path, json.loads(call.body or b"{}")))
            self.watch.look()
            if path == "/circuits/3/close":
                raise NotFound("There is no such circuit.")
            return json_answer(200, {"keys": 2, "connections": 1, "nextNewnym": 9.2})

        return take

    async def _events(self, _: Context, __: Call) -> StreamedAnswer:
        headers = [(b"Content-Type", b"text/event-stream"), *OWN_HEADERS]
        return StreamedAnswer(200, headers, self._feed)

    async def _feed(self, consumer: IConsumer) -> None:
        if self.refuses:
            return
        over: Deferred[None] = Deferred()
        self._write(consumer, "snapshot", self.told)
        reader = (consumer, over)
        self.readers.append(reader)
        self.watch.look()
        try:
            await over
        finally:
            if reader in self.readers:
                self.readers.remove(reader)

    def _write(self, consumer: IConsumer, event: str, value: object) -> None:
        self.number += 1
        lines = (f"id: test-{self.number}", f"event: {event}", f"data: {json.dumps(value)}", "", "")
        consumer.write("\n".join(lines).encode())


@asynccontextmanager
async def operated(folder: Path) -> AsyncIterator[Operated]:
    """Such a gateway; whatever is asked for through it, an origin in this process answers."""
    from tortxd.gateway.control.app import Api
    from tortxd.gateway.control.routes import ENDPOINTS

    reactor = installed()
    origin = Origin(reactor, folder)
    await origin.start()
    socks_port = reactor.listenTCP(0, SocksServer(reactor, origin.http_port), interface="127.0.0.1")
    link = FakeLink(socks_address=SocksAddress("127.0.0.1", port_of(socks_port)), network="public")
    core = Core(reactor, link, policy(access=ACCESS, timeout=20.0))
    here = Operated(core, link, origin)
    canned = {endpoint.path: endpoint for endpoint in here.endpoints()}
    kept = [one for one in ENDPOINTS if one.path not in canned and "<" not in one.path]
    routes = (*kept, *canned.values())
    api = Api(core, "http://a.example/", "http://a.example/", endpoints=routes)
    here.api = api
    factory = FrontFactory(core, lambda: api)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    here.port = port_of(port)
    yield here
    here.hang_up()
    for listening in (port, socks_port):
        await maybeDeferred(listening.stopListening)
    for front in list(factory.connections):
        front.transport.abortConnection()
    core.stop()
    await origin.stop()

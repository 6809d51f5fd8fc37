"""The daemon that the demonstration starts, as a process, and its gateway as a client sees it."""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from attrs import frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseNeverReceived
from twisted.web.http_headers import Headers

from tortxd.errors import SetupError
from tortxd.testing.model import INetworkReactor
from tortxd.testing.network import PrivateNetwork
from tortxd.testing.origin import Origin

READY_WITHIN = 60.0
"""Seconds from the daemon's start until it serves."""
STOPPED_WITHIN = 10.0
"""Seconds that the daemon has to stop in order."""
_POLL = 0.2
_KEPT_LINES = 20
_CONTROL_PORT = re.compile(r'^ControlPort "unix:\\"(.*)\\""$', re.MULTILINE)
_LAST_WORD = "tortxd: "
"""How the sentence begins with which a daemon ends that cannot go on."""
# The kernel ends the daemon in order when its starter dies, however that happens: PR_SET_PDEATHSIG,
# prctl(2).
_TWISTD = """\
import ctypes, signal
from twisted.scripts.twistd import run
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
run()
"""

_T = TypeVar("_T")


class DemoError(SetupError):
    """The demonstration did not go as it should; the message says what happened."""

    sentence = "The demonstration failed."


def daemon_environment(environ: Mapping[str, str], port: int, ca_file: Path) -> dict[str, str]:
    """The environment of a daemon which listens on ``port`` and trusts ``ca_file`` alone.

    How users have configured daemons of their own is none of the demonstration's.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("TORTXD_") and name not in ("TOR_SOCKS_PORT", "SSL_CERT_DIR")
    }
    return {**kept, "GATEWAY_PORT": str(port), "SSL_CERT_FILE": str(ca_file)}


class DaemonProcess(ProcessProtocol):
    """``twistd -n tortxd`` as a process, on a private network that is up.

    Its data directory lies in the network's, with which it goes. ``sites`` are further names of the
    origin, by which the gateway finds it at the ports that are usual for http and https.
    """

    def __init__(
        self,
        reactor: INetworkReactor,
        network: PrivateNetwork,
        origin: Origin,
        port: int,
        sites: Iterable[str] = (),
    ) -> None:
        self.port = port
        """Where the gateway listens."""
        self.data_dir = network.directory / f"tortxd-{port}"
        self.token_file = self.data_dir / "operator-token"
        """The operator token, there once the daemon serves."""
        self.running = True
        self._reactor = reactor
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._rest = b""
        self._waiters: list[Deferred[None]] = []
        arguments = [
            *(sys.executable, "-c", _TWISTD, "-n", "--pidfile=", "tortxd"),
            *("--data-dir", str(self.data_dir), "--torrc", str(network.write_client_torrc())),
            *("--check-url", f"{origin.https}/api/ip", "--ip-url", f"{origin.https}/ip"),
        ]
        for site in sites:
            for usual, there in ((80, origin.http_port), (443, origin.https_port)):
                arguments += ["--alias", f"{site}:{usual}={site}:{there}"]
        environment = daemon_environment(os.environ, port, origin.ca_file)
        self._process = reactor.spawnProcess(self, sys.executable, arguments, env=environment)

    def control_socket(self) -> Path:
        """Where its Tor's control port listens, as the torrc says that it has written; there once
        it serves."""
        torrc = (self.data_dir / "torrc").read_text("utf-8")
        found = _CONTROL_PORT.search(torrc)
        assert found is not None
        return Path(found[1].replace("\\", ""))

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines.extend(line.decode("utf-8", "replace") for line in lines)

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def when_ended(self) -> Deferred[None]:
        """Fire when it is gone."""
        if not self.running:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        return waiter

    async def unless_it_ends(self, work: Coroutine[Deferred[Any], Any, _T]) -> _T:
        """What comes of ``work``, which makes sense while the daemon runs alone.

        Raises DemoError with the daemon's last words when it ends first.
        """
        going = Deferred.fromCoroutine(work)
        self.when_ended().addCallback(lambda _: going.cancel())
        try:
            return await going
        except CancelledError:
            if self.running:
                raise
            raise DemoError(f"The daemon ended by itself. {self._last_words()}") from None

    def _last_words(self) -> str:
        for line in self._lines:
            if line.startswith(_LAST_WORD):
                return line.removeprefix(_LAST_WORD)
        return "\n".join(["Its last lines were:", *list(self._lines)[-8:]])

    async def stop(self) -> None:
        """Stop it in order, or kill it when that takes too long; done when it is gone."""
        self._signal("TERM")
        overdue = self._reactor.callLater(STOPPED_WITHIN, self._signal, "KILL")
        await self.when_ended()
        if overdue.active():
            overdue.cancel()

    def _signal(self, name: str) -> None:
        try:
            self._process.signalProcess(name)
        except ProcessExitedAlready:
            pass


@frozen
class Page:
    """What ``/proxy`` answered."""

    body: bytes
    circuit: str
    """The id of the circuit that carried it."""
    seconds: float
    """From the request to the end of the response."""


class Gateway:
    """The gateway on ``port`` of this machine, asked as any client asks it."""

    def __init__(self, reactor: INetworkReactor, port: int, token_file: Path) -> None:
        self._reactor = reactor
        self._url = f"http://127.0.0.1:{port}"
        self._token_file = token_file
        self._http = HTTPClient(Agent(reactor))

    async def when_ready(self, on_progress: Callable[[int, str], object]) -> str:
        """Wait until requests are served, telling how far Tor is; return its SOCKS URL.

        Raises DemoError when that takes too long, or says that it will never be.
        """
        deadline = self._reactor.seconds() + READY_WITHIN
        sentence = "The daemon starts."
        on_progress(0, sentence)
        while self._reactor.seconds() < deadline:
            told = await self._health()
            if told is not None and told["status"] in ("ok", "degraded"):
                on_progress(100, "Tor is ready.")
                return str(told["tor"])
            if told is not None:
                bootstrap = told["bootstrap"]
                sentence = f"Tor: {bootstrap['summary']}."
                on_progress(min(99, bootstrap["progress"]), sentence)
            await deferLater(self._reactor, _POLL)
        raise DemoError(f"The daemon did not serve after {READY_WITHIN:g} s. {sentence}")

    async def _health(self) -> dict[str, Any] | None:
        try:
            response = await self._http.get(f"{self._url}/health")
        except (ConnectError, ResponseNeverReceived):
            return None  # it does not listen yet
        return await _json(response)

    async def fetch(self, url: str) -> Page:
        """A page through Tor. Raises DemoError when it is not there."""
        begun = self._reactor.seconds()
        response = await self._http.get(
            f"{self._url}/proxy?url={quote(url, safe='')}", unbuffered=True
        )
        body = await response.content()
        seconds = self._reactor.seconds() - begun
        if response.code != HTTPStatus.OK:
            raise DemoError(f"{url} was answered with status {response.code}: {_sentence(body)}")
        circuits = response.headers.getRawHeaders("Tortxd-Circuit")
        if not circuits:
            raise DemoError(f"The response for {url} does not say which circuit carried it.")
        return Page(body, circuits[0], seconds)

    async def verify(self) -> dict[str, Any]:
        """What ``/verify-tor`` says."""
        return await self._ask("/verify-tor")

    async def circuits(self) -> list[dict[str, Any]]:
        """What ``/circuits`` tells the operator."""
        token = self._token_file.read_text("ascii").strip()
        told = await self._ask("/circuits", Headers({"Tortxd-Token": [token]}))
        circuits: list[dict[str, Any]] = told["circuits"]
        return circuits

    async def _ask(self, path: str, headers: Headers | None = None) -> dict[str, Any]:
        response = await self._http.get(self._url + path, headers=headers)
        told = await _json(response)
        if response.code != HTTPStatus.OK:
            raise DemoError(f"{path} was answered with status {response.code}: {told['error']}")
        return told


async def _json(response: Any) -> dict[str, Any]:
    told: dict[str, Any] = await response.json()
    return told


def _sentence(body: bytes) -> str:
    return body[:500].decode("utf-8", "replace").strip()

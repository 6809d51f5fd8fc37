"""HAProxy as a process, with the configuration that the project gives; and members that stand in
for daemons."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.daemon.process import PATIENCE, POLL, Daemon, Launcher, installed
from tests.tor.lone_tor import free_port
from tests.web_client import ask

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "packaging" / "haproxy.cfg"
PREFIX = "127.0.8."
"""Where members are: the third at 127.0.8.3."""
MEMBERS = 10
"""As many as the configuration knows."""
_PROGRAM = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_UP = re.compile(r'haproxy_server_status\{proxy="members",server="tortxd-(\d+)",state="UP"\} 1')


def name_of(member: int) -> str:
    """What the balancer calls it."""
    return f"tortxd-{member}"


@define(eq=False)
class Balancer(Daemon):
    """HAProxy; its ``port`` is that of its gateway."""

    admin: int = 0
    """The port of its own metrics."""

    async def up(self) -> set[int]:
        """The members that it takes for ready now."""
        try:
            metrics = await ask(installed(), self.admin, "/metrics")
        except ConnectError:
            return set()
        return {int(found) for found in _UP.findall(metrics.body.decode())}

    async def when_up(self, *members: int) -> None:
        """Wait until exactly these are."""
        deadline = installed().seconds() + PATIENCE
        while (up := await self.up()) != set(members):
            assert installed().seconds() < deadline, f"{up} are up\n{self.text}"
            await deferLater(installed(), POLL)


def balancer(folder: Path, member_port: int, **environ: str) -> Balancer:
    """One that is started; members are at 127.0.8.N:``member_port``.

    :raises AssertionError: there is no HAProxy here.
    """
    assert _PROGRAM is not None, "haproxy is not installed; `make test` installs it"
    port, admin = free_port(), free_port()
    own = {
        "TORTXD_BIND": f"127.0.0.1:{port}",
        "TORTXD_ADMIN": f"127.0.0.1:{admin}",
        "TORTXD_MEMBER_PREFIX": PREFIX,
        "TORTXD_MEMBER_PORT": str(member_port),
    }
    command = [_PROGRAM, "-f", str(CONFIGURATION)]
    one = Balancer(command, {**own, **environ}, folder, port=port, admin=admin)
    one.start()
    return one


# --- members that stand in ------------------------------------------------------------------------


@define(eq=False)
class StandIn:
    """Answers each request with its number, whose it is, and what it has read of it."""

    number: int
    port: int
    ready: bool = True
    """What it says of its health."""
    overloaded: bool = False
    """Whether it says that it has too much to do, whatever it is asked."""
    checks: int = 0
    """So many times it was asked after its health."""
    ends: int = 0
    """So many further requests it ends without an answer."""
    requests: list[bytes] = field(factory=list)
    """The first lines of what it has read, questions after its health apart."""
    connections: set[_Connection] = field(factory=set)
    _listening: Any = None

    async def start(self) -> None:
        """Listen, as a daemon with ``--http haproxy:tcp:...`` does."""
        where = f"haproxy:tcp:{self.port}:interface={PREFIX}{self.number}"
        factory = Factory.forProtocol(lambda: _Connection(self))
        factory.noisy = False
        self._listening = await serverFromString(installed(), where).listen(factory)

    async def stop(self) -> None:
        """Be gone, as a process that was killed is."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await maybeDeferred(listening.stopListening)
        ended = [one.ended for one in self.connections]
        for one in list(self.connections):
            one.transport.loseConnection()
        await gatherResults(ended)


class _Connection(Protocol):
    """Reads requests with a Content-Length at most, and tunnels."""

    transport: Any

    def __init__(self, member: StandIn) -> None:
        self.ended: Deferred[None] = Deferred()
        self._member = member
        self._read = b""

    def connectionMade(self) -> None:
        self._member.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._member.connections.discard(self)
        self.ended.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self._read += data
        while b"\r\n\r\n" in self._read:
            head, _, rest = self._read.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            self._read = rest[size:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        member, line = self._member, head.partition(b"\r\n")[0]
        is_check = line.startswith(b"GET /health ") and b"\r\nhost: 127.0.0.1" in head.lower()
        member.checks += is_check
        if member.overloaded:
            self._say(503, b'{"error": "...", "code": "overloaded"}')
            return
        if is_check:
            status = "ok" if member.ready else "bootstrapping"
            self._say(200 if member.ready else 503, b'{"status": "%b"}' % status.encode())
            return
        member.requests.append(line)
        if member.ends > 0:
            member.ends -= 1
            self.transport.loseConnection()
        elif line.startswith(b"CONNECT refused."):
            self._say(403, b"")
        elif line.startswith(b"CONNECT "):
            self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            peer = self.transport.getPeer().host
            self._say(200, b"%d %b\n%b" % (member.number, peer.encode(), head))

    def _say(self, status: int, body: bytes) -> None:
        # A destination may say anything: what the balancer says of the member counts.
        forged = b"Tortxd-Member: forged\r\n"
        head = b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n" % (status, forged, len(body))
        self.transport.write(head + body)


@define
class Fleet:
    """Daemons on the private network, and the balancer in front of them."""

    launch: Launcher
    port: int = field(factory=free_port)
    """Of every member, where the balancer asks it."""
    members: dict[int, Daemon] = field(factory=dict)

    def start(self, number: int) -> Daemon:
        """Start a member, or start it again where it was; its own plain port is for operators."""
        before = self.members.get(number)
        listen = f"--http=haproxy:tcp:{self.port}:interface={PREFIX}{number}"
        data_dir = None if before is None else before.data_dir
        one = self.members[number] = self.launch(listen, "--open", data_dir=data_dir)
        return one

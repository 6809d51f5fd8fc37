"""The private network on real tor: what it carries, what it cannot reach, and that it goes."""

# mypy: disable-error-code="untyped-decorator, no-untyped-call"

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from tortxd.testing import (
    WARNING,
    Client,
    INetworkReactor,
    NetworkError,
    Origin,
    PrivateNetwork,
    pattern,
    torrc,
)
from tortxd.testing.processes import search_path

# Reserved for documentation (RFC 5737): nothing answers there.
ELSEWHERE = "192.0.2.1"


def installed() -> INetworkReactor:
    from twisted.internet import reactor

    return cast(INetworkReactor, reactor)


class Socks(Protocol):
    """A SOCKS5 client (RFC 1928, RFC 1929) that takes what comes until the end."""

    def __init__(self, host: str, port: int, payload: bytes) -> None:
        name = host.encode()
        # A user name and password of its own, so that every request has circuits of its own.
        user = os.urandom(8).hex().encode()
        self._second = b"\1\x10" + user + b"\1x\5\1\0\3%c" % len(name) + name
        self._second += port.to_bytes(2, "big") + payload
        self.data = b""
        self.ended: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"\5\1\2")

    def dataReceived(self, data: bytes) -> None:
        if not self.data:
            assert self.transport is not None
            self.transport.write(self._second)
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(self.data)


async def socks(client: Client, host: str, port: int, payload: bytes = b"") -> tuple[int, bytes]:
    """The SOCKS reply, and what came after it until the end."""
    endpoint = TCP4ClientEndpoint(installed(), *client.socks)
    peer = cast(Socks, await connectProtocol(endpoint, Socks(host, port, payload)))
    data = await peer.ended
    assert data[:4] == b"\5\2\1\0"
    return data[5], data[14:]


async def get(client: Client, host: str, port: int, path: str) -> bytes:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    reply, data = await socks(client, host, port, request.encode())
    assert reply == 0
    return data.partition(b"\r\n\r\n")[2]


class Control(LineOnlyReceiver):
    """A control connection (control-spec) that knows replies and one kind of event."""

    MAX_LENGTH = 1 << 20

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._replies: list[Deferred[list[str]]] = []
        self._events: list[tuple[str, Deferred[None]]] = []

    def command(self, line: str) -> Deferred[list[str]]:
        reply: Deferred[list[str]] = Deferred()
        self._replies.append(reply)
        self.sendLine(line.encode())
        return reply

    def event(self, text: str) -> Deferred[None]:
        seen: Deferred[None] = Deferred()
        self._events.append((text, seen))
        return seen

    def lineReceived(self, line: bytes) -> None:
        text = line.decode()
        if text.startswith("650"):
            for wanted, seen in self._events:
                if wanted in text and not seen.called:
                    seen.callback(None)
            return
        self._lines.append(text)
        if re.match(r"\d{3} ", text):
            lines, self._lines = self._lines, []
            self._replies.pop(0).callback(lines)

    async def value(self, key: str) -> str:
        return "\n".join(await self.command(f"GETINFO {key}")).partition("=")[2]


async def control(client: Client, secret: str | None = None) -> Control:
    endpoint = TCP4ClientEndpoint(installed(), *client.control)
    made = cast(Control, await connectProtocol(endpoint, Control()))
    if secret is None:
        assert client.cookie is not None
        secret = client.cookie.read_bytes().hex()
    assert await made.command(f"AUTHENTICATE {secret}") == ["250 OK"]
    return made


@pytest.fixture(scope="module")
def client(tor_network: PrivateNetwork) -> Iterator[Client]:
    made = pytest_twisted.blockon(ensureDeferred(tor_network.start_client()))
    yield made
    pytest_twisted.blockon(ensureDeferred(made.stop()))


@pytest_twisted.ensureDeferred
async def test_fetch_leaves_from_an_exit_after_three_hops(
    tor_network: PrivateNetwork, tor_origin: Origin, client: Client
) -> None:
    told = json.loads(await get(client, "origin.test.example", tor_origin.http_port, "/api/ip"))
    exits = {relay.address: relay for relay in tor_network.relays if relay.is_exit}
    assert told["IsTor"] is True
    left_from = exits[told["IP"]]
    circuits = await (await control(client)).value("circuit-status")
    paths = [
        line.split()[2].split(",")
        for line in circuits.splitlines()
        if " BUILT " in line and "SOCKS_USERNAME" in line
    ]
    assert f"${left_from.fingerprint}~{left_from.nickname}" in [path[-1] for path in paths]
    assert {len(path) for path in paths} == {3}


@pytest_twisted.ensureDeferred
async def test_what_does_not_come_from_an_exit_is_not_tor(
    tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    class Direct(Socks):
        def connectionMade(self) -> None:
            assert self.transport is not None
            self.transport.write(b"GET /api/ip HTTP/1.0\r\n\r\n")

    endpoint = TCP4ClientEndpoint(installed(), "127.0.0.1", tor_origin.http_port)
    peer = cast(Direct, await connectProtocol(endpoint, Direct("", 0, b"")))
    assert (await peer.ended).endswith(b'{"IsTor": false, "IP": "127.0.0.1"}')


@pytest_twisted.ensureDeferred
async def test_large_bodies_pass(tor_origin: Origin, client: Client) -> None:
    body = await get(client, "origin.test.example", tor_origin.http_port, "/bytes/3000000")
    assert body == pattern(3_000_000)


@pytest_twisted.ensureDeferred
async def test_relays_have_their_flags_and_countries(
    tor_network: PrivateNetwork, client: Client
) -> None:
    asked = await control(client)
    consensus = await asked.value("ns/all")
    flags = dict(re.findall(r"^r (\S+) .*\n(?:a .*\n)*s (.*)$", consensus, re.M))
    assert flags.keys() == {relay.nickname for relay in tor_network.relays}
    for relay in tor_network.relays:
        mine = flags[relay.nickname].split()
        assert {"Running", "Valid", "Fast", "Guard", "HSDir"} <= set(mine)
        assert ("Exit" in mine, "Authority" in mine) == (relay.is_exit, relay.is_authority)
        country = await asked.value(f"ip-to-country/{relay.address}")
        assert country.splitlines()[0] == relay.country
    assert len({relay.country for relay in tor_network.relays if relay.is_exit}) == 4


@pytest_twisted.ensureDeferred
async def test_all_relays_have_the_same_weight_whatever_they_have_carried(
    tor_network: PrivateNetwork, tor_origin: Origin, client: Client
) -> None:
    await get(client, "origin.test.example", tor_origin.http_port, "/bytes/3000000")
    consensus = await (await control(client)).value("ns/all")
    weights = re.findall(r"^w Bandwidth=(\d+)", consensus, re.M)
    assert weights == [str(torrc.BANDWIDTH)] * len(tor_network.relays)


@pytest_twisted.ensureDeferred
async def test_exits_reach_nothing_but_loopback(
    tor_network: PrivateNetwork, client: Client, tmp_path: Path
) -> None:
    strace = shutil.which("strace")
    assert strace, "This test needs strace: apt-get install strace"
    record = tmp_path / "calls"
    pids = [tor_network.processes[f"exit{n}"].pid for n in (1, 2, 3, 4)]
    watching = subprocess.Popen(
        [strace, "-f", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(record)]
        + [argument for pid in pids for argument in ("-p", str(pid))],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stderr is not None
    for _ in pids:
        assert "attached" in watching.stderr.readline()
    try:
        for port in (80, 443, 53):
            reply, _ = await socks(client, ELSEWHERE, port)
            assert reply != 0
        # Nobody else asks for this one: exits remember what they were told.
        reply, _ = await socks(client, "only-here.test.example", 80)
        assert reply == 4  # host unreachable: the name server knows no names
    finally:
        watching.terminate()
        watching.communicate()
    calls = [line for line in record.read_text().splitlines() if "sin" in line]
    outside = [line for line in calls if not re.search(r'inet_addr\("127\.', line)]
    assert [line for line in outside if ELSEWHERE in line]
    # The latter where this machine has no route either.
    refused = re.compile(r"connect\(.* = -1 (EINVAL|ENETUNREACH) ")
    assert all(refused.search(line) for line in outside), outside
    assert [line for line in calls if re.search("only-here", line, re.I)]


@pytest_twisted.ensureDeferred
async def test_onion_services_work(tor_origin: Origin, client: Client) -> None:
    asked = await control(client)
    await asked.command("SETEVENTS HS_DESC")
    published = asked.event("HS_DESC UPLOADED")
    made = await asked.command(f"ADD_ONION NEW:ED25519-V3 Port=80,127.0.0.1:{tor_origin.http_port}")
    name = made[0].partition("ServiceID=")[2]
    await published
    assert b"private Tor network" in await get(client, f"{name}.onion", 80, "/")


@pytest_twisted.ensureDeferred
async def test_client_with_a_password(tor_network: PrivateNetwork) -> None:
    made = await tor_network.start_client(
        password="pass word", further=["DisableNetwork 1"], ready=False
    )
    assert made.cookie is None
    with pytest.raises(AssertionError, match="515"):
        await control(made, '"wrong"')
    asked = await control(made, '"pass word"')
    assert await asked.command("GETCONF DisableNetwork") == ["250 DisableNetwork=1"]
    assert made.control_socket.is_socket()
    await made.stop()
    assert not made.process.running


SCRIPT = """
import json, sys
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.protocol import Protocol
from twisted.internet.task import react
from tortxd.testing import PrivateNetwork

class Input(Protocol):
    def __init__(self):
        self.closed = Deferred()
    def connectionLost(self, reason):
        self.closed.callback(None)

async def main(reactor):
    told = []
    network = PrivateNetwork(
        reactor, exit_countries=("de", "fr"), on_progress=lambda *step: told.append(step)
    )
    closing = Input()
    StandardIO(closing)
    await network.start()
    client = await network.start_client()
    pids = [process.pid for process in network.processes.values()]
    print(json.dumps([str(network.directory), pids, told]), file=sys.stderr, flush=True)
    await closing.closed
    await network.stop()

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


def test_networks_side_by_side_go_without_a_trace(tor_network: PrivateNetwork) -> None:
    runners = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        check_networks(runners, tor_network)
    finally:
        for runner in runners:
            runner.kill()
            runner.communicate()


def check_networks(runners: list[subprocess.Popen[str]], tor_network: PrivateNetwork) -> None:
    """One is stopped and one killed, each beside two others."""
    up = []
    for runner in runners:
        assert runner.stderr is not None
        line = runner.stderr.readline()
        assert line.startswith("["), line + runner.stderr.read()
        up.append(json.loads(line))
    directories = [Path(directory) for directory, _, _ in up]
    ends = [os.pidfd_open(pid) for _, pids, _ in up for pid in pids]
    assert len({tor_network.directory, *directories}) == 3
    assert len(ends) == 2 * (3 + 2 + 1)
    for _, _, told in up:
        fractions = [fraction for fraction, _ in told]
        assert fractions == sorted(fractions)
        assert (fractions[0], fractions[-1]) == (0, 100)
        assert WARNING in told[-1][1]
    runners[1].kill()
    # What clears up after it has inherited its standard error, so this waits for both.
    runners[1].communicate(timeout=20)
    runners[0].communicate("", timeout=20)
    assert runners[0].returncode == 0
    for end in ends:
        assert select.select([end], [], [], 20)[0], "a tor process outlived its network"
        os.close(end)
    assert not [one for one in directories if one.exists()]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the directories of networks go during a test."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


@pytest_twisted.ensureDeferred
async def test_without_tor_it_fails(tmp_path: Path, temporary: Path) -> None:
    network = PrivateNetwork(installed(), path=str(tmp_path))
    with pytest.raises(NetworkError, match=r"program tor, .* package tor"):
        await network.start()
    assert not list(temporary.iterdir())
    with pytest.raises(NetworkError, match="not started"):
        network.client_torrc()


@pytest_twisted.ensureDeferred
async def test_start_that_takes_too_long(temporary: Path) -> None:
    network = PrivateNetwork(installed(), timeout=0.05)
    with pytest.raises(NetworkError, match=r"not up after 0\.05 s\. It had come to 0 %: Making"):
        await network.start()
    assert not list(temporary.iterdir())


@pytest_twisted.ensureDeferred
async def test_relay_that_ends_ends_the_start(tmp_path: Path, temporary: Path) -> None:
    real = {name: shutil.which(name, path=search_path()) for name in ("tor", "tor-gencert")}
    programs = tmp_path / "programs"
    programs.mkdir()
    assert real["tor-gencert"] is not None
    (programs / "tor-gencert").symlink_to(real["tor-gencert"])
    fake = programs / "tor"
    fake.write_text(
        f'#!/bin/sh\n[ "$1" = --quiet ] && exec {real["tor"]} "$@"\necho "[err] no room"\nexit 1\n'
    )
    fake.chmod(0o755)
    network = PrivateNetwork(installed(), path=str(programs))
    with pytest.raises(NetworkError, match=r"process authority\d ended: \[err\] no room"):
        await network.start()
    assert not list(temporary.iterdir())
    assert not network.processes

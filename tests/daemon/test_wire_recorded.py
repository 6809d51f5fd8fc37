"""What leaves Tor for the network is never a request in the clear; what reaches Tor is one."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import secrets
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

from attrs import field, frozen
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from tests.daemon.process import Daemon, Launcher, soon
from tests.daemon.relays import Recording, found, recording
from tests.daemon.traces import inet, read_trace, strace
from tests.web_client import Reply
from tortxd.testing import Origin, PrivateNetwork

WAYS = ("proxy", "absolute-form", "CONNECT")


def token() -> str:
    """Letters that come nowhere else by chance."""
    return "canary" + secrets.token_hex(8)


@frozen
class Canaries:
    """What is secret of one request."""

    name: str = field(factory=token)
    path: str = field(factory=token)
    header: str = field(factory=token)
    body: str = field(factory=token)

    @property
    def host(self) -> str:
        return f"{self.name}.test.example"

    @property
    def all(self) -> list[str]:
        return [self.name, self.path, self.header, self.body]


def test_a_canary_is_found_in_every_form() -> None:
    canary = token()
    for before in ("", "x", "xy", "xyz"):
        inside = f"{before}{canary}{before}".encode()
        for form in (
            inside,
            b64encode(inside),
            inside.hex().encode(),
            inside.hex().upper().encode(),
            quote(inside).encode(),
            "".join(f"%{byte:02x}" for byte in inside).encode(),
        ):
            assert found([canary], b"\xff" + form + b"\xff") == [canary]
    assert not found([canary], token().encode())


def mapped(canaries: dict[str, Canaries]) -> list[str]:
    """The torrc lines that make the secret names known."""
    return [f"MapAddress {one.host} 127.0.0.1" for one in canaries.values()]


async def ask_secretly(daemon: Daemon, way: str, port: int, canaries: Canaries) -> Reply:
    """Ask for a secret path of a secret host, with a secret header and body."""
    authority = f"{canaries.host}:{port}"
    path, header = f"/echo?{canaries.path}", f"X-Header: {canaries.header}"
    request = {"method": "POST", "body": canaries.body.encode()}
    if way == "proxy":
        return await daemon.fetch(f"http://{authority}{path}", header, **request)
    if way == "absolute-form":
        return await daemon.ask(f"http://{authority}{path}", header, host=authority, **request)
    wire = await daemon.connect()
    wire.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    # Like that to a HEAD, the answer ends with its head.
    tunnel = await soon(wire.reply(b"HEAD"))
    assert tunnel.status == 200
    lines = [f"POST {path} HTTP/1.1", f"Host: {authority}", header]
    lines += [f"Content-Length: {len(canaries.body)}", "", canaries.body]
    wire.send("\r\n".join(lines).encode())
    reply = await soon(wire.reply(b"POST"))
    wire.transport.abortConnection()
    return reply


async def ask_every_way(daemon: Daemon, origin: Origin, canaries: dict[str, Canaries]) -> None:
    for way, secret in canaries.items():
        reply = await ask_secretly(daemon, way, origin.http_port, secret)
        assert reply.status == 200, (way, reply)
        assert reply.json["target"] == f"/echo?{secret.path}"
        assert ["X-Header", secret.header] in reply.json["headers"]
        assert reply.json["body"] == b64encode(secret.body.encode()).decode()


def check_in_the_dark(
    network: PrivateNetwork, after: Recording, canaries: dict[str, Canaries]
) -> None:
    """Whether what Tor has sent and was sent is all ciphertext between it and its relays."""
    assert {host for host, _ in after.asked} <= {relay.address for relay in network.relays}
    assert len(after.up) > 10_000
    assert len(after.down) > 10_000
    every = [one for secret in canaries.values() for one in secret.all]
    assert not found(every, after.up)
    assert not found(every, after.down)


@ensureDeferred
async def test_rule_01_nothing_in_the_clear_leaves_tor(
    launch: Launcher, tor_network: PrivateNetwork, tor_origin: Origin, tmp_path: Path
) -> None:
    """Tor reaches its network through a recording proxy, and through nothing else."""
    canaries = {way: Canaries() for way in WAYS}
    trace_file = tmp_path / "trace"
    async with recording() as after:
        torrc = tor_network.write_client_torrc(tmp_path / "torrc")
        lines = [torrc.read_text(), f"HTTPSProxy 127.0.0.1:{after.port}", *mapped(canaries), ""]
        torrc.write_text("\n".join(lines))
        daemon = launch(torrc=torrc, wrapper=strace(trace_file))
        await daemon.when_ready()
        await ask_every_way(daemon, tor_origin, canaries)
        await daemon.stop()
    check_in_the_dark(tor_network, after, canaries)
    trace = read_trace(trace_file)
    assert {Path(program).name for program in trace.programs} == {"setsid", "tor"}
    # Where there is no network interface but loopback, Tor looks for its own address with a UDP
    # socket that it connects to this one, and on which it sends nothing (get_interface_address6).
    assert set(trace.others) - {inet("18.0.0.1", 9)} == {inet("127.0.0.1", after.port)}


@ensureDeferred
async def test_rule_01_what_is_secret_is_there_until_tor_has_it(
    launch: Launcher, tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    """The same requests, recorded before Tor and behind it at the same time: so the canaries are
    ones that would be found."""
    canaries = {way: Canaries() for way in WAYS}
    async with recording() as after:
        proxy = f"HTTPSProxy 127.0.0.1:{after.port}"
        starting = tor_network.start_client(further=[proxy, *mapped(canaries)])
        client = await soon(Deferred.fromCoroutine(starting))
        try:
            async with recording(client.socks) as before:
                daemon = launch(
                    "--control=tcp:{}:{}".format(*client.control),
                    f"--socks=127.0.0.1:{before.port}",
                    launch=False,
                )
                await daemon.when_ready()
                await ask_every_way(daemon, tor_origin, canaries)
                await daemon.stop()
        finally:
            await client.stop()
    check_in_the_dark(tor_network, after, canaries)
    for secret in canaries.values():
        assert [one for one in secret.all if one.encode() in before.up] == secret.all
        assert secret.path.encode() in before.down
        assert found([secret.body], before.down)

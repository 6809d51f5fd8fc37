"""What lasts and what does not: identities, slow clients, overload, requests that are sent once."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import gatherResults

from tests.daemon.arrivals import arrivals, arrived, mark
from tests.daemon.process import Daemon, Launcher, installed, soon, until
from tests.web_client import Reply, Wire
from tortxd.testing import Canned, Origin, PrivateNetwork

KEY = "Tor-Stream-Isolation: canary-10"


async def used(daemon: Daemon, origin: Origin, *headers: str) -> tuple[str, int]:
    """The circuit and the destination's connection that a request has."""
    marked = mark("canary")
    reply = await daemon.fetch_told(f"{origin.http}/?{marked}", *headers)
    assert reply.status == 200, reply.body
    return reply["Tortxd-Circuit"], arrived(origin, marked)[-1].connection


# --- new identities -------------------------------------------------------------------------------


@ensureDeferred
async def test_rule_10_a_key_gets_new_circuits_and_connections(
    daemon: Daemon, tor_origin: Origin
) -> None:
    others = await used(daemon, tor_origin, "Tor-Stream-Isolation: canary-11")
    before = await used(daemon, tor_origin, KEY)
    assert await used(daemon, tor_origin, KEY) == before
    body = json.dumps({"isolation": "canary-10"}).encode()
    reply = await daemon.ask("/identity/new", method="POST", body=body)
    assert (reply.status, reply.json["renewed"]) == (200, "key")
    await soon(tor_origin.when_closed(before[1]), 2.0)
    after = await used(daemon, tor_origin, KEY)
    assert after[0] != before[0]
    assert after[1] != before[1]
    # Nobody else notices.
    assert await used(daemon, tor_origin, "Tor-Stream-Isolation: canary-11") == others


@ensureDeferred
async def test_rule_10_operators_renew_everyone(daemon: Daemon, tor_origin: Origin) -> None:
    callers = [(KEY,), (), ("Origin: http://localhost:1",)]
    before = [await used(daemon, tor_origin, *caller) for caller in callers]
    assert (await daemon.ask("/identity/new", method="POST", body=b"")).status == 401
    assert [await used(daemon, tor_origin, *caller) for caller in callers] == before
    token = f"Tortxd-Token: {daemon.token}"
    reply = await daemon.ask("/identity/new", token, method="POST", body=b"")
    assert (reply.status, reply.json["renewed"]) == (200, "all")
    assert 9 < reply.json["nextNewnym"] <= 10
    for _, connection in before:
        await soon(tor_origin.when_closed(connection), 2.0)
    after = [await used(daemon, tor_origin, *caller) for caller in callers]
    assert not {circuit for circuit, _ in before} & {circuit for circuit, _ in after}


# --- slow clients ---------------------------------------------------------------------------------


@ensureDeferred
async def test_rule_17_a_slow_head_gets_408(daemon: Daemon) -> None:
    """10 s after its first byte, however it trickles; a client that says nothing is waited for."""
    silent, slow, trickling = [await daemon.connect() for _ in range(3)]
    begun = installed().seconds()
    slow.send(b"GET /health HT")
    trickling.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")

    def trickle() -> bool:
        trickling.send(b"x")
        return trickling.closed is not None

    answers = [wire.reply() for wire in (slow, trickling)]
    await until(trickle, 20.0, poll=0.5)
    for reply in await soon(gatherResults(answers)):
        assert (reply.status, reply.json["code"]) == (408, "request_timeout")
    assert 9.0 < installed().seconds() - begun < 14.0
    silent.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await soon(silent.reply())).status == 200


@ensureDeferred
async def test_rule_17_bodies_that_stand_still_are_given_up(
    launch: Launcher, tor_origin: Origin
) -> None:
    """After ``--idle-timeout``, both ways; the destination's connection goes as well."""
    daemon = launch("--idle-timeout=1")
    await daemon.when_ready()
    marked = mark("still")
    url = f"{tor_origin.http}/bytes/1000?cut=10&ending=hang&{marked}"
    download = await daemon.get_unread(url)
    reply = await soon(download.reply())
    assert (len(reply.body), reply.whole) == (10, False)
    upload = await daemon.connect()
    url = quote(f"{tor_origin.http}/upload?{marked}", safe="")
    head = f"POST /proxy?url={url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    upload.send((head + "canary").encode())
    answer = await soon(upload.reply(b"POST"))
    assert (answer.status, answer["Tortxd-Error"]) == (408, "request_timeout")
    for request in arrived(tor_origin, marked):
        await soon(tor_origin.when_closed(request.connection), 2.0)


# --- what becomes of Tor's configuration ----------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        "--socks=127.0.0.1:9050\nControlPort 9051",
        "--socks=unix:/tmp/s\rControlPort 9051",
        '--socks=unix:/tmp/s" NoIsolateSOCKSAuth',
        "--data-dir=/tmp/x\nControlPort 9051",
        "--control=tcp:127.0.0.1:9051\nSIGNAL HALT",
        "--tor=/usr/bin/tor\n-f /etc/passwd",
    ],
)
@ensureDeferred
async def test_rule_22_options_cannot_inject(launch: Launcher, option: str) -> None:
    """It ends before Tor is started, with a sentence that names the option."""
    daemon = launch(option, launch="--control" not in option)
    assert await daemon.when_ended() > 0
    assert option.partition("=")[0].removeprefix("--") in daemon.lines[-1]
    assert len(daemon.lines) == 1


@ensureDeferred
async def test_rule_22_keys_cannot_inject(daemon: Daemon, tor_origin: Origin) -> None:
    """Nothing of a key reaches Tor: what does is a number made of it."""
    keys = ['"canary', "canary\\", 'a" b=c', "<torS0X>0canary", "ké".encode().decode("latin-1")]
    for key in keys:
        assert (
            await daemon.fetch(tor_origin.http + "/", f"Tor-Stream-Isolation: {key}")
        ).status == 200
    for key in ("canary\r\n SIGNAL HALT", "canary\nX: y"):
        url = quote(tor_origin.http + "/", safe="")
        head = f"GET /proxy?url={url} HTTP/1.1\r\nHost: localhost\r\nTor-Stream-Isolation: {key}"
        assert (await daemon.say(head + "\r\n\r\n")).status == 400
    assert (await daemon.ask("/health")).status == 200


# --- overload -------------------------------------------------------------------------------------


@ensureDeferred
async def test_rule_25_overload_is_said_and_passes(
    launch: Launcher, tor_network: PrivateNetwork, tor_origin: Origin, tmp_path: Path
) -> None:
    """With few file descriptors and many clients that all want something."""
    prlimit = shutil.which("prlimit")
    assert prlimit is not None, "This test needs the program prlimit: apt-get install util-linux"
    torrc = tor_network.write_client_torrc(tmp_path / "torrc")
    torrc.write_text(torrc.read_text() + "ConnLimit 100\n")
    daemon = launch(wrapper=(prlimit, "--nofile=300:300"), torrc=torrc)
    daemon.wrapped = False  # prlimit becomes what it starts
    await daemon.when_ready()
    marked = mark("overload")
    url = f"{tor_origin.http}/hang?{marked}"
    clients: list[Wire] = []
    refused: list[Reply] = []
    for _ in range(100):
        wire = await daemon.get_unread(url, "Tortxd-Timeout: 50")
        wire.reply().addCallbacks(refused.append, lambda _: None)
        clients.append(wire)
    await until(lambda: bool(refused))
    for reply in refused:
        assert (reply.status, reply.json["code"]) == (503, "overloaded")
        assert reply["Retry-After"].isdecimal()
    await arrivals(tor_origin, marked)
    for wire in clients:
        wire.transport.abortConnection()
    await gatherResults([wire.lost for wire in clients])

    async def serves() -> bool:
        try:
            return (await daemon.fetch(tor_origin.http + "/")).status == 200
        except AssertionError:
            return False

    deadline = installed().seconds() + 10.0
    while not await serves():
        assert installed().seconds() < deadline


# --- what is sent once ----------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "times"), [("POST", 1), ("PUT", 1), ("DELETE", 1), ("GET", 2)])
@ensureDeferred
async def test_rule_28_nothing_is_sent_twice(
    daemon: Daemon, tor_origin: Origin, method: str, times: int
) -> None:
    """A kept connection dies under a request: it is repeated only where that does no harm."""
    key = f"Tor-Stream-Isolation: canary-28-{method}"
    before = mark("canary")
    assert (await daemon.fetch(f"{tor_origin.http}/?{before}", key)).status == 200
    target = f"/{mark('canary')}"
    tor_origin.canned[target.encode()] = Canned(b"", "close")
    body = b"canary" if method in ("POST", "PUT") else None
    reply = await daemon.fetch(tor_origin.http + target, key, method=method, body=body)
    assert (reply.status, reply.json["code"]) == (502, "origin_reset")
    sent = arrived(tor_origin, target)
    assert len(sent) == times
    assert sent[0].connection == arrived(tor_origin, before)[0].connection
    assert len({request.connection for request in sent}) == times

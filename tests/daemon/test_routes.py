"""The contract's routes, to the letter, on real circuits."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import base64
import json
import re
import stat
from html import unescape
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from tests.daemon.arrivals import arrivals, mark
from tests.daemon.process import Daemon, soon
from tests.daemon.programs import run_program
from tests.web_client import Reply
from tortxd.testing import Origin, PrivateNetwork, Relay

EVERY_BYTE = bytes(range(256)) * 8 + b"\r\n\r\n0\r\n\r\n"


def exits(network: PrivateNetwork) -> dict[str, Relay]:
    """The exits by their addresses."""
    return {relay.address: relay for relay in network.relays if relay.is_exit}


def check_path(network: PrivateNetwork, circuit: dict[str, Any]) -> None:
    """Whether a circuit's JSON shows three of the network's relays, the last of them an exit."""
    relays = {relay.fingerprint: relay for relay in network.relays}
    assert len({hop["fingerprint"] for hop in circuit["path"]}) == 3
    for hop in circuit["path"]:
        relay = relays[hop["fingerprint"]]
        assert hop == {
            "fingerprint": relay.fingerprint,
            "nickname": relay.nickname,
            "address": relay.address,
            "country": relay.country,
        }
    assert relays[circuit["path"][-1]["fingerprint"]].is_exit


def check_exit(network: PrivateNetwork, reply: Reply, address: str) -> None:
    """Whether a response names the exit that has this address."""
    relay = exits(network)[address]
    assert reply["Tortxd-Exit"] == relay.fingerprint
    assert reply["Tortxd-Exit-Address"] == address
    assert reply["Tortxd-Exit-Country"] == relay.country
    assert re.fullmatch("[0-9]+", reply["Tortxd-Circuit"])


@ensureDeferred
async def test_health(daemon: Daemon) -> None:
    reply = await daemon.ask("/health")
    assert reply.status == 200
    assert reply["Content-Type"].startswith("application/json")
    told = reply.json
    assert told["status"] == "ok"
    assert told["tor"] == f"socks5h://127.0.0.1:{daemon.socks}"
    assert told["network"] == "private"


@ensureDeferred
async def test_ip(daemon: Daemon, tor_network: PrivateNetwork) -> None:
    reply = await daemon.ask("/ip")
    assert reply.status == 200, reply.body
    assert reply.json["viaTor"] is True
    assert reply.json["exitIp"] in exits(tor_network)


@ensureDeferred
async def test_verify_tor(daemon: Daemon, tor_network: PrivateNetwork) -> None:
    reply = await daemon.ask("/verify-tor")
    assert reply.status == 200, reply.body
    told = reply.json
    assert told["isTor"] is True
    assert told["verdict"] == "verified"
    assert told["proxyUrl"] == f"socks5h://127.0.0.1:{daemon.socks}"
    shown = told["evidence"]["controlPort"]
    assert shown["streamOnCircuit"] is True
    check_path(tor_network, shown["circuit"])
    assert told["exitIp"] == shown["circuit"]["path"][-1]["address"]
    assert told["evidence"]["checkService"] == {"answered": True, "isTor": True, "error": None}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("GET", None),
        ("GET", EVERY_BYTE),
        ("POST", EVERY_BYTE),
        ("PUT", EVERY_BYTE),
        ("PATCH", EVERY_BYTE),
        ("DELETE", None),
        ("DELETE", EVERY_BYTE),
        ("OPTIONS", None),
    ],
)
@ensureDeferred
async def test_every_method(
    daemon: Daemon, tor_origin: Origin, scheme: str, method: str, body: bytes | None
) -> None:
    url = getattr(tor_origin, scheme)
    reply = await daemon.fetch(f"{url}/echo?a=1&b=%2F", method=method, body=body)
    assert reply.status == 200
    assert reply.whole
    assert reply.json["method"] == method
    assert reply.json["target"] == "/echo?a=1&b=%2F"
    assert base64.b64decode(reply.json["body"]) == (body or b"")
    assert tor_origin.requests[-1].tls is (scheme == "https")


@pytest.mark.parametrize("scheme", ["http", "https"])
@ensureDeferred
async def test_rule_26_head_has_the_length_and_no_body(
    daemon: Daemon, tor_origin: Origin, scheme: str
) -> None:
    """Rule 26."""
    url = getattr(tor_origin, scheme)
    reply = await daemon.fetch(f"{url}/bytes/1000000", method="HEAD")
    assert (reply.status, reply["Content-Length"], len(reply.body)) == (200, "1000000", 0)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("status", [204, 404, 500])
@ensureDeferred
async def test_rule_26_statuses_pass(
    daemon: Daemon, tor_origin: Origin, scheme: str, status: int
) -> None:
    """Rules 26 and 27: the destination's own errors are not the gateway's."""
    reply = await daemon.fetch(f"{getattr(tor_origin, scheme)}/status/{status}")
    assert reply.status == status
    assert reply.whole
    assert reply.body == (b"" if status == 204 else b"%d\n" % status)
    assert "Tortxd-Error" not in reply


@pytest.mark.parametrize("scheme", ["http", "https"])
@ensureDeferred
async def test_responses_name_the_exit_that_the_destination_saw(
    daemon: Daemon, tor_network: PrivateNetwork, tor_origin: Origin, scheme: str
) -> None:
    url = getattr(tor_origin, scheme) + "/ip"
    for key in ("canary-1", "canary-2", "canary-3", "canary-4"):
        reply = await daemon.fetch_told(url, f"Tor-Stream-Isolation: {key}")
        check_exit(tor_network, reply, reply.json["ip"])


@ensureDeferred
async def test_operators_see_the_circuit_of_a_request(
    daemon: Daemon, tor_network: PrivateNetwork, tor_origin: Origin
) -> None:
    marked = mark("operators")
    wire = await daemon.get_unread(f"{tor_origin.http}/hang?{marked}")
    await arrivals(tor_origin, marked)
    (stream,) = [
        stream
        for stream in (await daemon.told("/streams"))["streams"]
        if stream["target"].endswith(f":{tor_origin.http_port}") and stream["state"] == "SUCCEEDED"
    ][-1:]
    wire.transport.abortConnection()
    reply = await daemon.fetch_told(tor_origin.http + "/")
    circuits = {one["id"]: one for one in (await daemon.told("/circuits"))["circuits"]}
    circuit = circuits[reply["Tortxd-Circuit"]]
    assert circuit["state"] == "BUILT"
    assert circuit["age"] >= 0
    check_path(tor_network, circuit)
    assert stream["circuit"] in circuits
    assert circuit["path"][-1]["fingerprint"] == reply["Tortxd-Exit"]


@ensureDeferred
async def test_the_page(daemon: Daemon, tor_network: PrivateNetwork) -> None:
    """Its commands work as they stand, on the address under which it was asked for."""
    browser = "Accept: text/html"
    reply = await daemon.ask("/", browser, host=f"localhost:{daemon.port}")
    assert reply.status == 200
    html = reply.body.decode()
    assert "Tor is ready" in html
    assert "no anonymity" in html
    nicknames = {relay.nickname for relay in tor_network.relays}
    assert not [name for name in nicknames if f"{name} (" in html]
    health, proxied, tunnelled = [
        unescape(command) for command in re.findall("<pre><code>(.*?)</code></pre>", html)
    ]
    assert json.loads(await typed(health))["status"] == "ok"
    for command in (proxied, tunnelled):
        told = json.loads(await typed(command))
        assert told["IsTor"] is True
        assert told["IP"] in exits(tor_network)
    # Operators have the dashboard in its place, which asks for all that it shows.
    reply = await daemon.ask("/", browser, f"Tortxd-Token: {daemon.token}")
    assert b'/dashboard/main.js"' in reply.body


async def typed(command: str) -> bytes:
    """What a command gives that was pasted into a shell."""
    ran = await soon(Deferred.fromCoroutine(run_program("sh", "-c", command)))
    assert ran.status == 0, (command, ran.err.decode())
    return ran.out


@pytest.mark.parametrize("route", ["/circuits", "/streams"])
@ensureDeferred
async def test_rule_20_operators_alone_see_circuits(daemon: Daemon, route: str) -> None:
    """Rule 20."""
    reply = await daemon.ask(route)
    assert (reply.status, reply.json["code"]) == (401, "unauthorized")
    reply = await daemon.ask(route, "Tortxd-Token: " + "x" * 43)
    assert reply.status == 401
    reply = await daemon.ask(route, f"Authorization: Bearer {daemon.token}")
    assert reply.status == 200


def test_rule_20_what_lies_in_the_data_directory_is_private(daemon: Daemon) -> None:
    """Rule 20."""
    assert stat.S_IMODE(daemon.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((daemon.data_dir / "operator-token").stat().st_mode) == 0o600
    (cookie,) = daemon.data_dir.rglob("*cookie*")
    assert stat.S_IMODE(cookie.stat().st_mode) == 0o600


@ensureDeferred
async def test_operators_see_what_it_was_started_with(daemon: Daemon) -> None:
    told = await daemon.told("/config")
    options = {one["name"]: one for one in told["options"]}
    assert options["data_dir"] | {"name": "data_dir"} == {
        "name": "data_dir",
        "option": "--data-dir",
        "value": str(daemon.data_dir),
        "source": "option",
        "set": "--data-dir",
    }
    assert f"http://127.0.0.1:{daemon.port}" in told["endpoints"]

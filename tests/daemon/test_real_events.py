"""What operators see of a real Tor, live, and what they do to it."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families
from pytest_twisted import ensureDeferred

from tests.daemon.live import Reading
from tests.daemon.process import Daemon, soon
from tests.web_client import Reply
from tortxd.gateway.control.schemas import CIRCUIT, SNAPSHOT, STREAM
from tortxd.testing import Origin


@pytest_twisted.async_yield_fixture
async def events(daemon: Daemon) -> AsyncIterator[Reading]:
    reading = await Reading.of(daemon)
    yield reading
    reading.wire.transport.abortConnection()


async def post(daemon: Daemon, path: str, value: object = None) -> Reply:
    body = b"" if value is None else json.dumps(value).encode()
    return await daemon.ask(path, f"Tortxd-Token: {daemon.token}", method="POST", body=body)


@ensureDeferred
async def test_a_request_is_seen_live_from_its_stream_to_its_end(
    daemon: Daemon, events: Reading, tor_origin: Origin
) -> None:
    url = f"http://origin.test.example:{tor_origin.http_port}/hang"
    wire = await daemon.get_unread(url, "Tor-Stream-Isolation: seen live")

    def of_ours(kind: str, data: Any) -> bool:
        return kind == "stream" and data["state"] == "SUCCEEDED" and data["way"] == "proxy"

    stream = await events.first(of_ours)
    Draft202012Validator(STREAM).validate(stream)
    circuit = next(
        one
        for one in (await daemon.told("/circuits"))["circuits"]
        if one["id"] == stream["circuit"]
    )
    Draft202012Validator(CIRCUIT).validate(circuit)
    assert circuit["isolation"] == stream["isolation"]
    assert circuit["state"] == "BUILT"
    assert circuit["guard"] is not None
    assert stream["id"] in circuit["streams"]
    assert len(circuit["path"]) == 3

    reply = await post(daemon, f"/streams/{stream['id']}/close")
    assert (reply.status, reply.json) == (200, {"closed": stream["id"]})
    ended = await events.first(
        lambda kind, data: kind == "stream" and data["id"] == stream["id"] and "reason" in data
    )
    assert ended["state"] in ("CLOSED", "FAILED")
    assert ended["way"] == "proxy"
    response = await soon(wire.reply())
    assert response.status == 502
    (failure, *_) = (await daemon.told("/requests"))["failures"]
    assert (failure["way"], failure["circuit"]) == ("proxy", stream["circuit"])
    assert (await post(daemon, f"/streams/{stream['id']}/close")).status == 404


@ensureDeferred
async def test_the_key_of_a_circuit_is_rotated_and_its_circuit_changes(
    daemon: Daemon, tor_origin: Origin
) -> None:
    url, header = tor_origin.http + "/", "Tor-Stream-Isolation: rotated"
    first = (await daemon.fetch_told(url, header))["Tortxd-Circuit"]
    assert (await post(daemon, "/identity/new", {"circuit": first})).json["renewed"] == "key"
    second = (await daemon.fetch_told(url, header))["Tortxd-Circuit"]
    assert second != first
    circuits = {one["id"]: one for one in (await daemon.told("/circuits"))["circuits"]}
    assert circuits[first]["isolation"] == circuits[second]["isolation"] is not None


@ensureDeferred
async def test_a_circuit_is_closed(daemon: Daemon, events: Reading, tor_origin: Origin) -> None:
    reply = await daemon.fetch_told(tor_origin.http + "/", "Tor-Stream-Isolation: closed")
    id = reply["Tortxd-Circuit"]
    assert (await post(daemon, f"/circuits/{id}/close")).json == {"closed": id}
    closed = await events.first(
        lambda kind, data: kind == "circuit" and data["id"] == id and data["state"] == "CLOSED"
    )
    assert closed["reason"] is not None
    assert (await post(daemon, f"/circuits/{id}/close")).status == 404


@ensureDeferred
async def test_bandwidth_and_figures_of_a_real_tor(daemon: Daemon, events: Reading) -> None:
    kind, snapshot = events.all()[0]
    Draft202012Validator(SNAPSHOT).validate(snapshot)
    assert (kind, snapshot["status"]["status"]) == ("snapshot", "ok")
    assert any(circuit["buildTime"] is not None for circuit in snapshot["circuits"])
    await events.first(lambda kind, _: kind == "bandwidth")
    reply = await daemon.ask("/metrics", f"Tortxd-Token: {daemon.token}")
    families = {
        family.name: family.samples
        for family in text_string_to_metric_families(reply.body.decode())
    }
    for name in ("tor_read_bytes", "tor_written_bytes", "tortxd_circuit_build_seconds"):
        assert max(sample.value for sample in families[name]) > 0
    for name in ("tor_circuit_established", "tor_network_liveness"):
        assert families[name][0].value == 1.0
    assert families["tor_dormant"][0].value == 0.0
    assert families["tor_version_info"][0].labels["version"].startswith("0.")

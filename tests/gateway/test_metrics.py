"""``/metrics``: what Prometheus is told, read with its own parser."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pytest_twisted import ensureDeferred

from tests.gateway.conftest import OPERATOR, Gateway
from tortxd.gateway.limits import Limits
from tortxd.tor.changes import CircuitChanged
from tortxd.tor.figures import Figures
from tortxd.tor.status import Bootstrapping
from tortxd.tor.table import Table

TOKEN = f"Tortxd-Token: {OPERATOR.decode()}"
SAID = Figures("0.4.9.11", 77, False, 1000, 2000, True, True)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def samples(gateway: Gateway) -> Samples:
    reply = await gateway.ask("/metrics", TOKEN)
    assert reply.status == 200
    assert reply["Content-Type"].startswith("text/plain; version=")
    found: Samples = {}
    for family in text_string_to_metric_families(reply.body.decode()):
        assert family.documentation
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert (sample.name, labels) not in found
            found[sample.name, labels] = sample.value
    return found


def plain(found: Samples) -> dict[str, float]:
    """Those without labels."""
    return {name: value for (name, labels), value in found.items() if not labels}


def of(found: Samples, name: str) -> Iterator[tuple[dict[str, str], float]]:
    for (each, labels), value in found.items():
        if each == name:
            yield dict(labels), value


@ensureDeferred
async def test_what_tor_says(either: Gateway) -> None:
    either.link.said, either.link.runs = SAID, 3
    found = await samples(either)
    assert plain(found).items() >= {
        ("tor_bootstrap_percent", 100.0),
        ("tor_circuit_established", 1.0),
        ("tor_network_liveness", 1.0),
        ("tor_dormant", 0.0),
        ("tor_uptime_seconds", 77.0),
        ("tor_read_bytes_total", 1000.0),
        ("tor_written_bytes_total", 2000.0),
        ("tortxd_tor_restarts_total", 2.0),
    }
    assert list(of(found, "tor_version_info")) == [({"version": "0.4.9.11"}, 1.0)]
    assert list(of(found, "tortxd_circuits")) == [({"state": "BUILT", "purpose": "GENERAL"}, 1.0)]
    assert list(of(found, "tortxd_streams")) == [({"state": "SUCCEEDED"}, 1.0)]


@pytest.mark.parametrize("said", [None, Figures()])
@ensureDeferred
async def test_what_tor_does_not_say_is_left_out(either: Gateway, said: Figures | None) -> None:
    either.link.said, either.link.status = said, Bootstrapping(45, "x", "X")
    found = await samples(either)
    told = {name for name, _ in found if name.startswith("tor_")}
    assert told == {"tor_bootstrap_percent"}
    assert plain(found)["tor_bootstrap_percent"] == 45.0


@ensureDeferred
async def test_requests_by_way_and_outcome(gateway: Gateway) -> None:
    assert (await gateway.fetch("/")).status == 200
    assert (await gateway.ask("/proxy?url=canary", TOKEN)).status == 400
    found = await samples(gateway)
    assert sorted((*labels.values(), value) for labels, value in of(found, "tortxd_requests_total"))
    assert {
        (labels["way"], labels["outcome"]): value
        for labels, value in of(found, "tortxd_requests_total")
    } == {("proxy", "ok"): 1.0, ("proxy", "bad_url"): 1.0}
    for name in ("request", "connect"):
        buckets = [value for _, value in of(found, f"tortxd_{name}_seconds_bucket")]
        assert buckets == sorted(buckets)
        assert buckets[-1] == 1.0
        assert plain(found)[f"tortxd_{name}_seconds_count"] == 1.0
        assert plain(found)[f"tortxd_{name}_seconds_sum"] > 0
    figures = plain(found)
    assert figures["tortxd_pool_connections"] == 1.0
    assert figures["tortxd_connections"] == 1.0
    assert figures["tortxd_requests_under_way"] == 0.0
    assert figures["tortxd_overload_total"] == figures["tortxd_event_readers"] == 0.0


@ensureDeferred
async def test_what_may_be_at_once(either: Gateway) -> None:
    either.core.limits = Limits(clients=70, requests=30)
    figures = plain(await samples(either))
    assert figures["tortxd_requests_limit"] == 30.0
    assert figures["tortxd_connections_limit"] == 70.0


@ensureDeferred
async def test_processor_time_of_the_daemon_and_of_the_tor_that_it_launched(
    either: Gateway,
) -> None:
    before = time.process_time()
    either.link.pid = os.getpid()  # this process stands for both
    figures = plain(await samples(either))
    assert before <= figures["tortxd_cpu_seconds_total"] <= time.process_time()
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert figures["tor_cpu_seconds_total"] == pytest.approx(
        figures["tortxd_cpu_seconds_total"], abs=0.2 + tick
    )


@ensureDeferred
async def test_how_long_circuits_are_built(gateway: Gateway) -> None:
    await gateway.ask("/health")  # the control plane is made when it is needed
    table = Table()
    table.listen(CircuitChanged, gateway.link.changes.tell)
    path = f"${'A' * 40}~a"
    for number, state in enumerate(("LAUNCHED", "EXTENDED", "BUILT", "BUILT", "EXTENDED", "BUILT")):
        table.feed("CIRC", f"9 {state} {path}", number * 0.2)
    figures = plain(await samples(gateway))
    assert figures["tortxd_circuit_build_seconds_count"] == 1.0
    assert figures["tortxd_circuit_build_seconds_sum"] == pytest.approx(0.4)


@ensureDeferred
async def test_rule_32_no_label_names_anybody(gateway: Gateway) -> None:
    """Rule 32."""
    await gateway.fetch("/canary", "Tor-Stream-Isolation: canary")
    found = await samples(gateway)
    labels = {(key, value) for _, labels in found for key, value in labels}
    assert {key for key, _ in labels} == {"way", "outcome", "le", "state", "purpose", "version"}
    assert not any("canary" in value or "127.0.0.1" in value for _, value in labels)

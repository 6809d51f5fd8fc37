"""The metrics that the gateway gives are those that docs/metrics.md has, no more and no fewer."""

from __future__ import annotations

import os

from prometheus_client.parser import text_string_to_metric_families
from pytest_twisted import ensureDeferred

from tests.docs.metrics import Metric, documented
from tests.gateway.conftest import OPERATOR, Gateway
from tortxd.tor.figures import Figures

TOKEN = f"Tortxd-Token: {OPERATOR.decode()}"


@ensureDeferred
async def test_metrics_are_as_documented(gateway: Gateway) -> None:
    gateway.link.said = Figures("0.4.9.11", 100, False, 1000, 800, True, True)
    gateway.link.pid = os.getpid()
    await gateway.fetch("/small")
    text = bytes((await gateway.ask("/metrics", TOKEN)).body).decode()
    given = []
    for family in text_string_to_metric_families(text):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        # In the text format an info is a gauge.
        kind = "info" if family.name.endswith("_info") else family.type
        suffix = "_total" if kind == "counter" else ""
        given.append(Metric(family.name.removesuffix("_total") + suffix, kind, frozenset(labels)))
    assert sorted(given, key=str) == sorted(documented(), key=str)

"""``GET /metrics``: figures of the gateway and its Tor, for Prometheus.

What Tor does not say now (it may have none, or hang) is left out: no figure is better than a wrong
one. No label has a host, a key or a client in it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from tortxd._version import __version__
from tortxd.errors import Overloaded, TortxdError
from tortxd.gateway.answers import OWN_HEADERS, Answer
from tortxd.gateway.control.endpoints import Call, Context
from tortxd.gateway.journal import BOUNDS, Distribution
from tortxd.resources import cpu_seconds
from tortxd.tor.figures import Figures
from tortxd.tor.report import bootstrap_percent


async def metrics(context: Context, _: Call) -> Answer:
    """The figures as they are now."""
    try:
        figures = await context.gateway.link.figures()
    except TortxdError:
        figures = Figures()
    registry = CollectorRegistry()
    registry.register(_Figures(context, figures))
    headers = [(b"Content-Type", CONTENT_TYPE_LATEST.encode()), *OWN_HEADERS]
    return Answer(200, headers, generate_latest(registry))


class _Figures(Collector):
    """What the library collects from, once."""

    def __init__(self, context: Context, figures: Figures) -> None:
        self._context = context
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        yield from self._tor()
        yield from self._circuits()
        yield from self._requests()
        yield from self._gateway()

    def _tor(self) -> Iterator[Metric]:
        link, figures = self._context.gateway.link, self._figures
        yield _gauge("tor_bootstrap_percent", "How far Tor is.", bootstrap_percent(link.status))
        for name, text, value in (
            ("circuit_established", "Whether Tor can build circuits.", figures.established),
            ("network_liveness", "Whether Tor hears from the network.", figures.live),
            ("dormant", "Whether Tor sleeps, since nobody uses it.", figures.dormant),
            ("uptime_seconds", "For how long Tor has been running.", figures.uptime),
        ):
            if value is not None:
                yield _gauge(f"tor_{name}", text, value)
        for name, text, value in (
            ("read_bytes", "Bytes that Tor has read.", figures.read),
            ("written_bytes", "Bytes that Tor has written.", figures.written),
        ):
            if value is not None:
                yield CounterMetricFamily(f"tor_{name}", text, value)
        used = None if link.pid is None else cpu_seconds(link.pid)
        if used is not None:
            yield CounterMetricFamily(
                "tor_cpu_seconds", "Seconds of a processor's time that Tor has had.", used
            )
        if figures.version is not None:
            yield InfoMetricFamily("tor_version", "Tor.", {"version": figures.version})
        yield CounterMetricFamily(
            "tortxd_tor_restarts",
            "How many times Tor was started again, or its control port was reached again.",
            max(0, link.runs - 1),
        )

    def _circuits(self) -> Iterator[Metric]:
        link = self._context.gateway.link
        circuits = GaugeMetricFamily(
            "tortxd_circuits", "Open circuits.", labels=("state", "purpose")
        )
        kinds = Counter((one.state, one.purpose or "") for one in link.circuits())
        for labels, number in sorted(kinds.items()):
            circuits.add_metric(labels, number)
        yield circuits
        streams = GaugeMetricFamily("tortxd_streams", "Open streams.", labels=("state",))
        for state, number in sorted(Counter(one.state for one in link.streams()).items()):
            streams.add_metric((state,), number)
        yield streams
        yield _histogram(
            "tortxd_circuit_build_seconds",
            "For how long circuits were built.",
            self._context.build_times,
        )

    def _requests(self) -> Iterator[Metric]:
        journal = self._context.gateway.journal
        requests = CounterMetricFamily(
            "tortxd_requests",
            "Requests that are over. Their outcome is ok, client_gone, or an error's code.",
            labels=("way", "outcome"),
        )
        for labels, number in sorted(journal.counts.items()):
            requests.add_metric(labels, number)
        yield requests
        yield _histogram(
            "tortxd_request_seconds", "From requests to response heads.", journal.to_head
        )
        yield _histogram(
            "tortxd_connect_seconds", "From SOCKS requests to replies.", journal.to_connect
        )
        yield CounterMetricFamily(
            "tortxd_overload",
            "Requests that were refused because there were too many.",
            sum(n for (_, outcome), n in journal.counts.items() if outcome == Overloaded.code),
        )

    def _gateway(self) -> Iterator[Metric]:
        gateway = self._context.gateway
        yield _gauge(
            "tortxd_ready", "Whether further requests should come.", gateway.health.is_ready
        )
        yield _gauge("tortxd_requests_under_way", "Requests.", len(gateway.under_way))
        yield _gauge(
            "tortxd_requests_limit",
            "How many requests may be under way.",
            gateway.limits.requests,
        )
        yield _gauge("tortxd_connections", "Connections of clients.", gateway.clients())
        yield _gauge(
            "tortxd_connections_limit",
            "How many connections of clients may be open.",
            gateway.limits.clients,
        )
        yield _gauge(
            "tortxd_pool_connections",
            "Connections to destinations that wait for their next request.",
            len(gateway.pool),
        )
        yield _gauge("tortxd_event_readers", "Readers of /events.", len(self._context.feed))
        yield CounterMetricFamily(
            "tortxd_cpu_seconds",
            "Seconds of a processor's time that the daemon has had.",
            time.process_time(),
        )
        yield InfoMetricFamily("tortxd", "This daemon.", {"version": __version__})


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, float(value))


def _histogram(name: str, text: str, distribution: Distribution) -> Metric:
    bounds = [*map(str, BOUNDS), "+Inf"]
    buckets = list(zip(bounds, accumulate(distribution.counts), strict=True))
    return HistogramMetricFamily(name, text, buckets, distribution.total)

"""What the routes show: circuits, streams, requests and probes, as the values of JSON.

Clients are shown less of a circuit than operators are: see :func:`circuit_json` and :class:`Views`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tortxd._version import __version__
from tortxd.gateway.control.probes import ProbeResult
from tortxd.gateway.gateway import Gateway
from tortxd.gateway.journal import Failure, Interval
from tortxd.tor.changes import Bandwidth, CircuitClosed, StreamEnded
from tortxd.tor.link import Circuit, Relay, Stream
from tortxd.tor.records import as_stream
from tortxd.tor.report import status_json

Json = dict[str, object]


class Views:
    """What operators are shown of a gateway and its Tor."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def proxy_url(self) -> str | None:
        """Where Tor speaks SOCKS, as a URL; None while it does not."""
        address = self._gateway.link.socks_address
        return None if address is None else address.url

    def health(self) -> Json:
        """Whether requests are served, since when, and why not; and where Tor is."""
        link, health = self._gateway.link, self._gateway.health
        began = datetime.now(UTC) - timedelta(seconds=health.age)
        return {
            **status_json(health.status),
            "status": health.name,
            "since": began.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "age": round(health.age, 3),
            "tor": self.proxy_url,
            "network": link.network,
            "version": __version__,
        }

    # --- circuits and streams --------------------------------------------------------------------

    def circuit(self, circuit: Circuit) -> Json:
        """A circuit."""
        conflux = None
        if circuit.conflux is not None:
            conflux = {"set": circuit.conflux, "leg": circuit.leg}
        return {
            **circuit_json(circuit),
            "flags": list(circuit.flags),
            "buildTime": _seconds(circuit.build_time),
            "conflux": conflux,
            "guard": circuit.uses_guard,
            "isolation": self._tag(circuit.username),
            "age": self._age(circuit.created),
        }

    def closed_circuit(self, closed: CircuitClosed) -> Json:
        """A circuit that has ended, and why."""
        return {
            **self.circuit(self._gateway.link.describe(closed.circuit)),
            "reason": closed.reason,
            "remoteReason": closed.remote_reason,
        }

    def stream(self, stream: Stream) -> Json:
        """A stream."""
        return {
            "id": stream.id,
            "state": stream.state,
            "circuit": stream.circuit,
            "target": stream.target,
            "purpose": stream.purpose,
            "way": self._gateway.way_of(stream),
            "isolation": self._tag(stream.username),
            "age": self._age(stream.created),
        }

    def ended_stream(self, ended: StreamEnded) -> Json:
        """A stream that has ended, and why."""
        return {
            **self.stream(as_stream(ended.stream)),
            "state": ended.state,
            "reason": ended.reason,
            "remoteReason": ended.remote_reason,
        }

    def bandwidth(self, bandwidth: Bandwidth) -> Json:
        """What Tor has read and written in one second of the past."""
        return {
            "read": bandwidth.read,
            "written": bandwidth.written,
            "age": self._age(bandwidth.at),
        }

    # --- requests --------------------------------------------------------------------------------

    def requests(self) -> Json:
        """What became of requests."""
        gateway, journal = self._gateway, self._gateway.journal
        return {
            "underWay": len(gateway.under_way),
            "connections": gateway.clients(),
            "pool": len(gateway.pool),
            "counts": [
                {"way": way, "outcome": outcome, "count": count}
                for (way, outcome), count in sorted(journal.counts.items())
            ],
            "intervals": [self._interval(one) for one in journal.intervals],
            "failures": [self._failure(one) for one in reversed(journal.failures)],
        }

    def _interval(self, interval: Interval) -> Json:
        return {
            "age": self._age(interval.began),
            "requests": interval.requests,
            "failed": interval.failed,
            "median": _seconds(interval.median),
            "longest": _seconds(interval.longest),
        }

    def _failure(self, failure: Failure) -> Json:
        circuit = failure.circuit
        exit_relay = None if circuit is None else circuit.exit
        return {
            "age": self._age(failure.at),
            "way": failure.way,
            "code": failure.code,
            "fault": failure.fault,
            "error": failure.sentence,
            "retryable": failure.retryable,
            "torReason": failure.tor_reason,
            "circuit": None if circuit is None else circuit.id,
            "exit": None if exit_relay is None else _relay_json(exit_relay),
            "isolation": self._tag(failure.username),
        }

    def _tag(self, username: str | None) -> str | None:
        return None if username is None else self._gateway.keys.tag(username)

    def _age(self, since: float) -> float:
        return round(max(0.0, self._gateway.reactor.seconds() - since), 3)


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def circuit_json(circuit: Circuit) -> Json:
    """A circuit, as clients are shown the one that has carried their request."""
    return {
        "id": circuit.id,
        "state": circuit.state,
        "purpose": circuit.purpose,
        "path": [_relay_json(relay) for relay in circuit.path],
        "streams": list(circuit.streams),
    }


def _relay_json(relay: Relay) -> Json:
    return {
        "fingerprint": relay.fingerprint,
        "nickname": relay.nickname,
        "address": relay.address,
        "country": relay.country,
    }


def verdict(result: ProbeResult) -> Json:
    """What a check service's answer and the control port's evidence amount to."""
    circuit = result.circuit
    shown = circuit is not None and circuit.state == "BUILT"
    answer = result.answer or {}
    said = answer.get("IsTor")
    address = address_in(answer, "IP")
    evidence = {
        "controlPort": {"streamOnCircuit": shown, "circuit": circuit and circuit_json(circuit)},
        "checkService": {
            "answered": isinstance(said, bool),
            "isTor": said if isinstance(said, bool) else None,
            "error": None if result.error is None else result.error.code,
        },
    }
    if said is False:
        word, is_tor = "contradicted", False
    elif said is True and shown:
        word, is_tor = "verified", True
    else:
        word, is_tor = "unverified", shown
    return {
        "isTor": is_tor,
        "exitIp": address if isinstance(said, bool) else None,
        "verdict": word,
        "evidence": evidence,
    }


def address_in(answer: dict[str, Any], *names: str) -> str | None:
    """The IP address that a service's answer has under one of these names."""
    values: Sequence[object] = [answer.get(name) for name in names]
    return next((value for value in values if isinstance(value, str) and _is_ip(value)), None)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone may be any text

"""What the routes show: circuits, streams and probes, as the values of JSON."""

from __future__ import annotations

import ipaddress
from typing import Any

from tortxd.gateway.control.probes import ProbeResult
from tortxd.tor.link import Circuit, Relay, Stream


def verdict(result: ProbeResult) -> dict[str, object]:
    """What a check service's answer and the control port's evidence amount to."""
    circuit = result.circuit
    shown = circuit is not None and circuit.state == "BUILT"
    answer = result.answer or {}
    said = answer.get("IsTor")
    address = address_in(answer, "IP")
    evidence = {
        "controlPort": {"streamOnCircuit": shown, "circuit": circuit_json(circuit)},
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
    values = (answer.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and _is_ip(value)), None)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone may be any text


def circuit_json(circuit: Circuit | None, now: float | None = None) -> dict[str, object] | None:
    """A circuit; with its age in seconds at ``now``, where that is given."""
    if circuit is None:
        return None
    value: dict[str, object] = {
        "id": circuit.id,
        "state": circuit.state,
        "purpose": circuit.purpose,
        "path": [_relay_json(relay) for relay in circuit.path],
        "streams": list(circuit.streams),
    }
    if now is not None:
        value["age"] = round(now - circuit.created, 3)
    return value


def _relay_json(relay: Relay) -> dict[str, object]:
    return {
        "fingerprint": relay.fingerprint,
        "nickname": relay.nickname,
        "address": relay.address,
        "country": relay.country,
    }


def stream_json(stream: Stream, now: float) -> dict[str, object]:
    """A stream, with its age in seconds at ``now``."""
    return {
        "id": stream.id,
        "state": stream.state,
        "circuit": stream.circuit,
        "target": stream.target,
        "purpose": stream.purpose,
        "age": round(now - stream.created, 3),
    }

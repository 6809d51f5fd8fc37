"""Values as people read them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

WAYS = {
    "proxy": "/proxy",
    "absolute-form": "HTTP proxy",
    "connect": "CONNECT",
    "library": "library",
    "probe": "probe",
    "socks": "SOCKS",
}
FAULTS = {
    "client": "the client",
    "destination": "the destination",
    "tor": "Tor",
    "gateway": "tortxd",
}


def plain(text: object) -> str:
    """Text from elsewhere, without what could move a terminal's cursor."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(text))


def clipped(text: object, most: int = 300) -> str:
    """As much of a text from elsewhere as fits in a table."""
    found = str(text)
    return found if len(found) <= most else f"{found[:most]}..."


def age(seconds: float) -> str:
    """A span of time: ``40 ms``, ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        limit = 60 if length < 3600 else 24
        if seconds < length * limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def size(count: float) -> str:
    """Bytes: ``512 B``, ``1.5 kB``, ``20 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def relay(one: Json) -> str:
    """A relay: its name, or the beginning of its fingerprint, with its country."""
    name = plain(one["nickname"] or one["fingerprint"][:8])
    return f"{name} ({plain(one['country'])})" if one["country"] else name


def path(relays: Sequence[Json]) -> str:
    """A circuit's path: ``guard (fr) - middle (us) - exit (de)``."""
    return " - ".join(map(relay, relays)) or "no relay yet"


def counted(number: int, noun: str) -> str:
    """So many of them."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def way(stream: Json) -> str:
    """How the request of a stream came."""
    return WAYS.get(stream["way"] or "", "Tor")


def value(of: object) -> str:
    """The value of an option."""
    if of is None:
        return "none"
    if isinstance(of, bool):
        return "on" if of else "off"
    if isinstance(of, float):
        return f"{of:g}"
    if isinstance(of, list):
        return ", ".join(map(plain, of)) or "none"
    return plain(of)


def health(one: Json) -> str:
    """How Tor does, in a few words."""
    status, bootstrap = one["status"], one["bootstrap"]
    if status == "ok":
        return "Tor is ready"
    if status == "degraded":
        return "Tor is ready, but something is wrong"
    if status == "bootstrapping":
        return f"Tor is {bootstrap['progress']} % ready: {plain(bootstrap['summary'])}"
    if status == "starting":
        return "Tor is starting"
    if status == "stopping":
        return "tortxd is stopping"
    return "Tor is down"


def short_health(one: Json) -> str:
    """The same for a table: ``ready``, ``ready, with a fault``, ``45 % ready``, ``down``."""
    status = one["status"]
    if status in ("ok", "degraded"):
        return "ready" if status == "ok" else "ready, with a fault"
    if status == "bootstrapping":
        return f"{one['bootstrap']['progress']} % ready"
    return status if status in ("starting", "stopping") else "down"


def reasons(one: Json) -> list[str]:
    """What is wrong, as far as the gateway says."""
    told = [*one.get("reasons", ()), one.get("warning"), one.get("reason")]
    found = [plain(clipped(each, 1000)) for each in told if each]
    if "retryIn" in one:
        found.append(f"It is tried again in {one['retryIn']:.0f} s.")
    return found

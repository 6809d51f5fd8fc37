"""What a daemon and its Tor hold on to, at rest."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from attrs import asdict, frozen

from tests.daemon.onions import control_of
from tests.daemon.process import Daemon, children, memory
from tests.daemon.steering import socket_of

MEMORY = 25_000_000
"""Bytes by which a daemon may have grown since it was warm, however long a run is. Nothing that is
over stays, but what is remembered fills, each up to a bound of its own: 4,096 events of 1 MiB in
all, 1,024 targets, 4,096 keys. What Twisted and klein make of a request to the control plane leads
back to itself and waits for the collector of cycles, which comes after 50,000 objects; and the
allocator keeps, in pieces, what the busiest moment took. Measured: 7 MB in two minutes; in ten, 12
in the first four and 6 in the others."""
CIRCUITS = 30
"""Circuits that a Tor may have at rest, a few seconds after a NEWNYM, when it has closed all that
were used or ready: those that it makes anew and keeps ready, at most 14 that nobody has used
(MAX_UNUSED_OPEN_CIRCUITS in C-tor), some legs of conflux sets, and those of one hop to relays whose
directories it asks."""


@frozen
class Resources:
    """All of it at one moment."""

    descriptors: int
    """Of the daemon."""
    memory: int
    """Its RSS, in bytes."""
    under_way: int
    """Requests, by its own metrics."""
    connections: int
    """Clients' connections, by its own metrics. The one that asks is one."""
    pooled: int
    readers: int
    """Of events."""
    circuits: int
    """Tor's, by its control port."""
    streams: int
    mappings: int
    """Of ours, in Tor."""
    files: int
    """Temporary ones."""
    processes: int
    """That the daemon has started."""
    kinds: str
    """What the descriptors and the circuits are."""

    def left(self, before: Resources) -> list[str]:
        """What of it is not back where it was."""
        exact = ("under_way", "pooled", "readers", "streams", "mappings", "files", "processes")
        now, then = asdict(self), asdict(before)
        found = [f"{name}: {now[name]}" for name in exact if now[name] != then[name]]
        if self.connections > 1:
            found.append(f"connections: {self.connections}")
        if self.descriptors > before.descriptors:
            found.append(f"descriptors: {self.descriptors}, were {before.descriptors}")
        if self.memory > before.memory + MEMORY:
            found.append(f"memory: {self.memory:,}, was {before.memory:,}")
        if self.circuits > CIRCUITS:
            found.append(f"circuits: {self.circuits}")
        return found

    @classmethod
    async def of(cls, daemon: Daemon, temporary: Path) -> Resources:
        """What there is now."""
        reply = await daemon.ask("/metrics", f"Tortxd-Token: {daemon.token}")
        text = reply.body.decode()

        def metric(name: str) -> int:
            found = re.search(rf"^{name} ([0-9.]+)$", text, re.MULTILINE)
            assert found is not None, f"{name} is not in /metrics: {text[:200]}"
            return int(float(found[1]))

        control = await control_of(socket_of(daemon))
        try:
            streams = (await control.ask("stream-status"))["stream-status"]
            circuits = (await control.ask("circuit-status"))["circuit-status"]
            key = "address-mappings/control"
            mappings = (await control.ask(key)).get(key, "")
        finally:
            control.close()
        folder = Path(f"/proc/{daemon.pid}/fd")
        links: list[str] = []
        for one in folder.iterdir():
            try:
                links.append(os.readlink(one))
            except FileNotFoundError:
                pass
        kinds = Counter(re.sub(r"[\d\[\]:]+$", "", link) for link in links)
        kinds.update(_kind(line) for line in circuits.splitlines())
        return cls(
            descriptors=len(links),
            memory=memory(daemon.pid),
            under_way=metric("tortxd_requests_under_way"),
            connections=metric("tortxd_connections"),
            pooled=metric("tortxd_pool_connections"),
            readers=metric("tortxd_event_readers"),
            circuits=len(circuits.splitlines()),
            streams=len([line for line in streams.splitlines() if line]),
            mappings=sum(line.startswith("tortxd-") for line in mappings.splitlines()),
            files=sum(1 for _ in temporary.rglob("*")),
            processes=len(children(daemon.pid)),
            kinds=", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
        )


def _kind(line: str) -> str:
    """State and purpose of a circuit in GETINFO circuit-status, and whether it was anybody's."""
    words = line.split()
    purpose = next((word for word in words if word.startswith("PURPOSE=")), "")
    whose = "taken" if "SOCKS_USERNAME=" in line else "free"
    return f"{words[1]} {purpose.removeprefix('PURPOSE=')} {whose}"

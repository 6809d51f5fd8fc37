"""The load client, and what the gateway spends while it is at work."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence

from attrs import frozen

from bench.build import native
from bench.processes import ProcessError, running
from bench.usage import Cpu, cpu, cpu_of, rss
from bench.ways import Asked, Way, conversation


@frozen
class Answered:
    """What the load client says, and what the gateway spent."""

    requests: int
    seconds: float
    bytes: int
    p50: float
    """Seconds that half of the responses took, at most."""
    p99: float
    cpu: Cpu
    rss: int
    """Bytes of the gateway's memory at the end, with all clients still there or just gone."""
    apart: Mapping[str, Cpu]
    """What others spent, by what they are called."""


@frozen
class Target:
    """What is asked."""

    host: str
    port: int
    pid: int
    """The process that is measured; 0: none is."""


def load(
    target: Target,
    way: Way,
    asked: Asked,
    *,
    clients: int,
    seconds: float,
    requests: int = 0,
    apart: Mapping[str, Sequence[int]] | None = None,
) -> Answered:
    """Ask for the same, again and again.

    :param requests: how many responses are wanted in all, within ``seconds``; 0: as many as there
        are until then.
    :param apart: further processes that are measured, by what they are called.
    :raises ProcessError: a request failed, or not all were answered in time.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".conversation") as file:
        file.write("".join(f"{line}\n" for line in conversation(way, asked)))
        file.flush()
        where = (target.host, str(target.port), file.name)
        how = (str(clients), str(seconds), str(requests), str(asked.keys))
        with running("load", (native("load"), *where, *how), talks=True) as client:
            assert client.process.stdout is not None
            client.process.stdout.readline()  # it has begun
            before = cpu(target.pid) if target.pid else Cpu()
            earlier = {name: cpu_of(pids) for name, pids in (apart or {}).items()}
            said = client.read_json()
            spent = (cpu(target.pid) if target.pid else Cpu()) - before
            spent_apart = {name: cpu_of((apart or {})[name]) - was for name, was in earlier.items()}
            memory = rss(target.pid) if target.pid else 0
    if said["failed"] or said["requests"] < max(requests, 1):
        raise ProcessError(f"{said['failed']} requests failed, {said['requests']} were answered")
    return Answered(
        said["requests"],
        said["seconds"],
        said["bytes"],
        said["p50"] / 1e6,
        said["p99"] / 1e6,
        spent,
        memory,
        spent_apart,
    )

"""Large bodies, down and up."""

from __future__ import annotations

from collections.abc import Iterable

from bench.cases.model import Case
from bench.load import load
from bench.metrics import Figures, Metric
from bench.peers import LASTING, Peer
from bench.ways import Asked, Way
from bench.world import World

_PATIENCE = 300.0

SPEED = Metric("speed", "MB/s", 1e-6)
CPU_A_GB = Metric("cpu", "CPU, s/GB", 1e9)
SYSTEM_A_GB = Metric("system", "of it in the kernel", 1e9, is_compared=False)

_PLAIN = frozenset((Way.URL, Way.PROXY, Way.SOCKS))


def download(size: int, seconds: float) -> Case:
    """One large response over http."""
    title = f"{_megabytes(size)} down over http"
    return _bulk("down", title, seconds, _PLAIN, size=size)


def parallel(clients: int, size: int, seconds: float) -> Case:
    """Large responses side by side."""
    title = f"{clients} times {_megabytes(size)} down at once"
    return _bulk("parallel", title, seconds, _PLAIN, size=size, clients=clients)


def download_https(size: int, seconds: float) -> Case:
    """One large response, for which the gateway speaks TLS."""
    title = f"{_megabytes(size)} down over https"
    return _bulk("down-https", title, seconds, (Way.URL,), size=size, tls=True)


def tunnel(size: int, seconds: float) -> Case:
    """One large response through a tunnel, of which a gateway knows nothing."""
    title = f"{_megabytes(size)} down through CONNECT"
    return _bulk("connect", title, seconds, (Way.CONNECT, Way.SOCKS), size=size)


def upload(size: int, seconds: float) -> Case:
    """One large request."""
    title = f"{_megabytes(size)} up over http"
    return _bulk("up", title, seconds, _PLAIN, upload=size)


def _bulk(
    key: str,
    title: str,
    seconds: float,
    ways: Iterable[Way],
    *,
    size: int = 0,
    upload: int = 0,
    clients: int = 1,
    tls: bool = False,
) -> Case:
    def measure(world: World, peer: Peer, way: Way) -> Figures:
        asked = Asked(world.behind.url(size, tls=tls), upload)
        target = world.kept(peer)
        said = load(target, way, asked, clients=clients, seconds=_PATIENCE, requests=clients)
        carried = clients * (size + upload)
        return {
            SPEED.key: carried / said.seconds,
            CPU_A_GB.key: said.cpu.total / carried,
            SYSTEM_A_GB.key: said.cpu.system / carried,
        }

    metrics = (SPEED, CPU_A_GB, SYSTEM_A_GB)
    return Case(key, title, metrics, frozenset(ways), measure, seconds, LASTING)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:g} MB"

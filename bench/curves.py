"""What tortxd costs as there is more of something: clients, isolation keys, circuits, readers.

Nothing here is compared with others. What a curve shows is whether something grows faster than what
causes it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from attrs import frozen

from bench.cases.memory import RSS
from bench.cases.requests import CPU, RATE, SMALL
from bench.load import Answered, Target, load
from bench.metrics import Figures, Metric
from bench.peers import TORTXD
from bench.peers.model import free_port, listening
from bench.peers.tortxd import daemon
from bench.readers import reading
from bench.settings import NEAR, TOR, Behind, Setting
from bench.ways import Asked, Way

TURNS, QUICK_TURNS = 3, 1
CLIENTS = 50
"""Where their number is not what is varied."""
_SECONDS = 1.5
_PATIENCE = 110.0

OPEN = Metric("open", "open circuits")
TOLD = Metric("told", "KB/s a reader", 1e-3)

Measure = Callable[[int], Figures]
"""Measures with so many of what is varied. Raises ProcessError."""


@frozen
class Curve:
    """One thing of which there is more and more."""

    key: str
    title: str
    axis: str
    """What there is more of."""
    setting: Setting
    counts: tuple[int, ...]
    metrics: tuple[Metric, ...]
    open: Callable[[Behind], AbstractContextManager[Measure]]
    seconds: float
    """How long a measurement takes, more or less."""
    preparing: float = 0.0
    """Seconds that pass besides."""
    is_lasting: bool = False
    """Whether what there is of it stays: then the counts rise, and each has all its turns at once;
    else all have one turn after the other."""

    def order(self, turns: int) -> list[int]:
        """Which count is measured when."""
        if self.is_lasting:
            return [count for count in self.counts for _ in range(turns)]
        return [*self.counts] * turns

    def expected(self, turns: int) -> float:
        """How many seconds it takes, more or less."""
        return self.preparing + turns * len(self.counts) * self.seconds


@contextmanager
def _clients(behind: Behind) -> Iterator[Measure]:
    def measure(count: int) -> Figures:
        with TORTXD.start(behind) as target:
            return _figures(_ask(target, Asked(behind.url(SMALL)), clients=count))

    yield measure


@contextmanager
def _keys(behind: Behind) -> Iterator[Measure]:
    def measure(count: int) -> Figures:
        with TORTXD.start(behind) as target:
            asked = Asked(behind.url(SMALL), keys=count)
            _ask_once(target, asked)
            return _figures(_ask(target, asked))

    yield measure


@contextmanager
def _circuits(behind: Behind) -> Iterator[Measure]:
    """Each key has a circuit of its own, and a connection over it that is kept."""
    has_circuits = 0
    with _daemon(behind) as (target, token):

        def measure(count: int) -> Figures:
            nonlocal has_circuits
            asked = Asked(behind.url(SMALL), keys=count)
            if has_circuits < count:
                _ask_once(target, asked)
                has_circuits = count
            said = _ask(target, asked)
            return {**_figures(said), OPEN.key: _open_circuits(target, token)}

        yield measure


@contextmanager
def _readers(behind: Behind) -> Iterator[Measure]:
    """Each request has a stream of its own, so that there is much to tell."""
    with _daemon(behind) as (target, token):

        def measure(count: int) -> Figures:
            with reading(target, token, count) as readers:
                before = readers.received
                said = _ask(target, Asked(behind.url(SMALL, last=True)))
                told = (readers.received - before) / said.seconds / max(count, 1)
            return {**_figures(said), TOLD.key: told}

        yield measure


@contextmanager
def _daemon(behind: Behind) -> Iterator[tuple[Target, str]]:
    """The daemon and its operators' token. It may ask Tor for as many circuits as it needs."""
    port = free_port()
    rates = ("--circuit-rate", "unlimited", "--caller-circuit-rate", "unlimited")
    with tempfile.TemporaryDirectory(prefix="tortxd-bench-") as directory:
        assert behind.control is not None
        command = daemon(port, directory, "--control", behind.control, *rates)
        with listening("tortxd", port, command) as target:
            yield target, Path(directory, "operator-token").read_text().strip()


def _ask(target: Target, asked: Asked, *, clients: int = CLIENTS) -> Answered:
    return load(target, Way.PROXY, asked, clients=clients, seconds=_SECONDS)


def _ask_once(target: Target, asked: Asked) -> None:
    """Ask with each key."""
    clients = min(asked.keys, CLIENTS)
    load(target, Way.PROXY, asked, clients=clients, seconds=_PATIENCE, requests=asked.keys)


def _figures(said: Answered) -> Figures:
    return {
        RATE.key: said.requests / said.seconds,
        CPU.key: said.cpu.total / said.requests,
        RSS.key: said.rss,
    }


def _open_circuits(target: Target, token: str) -> int:
    url = f"http://{target.host}:{target.port}/circuits"
    with urlopen(Request(url, headers={"Authorization": f"Bearer {token}"})) as answer:
        return len(json.load(answer)["circuits"])


_ALL = (RATE, CPU, RSS)

CURVES: Sequence[Curve] = (
    Curve(
        "clients",
        "More clients",
        "clients",
        NEAR,
        (1, 10, 50, 200, 1000, 5000),
        _ALL,
        _clients,
        seconds=3.5,
    ),
    Curve(
        "keys",
        f"More isolation keys, {CLIENTS} clients",
        "keys",
        NEAR,
        (1, 10, 100, 1000, 5000),
        _ALL,
        _keys,
        seconds=3.5,
    ),
    Curve(
        "circuits",
        f"More circuits, {CLIENTS} clients",
        "keys, each with a circuit",
        TOR,
        (1, 10, 100, 1000),
        (*_ALL, OPEN),
        _circuits,
        seconds=2.5,
        preparing=40.0,
        is_lasting=True,
    ),
    Curve(
        "readers",
        f"More readers of /events, {CLIENTS} clients, each request a new stream",
        "readers",
        TOR,
        (0, 1, 10, 32),
        (*_ALL, TOLD),
        _readers,
        seconds=2.5,
    ),
)

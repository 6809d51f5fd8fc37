"""What a fleet is asked, and what comes of it: all ways to it by turns, every other turn from the
last one to the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from attrs import field, frozen

from bench import loopback
from bench.cases.requests import P50, RATE, SMALL
from bench.fleet.world import BALANCER, MEMBERS, RELAYS, TORS, Fleet, fleet
from bench.load import Target, load
from bench.metrics import Figures, Metric
from bench.settings import NEAR, TOR, Behind, Setting
from bench.ways import Asked, Way

DIRECT = 0
"""The way past every balancer; others are by how many members the balancer knows."""
KEYS = 60
_SECONDS = 1.5
_PATIENCE = 60.0

_PARTIES = {
    BALANCER: "HAProxy",
    MEMBERS: "members",
    TORS: "their Tors",
    RELAYS: "relays",
}
SPEED = Metric("speed", "MB/s", 1e-6)


def cpu(party: str, *, bulk: bool = False) -> Metric:
    """CPU of one of them: a request's, or a byte's."""
    title, unit, scale = _PARTIES[party], "s/GB" if bulk else "ms", 1e9 if bulk else 1e3
    return Metric(party, f"CPU, {unit}: {title}", scale)


@frozen
class Case:
    """One thing that is asked."""

    key: str
    title: str
    clients: int
    asked: Callable[[Behind], Asked]
    ways: tuple[int, ...]
    requests: int = 0
    """How many are asked for; 0: as many as there are in the time."""

    @property
    def is_bulk(self) -> bool:
        """Whether it is about bytes."""
        return self.requests > 0

    def measure(self, of: Fleet, way: int) -> Figures:
        """Ask once. Raises ProcessError."""
        asked, target = self.asked(of.behind), target_of(of, way)
        parties = of.parties(target)
        said = load(
            target,
            Way.PROXY,
            asked,
            clients=self.clients,
            seconds=_PATIENCE if self.requests else _SECONDS,
            requests=self.requests,
            apart=parties,
        )
        units = said.bytes if self.is_bulk else said.requests
        spent = {name: used.total / units for name, used in said.apart.items()}
        rates = {RATE.key: said.requests / said.seconds, SPEED.key: said.bytes / said.seconds}
        return {**rates, P50.key: said.p50, **spent}


@frozen
class Part:
    """Cases that are measured in one setting, without a stop."""

    key: str
    setting: Setting
    counts: tuple[int, ...]
    cases: tuple[Case, ...]
    turns: int

    def measure(self) -> list[Measured]:
        """Measure all. The process has a loopback of its own."""
        found = [Measured(case.key, way) for case in self.cases for way in case.ways]
        with ExitStack() as stack:
            if self.setting.is_tor:
                stack.enter_context(loopback.acknowledging_at_once())
            behind = stack.enter_context(self.setting.open())
            of = stack.enter_context(fleet(behind, *self.counts))
            _warm(of)
            cases = {case.key: case for case in self.cases}
            for turn in range(self.turns):
                print(f"{self.key}: turn {turn + 1} of {self.turns}", flush=True)
                for one in found if turn % 2 == 0 else reversed(found):
                    one.turns.append(cases[one.case].measure(of, one.way))
        return found


@frozen
class Measured:
    """What came of one case in one way."""

    case: str
    way: int
    turns: list[Figures] = field(factory=list)
    """In their order: those with one number were measured beside one another."""


def target_of(of: Fleet, way: int) -> Target:
    """Who is asked."""
    return of.direct if way == DIRECT else of.balancers[way]


def _warm(of: Fleet) -> None:
    """Ask with each key once and again, so that there are circuits and connections for all."""
    asked = Asked(of.behind.url(SMALL), keys=KEYS)
    for target in (of.direct, *of.balancers.values()):
        for clients in (1, KEYS):
            load(
                target,
                Way.PROXY,
                asked,
                clients=clients,
                seconds=_PATIENCE,
                requests=KEYS * clients,
            )


def _small(
    key: str,
    title: str,
    clients: int,
    ways: Sequence[int],
    *,
    keys: int = KEYS,
    closes: bool = False,
) -> Case:
    def asked(behind: Behind) -> Asked:
        return Asked(behind.url(SMALL), keys=keys, closes=closes)

    return Case(key, title, clients, asked, tuple(ways))


def _bulk(key: str, title: str, clients: int, size: int, ways: Sequence[int]) -> Case:
    def asked(behind: Behind) -> Asked:
        return Asked(behind.url(size), keys=KEYS)

    return Case(key, title, clients, asked, tuple(ways), requests=clients)


_ALL, _SOME, _ONE = (DIRECT, 1, 2, 3), (DIRECT, 1, 3), (DIRECT, 1)

PARTS = (
    Part(
        "tor",
        TOR,
        (1, 2, 3),
        (
            _small("tor-1", f"1 KB, 1 client, {KEYS} keys", 1, _ALL),
            _small("tor-50", f"1 KB, 50 clients, {KEYS} keys", 50, _ALL),
        ),
        turns=6,
    ),
    Part(
        "tor-more",
        TOR,
        (1, 3),
        (
            _small("tor-hot", "1 KB, 50 clients, one key", 50, _SOME, keys=1),
            _bulk("tor-bulk", f"30 times 0.5 MB at once, {KEYS} keys", 30, 500_000, _SOME),
        ),
        turns=6,
    ),
    Part(
        "socks",
        NEAR,
        (1,),
        (
            _small("socks-1", f"1 KB, 1 client, {KEYS} keys", 1, _ONE),
            _small("socks-50", f"1 KB, 50 clients, {KEYS} keys", 50, _ONE),
            _small(
                "socks-closed", "the same, each over a connection of its own", 50, _ONE, closes=True
            ),
            _bulk("socks-bulk", "50 times 4 MB at once", 50, 4_000_000, _ONE),
        ),
        turns=9,
    ),
)
CASES = {case.key: case for part in PARTS for case in part.cases}

"""Who does what when, and what goes wrong meanwhile: all of it follows from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random

from attrs import field, frozen

ACTORS = 20
PAUSE = 2.5
"""Seconds between the steps of one actor, on average."""
CALM = 6.0
"""Seconds without a fault at the beginning, and between the end of one and the next."""
LAST = 12.0
"""Seconds without a fault at the end."""
LONG_RUN = 200.0
"""Runs of so many seconds stop a Tor also for longer than its watchdog has patience."""

MEGABYTE = 1_000_000
COUNTRIES = ("de", "fr", "nl", "se")
PHASES = ("connected", "half-head", "asked", "answered", "uploading", "tunnel")
GARBAGE = (
    "noise",
    "tls",
    "no-host",
    "two-lengths",
    "bad-url",
    "forbidden",
    "parameter",
    "no-token",
    "wrong-token",
)
BREAKS = ("reset", "hang", "cut-length", "cut-chunked", "refused", "raw")
PAGES = (
    *("/metrics", "/metrics", "/circuits", "/streams", "/requests", "/config"),
    *("/health", "/health?live", "/verify-tor", "/openapi.json"),
)


@frozen
class Step:
    """One thing that one actor does."""

    number: int
    at: float
    """Seconds from the beginning."""
    actor: int
    act: str
    words: Mapping[str, object] = field(factory=dict)

    def __getitem__(self, name: str) -> object:
        return self.words[name]

    def __str__(self) -> str:
        words = " ".join(f"{name}={value}" for name, value in self.words.items())
        return f"{self.at:7.2f} step {self.number} actor {self.actor}: {self.act} {words}".rstrip()


@frozen
class Fault:
    """One thing that goes wrong for a while."""

    at: float
    kind: str
    seconds: float
    """How long it lasts, where it is not over at once."""
    target: int = 0
    """Which of several it befalls."""

    def __str__(self) -> str:
        return f"{self.at:7.2f} fault: {self.kind} for {self.seconds:.1f} s, number {self.target}"


@frozen
class Plan:
    """All steps and faults of a run, in their order."""

    steps: tuple[Step, ...]
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int, seconds: float, *, actors: int = ACTORS, faults: bool = True) -> Plan:
        """What this seed has happen in so many seconds."""
        # Each has a source of its own: with more actors, or no faults, the rest stays as it is.
        planned = sorted(
            (
                (at, actor, act, words)
                for actor in range(actors)
                for at, act, words in _steps(Random(f"{seed} actor {actor}"), seconds)
            ),
            key=lambda one: one[:2],
        )
        steps = tuple(Step(number, *one) for number, one in enumerate(planned))
        return cls(steps, tuple(_faults(Random(f"{seed} faults"), seconds)) if faults else ())

    def lines(self) -> Iterator[str]:
        """A line for each, in their order."""
        every: list[Step | Fault] = [*self.steps, *self.faults]
        return (str(one) for one in sorted(every, key=lambda one: one.at))


def _steps(draw: Random, seconds: float) -> Iterator[tuple[float, str, Mapping[str, object]]]:
    acts, weights = tuple(_ACTS), [weight for weight, _ in _ACTS.values()]
    at = draw.uniform(0, 2 * PAUSE)
    while at < seconds:
        (act,) = draw.choices(acts, weights)
        yield at, act, _ACTS[act][1](draw)
        at += draw.uniform(0.2, 2 * PAUSE - 0.2)


def _size(draw: Random) -> int:
    """Mostly small ones, and of others any."""
    return draw.choice((draw.randrange(2000), draw.randrange(2000), draw.randrange(MEGABYTE)))


def _key(draw: Random) -> int:
    """One of those that come again and again, or one that does not."""
    return draw.randrange(8) if draw.random() < 0.9 else draw.randrange(10, 10_000)


def _way(draw: Random) -> dict[str, object]:
    return {
        "way": draw.choice(("proxy", "proxy", "absolute-form")),
        "scheme": draw.choice(("http", "https")),
        "key": _key(draw),
    }


def _download(draw: Random) -> dict[str, object]:
    steering: dict[str, object] = {}
    if draw.random() < 0.3:
        choices: list[dict[str, object]] = [
            {"country": draw.choice(COUNTRIES)},
            {"sticky": draw.choice(("60", "600, strict"))},
            {"retry": draw.randrange(1, 4)},
            {"country": draw.choice(COUNTRIES), "sticky": "120", "retry": 2},
        ]
        steering = draw.choice(choices)
    return {
        **_way(draw),
        "framing": draw.choice(("length", "chunked", "close")),
        "size": draw.choice((_size(draw), MEGABYTE)),
        **steering,
    }


def _upload(draw: Random) -> dict[str, object]:
    return {
        **_way(draw),
        "framing": draw.choice(("length", "chunked")),
        "size": draw.choice((_size(draw), draw.randrange(2 * MEGABYTE))),
        "expect": draw.random() < 0.4,
    }


_ACTS: dict[str, tuple[int, Callable[[Random], Mapping[str, object]]]] = {
    "download": (30, _download),
    "upload": (12, _upload),
    "tunnel": (
        8,
        lambda draw: {
            "inside": draw.choice(("tls", "echo", "echo")),
            "size": draw.randrange(1, 400_000),
            "key": _key(draw),
        },
    ),
    "websocket": (
        6,
        lambda draw: {
            "way": draw.choice(("proxy", "absolute-form", "connect")),
            "scheme": draw.choice(("ws", "wss")),
            "messages": draw.randrange(1, 8),
            "size": draw.randrange(1, 20_000),
            "key": _key(draw),
        },
    ),
    "socks": (5, lambda draw: {"size": _size(draw)}),
    "library": (
        4,
        lambda draw: {
            "scheme": draw.choice(("http", "https")),
            "size": _size(draw),
            "key": _key(draw),
        },
    ),
    "leave": (6, lambda draw: {"phase": draw.choice(PHASES), **_way(draw)}),
    "slow": (
        3,
        lambda draw: {**_way(draw), "size": 300_000, "pauses": draw.randrange(2, 6)},
    ),
    "broken": (6, lambda draw: {"how": draw.choice(BREAKS), **_way(draw)}),
    "garbage": (5, lambda draw: {"what": draw.choice(GARBAGE), "noise": draw.getrandbits(64)}),
    "identity": (3, lambda draw: {"key": draw.choice((_key(draw), "all"))}),
    "page": (5, lambda draw: {"path": draw.choice(PAGES)}),
    "events": (
        2,
        lambda draw: {"seconds": round(draw.uniform(2, 15), 1), "reads": draw.random() < 0.6},
    ),
    "close": (2, lambda draw: {"what": draw.choice(("circuit", "stream"))}),
}
"""How often each is done, and what there is to choose of it."""

FAULTS: Mapping[str, tuple[float, float]] = {
    "tor-killed": (0, 0),
    "exit-stopped": (2, 8),
    "origin-resets": (0, 0),
    "tor-stopped": (2, 6),
    "newnym-storm": (1, 3),
    "few-descriptors": (2, 5),
    "relay-stopped": (2, 8),
    "origin-stalls": (2, 6),
    "disk-full": (3, 6),
    "hang-up": (0, 0),
}
"""How long each lasts, in seconds."""


def _faults(draw: Random, seconds: float) -> Iterator[Fault]:
    """Each kind in turn, in an order of chance; now and then two at once."""
    at, over, both, ahead = CALM, 0.0, False, list[str]()
    while True:
        if not ahead:
            ahead = draw.sample(sorted(FAULTS), len(FAULTS))
        kind = ahead.pop()
        lasts = draw.uniform(*FAULTS[kind])
        if kind == "tor-stopped" and seconds >= LONG_RUN and draw.random() < 0.4:
            lasts = 40.0  # no watchdog has so much patience
        over = max(over, at + lasts)
        if over > seconds - LAST:
            return
        yield Fault(round(at, 2), kind, round(lasts, 1), draw.randrange(4))
        both = not both and draw.random() < 0.2
        at = at + draw.uniform(0.5, 2) if both else over + CALM + draw.uniform(0, 6)

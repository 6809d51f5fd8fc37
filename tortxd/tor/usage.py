"""Who uses which circuit, and how streams fare on it.

From this follows whether a request costs Tor a fresh circuit (:mod:`tortxd.tor.budget`), and which
circuits are of no use to anybody. Tor gives a circuit to the streams of one login: it says so where
it launches the circuit for them; of one that it had ready, the first stream on it shows it.
"""

from __future__ import annotations

from itertools import islice
from typing import Generic, TypeVar

from attrs import define, field

DIRTY_SECONDS = 600.0
"""For how long Tor gives streams to a circuit after the first (tor(1), MaxCircuitDirtiness)."""
GRACE_SECONDS = 10.0
"""How long a circuit on which a stream has failed is kept for another that may fare better."""
_MOST_LEGS = 16
"""Circuits of one conflux set; Tor makes two or three."""


@define
class CircuitUse:
    """An open circuit, as far as its use goes."""

    id: str
    conflux: str | None = None
    """The conflux set whose leg it is."""
    login: str | None = None
    """SOCKS_USERNAME, as it stands in events: for whom it was launched, or who uses it."""
    claimed: float = 0.0
    """When that was known."""
    served: bool = False
    """Whether a stream on it has reached its destination."""
    failing: bool = False
    """Whether a stream has failed on it, and none has reached its destination."""
    spent: bool = False
    """Whether Tor gives it no further streams, since one failed on it."""
    streams: dict[str, None] = field(factory=dict)
    """The ids of those that are on it."""


C = TypeVar("C", bound=CircuitUse)


class Usage(Generic[C]):
    """See the module's description. Times are seconds on the reactor's clock."""

    def __init__(self) -> None:
        self._by_set: dict[str, dict[str, C]] = {}
        self._by_login: dict[str, dict[str, C]] = {}
        self._claims: list[str] = []
        self._suspects: dict[str, tuple[C, float]] = {}
        """Circuits on which streams have failed, and when they are to be closed if no stream has
        reached its destination over them."""

    # --- what comes in -------------------------------------------------------------------------

    def in_set(self, circuit: C, conflux: str) -> None:
        """The circuit is a leg of this conflux set."""
        if circuit.conflux is None:
            circuit.conflux = conflux
            self._by_set.setdefault(conflux, {})[circuit.id] = circuit

    def claim(self, circuit: C, login: str, now: float) -> None:
        """The circuit is for streams with this login, and for no others, from now on."""
        if all(leg.login != login for leg in self.legs(circuit)):
            self._claims.append(login)
        circuit.login, circuit.claimed = login, now
        self._by_login.setdefault(login, {})[circuit.id] = circuit

    def served(self, circuit: C) -> None:
        """A stream on it has reached its destination."""
        circuit.served, circuit.failing = True, False

    def failed(self, circuit: C, now: float, *, spent: bool) -> None:
        """A stream has failed on it.

        :param spent: whether Tor tries the stream on another one: then it gives no further streams
            to this.
        """
        if circuit.login is None:
            return
        circuit.spent = circuit.spent or spent
        if not circuit.served:
            circuit.failing = True
            self._suspects[circuit.id] = circuit, now if circuit.spent else now + GRACE_SECONDS

    def gone(self, circuit: C) -> None:
        """It is closed."""
        for index, key in ((self._by_login, circuit.login), (self._by_set, circuit.conflux)):
            if key is not None and key in index:
                index[key].pop(circuit.id, None)
                if not index[key]:
                    del index[key]
        self._suspects.pop(circuit.id, None)

    def clear(self) -> None:
        """All are gone."""
        self._by_set.clear()
        self._by_login.clear()
        self._claims.clear()
        self._suspects.clear()

    # --- what goes out -------------------------------------------------------------------------

    def legs(self, circuit: C) -> list[C]:
        """The circuit, or the open ones of its conflux set."""
        if circuit.conflux is None:
            return [circuit]
        return list(islice(self._by_set.get(circuit.conflux, {}).values(), _MOST_LEGS))

    def carries(self, username: str, now: float, *, served: bool = False) -> bool:
        """Whether there is a circuit that Tor gives to streams with this SOCKS username, and over
        which some have reached their destinations, or (unless ``served``) none has failed."""
        return any(
            not one.spent
            and not (one.failing or (served and not one.served))
            and now - one.claimed < DIRTY_SECONDS
            for one in self._by_login.get(f'"{username}"', {}).values()
        )

    def take_claims(self) -> list[str]:
        """The SOCKS usernames whose streams have got a circuit, or a conflux set, that had none:
        each time, once."""
        claims, self._claims = self._claims, []
        return [login[1:-1] for login in claims]

    @property
    def has_suspects(self) -> bool:
        """Whether :meth:`take_useless` is to be asked, sooner or later."""
        return bool(self._suspects)

    def take_useless(self, now: float, username_prefix: str = "") -> list[str]:
        """The ids of circuits that have served failures only, and carry no stream now, so far as
        their SOCKS usernames begin with ``username_prefix``; each is told once. One that Tor gives
        no further streams is told at once, another after :data:`GRACE_SECONDS`."""
        useless: list[str] = []
        for id, (circuit, due) in list(self._suspects.items()):
            if id not in self._suspects:
                continue  # a leg of one before it
            legs = self.legs(circuit)
            if any(leg.served for leg in legs):
                del self._suspects[id]
            elif due <= now and not any(leg.streams for leg in legs):
                for leg in (circuit, *legs):
                    self._suspects.pop(leg.id, None)
                if (circuit.login or "").startswith(f'"{username_prefix}'):
                    useless += [leg.id for leg in legs]
        return useless

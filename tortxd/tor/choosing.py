"""Which exit a request leaves Tor by, where that is not Tor's to choose.

They are drawn as Tor draws them (path-spec, section 2.2): by the bandwidths of the consensus, times
its weight for the place. Whether one carries a port stands in its microdescriptor; on the public
network there are some 2,000 of them, so one is asked for when it was drawn, and another is drawn
where it does not. What comes of it is the same as a draw among all those that do.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from random import Random, SystemRandom
from typing import TYPE_CHECKING, TypeVar

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from tortxd.errors import ExitUnavailable
from tortxd.policy.steering import Choice
from tortxd.tor.consensus import Consensus, Node, read_nodes
from tortxd.tor.exit_rules import ExitRules
from tortxd.tor.exits import PortPolicy, parsed
from tortxd.tor.relays import Relays
from tortxd.tor.replies import CommandRefused
from tortxd.tor.waiters import Shared

if TYPE_CHECKING:
    from tortxd.tor.control import Control

UNREACHABLE_FOR = 60.0
"""Seconds for which an exit that could not be reached is not chosen, unless it is reached."""
_DRAWS = 8
"""After so many in vain, each is looked at: most exits carry what most requests want."""
_BATCH = 64
"""Policies that are asked for at once."""
_MOST_POOLS = 64
"""Choices whose exits are known."""
_WHOLE = 10_000
"""The weight that changes nothing, where a consensus does not say another."""
_CONSENSUS = "dir/status-vote/current/consensus-microdesc"
_WEIGHTS = "bandwidth-weights "
_LONGEST_WEIGHTS = 1024
_MOST_UNREACHABLE = 1000
_MOST_OTHERS = 10_000
"""Relays that are no exits, of which it is known."""

K = TypeVar("K")
V = TypeVar("V")


def weight_of(node: Node, weights: Mapping[str, int]) -> float:
    """How often a relay is drawn as an exit, relatively (dir-spec, section 3.8.4)."""
    if "Exit" in node.flags:
        name = "Wed" if "Guard" in node.flags else "Wee"
    else:
        name = "Weg" if "Guard" in node.flags else "Wem"
    return node.bandwidth * weights.get(name, _WHOLE) / _WHOLE


def drawn(nodes: Iterable[Node], weights: Mapping[str, int], random: Random) -> list[Node]:
    """The nodes in the order in which they would be drawn one after the other, each by its share of
    the weight of those that are left (Efraimidis and Spirakis, 2006). Those that weigh nothing come
    last, in any order."""

    def place(node: Node) -> tuple[float, float]:
        weight, chance = weight_of(node, weights), 1.0 - random.random()
        return (-math.log(chance) / weight if weight > 0 else math.inf, chance)

    return sorted(nodes, key=place)


def read_weights(line: str) -> dict[str, int]:
    """The weights in the footer of a consensus (dir-spec, section 3.4.1)."""
    pairs = (word.partition("=") for word in line[:_LONGEST_WEIGHTS].split()[1:])
    return {name: int(value) for name, _, value in pairs if value.isdecimal()}


@frozen(eq=False)
class _Pool:
    """The exits that a choice names."""

    nodes: Sequence[Node]
    sums: Sequence[float]
    """Of their weights up to each."""

    @classmethod
    def of(cls, nodes: Sequence[Node], weights: Mapping[str, int]) -> _Pool:
        return cls(nodes, tuple(accumulate(weight_of(node, weights) for node in nodes)))

    def draw(self, random: Random) -> Node:
        """One of them, which may be drawn again."""
        total = self.sums[-1]
        if total == 0:
            return self.nodes[random.randrange(len(self.nodes))]
        place = bisect_right(self.sums, random.random() * total)
        return self.nodes[min(place, len(self.nodes) - 1)]


NO_COUNTRIES = (
    "Tor does not know in which countries its relays are: it has no GeoIP file. The package "
    "tor-geoipdb has one."
)


class _Known:
    """What is known under one consensus, as far as it was asked for."""

    def __init__(self, control: Control, relays: Relays, consensus: Consensus) -> None:
        self._control = control
        self._relays = relays
        self.exits = {node.fingerprint: node for node in consensus.exits}
        self._is_whole = bool(consensus.relays)
        """Whether there is no relay beside those of the consensus."""
        self._knows_countries = not self._is_whole or any(
            relay.country is not None for relay in consensus.relays
        )
        self._others: OrderedDict[str, Node | None] = OrderedDict()
        """Relays that are not flagged as exits, by fingerprint."""
        self._policies: dict[str, PortPolicy | None] = {}
        """By fingerprint."""
        self._pools: OrderedDict[Choice, _Pool] = OrderedDict()
        self._weights = Shared(self._read_weights)
        self._rules = Shared(self._read_rules)

    def options_changed(self) -> None:
        """The user may permit other exits now."""
        self._pools.clear()
        self._rules = Shared(self._read_rules)

    async def weights(self) -> Mapping[str, int]:
        """Those of the consensus."""
        return await self._weights.get()

    async def pool(self, choice: Choice) -> _Pool:
        """The exits that ``choice`` names, as far as the user permits them."""
        pool = self._pools.get(choice)
        if pool is None:
            rules, chosen = self._rules, not choice.is_any
            nodes, permitted = await self._named(choice), await rules.get()
            pool = _Pool.of(
                [n for n in nodes if permitted.permit(n, self._country(n), chosen=chosen)],
                await self.weights(),
            )
            if rules is self._rules:
                _remember(self._pools, choice, pool, _MOST_POOLS)
        return pool

    async def is_permitted(self, node: Node) -> bool:
        """Whether the user lets it be chosen."""
        rules = await self._rules.get()
        return rules.permit(node, self._country(node), chosen=True)

    async def listed(self, fingerprint: str) -> Node | None:
        """What the consensus says of a relay, which need not be flagged as an exit to be one."""
        if fingerprint in self.exits:
            return self.exits[fingerprint]
        if fingerprint not in self._others:
            if self._is_whole and fingerprint not in self._relays:
                return None  # which needs no asking
            node = await self._read_status(fingerprint)
            _remember(self._others, fingerprint, node, _MOST_OTHERS)
            return node
        return self._others[fingerprint]

    async def carries(self, fingerprint: str, port: int) -> bool:
        """Whether that relay's policy takes ``port``."""
        await self.read_policies([fingerprint])
        return self.is_known_to_carry(fingerprint, port)

    def is_known_to_carry(self, fingerprint: str, port: int) -> bool:
        """The same, where it was read."""
        policy = self._policies.get(fingerprint)
        return policy is not None and policy.takes(port)

    async def read_policies(self, fingerprints: Iterable[str]) -> None:
        """See that these relays' policies are known."""
        missing = [one for one in fingerprints if one not in self._policies]
        if not missing:
            return
        keys = [f"md/id/{one}" for one in missing]
        try:
            replies = await self._control.ask(*keys)
        except CommandRefused:  # one of them is not there
            replies = {}
            for key, fingerprint in zip(keys, missing, strict=True):
                replies[key] = await self._description(fingerprint)
        for key, fingerprint in zip(keys, missing, strict=True):
            self._policies[fingerprint] = _policy(replies.get(key, ""))

    # --- inside ----------------------------------------------------------------------------------

    async def _named(self, choice: Choice) -> list[Node]:
        if choice.fingerprints:
            found = [await self.listed(one) for one in sorted(choice.fingerprints)]
            nodes = [node for node in found if node is not None and node.may_exit]
        else:
            nodes = list(self.exits.values())
        if choice.countries:
            if not self._knows_countries:
                raise ExitUnavailable(NO_COUNTRIES)
            nodes = [node for node in nodes if self._country(node) in choice.countries]
        return nodes

    def _country(self, node: Node) -> str | None:
        return self._relays.get(node.fingerprint).country

    async def _read_status(self, fingerprint: str) -> Node | None:
        found: list[Node] = []
        try:
            await read_nodes(self._control, found.append, f"ns/id/{fingerprint}")
        except CommandRefused:
            return None  # 552: it is not in the consensus
        return next((node for node in found if node.fingerprint == fingerprint), None)

    async def _description(self, fingerprint: str) -> str:
        """The microdescriptor of one relay; or its status, which has the same line where a Tor
        uses no microdescriptors."""
        for key in (f"md/id/{fingerprint}", f"ns/id/{fingerprint}"):
            try:
                return (await self._control.ask(key)).get(key, "")
            except CommandRefused:
                continue
        return ""

    async def _read_rules(self) -> ExitRules:
        try:
            return await ExitRules.read(self._control)
        except CommandRefused:  # a filter before the port: what the user forbids is not known
            raise ExitUnavailable("Tor's control port does not let exits be chosen.") from None

    async def _read_weights(self) -> dict[str, int]:
        found: dict[str, int] = {}

        def take(line: str) -> None:
            if line.startswith(_WEIGHTS):
                found.update(read_weights(line))

        try:
            await self._control.ask_for_lines(_CONSENSUS, take)
        except CommandRefused:
            pass  # then bandwidths alone count
        return found


class ExitChooser:
    """Chooses exits.

    :param clock: monotonic.
    :param relays: knows the countries.
    """

    def __init__(
        self,
        clock: IReactorTime,
        control: Control,
        relays: Relays,
        random: Random | None = None,
    ) -> None:
        self._clock = clock
        self._control = control
        self._relays = relays
        self._random = random or SystemRandom()
        self._known = _Known(control, relays, Consensus((), ()))
        self._unreachable: dict[str, float] = {}
        """Exits that could not be reached, and until when that counts."""

    def consensus_read(self, consensus: Consensus) -> None:
        """There is another consensus. Who is choosing goes on under the one before."""
        self._known = _Known(self._control, self._relays, consensus)

    def options_changed(self) -> None:
        """Tor's options have changed."""
        self._known.options_changed()

    async def choose(self, choice: Choice, port: int, avoiding: Collection[str] = ()) -> str:
        """The fingerprint of an exit that ``choice`` names and that carries ``port``.

        :param avoiding: exits that are taken only where there is no other.
        :raises ExitUnavailable: there is none.
        :raises TortxdError: Tor does not answer.
        """
        known = self._known
        pool = await known.pool(choice)
        # To draw until one will do is the same as to draw among those that do.
        for _ in range(_DRAWS if pool.nodes else 0):
            exit = pool.draw(self._random).fingerprint
            if (
                exit not in avoiding
                and self._is_reachable(exit)
                and await known.carries(exit, port)
            ):
                return exit
        return await self._choose_among(known, pool.nodes, port, avoiding)

    async def _choose_among(
        self, known: _Known, nodes: Sequence[Node], port: int, avoiding: Collection[str]
    ) -> str:
        """The same where few of them will do, each of which is looked at once."""
        left = [node for node in nodes if self._is_reachable(node.fingerprint)]
        order = drawn(left, await known.weights(), self._random)
        order.sort(key=lambda node: node.fingerprint in avoiding)  # which keeps the order else
        for begin in range(0, len(order), _BATCH):
            batch = [node.fingerprint for node in order[begin : begin + _BATCH]]
            await known.read_policies(batch)
            for exit in batch:
                if known.is_known_to_carry(exit, port):
                    return exit
        raise ExitUnavailable

    async def has(self, fingerprint: str, port: int, *, has_circuit: bool = False) -> bool:
        """Whether that exit is there, and carries ``port``.

        :param has_circuit: whether there is a circuit to it that will do: then it is of no matter
            that others could not reach it.
        :raises TortxdError: Tor does not answer.
        """
        known = self._known
        if not has_circuit and not self._is_reachable(fingerprint):
            return False
        node = await known.listed(fingerprint)
        if node is None or not node.may_exit or not await known.is_permitted(node):
            return False
        return await known.carries(fingerprint, port)

    def unreachable(self, fingerprint: str) -> None:
        """No circuit to it can be built."""
        self._unreachable.pop(fingerprint, None)
        self._unreachable[fingerprint] = self._clock.seconds() + UNREACHABLE_FOR
        if len(self._unreachable) > _MOST_UNREACHABLE:
            del self._unreachable[next(iter(self._unreachable))]

    def reached(self, fingerprint: str) -> None:
        """A circuit to it was built."""
        self._unreachable.pop(fingerprint, None)

    def _is_reachable(self, fingerprint: str) -> bool:
        until = self._unreachable.get(fingerprint)
        return until is None or until <= self._clock.seconds()


def _remember(of: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    of[key] = value
    if len(of) > most:
        of.popitem(last=False)


def _policy(description: str) -> PortPolicy | None:
    """The port summary for names and IPv4 addresses (dir-spec, section 3.3, "p")."""
    line = next((line for line in description.split("\n") if line.startswith("p ")), "")
    return parsed(line[2:]) if line else None

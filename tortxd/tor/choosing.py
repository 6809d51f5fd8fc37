"""Which exit a request leaves Tor by, where that is not Tor's to choose.

They are drawn as Tor draws them (path-spec, section 2.2): by the bandwidths of the consensus, times
its weight for the place. Whether one carries a port stands in its microdescriptor; on the public
network there are some 2,000 of them, so one is asked for when it was drawn, and another is drawn
where it does not. What comes of it is the same as a draw among all those that do.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from random import Random, SystemRandom
from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from tortxd.errors import ExitUnavailable
from tortxd.policy.steering import Choice
from tortxd.tor.consensus import Consensus, Node, read_nodes
from tortxd.tor.exits import PortPolicy, parsed
from tortxd.tor.nodes import ExitRules
from tortxd.tor.relays import Relays
from tortxd.tor.replies import CommandRefused

if TYPE_CHECKING:
    from tortxd.tor.control import Control

UNREACHABLE_FOR = 120.0
"""Seconds for which an exit that could not be reached is not chosen."""
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
        self._exits: dict[str, Node] = {}
        self._has_consensus = False
        self._unreachable: dict[str, float] = {}
        """Exits that could not be reached, and until when that counts."""
        # As far as they were asked for, until the next consensus:
        self._others: dict[str, Node | None] = {}
        """Relays that are not flagged as exits, by fingerprint."""
        self._policies: dict[str, PortPolicy | None] = {}
        """By fingerprint."""
        self._pools: dict[Choice, _Pool] = {}
        self._weights: dict[str, int] | None = None
        self._rules: ExitRules | None = None

    def consensus_read(self, consensus: Consensus) -> None:
        """There is another consensus."""
        self._exits = {node.fingerprint: node for node in consensus.exits}
        self._has_consensus = bool(consensus.relays)
        self._others.clear()
        self._policies.clear()
        self._pools.clear()
        self._weights = self._rules = None

    async def choose(self, choice: Choice, port: int, avoiding: Collection[str] = ()) -> str:
        """The fingerprint of an exit that ``choice`` names and that carries ``port``.

        :param avoiding: exits that are taken only where there is no other.
        :raises ExitUnavailable: there is none.
        :raises TortxdError: Tor does not answer.
        """
        pool = await self._pool(choice)
        # To draw until one will do is the same as to draw among those that do.
        for _ in range(_DRAWS if pool.nodes else 0):
            node = pool.draw(self._random)
            if node.fingerprint not in avoiding and self._is_reachable(node.fingerprint):
                await self._read_policies([node.fingerprint])
                if self._carries(node.fingerprint, port):
                    return node.fingerprint
        return await self._choose_among(pool.nodes, port, avoiding)

    async def _choose_among(
        self, nodes: Sequence[Node], port: int, avoiding: Collection[str]
    ) -> str:
        """The same where few of them will do, each of which is looked at once."""
        left = [node for node in nodes if self._is_reachable(node.fingerprint)]
        order = drawn(left, self._weights or {}, self._random)
        order.sort(key=lambda node: node.fingerprint in avoiding)  # which keeps the order else
        for begin in range(0, len(order), _BATCH):
            batch = order[begin : begin + _BATCH]
            await self._read_policies([node.fingerprint for node in batch])
            for node in batch:
                if self._carries(node.fingerprint, port):
                    return node.fingerprint
        raise ExitUnavailable

    async def has(self, fingerprint: str, port: int) -> bool:
        """Whether that exit is there, and carries ``port``.

        :raises TortxdError: Tor does not answer.
        """
        if not self._is_reachable(fingerprint):
            return False
        node = await self._listed(fingerprint)
        if node is None or not node.may_exit:
            return False
        rules = await self._user_rules()
        if not rules.permit(node, self._country(node), chosen=True):
            return False
        await self._read_policies([fingerprint])
        return self._carries(fingerprint, port)

    def unreachable(self, fingerprint: str) -> None:
        """No circuit to it can be built."""
        self._unreachable.pop(fingerprint, None)
        self._unreachable[fingerprint] = self._clock.seconds() + UNREACHABLE_FOR
        if len(self._unreachable) > _MOST_UNREACHABLE:
            del self._unreachable[next(iter(self._unreachable))]

    # --- inside ----------------------------------------------------------------------------------

    async def _pool(self, choice: Choice) -> _Pool:
        pool = self._pools.get(choice)
        if pool is None:
            if self._weights is None:
                self._weights = await self._read_weights()
            pool = _Pool.of(await self._named(choice), self._weights)
            if len(self._pools) >= _MOST_POOLS:
                del self._pools[next(iter(self._pools))]
            self._pools[choice] = pool
        return pool

    async def _named(self, choice: Choice) -> list[Node]:
        """The exits that ``choice`` names, as far as the user permits them."""
        if choice.fingerprints:
            found = [await self._listed(one) for one in sorted(choice.fingerprints)]
            nodes = [node for node in found if node is not None and node.may_exit]
        else:
            nodes = list(self._exits.values())
        if choice.countries:
            nodes = [node for node in nodes if self._country(node) in choice.countries]
        rules, chosen = await self._user_rules(), not choice.is_any
        return [node for node in nodes if rules.permit(node, self._country(node), chosen=chosen)]

    async def _user_rules(self) -> ExitRules:
        if self._rules is None:
            self._rules = await ExitRules.read(self._control)
        return self._rules

    def _country(self, node: Node) -> str | None:
        return self._relays.get(node.fingerprint).country

    def _is_reachable(self, fingerprint: str) -> bool:
        until = self._unreachable.get(fingerprint)
        return until is None or until <= self._clock.seconds()

    async def _listed(self, fingerprint: str) -> Node | None:
        """What the consensus says of a relay, which need not be flagged as an exit to be one."""
        if fingerprint in self._exits:
            return self._exits[fingerprint]
        if fingerprint not in self._others:
            if self._has_consensus and fingerprint not in self._relays:
                return None  # which needs no asking
            self._others[fingerprint] = await self._read_status(fingerprint)
        return self._others[fingerprint]

    async def _read_status(self, fingerprint: str) -> Node | None:
        found: list[Node] = []
        try:
            await read_nodes(self._control, found.append, f"ns/id/{fingerprint}")
        except CommandRefused:
            return None  # 552: it is not in the consensus
        return next((node for node in found if node.fingerprint == fingerprint), None)

    def _carries(self, fingerprint: str, port: int) -> bool:
        policy = self._policies.get(fingerprint)
        return policy is not None and policy.takes(port)

    async def _read_policies(self, fingerprints: Iterable[str]) -> None:
        policies = self._policies
        missing = [one for one in fingerprints if one not in policies]
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
            policies[fingerprint] = _policy(replies.get(key, ""))

    async def _description(self, fingerprint: str) -> str:
        """The microdescriptor of one relay; or its status, which has the same line where a Tor
        uses no microdescriptors."""
        for key in (f"md/id/{fingerprint}", f"ns/id/{fingerprint}"):
            try:
                return (await self._control.ask(key)).get(key, "")
            except CommandRefused:
                continue
        return ""

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


def _policy(description: str) -> PortPolicy | None:
    """The port summary for names and IPv4 addresses (dir-spec, section 3.3, "p")."""
    line = next((line for line in description.split("\n") if line.startswith("p ")), "")
    return parsed(line[2:]) if line else None

"""Which exit a request leaves Tor by, where that is not Tor's to choose.

They are drawn as Tor draws them (path-spec, section 2.2): by the bandwidths of the consensus, times
its weight for the place. Whether one carries a port stands in its microdescriptor; on the public
network there are some 2,000 of them, so they are asked for in the order of the draw, until one
does. What comes of it is the same as a draw among all those that do.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from random import Random, SystemRandom
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from tortxd.errors import ExitUnavailable
from tortxd.policy.steering import Choice
from tortxd.tor.consensus import Consensus, Node, read_nodes
from tortxd.tor.exits import PortPolicy, parsed
from tortxd.tor.nodes import excluded_exits, matches
from tortxd.tor.relays import Relays
from tortxd.tor.replies import CommandRefused

if TYPE_CHECKING:
    from tortxd.tor.control import Control

UNREACHABLE_FOR = 120.0
"""Seconds for which an exit that could not be reached is not chosen."""
_BATCHES = (1, 4, 16, 64)
"""How many policies are asked for at once: most exits carry what most requests want."""
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
        self._policies: dict[str, PortPolicy | None] = {}
        """By fingerprint, as far as they were asked for."""
        self._weights: dict[str, int] | None = None
        self._excluded: list[str] | None = None
        self._unreachable: dict[str, float] = {}
        """Exits that could not be reached, and until when that counts."""

    def consensus_read(self, consensus: Consensus) -> None:
        """There is another consensus."""
        self._exits = {node.fingerprint: node for node in consensus.exits}
        self._policies.clear()
        self._weights = self._excluded = None

    async def choose(self, choice: Choice, port: int, avoiding: Collection[str] = ()) -> str:
        """The fingerprint of an exit that ``choice`` names and that carries ``port``.

        :param avoiding: exits that are taken only where there is no other.
        :raises ExitUnavailable: there is none.
        :raises TortxdError: Tor does not answer.
        """
        if self._weights is None:
            self._weights = await self._read_weights()
        order = drawn(await self._candidates(choice), self._weights, self._random)
        order.sort(key=lambda node: node.fingerprint in avoiding)  # which keeps the order else
        begin = 0
        for size in (*_BATCHES, len(order)):
            batch = order[begin : begin + size]
            await self._read_policies([node.fingerprint for node in batch])
            for node in batch:
                if self._carries(node.fingerprint, port):
                    return node.fingerprint
            begin += size
        raise ExitUnavailable

    async def has(self, fingerprint: str, port: int) -> bool:
        """Whether that exit is there, and carries ``port``.

        :raises TortxdError: Tor does not answer.
        """
        named = Choice(fingerprints=frozenset((fingerprint,)))
        if not await self._candidates(named):
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

    async def _candidates(self, choice: Choice) -> list[Node]:
        """The exits that ``choice`` names, which are there and not excluded by the user."""
        if choice.fingerprints:
            found = [await self._listed(one) for one in sorted(choice.fingerprints)]
            nodes = [node for node in found if node is not None and node.may_exit]
        else:
            nodes = list(self._exits.values())
        if choice.countries:
            nodes = [node for node in nodes if self._country(node) in choice.countries]
        if self._excluded is None:
            self._excluded = await excluded_exits(self._control)
        return [node for node in nodes if self._is_open(node, self._excluded)]

    def _country(self, node: Node) -> str | None:
        return self._relays.get(node.fingerprint).country

    def _is_open(self, node: Node, excluded: Iterable[str]) -> bool:
        until = self._unreachable.get(node.fingerprint)
        if until is not None and self._clock.seconds() < until:
            return False
        countries = {node.address: self._country(node) or "??"}
        return not any(matches(pattern, node, countries) for pattern in excluded)

    async def _listed(self, fingerprint: str) -> Node | None:
        """What the consensus says of a relay, which need not be flagged as an exit to be one."""
        node = self._exits.get(fingerprint)
        if node is not None:
            return node
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

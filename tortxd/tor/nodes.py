"""The relays of the consensus, and whether those that a configuration asks for are among them.

Where ExitNodes, EntryNodes or MiddleNodes match no relay, Tor stops at "loading descriptors" and
tells nobody (measured on 0.4.9.11: at most a line of percentages in its log, when the next
consensus comes). So they are compared with the consensus here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from tortxd.errors import TortxdError
from tortxd.tor.consensus import Node, countries_of, read_nodes

if TYPE_CHECKING:
    from tortxd.tor.control import Control

PATIENCE = 5.0
"""Seconds without progress after which the choice of relays is looked at."""
INTERVAL = 30.0
"""Seconds between two looks."""
_IN_DIRECTORY = range(45, 75)
"""The percentages from "requesting descriptors" to before "enough directory info"."""
_COUNTRY = re.compile(r"\{(..)\}")
_FINGERPRINT = re.compile(r"\$?([0-9A-Fa-f]{40})(?:[=~].*)?")
_NICKNAME = re.compile(r"[A-Za-z0-9]{1,19}")
_MOST_PATTERNS = 10_000
"""Items of options that are looked at."""
_MOST_COMPARED = 500_000
"""Relays times items: more would keep the reactor for seconds."""
_OPTIONS = (
    ("ExitNodes", "Exit", "exit relay", ("ExcludeNodes", "ExcludeExitNodes")),
    ("EntryNodes", "Guard", "guard", ("ExcludeNodes",)),
    ("MiddleNodes", "Running", "relay", ("ExcludeNodes",)),
)
"""Options, the flag that a relay needs for the place, what it is called there, and the options that
take relays away from it."""


def wants_countries(patterns: Iterable[str]) -> bool:
    """Whether countries must be known to say what these match."""
    return any(map(_COUNTRY.fullmatch, patterns))


def matches(pattern: str, node: Node, countries: Mapping[str, str]) -> bool | None:
    """Whether one item of such an option (tor(1), "ExcludeNodes") is about this relay. None where
    the item is not understood.

    :param countries: the countries of addresses, lower case.
    """
    if match := _COUNTRY.fullmatch(pattern):
        return countries.get(node.address, "??") == match[1].lower()
    if match := _FINGERPRINT.fullmatch(pattern):
        return node.fingerprint == match[1].upper()
    try:
        network = ipaddress.ip_network(pattern.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return node.nickname.lower() == pattern.lower() if _NICKNAME.fullmatch(pattern) else None
    # An IPv6 network may hold further addresses of the relay, which are not known here.
    return ipaddress.ip_address(node.address) in network if network.version == 4 else None


def none_left(
    chosen: Iterable[str],
    excluded: Iterable[str],
    nodes: Iterable[Node],
    countries: Mapping[str, str],
) -> bool:
    """Whether no relay is surely both chosen and not excluded; False where that is not certain, or
    would take too long to find out."""
    chosen, excluded, nodes = tuple(chosen), tuple(excluded), tuple(nodes)
    if len(nodes) * (len(chosen) + len(excluded)) > _MOST_COMPARED:
        return False
    for node in nodes:
        taken = [matches(pattern, node, countries) for pattern in chosen]
        if None in taken:
            return False
        if any(taken) and not any(matches(pattern, node, countries) for pattern in excluded):
            return False
    return True


async def impossible_choice(control: Control) -> str | None:
    """A sentence about an option that leaves Tor no relay for a place in its circuits, or None.

    :raises TortxdError: Tor does not answer.
    """
    nodes: list[Node] | None = None
    for option, flag, place, against in _OPTIONS:
        chosen = await configured_items(control, option)
        if not chosen:
            continue
        excluded = [
            pattern for each in against for pattern in await configured_items(control, each)
        ]
        if len(chosen) + len(excluded) >= _MOST_PATTERNS:
            continue
        if nodes is None:
            nodes = []
            await read_nodes(control, nodes.append)
            if not nodes:
                return None
        fit = [node for node in nodes if flag in node.flags]
        countries: dict[str, str] = {}
        if wants_countries((*chosen, *excluded)):
            countries = await countries_of(control, [node.address for node in fit])
        if none_left(chosen, excluded, fit, countries):
            return (
                f"No {place} of the network is one that {option} allows, so Tor cannot build "
                f"circuits: change {option} in the torrc file."
            )
    return None


async def configured_items(control: Control, option: str) -> list[str]:
    """The items of an option that is a list, 10,000 at most.

    :raises TortxdError: Tor does not answer.
    """
    values = await control.configured(option)
    items = (item.strip() for value in values for item in value.split(","))
    return list(islice(filter(None, items), _MOST_PATTERNS))


class ChoiceWatch:
    """Looks for an impossible choice while Tor does not get beyond its directory.

    :param tell: called with a sentence, or with None when it no longer counts.
    :param failed: called with a fault of ours.
    """

    def __init__(
        self,
        clock: IReactorTime,
        control: Control,
        tell: Callable[[str | None], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._clock = clock
        self._control = control
        self._tell = tell
        self._failed = failed
        self._percent = 0
        self._told: str | None = None
        self._timer: IDelayedCall | None = None

    def progress(self, percent: int) -> None:
        """Tor is so far now."""
        if percent == self._percent:
            return
        self._percent = percent
        self.close()
        if percent in _IN_DIRECTORY:
            self._timer = self._clock.callLater(PATIENCE, self._look)
        else:
            self._say(None)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _look(self) -> None:
        Deferred.fromCoroutine(self._judge(self._percent)).addErrback(self._failed)

    async def _judge(self, percent: int) -> None:
        try:
            sentence = await impossible_choice(self._control)
        except TortxdError:
            return  # Tor is gone or hangs, which others see to
        if percent == self._percent and self._timer is not None:
            self._say(sentence)
            self._timer = self._clock.callLater(INTERVAL, self._look)

    def _say(self, sentence: str | None) -> None:
        if sentence != self._told:
            self._told = sentence
            self._tell(sentence)

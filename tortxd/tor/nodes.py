"""The relays of the consensus, and whether those that a configuration asks for are among them.

Where ExitNodes, EntryNodes or MiddleNodes match no relay, Tor stops at "loading descriptors" and
tells nobody (measured on 0.4.9.11: at most a line of percentages in its log, when the next
consensus comes). So they are compared with the consensus here.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from tortxd.addresses import is_address
from tortxd.errors import TortxdError
from tortxd.tor.link import Relay
from tortxd.wire.control import Implausible

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
MOST_NODES = 100_000
"""The public network has some 9,000."""
_MOST_PATTERNS = 10_000
"""Items of options that are looked at."""
_MOST_COMPARED = 500_000
"""Relays times items: more would keep the reactor for seconds."""
_BATCH = 100
"""Addresses whose countries are asked for at once."""

_OPTIONS = (
    ("ExitNodes", "Exit", "exit relay", ("ExcludeNodes", "ExcludeExitNodes")),
    ("EntryNodes", "Guard", "guard", ("ExcludeNodes",)),
    ("MiddleNodes", "Running", "relay", ("ExcludeNodes",)),
)
"""Options, the flag that a relay needs for the place, what it is called there, and the options that
take relays away from it."""
_FLAGS = frozenset(flag for _, flag, _, _ in _OPTIONS)


@frozen
class Node:
    """A relay of the consensus."""

    fingerprint: str
    """40 hexadecimal digits, upper case."""
    nickname: str
    address: str
    flags: frozenset[str]
    """Those that count here."""


def node_reader(take: Callable[[Node], object]) -> Callable[[str], None]:
    """What takes the lines of ``ns/all``, of which ``r`` and ``s`` make a relay (dir-spec, section
    3.4.1), and hands each relay on. What is no relay is left out.

    It raises Implausible after :data:`MOST_NODES`.
    """
    router: list[str] = []
    count = 0

    def line_came(line: str) -> None:
        nonlocal router, count
        words = line.split()
        if words[:1] == ["r"] and len(words) >= 7:
            router = words
        elif words[:1] == ["s"] and router:
            node = _node(router, words[1:])
            if node is not None:
                count += 1
                if count > MOST_NODES:
                    raise Implausible("more relays than there can be")
                take(node)
            router = []

    return line_came


def _node(router: list[str], flags: list[str]) -> Node | None:
    nickname, address = router[1], router[-3]
    try:
        fingerprint = b64decode(router[2] + "=").hex().upper()
    except ValueError:
        return None
    if len(fingerprint) != 40 or not _NICKNAME.fullmatch(nickname) or not is_address(address):
        return None
    return Node(fingerprint, nickname, address, _FLAGS.intersection(flags))


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
        chosen = await _patterns(control, option)
        if not chosen:
            continue
        excluded = [pattern for each in against for pattern in await _patterns(control, each)]
        if len(chosen) + len(excluded) >= _MOST_PATTERNS:
            continue
        if nodes is None:
            nodes = []
            await control.ask_for_lines("ns/all", node_reader(nodes.append))
            if not nodes:
                return None
        fit = [node for node in nodes if flag in node.flags]
        countries: dict[str, str] = {}
        if wants_countries((*chosen, *excluded)):
            countries = await _countries(control, [node.address for node in fit])
        if none_left(chosen, excluded, fit, countries):
            return (
                f"No {place} of the network is one that {option} allows, so Tor cannot build "
                f"circuits: change {option} in the torrc file."
            )
    return None


async def _patterns(control: Control, option: str) -> list[str]:
    values = await control.configured(option)
    items = (item.strip() for value in values for item in value.split(","))
    return list(islice(filter(None, items), _MOST_PATTERNS))


async def read_relays(control: Control) -> list[Relay]:
    """The relays of the consensus, with the countries that Tor's GeoIP names; none where there is
    no consensus yet. On the public network some 9,000: a tenth of a second's work, in small pieces.

    :raises TortxdError: Tor does not answer.
    """
    addresses: dict[str, str] = {}

    def take(node: Node) -> None:
        addresses[node.fingerprint] = node.address

    await control.ask_for_lines("ns/all", node_reader(take))
    countries = await _countries(control, list(dict.fromkeys(addresses.values())))
    return [
        Relay(fingerprint, None, address, country_of(countries.get(address, "")))
        for fingerprint, address in addresses.items()
    ]


def country_of(reply: str) -> str | None:
    """The code of a country (ISO 3166, lower case) in the reply to ``ip-to-country``, which may
    name none."""
    return reply.lower() if len(reply) == 2 and reply.isalpha() and reply.isascii() else None


async def _countries(control: Control, addresses: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for begin in range(0, len(addresses), _BATCH):
        keys = [f"ip-to-country/{address}" for address in addresses[begin : begin + _BATCH]]
        for key, country in (await control.ask(*keys)).items():
            found[key.partition("/")[2]] = country[:2].lower()
    return found


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

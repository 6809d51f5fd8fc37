"""What is read of the consensus that Tor has: its relays, and where they are."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from tortxd.addresses import is_address
from tortxd.tor.link import Relay
from tortxd.tor.replies import CommandRefused
from tortxd.wire.control import Implausible

if TYPE_CHECKING:
    from tortxd.tor.control import Control

MOST_NODES = 100_000
"""The public network has some 9,000."""
_BATCH = 100
"""Addresses whose countries are asked for at once."""
_FLAGS = frozenset({"BadExit", "Exit", "Guard", "Running", "Valid"})
_BANDWIDTH = re.compile(r"Bandwidth=([0-9]{1,15})")
_NICKNAME = re.compile(r"[A-Za-z0-9]{1,19}")


@frozen
class Node:
    """A relay of the consensus."""

    fingerprint: str
    """40 hexadecimal digits, upper case."""
    nickname: str
    address: str
    flags: frozenset[str]
    """Those that count here."""
    bandwidth: int = 0
    """What the consensus weighs it by, in kilobytes a second."""

    @property
    def may_exit(self) -> bool:
        """Whether it is one over which traffic may leave."""
        return {"Running", "Valid"} <= self.flags and "BadExit" not in self.flags


class NodeReader:
    """Takes the lines of ``ns/all``, of which ``r``, ``s`` and ``w`` make a relay (dir-spec,
    section 3.4.1), and hands each relay to ``take``. What is no relay is left out."""

    def __init__(self, take: Callable[[Node], object]) -> None:
        self._take = take
        self._router: list[str] = []
        self._flags: list[str] | None = None
        self._bandwidth = 0
        self._count = 0

    def feed(self, line: str) -> None:
        """The next line.

        :raises Implausible: there are more than :data:`MOST_NODES`.
        """
        words = line.split()
        kind = words[0] if words else ""
        if kind == "r":
            self.end()
            self._router = words if len(words) >= 7 else []
        elif kind == "s":
            self._flags = words[1:]
        elif kind == "w" and len(words) > 1 and (match := _BANDWIDTH.fullmatch(words[1])):
            self._bandwidth = int(match[1])

    def end(self) -> None:
        """There are no more lines; errors as :meth:`feed`."""
        router, flags = self._router, self._flags
        bandwidth = self._bandwidth
        self._router, self._flags, self._bandwidth = [], None, 0
        node = _node(router, flags, bandwidth) if router and flags is not None else None
        if node is not None:
            self._count += 1
            if self._count > MOST_NODES:
                raise Implausible("more relays than there can be")
            self._take(node)


async def read_nodes(control: Control, take: Callable[[Node], object], key: str = "ns/all") -> None:
    """Hand each relay of the consensus to ``take``.

    :param key: ``ns/id/FINGERPRINT``: that relay alone.
    :raises TortxdError: Tor does not answer.
    """
    reader = NodeReader(take)
    await control.ask_for_lines(key, reader.feed)
    reader.end()


def _node(router: list[str], flags: list[str], bandwidth: int) -> Node | None:
    nickname, address = router[1], router[-3]
    try:
        fingerprint = b64decode(router[2] + "=").hex().upper()
    except ValueError:
        return None
    if len(fingerprint) != 40 or not _NICKNAME.fullmatch(nickname) or not is_address(address):
        return None
    return Node(fingerprint, nickname, address, _FLAGS.intersection(flags), bandwidth)


@frozen
class Consensus:
    """What is kept of a consensus; empty where there is none yet."""

    relays: tuple[Relay, ...]
    """All, with the countries that Tor's GeoIP names."""
    exits: tuple[Node, ...]
    """Those over which traffic may leave, and that it flags as exits."""


async def read_consensus(control: Control) -> Consensus:
    """The consensus that Tor has. On the public network it has some 9,000 relays: a tenth of a
    second's work, in small pieces.

    :raises TortxdError: Tor does not answer.
    """
    addresses: dict[str, str] = {}
    exits: list[Node] = []

    def take(node: Node) -> None:
        addresses[node.fingerprint] = node.address
        if node.may_exit and "Exit" in node.flags:
            exits.append(node)

    await read_nodes(control, take)
    countries = await countries_of(control, list(dict.fromkeys(addresses.values())))
    relays = (
        Relay(fingerprint, None, address, country_of(countries.get(address, "")))
        for fingerprint, address in addresses.items()
    )
    return Consensus(tuple(relays), tuple(exits))


def country_of(reply: str) -> str | None:
    """The code of a country (ISO 3166, lower case) in the reply to ``ip-to-country``, which may
    name none."""
    return reply.lower() if len(reply) == 2 and reply.isalpha() and reply.isascii() else None


async def countries_of(control: Control, addresses: list[str]) -> dict[str, str]:
    """What Tor's GeoIP says of these addresses, in lower case: two letters, or ``??``. Nothing
    where Tor has no such file.

    :raises TortxdError: Tor does not answer.
    """
    found: dict[str, str] = {}
    for begin in range(0, len(addresses), _BATCH):
        keys = [f"ip-to-country/{address}" for address in addresses[begin : begin + _BATCH]]
        try:
            countries = await control.ask(*keys)
        except CommandRefused:  # 551, "GeoIP data not loaded"
            break
        for key, country in countries.items():
            found[key.partition("/")[2]] = country[:2].lower()
    return found

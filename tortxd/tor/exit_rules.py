"""Which relays a user's options permit as exits."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import frozen

from tortxd.tor.consensus import Node
from tortxd.tor.nodes import configured_items

if TYPE_CHECKING:
    from tortxd.tor.control import Control

_COUNTRY = re.compile(r"\{(..)\}")
_FINGERPRINT = re.compile(r"\$?([0-9A-Fa-f]{40})(?:[=~].*)?")
_MOST_NETWORKS = 1_000


@frozen
class Patterns:
    """The items of an option that names relays (tor(1), "ExcludeNodes"), taken apart once: they are
    compared with every exit there is."""

    countries: frozenset[str]
    fingerprints: frozenset[str]
    nicknames: frozenset[str]
    """In lower case."""
    networks: tuple[ipaddress.IPv4Network, ...]

    @classmethod
    def of(cls, items: Iterable[str]) -> Patterns:
        """Those of these items; what is no item is left out, as is an IPv6 network: which further
        addresses a relay has is not known here."""
        countries, fingerprints, nicknames = set[str](), set[str](), set[str]()
        networks: list[ipaddress.IPv4Network] = []
        for item in items:
            if match := _COUNTRY.fullmatch(item):
                countries.add(match[1].lower())
            elif match := _FINGERPRINT.fullmatch(item):
                fingerprints.add(match[1].upper())
            else:
                try:
                    networks.append(ipaddress.IPv4Network(item, strict=False))
                except ValueError:
                    nicknames.add(item.lower())
        return cls(
            frozenset(countries),
            frozenset(fingerprints),
            frozenset(nicknames),
            tuple(networks[:_MOST_NETWORKS]),
        )

    def match(self, node: Node, country: str | None) -> bool:
        """Whether one of them is about this relay."""
        if (
            node.fingerprint in self.fingerprints
            or (country or "??") in self.countries
            or node.nickname.lower() in self.nicknames
        ):
            return True
        if not self.networks:
            return False
        address = ipaddress.ip_address(node.address)
        return any(address in network for network in self.networks)


@frozen
class ExitRules:
    """What a user's options say of exits."""

    allowed: Patterns | None
    """ExitNodes; None: all are allowed."""
    excluded: Patterns

    @classmethod
    async def read(cls, control: Control) -> ExitRules:
        """Ask Tor for them.

        :raises TortxdError: it does not answer.
        """
        allowed = await configured_items(control, "ExitNodes")
        excluded = await configured_items(control, "ExcludeNodes")
        excluded += await configured_items(control, "ExcludeExitNodes")
        return cls(Patterns.of(allowed) if allowed else None, Patterns.of(excluded))

    def permit(self, node: Node, country: str | None, *, chosen: bool) -> bool:
        """Whether it may be an exit.

        :param chosen: whether it was asked for, which counts for more than ExitNodes, as it does
            in Tor (tor(1), "ExitNodes").
        """
        if self.excluded.match(node, country):
            return False
        return chosen or self.allowed is None or self.allowed.match(node, country)

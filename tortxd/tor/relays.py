"""The details of relays, as far as they are known."""

from __future__ import annotations

from collections.abc import Iterable

from tortxd.tor.lines import split_path
from tortxd.tor.link import Relay

_MOST_RELAYS = 100_000


class Relays:
    """Relays by their fingerprints."""

    def __init__(self) -> None:
        self._relays: dict[str, Relay] = {}
        self.guards: frozenset[str] | None = None
        """The fingerprints of the relays that Tor has chosen as its guards; None: not known."""

    def add(self, relay: Relay) -> None:
        """Remember the details of a relay."""
        if len(self._relays) >= _MOST_RELAYS:
            del self._relays[next(iter(self._relays))]
        self._relays[relay.fingerprint] = relay

    def replace(self, relays: Iterable[Relay]) -> None:
        """Remember these relays' details, and forget all others."""
        self._relays = {relay.fingerprint: relay for relay in relays}

    def get(self, fingerprint: str) -> Relay:
        """The relay, with as many details as are known."""
        return self._relays.get(fingerprint) or Relay(fingerprint)

    def __contains__(self, fingerprint: str) -> bool:
        return fingerprint in self._relays

    def is_guard(self, fingerprint: str) -> bool | None:
        """Whether it is one of Tor's guards; None where those are not known."""
        return None if self.guards is None else fingerprint in self.guards

    def missing(self, path: str) -> tuple[str, ...]:
        """The fingerprints on a circuit's path of which no details are known, exit first."""
        fingerprints = [fingerprint for fingerprint, _ in split_path(path)]
        return tuple(one for one in reversed(fingerprints) if one not in self._relays)

"""Looks up the relays that circuits lead over: their addresses and countries."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tortxd.errors import TortxdError
from tortxd.tor.changes import CircuitChanged
from tortxd.tor.consensus import Consensus, countries_of, country_of, read_consensus
from tortxd.tor.link import Relay
from tortxd.tor.replies import CommandRefused, guards_of, relay_address
from tortxd.tor.table import Table

if TYPE_CHECKING:
    from tortxd.tor.control import Control

_MOST_WAITING = 1000


class RelayLookups:
    """Listens to ``table`` for circuits that are built, until :meth:`close`.

    :param failed: called with a fault of ours.
    :param consensus_read: called with each consensus.
    """

    def __init__(
        self,
        control: Control,
        table: Table,
        failed: Callable[[Failure], None],
        consensus_read: Callable[[Consensus], object],
    ) -> None:
        self._control = control
        self._consensus_read = consensus_read
        self._table = table
        self._relays = table.relays
        self._failed = failed
        self._waiting: deque[str] = deque()
        self._reading = False
        self._closed = False
        self._leave = table.listen(CircuitChanged, self._circuit_changed)

    def close(self) -> None:
        """Look up no more."""
        self._closed = True
        self._waiting.clear()
        self._leave()

    async def read_consensus(self) -> None:
        """Know relays before circuits lead over them: the first response names its exit, too.

        :raises TortxdError: Tor does not answer.
        """
        # A filter before the control port may refuse it; then they are asked for one by one.
        with suppress(CommandRefused):
            consensus = await read_consensus(self._control)
            self._relays.replace(consensus.relays)
            self._consensus_read(consensus)

    def consensus_arrived(self) -> None:
        """Tor has another consensus."""
        Deferred.fromCoroutine(self.read_consensus()).addErrback(self._not_read)

    def guards_changed(self) -> None:
        """Tor may have other guards now."""
        Deferred.fromCoroutine(self._read_guards()).addErrback(self._not_read)

    async def _read_guards(self) -> None:
        with suppress(CommandRefused):
            replies = await self._control.ask("entry-guards")
            self._relays.guards = guards_of(replies.get("entry-guards", ""))

    def look_at_circuits(self) -> None:
        """Look up what the consensus has not named of the circuits that are open."""
        for circuit in self._table.circuits():
            if circuit.state == "BUILT":
                path = (relay.fingerprint for relay in reversed(circuit.path))
                self._look_up(one for one in path if one not in self._relays)

    def _look_up(self, fingerprints: Iterable[str]) -> None:
        """Look these relays up, the first of them before those that wait: exits are needed before
        the first response comes over them."""
        room = _MOST_WAITING - len(self._waiting)
        missing = [one for one in fingerprints if one not in self._waiting][:room]
        self._waiting.extend(missing[1:])
        self._waiting.extendleft(missing[:1])
        if self._waiting and not self._reading:
            self._reading = True
            Deferred.fromCoroutine(self._read()).addErrback(self._failed)

    def _circuit_changed(self, circuit: CircuitChanged) -> None:
        # Those that were there before are looked at when the consensus is known.
        if circuit.state == "BUILT" and circuit.event == "CIRC":
            missing = self._relays.missing(circuit.path)
            if missing:
                self._look_up(missing)

    async def _read(self) -> None:
        """One at a time, so that other commands are not kept waiting behind many."""
        try:
            while self._waiting and not self._closed:
                await self._read_relay(self._waiting.popleft())
        except TortxdError:
            self._waiting.clear()  # Tor is gone or hangs; the watchdog and control_lost see to it
        finally:
            self._reading = False

    async def _read_relay(self, fingerprint: str) -> None:
        key = f"ns/id/{fingerprint}"
        address = relay_address((await self._control.ask(key)).get(key, ""))
        if address is None:
            return  # not in the consensus, or there is none yet: asked again when next it shows
        countries = await countries_of(self._control, [address])
        country = country_of(countries.get(address, ""))
        self._relays.add(Relay(fingerprint, None, address, country))

    def _not_read(self, failure: Failure) -> None:
        if not failure.check(TortxdError):  # as in _read
            self._failed(failure)

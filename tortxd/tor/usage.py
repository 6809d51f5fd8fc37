"""Who uses which circuit, and how streams fare on it.

From this follows whether a request costs Tor a fresh circuit (:mod:`tortxd.tor.budget`), and which
circuits are of no use to anybody (:mod:`tortxd.tor.guard`). Tor gives a circuit to the streams of
one SOCKS username: it says so where it launches the circuit for them; of one that it had ready, the
first stream on it shows it.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from tortxd.tor.changes import CircuitChanged, CircuitClosed, Cleared, StreamChanged, StreamEnded
from tortxd.tor.table import Table

DIRTY_SECONDS = 600.0
"""For how long Tor gives streams to a circuit after the first (tor(1), MaxCircuitDirtiness)."""
GRACE_SECONDS = 10.0
"""How long a circuit on which a stream has failed is kept for another that may fare better."""


@define
class _Use:
    """An open circuit, as far as its use goes."""

    id: str
    username: str | None = None
    """For whom it was launched, or who uses it."""
    claimed: float = 0.0
    """When that was known."""
    served: bool = False
    """Whether a stream on it has reached its destination."""
    failing: bool = False
    """Whether a stream has failed on it, and none has reached its destination."""
    spent: bool = False
    """Whether Tor gives it no further streams, since one failed on it."""


class Usage:
    """Listens to ``table``, until :meth:`close`. Times are seconds on the reactor's clock.

    :param claimed: called with the SOCKS username of streams that have got a circuit, or a conflux
        set, that was nobody's before. Those that were there before the control connection do not
        count: whoever had them has paid for them.
    :param suspected: called when a circuit may be of no use: :meth:`take_useless` tells, sooner or
        later.
    """

    def __init__(
        self,
        table: Table,
        *,
        claimed: Callable[[str], object],
        suspected: Callable[[], object],
    ) -> None:
        self._table = table
        self._claimed = claimed
        self._suspected = suspected
        self._uses: dict[str, _Use] = {}
        """Of every open circuit."""
        self._by_username: dict[str, dict[str, _Use]] = {}
        self._suspects: dict[str, float] = {}
        """Circuits on which streams have failed, and when they are to be closed if no stream has
        reached its destination over them."""
        self._leave = (
            table.listen(CircuitChanged, self._circuit_changed),
            table.listen(CircuitClosed, self._circuit_closed),
            table.listen(StreamChanged, self._stream_changed),
            table.listen(StreamEnded, self._stream_ended),
            table.listen(Cleared, self._cleared),
        )

    def close(self) -> None:
        """Listen no more."""
        for leave in self._leave:
            leave()

    # --- what is asked -------------------------------------------------------------------------

    def carries(self, username: str, now: float, *, served: bool = False) -> bool:
        """Whether there is a circuit that Tor gives to streams with this SOCKS username, and over
        which some have reached their destinations, or (unless ``served``) none has failed."""
        return any(
            not one.spent
            and not (one.failing or (served and not one.served))
            and now - one.claimed < DIRTY_SECONDS
            for one in self._by_username.get(username, {}).values()
        )

    @property
    def has_suspects(self) -> bool:
        """Whether :meth:`take_useless` is to be asked, sooner or later."""
        return bool(self._suspects)

    def take_useless(self, now: float, username_prefix: str = "") -> list[str]:
        """The ids of circuits that have served failures only, and carry no stream now, so far as
        their SOCKS usernames begin with ``username_prefix``; each is given once. One that Tor gives
        no further streams is given at once, another after :data:`GRACE_SECONDS`."""
        useless: list[str] = []
        for id, due in list(self._suspects.items()):
            if id not in self._suspects:
                continue  # a leg of one before it
            legs = self._legs(id)
            if any(leg.served for leg in legs):
                del self._suspects[id]
            elif due <= now and not any(self._table.streams_on(leg.id) for leg in legs):
                for leg in (id, *(leg.id for leg in legs)):
                    self._suspects.pop(leg, None)
                if (self._uses[id].username or "").startswith(username_prefix):
                    useless += [leg.id for leg in legs]
        return useless

    def _legs(self, circuit: str) -> list[_Use]:
        return [self._uses[leg] for leg in self._table.legs(circuit) if leg in self._uses]

    # --- what happens --------------------------------------------------------------------------

    def _circuit_changed(self, circuit: CircuitChanged) -> None:
        use = self._uses.get(circuit.id)
        if use is None:
            use = self._uses[circuit.id] = _Use(circuit.id)
        if circuit.username is None or not circuit.is_claimed:
            return
        username = circuit.username
        is_first = all(leg.username != username for leg in self._legs(circuit.id))
        if use.username not in (None, username):
            self._disown(use)  # it was launched for somebody who did not need it
        use.username = username
        is_late = circuit.event in ("STREAM", "GETINFO")
        use.claimed = circuit.at if is_late else circuit.created
        self._by_username.setdefault(username, {})[circuit.id] = use
        if is_first and circuit.event != "GETINFO":
            self._claimed(username)

    def _circuit_closed(self, closed: CircuitClosed) -> None:
        use = self._uses.pop(closed.circuit.id, None)
        self._suspects.pop(closed.circuit.id, None)
        if use is not None:
            self._disown(use)

    def _disown(self, use: _Use) -> None:
        """A circuit is no longer its user's."""
        alike = self._by_username.get(use.username or "")
        if alike is not None:
            alike.pop(use.id, None)
            if not alike:
                del self._by_username[use.username or ""]

    def _stream_changed(self, stream: StreamChanged) -> None:
        if stream.state == "SUCCEEDED":
            use = self._uses.get(stream.circuit or "")
            if use is not None:
                use.served, use.failing = True, False
        elif stream.state == "DETACHED":
            # Tor tries it on another circuit, and gives no further streams to this.
            self._failed(stream.previous, stream.at, spent=True)

    def _stream_ended(self, ended: StreamEnded) -> None:
        # A client that leaves while it waits says nothing of the circuit.
        stream = ended.stream
        if not stream.reached and (ended.remote_reason is not None or ended.reason == "TIMEOUT"):
            self._failed(stream.circuit, ended.at, spent=False)

    def _cleared(self, _: Cleared) -> None:
        self._uses.clear()
        self._by_username.clear()
        self._suspects.clear()

    def _failed(self, circuit: str | None, now: float, *, spent: bool) -> None:
        use = self._uses.get(circuit or "")
        if use is None or use.username is None:
            return
        use.spent = use.spent or spent
        if not use.served:
            use.failing = True
            self._suspects[use.id] = now if use.spent else now + GRACE_SECONDS
            self._suspected()

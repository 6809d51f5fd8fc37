"""How long Tor takes to build circuits."""

from __future__ import annotations

from tortxd.gateway.journal import Distribution
from tortxd.tor.changes import CircuitChanged
from tortxd.tor.link import TorView


class BuildTimes(Distribution):
    """Counts each circuit when it is built, until :meth:`stop`."""

    def __init__(self, link: TorView) -> None:
        super().__init__()
        self._leave = link.listen(CircuitChanged, self._circuit_changed)

    def stop(self) -> None:
        """Count no further ones."""
        self._leave()

    def _circuit_changed(self, circuit: CircuitChanged) -> None:
        if circuit.built is not None and circuit.built == circuit.at:
            self.add(circuit.built - circuit.created)

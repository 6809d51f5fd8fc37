"""The way that a response came, as the gateway and the library tell it."""

from __future__ import annotations

from attrs import frozen

from tortxd.tor.link import Relay
from tortxd.wire.http1 import Headers


@frozen
class TorInfo:
    """Which circuit carried a request, and by which exit it left Tor. What is not known is None."""

    circuit: str | None = None
    """The circuit's id, as the daemon's ``/circuits`` has it."""
    exit: Relay | None = None
    attempts: int = 1
    """How many tries it took."""
    exit_changed: bool = False
    """Whether a sticky key has another exit since the response before, because its own has gone."""

    @classmethod
    def of(cls, headers: Headers) -> TorInfo:
        """What the headers say that the gateway adds to responses."""
        said = {name.lower(): value.decode("latin-1") for name, value in headers}
        fingerprint = said.get(b"tortxd-exit")
        return cls(
            circuit=said.get(b"tortxd-circuit"),
            exit=None
            if fingerprint is None
            else Relay(
                fingerprint,
                None,
                said.get(b"tortxd-exit-address"),
                said.get(b"tortxd-exit-country"),
            ),
            attempts=int(said.get(b"tortxd-attempts", "1")),
            exit_changed=b"tortxd-exit-changed" in said,
        )

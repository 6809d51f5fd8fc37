"""What tests of steered requests ask of a Tor itself, by a control connection of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.task import deferLater

from tests.daemon.onions import control_of
from tests.daemon.process import PATIENCE, POLL, Daemon, installed
from tortxd.testing import PrivateNetwork

if TYPE_CHECKING:
    from tortxd.tor.control import Control


@define
class Witness:
    """A second controller, which sees what Tor does and changes nothing."""

    control: Control
    exits: dict[str, str] = field(factory=dict)
    """The last relay of each circuit that was built, by its id."""
    on: dict[str, set[str]] = field(factory=dict)
    """The circuits on which the streams were that came from each port of a client."""
    _streams: dict[str, str] = field(factory=dict)

    def circuit_event(self, line: str) -> None:
        id, state, *rest = line.split()
        if state == "BUILT" and rest and rest[0].startswith("$"):
            self.exits[id] = rest[0].rpartition("$")[2][:40]

    def stream_event(self, line: str) -> None:
        id, state, circuit, *rest = line.split()
        if state == "NEW":
            source = next((word for word in rest if word.startswith("SOURCE_ADDR=")), "")
            self._streams[id] = source.rpartition(":")[2]
        if circuit != "0" and state in ("SENTCONNECT", "SUCCEEDED") and id in self._streams:
            self.on.setdefault(self._streams[id], set()).add(circuit)

    async def mappings(self) -> list[str]:
        """What was mapped by controllers."""
        key = "address-mappings/control"
        return (await self.control.ask(key)).get(key, "").splitlines()

    async def has_heard_all(self) -> None:
        """Wait for what Tor has said before now."""
        await self.control.ask("version")

    async def choices(self) -> list[str]:
        """What the options say by which exits are chosen for everybody."""
        options = ("ExitNodes", "__LeaveStreamsUnattached", "StrictNodes")
        return [str(await self.control.configured(option)) for option in options]

    async def until_nothing_of_ours(self) -> None:
        """Wait until no mapping of a daemon is left."""
        await self._until_ours(False)

    async def until_something_of_ours(self) -> None:
        """Wait until a daemon has mapped something."""
        await self._until_ours(True)

    async def _until_ours(self, there: bool) -> None:
        deadline = installed().seconds() + PATIENCE
        while any(one.startswith("tortxd-") for one in await self.mappings()) is not there:
            assert installed().seconds() < deadline, await self.mappings()
            await deferLater(installed(), POLL)


@asynccontextmanager
async def witness(socket: Path) -> AsyncIterator[Witness]:
    """A witness of the Tor with this control socket."""
    control = await control_of(socket)
    made = Witness(control)
    await control.subscribe([("CIRC", made.circuit_event), ("STREAM", made.stream_event)])
    status = (await control.ask("circuit-status"))["circuit-status"]
    for line in filter(None, status.splitlines()):
        made.circuit_event(line)
    try:
        yield made
    finally:
        control.close()


def socket_of(daemon: Daemon) -> Path:
    """The control socket of the Tor that a daemon has launched."""
    return daemon.data_dir / "tor" / "control.socket"


async def close_circuits(daemon: Daemon, exit: str) -> None:
    """Close every circuit that ends at this exit; of a conflux set, that is all of its legs."""
    for circuit in (await daemon.told("/circuits"))["circuits"]:
        if circuit["path"] and circuit["path"][-1]["fingerprint"] == exit:
            path = f"/circuits/{circuit['id']}/close"
            reply = await daemon.ask(path, f"Tortxd-Token: {daemon.token}", method="POST")
            assert reply.status in (200, 404)  # it may have gone by itself


def exits_in(network: PrivateNetwork, country: str) -> list[str]:
    """The fingerprints of the exits of a country."""
    return [one.fingerprint for one in network.relays if one.is_exit and one.country == country]

"""Loopback addresses and ports that no other network on this machine uses."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

from attrs import field, frozen

from tortxd.testing.model import NetworkError

_TRIES = 50
# Below the range from which Linux takes the ports of outgoing connections.
_PORTS = range(10_000, 32_000)


@frozen
class Claim:
    """A /24 inside 127.0.0.0/8 and two port numbers, held until :meth:`release`."""

    prefix: str
    """The first three numbers of every address: ``127.x.y``."""
    or_port: int
    dir_port: int
    _holder: socket.socket = field(repr=False)

    def address(self, number: int) -> str:
        """The address whose last number is ``number``, 1 to 254; 1 is the claim's own."""
        return f"{self.prefix}.{number}"

    def release(self) -> None:
        """Let others have it. The kernel does so by itself when this process dies."""
        self._holder.close()


def claim(numbers: range) -> Claim:
    """Find a free /24 and two ports which are free on all of its addresses in ``numbers``.

    The claim is a listening socket on the first address, so that two networks which start at the
    same moment, in whatever processes, cannot get the same one.

    Raises NetworkError when nothing free is found.
    """
    chance = random.SystemRandom()
    for _ in range(_TRIES):
        prefix = f"127.{chance.randrange(1, 255)}.{chance.randrange(1, 255)}"
        or_port, dir_port = chance.sample(_PORTS, 2)
        # One fixed port, whatever the others are: it is what makes the claim exclusive.
        holder = _listen(f"{prefix}.1", _PORTS[0])
        if holder is None:
            continue
        wanted = [(f"{prefix}.{n}", port) for n in numbers for port in (or_port, dir_port)]
        if all(_free(wanted)):
            return Claim(prefix, or_port, dir_port, holder)
        holder.close()
    raise NetworkError("No free loopback addresses and ports were found for the private network.")


def _listen(host: str, port: int) -> socket.socket | None:
    found = socket.socket()
    try:
        found.bind((host, port))
        found.listen(1)
    except OSError:
        found.close()
        return None
    return found


def _free(wanted: list[tuple[str, int]]) -> Iterator[bool]:
    for host, port in wanted:
        listening = _listen(host, port)
        if listening is not None:
            listening.close()
        yield listening is not None

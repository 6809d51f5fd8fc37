"""What a refusal costs beside what it saves: CPU of the gateway for each request or connection that
is one too many, by that of a small request that is served.

usage: ``python -m bench.refusals [TURNS]``

16 clients ask at once, again and again, over connections that are kept or over new ones.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from bench.load import Target
from bench.peers.model import free_port, listening
from bench.settings import NEAR, Behind
from bench.usage import cpu
from bench.ways import Asked, Way, conversation, message

CLIENTS = 16
ROUNDS = 300
PLACES = 32
"""How many requests there may be, or connections, where they are to be taken."""
SMALL = 1000


@contextmanager
def gateway(behind: Behind, clients: int, requests: int) -> Iterator[Target]:
    """One with so many places."""
    port = free_port()
    words = map(str, (port, behind.socks_port, clients, requests))
    command = (sys.executable, "-m", "bench.gateways.over_socks", *words)
    with listening("tortxd", port, command) as target:
        yield target


@contextmanager
def all_taken(target: Target, behind: Behind) -> Iterator[None]:
    """Tunnels take all the places that there are."""
    opening, _ = conversation(Way.CONNECT, Asked(behind.url(SMALL)))
    with ExitStack() as stack:
        for _ in range(PLACES):
            tunnel = stack.enter_context(connected(target))
            answered(tunnel, bytes.fromhex(opening.split()[0]), b"200")
            # A tunnel goes on behind its client's FIN, and ends with a reset.
            tunnel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        yield
    time.sleep(0.2)


def connected(target: Target) -> socket.socket:
    """A new connection."""
    return socket.create_connection((target.host, target.port), 20.0)


def answered(client: socket.socket, request: bytes, status: bytes) -> None:
    """Ask, and see that the answer has this status."""
    client.sendall(request)
    see_answer(client, status)


def see_answer(client: socket.socket, status: bytes) -> None:
    """Read an answer to its end."""
    data = client.recv(65536)
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    if head.split()[1] != status:
        raise SystemExit(f"{status!r} was expected: {head!r}")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += client.recv(65536)


def cost(target: Target, request: bytes, status: bytes, *, kept: bool) -> float:
    """Milliseconds of CPU for each of the requests."""
    clients = [connected(target) for _ in range(CLIENTS)] if kept else []

    def ask(rounds: int) -> None:
        for _ in range(rounds):
            asking = clients or [connected(target) for _ in range(CLIENTS)]
            for client in asking:
                client.sendall(request)
            for client in asking:
                see_answer(client, status)
                if not kept:
                    client.close()

    ask(10)
    before = cpu(target.pid)
    ask(ROUNDS)
    spent = cpu(target.pid) - before
    for client in clients:
        client.close()
    return 1e3 * spent.total / (ROUNDS * CLIENTS)


def main(turns: int) -> None:
    """Measure so many times, and show medians."""
    with NEAR.open() as behind:
        request = message(Way.URL, Asked(behind.url(SMALL)))
        with gateway(behind, 1000, PLACES) as roomy, gateway(behind, PLACES, PLACES) as narrow:

            def refused(target: Target, *, kept: bool) -> Callable[[], float]:
                def measure() -> float:
                    with all_taken(target, behind):
                        return cost(target, request, b"503", kept=kept)

                return measure

            cases: dict[str, Callable[[], float]] = {
                "served, on a connection that is kept": lambda: cost(
                    roomy, request, b"200", kept=True
                ),
                "served, on a connection of its own": lambda: cost(
                    roomy, request, b"200", kept=False
                ),
                "a request too many": refused(roomy, kept=True),
                "a connection too many": refused(narrow, kept=False),
            }
            costs: dict[str, list[float]] = {name: [] for name in cases}
            for _ in range(turns):
                for name, measure in cases.items():
                    costs[name].append(measure())
    kept, own, request_refused, connection_refused = costs.values()
    for name, values in costs.items():
        print(f"{name}: {median(values):.3f} ms of CPU")
    for name, dividends, divisors in (
        ("a request too many", request_refused, kept),
        ("a connection too many", connection_refused, own),
    ):
        ratios = [one / other for one, other in zip(dividends, divisors, strict=True)]
        print(f"{name} by one that is served: {median(ratios):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)

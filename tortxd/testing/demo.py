"""``python -m tortxd.testing.demo``: the whole of tortxd on a private Tor network, shown.

Brings the network up, starts ``twistd -n tortxd`` on it as a process of its own, fetches pages
through three relays, shows their path and the evidence of ``/verify-tor``, and goes on serving
until Ctrl-C. The network is this machine alone: it gives no anonymity, and reaches nothing else.
For the names that the README uses (example.com and so on) a web server of its own stands in.

Exit status: 0 when everything was shown, whatever ended it then; 1 when something failed; 128 and
the signal's number when a signal came before everything was shown.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from shlex import quote
from shutil import which
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater, react

from tortxd.errors import SetupError
from tortxd.testing.demo_daemon import DaemonProcess, DemoError, Gateway, Page
from tortxd.testing.demo_page import PageServer, example_page
from tortxd.testing.demo_shell import Shell
from tortxd.testing.model import WARNING, INetworkReactor
from tortxd.testing.network import PrivateNetwork
from tortxd.testing.origin import Origin
from tortxd.testing.screen import Screen, printable
from tortxd.testing.stand_ins import SITES

ORIGIN = "origin.test.example"
"""The public name of the web server that the demonstration fetches from."""

PORT = 3080
_USAGE = """\
make demo ARGS="[--port PORT] [--once]"
   or: python -m tortxd.testing.demo [--port PORT] [--once]"""
_KNOWN_WITHIN = 3.0
_ROLES = ("guard", "middle", "exit")


@frozen
class Options:
    """What the command line says."""

    port: int = PORT
    """Where the gateway listens, on loopback."""
    once: bool = False
    """End when everything was shown."""

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Options:
        """Read them. Raises SystemExit with a sentence when they cannot be read."""
        parser = argparse.ArgumentParser(
            prog="tortxd demo",
            usage=_USAGE,
            description=f"Show tortxd at work on a private Tor network. {WARNING}",
        )
        parser.add_argument(
            "--port", type=_port, default=PORT, help="where the gateway listens [%(default)s]"
        )
        parser.add_argument("--once", action="store_true", help="end when everything was shown")
        return cls(**vars(parser.parse_args(arguments)))


def _port(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")


def check_port(port: int) -> None:
    """Find out in time that the gateway could not listen. Raises DemoError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError as error:
            other = port % 65535 + 1
            reason = "it is taken" if error.errno == errno.EADDRINUSE else error.strerror
            raise DemoError(
                f"Port {port} of 127.0.0.1 cannot be had: {reason}. If another tortxd runs there, "
                f"stop it; or choose another port: --port {other}, "
                f'which is make demo ARGS="--port {other}"'
            ) from error


# --- what is shown --------------------------------------------------------------------------------


def path_lines(path: Sequence[dict[str, Any]]) -> list[str]:
    """A circuit hop by hop: place, role, nickname, address, country."""
    roles = _ROLES if len(path) == len(_ROLES) else ("",) * len(path)
    rows = [
        [str(n), role, *(printable(hop[key] or "?") for key in ("nickname", "address", "country"))]
        for n, (role, hop) in enumerate(zip(roles, path, strict=True), 1)
    ]
    for row in rows:
        row[-1] = row[-1].upper()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def evidence_lines(told: dict[str, Any]) -> list[str]:
    """What ``/verify-tor`` answered, in sentences."""
    control, service = told["evidence"]["controlPort"], told["evidence"]["checkService"]
    circuit = control["circuit"]
    if control["streamOnCircuit"]:
        names = " → ".join(printable(hop["nickname"] or "?") for hop in circuit["path"])
        shown = f"the check's own stream was on built circuit {circuit['id']}: {names}"
    else:
        shown = "the check's own stream was not seen on a built circuit"
    if not service["answered"]:
        said = f"no answer ({service['error']})"
    elif service["isTor"]:
        said = f"the request came from an exit of the Tor network, {printable(told['exitIp'])}"
    else:
        said = f"the request did not come from Tor, but from {printable(told['exitIp'])}"
    return [f"control port   {shown}", f"check service  {said}"]


def command_lines(port: int, origin: Origin, token_file: object) -> list[str]:
    """Commands to paste into a shell."""
    gateway = f"http://localhost:{port}"
    return [
        f"curl {gateway}/health",
        f"curl '{gateway}/proxy?url={origin.http}/'",
        f"curl -d hello '{gateway}/proxy?url={origin.https}/echo'",
        f"curl -x localhost:{port} -U tortxd+alice: {origin.http}/ip",
        f"curl -x localhost:{port} --cacert {origin.ca_file} {origin.https}/",
        f"curl {gateway}/verify-tor",
        f'curl -H "Tortxd-Token: $(cat {token_file})" {gateway}/circuits',
    ]


async def _show_pages(
    reactor: INetworkReactor, screen: Screen, gateway: Gateway, origin: Origin
) -> None:
    screen.say("\n" + screen.strong("A page through three relays"))
    shown = ""
    for url in (f"{origin.http}/", f"{origin.https}/"):
        page = await gateway.fetch(url)
        screen.say(f"  {url}  {screen.good('200')}, {len(page.body)} bytes, {page.seconds:.2f} s")
        if page.circuit == shown:
            screen.say(f"    on the same circuit, {shown}")
            continue
        shown = page.circuit
        path = await _path_of(reactor, gateway, page)
        country = screen.strong(printable(path[-1]["country"]).upper())
        screen.say(f"    circuit {shown}, which leaves Tor in {country}")
        for line in path_lines(path):
            screen.say(f"    {line}")


async def _path_of(
    reactor: INetworkReactor, gateway: Gateway, page: Page
) -> Sequence[dict[str, Any]]:
    """The relays of the circuit that carried a page.

    The daemon asks Tor for addresses and countries one after another, so those of a new circuit may
    take a moment; what is not known then is shown as unknown. Raises DemoError when the path or
    its exit is not known.
    """
    deadline = reactor.seconds() + _KNOWN_WITHIN
    while True:
        found = [each for each in await gateway.circuits() if each["id"] == page.circuit]
        path: Sequence[dict[str, Any]] = found[0]["path"] if found else ()
        whole = len(path) >= len(_ROLES)
        if whole and all(hop["address"] and hop["country"] for hop in path):
            return path
        if reactor.seconds() > deadline:
            break
        await deferLater(reactor, 0.1)
    if whole and path[-1]["country"]:
        return path
    raise DemoError(
        f"/circuits does not show three relays and the exit's country for circuit {page.circuit}, "
        "which carried the page."
    )


async def _show_evidence(screen: Screen, gateway: Gateway) -> None:
    told = await gateway.verify()
    verdict = printable(told["verdict"])
    right = verdict == "verified" and told["isTor"] is True
    coloured = screen.good(verdict) if right else screen.warn(verdict)
    screen.say(f"\n{screen.strong('Is it Tor?')} /verify-tor says: {coloured}")
    for line in evidence_lines(told):
        screen.say(f"  {line}")
    if not right:
        raise DemoError("/verify-tor did not verify that requests go through Tor.")


async def show(
    reactor: INetworkReactor, screen: Screen, daemon: DaemonProcess, origin: Origin
) -> str:
    """Wait until the daemon serves, and show what it does; return its SOCKS URL.

    Raises DemoError when something is not as it should be.
    """
    gateway = Gateway(reactor, daemon.port, daemon.token_file)
    socks = await gateway.when_ready(partial(screen.progress, "tortxd"))
    await _show_pages(reactor, screen, gateway, origin)
    await _show_evidence(screen, gateway)
    return socks


def invite(
    screen: Screen,
    daemon: DaemonProcess,
    origin: Origin,
    *,
    socks: str,
    page: str | None,
    shell_file: Path,
) -> None:
    """Say what to try, and how. ``page`` is the URL of the example page, if it is served."""
    gateway = f"http://localhost:{daemon.port}"
    screen.say("\n" + screen.strong("Try it, in another terminal"))
    if which("curl") is None:
        screen.say("  " + screen.warn("These need curl, which is missing: apt-get install curl"))
    for line in command_lines(daemon.port, origin, daemon.token_file):
        screen.say(f"  {line}")
    screen.say(f"  {screen.faint(f'SOCKS5 for programs that speak it: {printable(socks)}')}")
    screen.say("\n" + screen.strong("In a browser"))
    rows = [(f"{gateway}/", "the gateway's own page")]
    if page is not None:
        rows.append((page, "a page that fetches through the gateway"))
    width = max(len(url) for url, _ in rows)
    for url, sentence in rows:
        screen.say(f"  {url:{width}}  {screen.faint(sentence)}")
    screen.say("\n" + screen.strong("The README's commands work here, too, once you have typed"))
    screen.say(f"  . {quote(str(shell_file))}")
    if daemon.port != PORT:
        screen.say(f"  {screen.faint(f'Write {daemon.port} where they say {PORT}.')}")


# --- its course -----------------------------------------------------------------------------------


class Demo:
    """One demonstration, from nothing to nothing."""

    def __init__(self, reactor: INetworkReactor, screen: Screen, options: Options) -> None:
        self.shown = False
        """Whether everything was shown."""
        self._reactor = reactor
        self._screen = screen
        self._options = options

    async def run(self) -> None:
        """Show it all; serve until cancelled, unless it is to be shown just ``once``.

        Nothing is left behind. Raises SetupError when something fails.
        """
        screen, port = self._screen, self._options.port
        check_port(port)
        screen.say(f"{screen.strong('tortxd demo')}\n{screen.warn(WARNING)}\n")
        async with AsyncExitStack() as stack:
            network = PrivateNetwork(
                self._reactor,
                origins=dict.fromkeys((ORIGIN, *SITES), "127.0.0.1"),
                on_progress=lambda percent, sentence: screen.progress(
                    "network", percent, sentence.removesuffix(WARNING)
                ),
            )
            stack.push_async_callback(network.stop)
            await network.start()
            origin = Origin(
                self._reactor,
                network.directory,
                names=(ORIGIN,),
                exit_of=network.exit_of,
                sites=SITES,
            )
            stack.push_async_callback(origin.stop)
            await origin.start()
            daemon = DaemonProcess(self._reactor, network, origin, port, SITES)
            stack.push_async_callback(daemon.stop)
            socks = await daemon.unless_it_ends(show(self._reactor, screen, daemon, origin))
            self.shown = True
            if self._options.once:
                return
            page = await self._serve_page(stack)
            shell_file = Shell.of(daemon, origin, socks, SITES).write(network.directory)
            invite(screen, daemon, origin, socks=socks, page=page, shell_file=shell_file)
            screen.say(
                f"\nServing on {screen.strong(f'http://localhost:{port}')} until Ctrl-C. "
                + screen.warn("It gives no anonymity.")
            )
            await daemon.unless_it_ends(_for_ever())

    async def _serve_page(self, stack: AsyncExitStack) -> str | None:
        """Serve the example page, if it is installed, for as long as ``stack`` lasts."""
        page = example_page(self._options.port)
        if page is None:
            return None
        server = PageServer(self._reactor, page)
        stack.push_async_callback(server.stop)
        return server.start()


async def _for_ever() -> None:
    await Deferred[None]()


async def main(reactor: Any, options: Options) -> None:
    """Run the demonstration as a program. Raises SystemExit with its status."""
    await deferLater(reactor, 0)  # from here on signals are ours: the reactor has set its own
    screen = Screen(sys.stdout, os.environ)
    demo = Demo(reactor, screen, options)
    signals: list[int] = []

    def stop(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            screen.say("\nStopping.")
            running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: reactor.callFromThread(stop, got))
    running = Deferred.fromCoroutine(demo.run())
    try:
        await running
    except (SetupError, CancelledError) as error:
        if signals:
            raise SystemExit(0 if demo.shown else 128 + signals[0]) from None
        screen.say()
        sentence = re.sub(r"\s*\n", "\n  ", str(error))
        print(f"tortxd demo: {sentence}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    react(main, (Options.parse(sys.argv[1:]),))

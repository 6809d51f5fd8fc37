"""The private Tor network: real tor processes on loopback. It gives no anonymity."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from tortxd.testing import torrc
from tortxd.testing.addresses import Claim, claim
from tortxd.testing.keys import Programs, make_keys
from tortxd.testing.model import WARNING, INetworkReactor, NetworkError, Relay
from tortxd.testing.processes import Sweeper, TorProcess, run, search_path
from tortxd.testing.progress import KEYS_SHARE, Progress
from tortxd.testing.resolver import Resolver
from tortxd.testing.sockets import Address, owner

# The last numbers of the loopback addresses: 1 is the claim's and the resolver's.
_FIRST_RELAY = 10
_FIRST_CLIENT = 100
_AUTHORITY_COUNTRIES = ("at", "ch", "is")
# Seconds from the start of the authorities to their first vote. The exits' descriptors must be
# there by then; when they are late, everyone waits for the next vote, 10 s later.
_VOTE_AFTER = 2.0
_DATAGRAM = 8192


def _untold(fraction: int, sentence: str) -> None:
    """Show no progress."""


@frozen
class Client:
    """One bare Tor client on the network, for programs to attach to. It gives no anonymity."""

    process: TorProcess
    socks: Address
    control: Address
    control_socket: Path
    """The same control port as a unix socket."""
    cookie: Path | None
    """The control cookie, or None where a password is asked for."""

    async def stop(self) -> None:
        """End it at once."""
        await self.process.kill()


class PrivateNetwork:
    """Directory authorities and exits on this machine's loopback addresses. It gives no anonymity.

    ``network = PrivateNetwork(reactor, origins={"origin.test.example": "127.0.0.1"})``, then
    ``await network.start()`` and, at the end, ``await network.stop()``. Any number can run at once.
    The exits reach nothing but loopback, whatever they are asked, and resolve no names. When this
    process is killed, the network's processes and files go as well.

    Parameters: ``origins`` gives loopback addresses public names, for clients to ask for;
    ``on_progress`` is called with 0 to 100 and a sentence while the network comes up;
    ``exit_countries`` says how many exits there are, and where; ``path`` is where ``tor`` and
    ``tor-gencert`` are looked for; ``timeout`` is how many seconds the start may take.
    """

    log = Logger()

    def __init__(
        self,
        reactor: INetworkReactor,
        *,
        origins: Mapping[str, str] | None = None,
        on_progress: Callable[[int, str], object] = _untold,
        exit_countries: Sequence[str] = ("de", "fr", "nl", "se"),
        path: str | None = None,
        timeout: float = 120.0,
    ) -> None:
        self.origins: Mapping[str, str] = dict(origins or {})
        self.relays: tuple[Relay, ...] = ()
        """Authorities first, then exits; empty until the network is started."""
        self.processes: dict[str, TorProcess] = {}
        """The tor processes by nickname: ``authority1``, ``exit1``, ``client1`` and so on."""
        self._reactor = reactor
        self._on_progress = on_progress
        self._countries = tuple(exit_countries)
        self._path = path
        self._timeout = timeout
        self._ground: _Ground | None = None
        self._shared: torrc.Shared | None = None
        self._progress = Progress(on_progress)
        self._clients = 0

    async def start(self) -> None:
        """Bring the network up; done when a client can build circuits.

        Raises NetworkError when tor is not installed, ends by itself or takes too long; nothing is
        then left behind.
        """
        if self._ground is not None:
            raise NetworkError("This private network has been started already.")
        self.log.warn(WARNING)
        self._progress = Progress(self._on_progress)
        going = Deferred.fromCoroutine(self._bring_up())
        try:
            await going.addTimeout(self._timeout, self._reactor)
        except DeferredTimeout:
            await self.stop()
            raise NetworkError(
                f"The private Tor network was not up after {self._timeout:g} s. "
                f"It had come to {self._progress.fraction} %: {self._progress.sentence}"
            ) from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End every process and remove every file of the network, whatever state it is in."""
        # Nothing of them is kept, so nothing is gained by letting them end in order.
        await gatherResults([process.kill() for process in self.processes.values()])
        ground, self._ground, self._shared = self._ground, None, None
        if ground is not None:
            await ground.clear()
        self.processes.clear()

    async def _bring_up(self) -> None:
        programs = Programs.find(self._path or search_path())
        self._progress.say(0, "Making the keys of the relays.")
        ground = self._ground = _Ground.take(self._reactor, programs, 3 + len(self._countries))
        shared = self._shared = await self._make_keys(ground)
        shared.geoip.write_text("\n".join(torrc.geoip_lines(self.relays)) + "\n")
        shared.geoip6.touch()
        remembered = "\n".join(torrc.state_lines(time.time())) + "\n"
        for relay in self.relays:
            shared.state(relay.nickname).write_text(remembered)
        shared.resolv_conf.write_text(f"nameserver {ground.name_server}\n")

        self._progress.say(KEYS_SHARE, "Starting the relays.")
        self._progress.follow(self.relays, ground.directory)
        authorities = [relay for relay in self.relays if relay.is_authority]
        exits = [relay for relay in self.relays if relay.is_exit]
        offset = torrc.voting_offset(time.time() + _VOTE_AFTER)
        for relay in authorities:
            self._launch(ground, relay.nickname, torrc.authority_lines(shared, relay, offset))
        await self._progress.all_have("up", authorities)
        for relay in exits:
            self._launch(ground, relay.nickname, torrc.exit_lines(shared, relay))
        await self._progress.all_have("published", authorities)
        for relay in exits:
            # They have asked for a consensus in vain until now, and would wait ever longer to ask
            # again.
            self.processes[relay.nickname].signal("HUP")
        await self._progress.all_have("ready", exits)
        self._progress.say(100, f"The network is up. {WARNING}")

    async def _make_keys(self, ground: _Ground) -> torrc.Shared:
        kinds = [("authority", _AUTHORITY_COUNTRIES), ("exit", self._countries)]
        names = [(kind, n, cc) for kind, ccs in kinds for n, cc in enumerate(ccs, 1)]
        planned = [
            Relay(
                nickname=f"{kind}{n}",
                fingerprint="",
                address=ground.claim.address(_FIRST_RELAY + place),
                country=country,
                is_exit=kind == "exit",
                is_authority=kind == "authority",
            )
            for place, (kind, n, country) in enumerate(names)
        ]
        made = await make_keys(
            self._reactor,
            ground.programs,
            planned,
            ground.directory,
            ground.claim.dir_port,
            lambda relay: self._progress.say(
                self._progress.fraction + 4, f"{relay.nickname} has its keys."
            ),
        )
        self.relays = tuple(one.relay for one in made)
        return torrc.Shared(
            directory=ground.directory,
            owner=os.getpid(),
            or_port=ground.claim.or_port,
            dir_port=ground.claim.dir_port,
            authorities=tuple((one.relay, one.v3ident) for one in made if one.v3ident),
        )

    def _launch(self, ground: _Ground, nickname: str, lines: Sequence[str]) -> TorProcess:
        file = ground.directory / f"{nickname}.torrc"
        file.write_text("\n".join(lines) + "\n")
        tor = TorProcess(self._reactor, ground.programs.tor, nickname, file, self._progress.logged)
        self.processes[nickname] = tor
        ground.sweeper.watch(tor)
        tor.when_ended().addCallback(lambda _: self._progress.ended(tor))
        return tor

    def _up(self) -> tuple[_Ground, torrc.Shared]:
        if self._ground is None or self._shared is None:
            raise NetworkError("The private network is not started.")
        return self._ground, self._shared

    @property
    def directory(self) -> Path:
        """Where its files lie; removed by :meth:`stop`. NetworkError when it is not started."""
        return self._up()[0].directory

    def client_torrc(self) -> list[str]:
        """The torrc lines that make a Tor a client of this network.

        None of those that tortxd owns are among them, so they may stand in its ``--torrc`` file.
        """
        return torrc.client_lines(self._up()[1], self.origins)

    def write_client_torrc(self, path: Path | None = None) -> Path:
        """Write those lines to a file, by default one that goes with the network; return it."""
        file = path or self.directory / "client.torrc"
        file.write_text("\n".join((f"# {WARNING}", *self.client_torrc())) + "\n")
        return file

    async def start_client(
        self, *, password: str | None = None, further: Sequence[str] = (), ready: bool = True
    ) -> Client:
        """Start a Tor client, with a control port that asks for its cookie, or for ``password``.

        ``further`` are more torrc lines. It is waited for until it can build circuits or, without
        ``ready``, until its ports listen. Raises NetworkError when it ends by itself.
        """
        ground, shared = self._up()
        self._clients += 1
        nickname = f"client{self._clients}"
        data = shared.data_directory(nickname)
        data.mkdir(mode=0o700)
        host = ground.claim.address(_FIRST_CLIENT + self._clients)
        socks, control = (host, ground.claim.or_port), (host, ground.claim.dir_port)
        secret = "CookieAuthentication 1"
        if password is not None:
            hashed = await run(
                self._reactor, ground.programs.tor, "--quiet", "--hash-password", password
            )
            secret = f"HashedControlPassword {hashed.decode('ascii').split()[-1]}"
        lines = [
            *self.client_torrc(),
            *torrc.own_lines(shared, nickname),
            f"SocksPort {socks[0]}:{socks[1]}",
            f"ControlPort {control[0]}:{control[1]}",
            f"ControlSocket {torrc.quoted(data / 'control')}",
            secret,
            *further,
        ]
        process = self._launch(ground, nickname, lines)
        await process.when_logged("Bootstrapped 100%" if ready else "Bootstrapped 0%")
        cookie = data / "control_auth_cookie" if password is None else None
        return Client(process, socks, control, data / "control", cookie)

    def exit_of(
        self, peer_host: str, peer_port: int, *, local: Address | None = None
    ) -> Relay | None:
        """The exit that has made the connection which comes from this peer, as the kernel knows.

        All exits connect from the same loopback address, so the address alone would not tell. Ask
        while the connection is open. ``local`` is the side of it that is not the exit's, where it
        is known.
        """
        by_pid = {
            self.processes[relay.nickname].pid: relay
            for relay in self.relays
            if relay.is_exit and relay.nickname in self.processes
        }
        found = owner(local, (peer_host, peer_port), by_pid)
        return None if found is None else by_pid[found]


@frozen
class _Ground:
    """What a network stands on, from its start to its stop."""

    programs: Programs
    claim: Claim
    directory: Path
    sweeper: Sweeper
    resolver: IListeningPort

    @classmethod
    def take(cls, reactor: INetworkReactor, programs: Programs, relays: int) -> _Ground:
        held = claim(range(_FIRST_RELAY, _FIRST_RELAY + relays))
        directory = Path(tempfile.mkdtemp(prefix="tortxd-network-"))
        resolver = reactor.listenUDP(0, Resolver(), held.address(1), _DATAGRAM)
        return cls(programs, held, directory, Sweeper(reactor, directory), resolver)

    @property
    def name_server(self) -> str:
        where = self.resolver.getHost()
        assert isinstance(where, IPv4Address)
        return f"{where.host}:{where.port}"

    async def clear(self) -> None:
        await maybeDeferred(self.resolver.stopListening)
        self.claim.release()
        shutil.rmtree(self.directory, ignore_errors=True)
        await self.sweeper.finish()

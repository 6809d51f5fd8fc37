"""The daemon: a :class:`~tortxd.service.TorService` and the ports of its gateway, which
``twistd -n tortxd`` and ``tortxd.tac`` run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from errno import EADDRINUSE
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from tortxd._types import Reactor
from tortxd._version import __version__
from tortxd.addresses import SocksAddress, is_address
from tortxd.config import DaemonConfig
from tortxd.endpoints import (
    BEHIND_BALANCER,
    begins_with_http,
    bound,
    not_a_server,
    plain,
    split_endpoint,
    with_backlog,
)
from tortxd.errors import SetupError, TorDown, TortxdError
from tortxd.inherited import inherited
from tortxd.notify import Notifier
from tortxd.resources import memory, open_descriptors
from tortxd.runtime import Announcement, Running, announce
from tortxd.service import TorService
from tortxd.tor.datadir import make_for
from tortxd.tor.ports import unavailable
from tortxd.tor.status import sentence

if TYPE_CHECKING:
    from tortxd.gateway.front.connection import Front
    from tortxd.gateway.front.listener import FrontFactory

TOR_ENDS_WITHIN = 10.0
"""Seconds that a service manager gives Tor to end when all requests have."""

LATER = 0.5
"""Seconds from the start on that the first requests have to themselves: until then the control
plane is not loaded, unless somebody asks it for something. Whoever waits for Tor does not notice,
nor does a Tor that takes longer."""

log = Logger()


class Daemon(Service):
    """A :class:`TorService` and the gateway's ports.

    Ports are opened and the data directory is locked before Tor is started; when it stops, requests
    get a few seconds, as do those that still come meanwhile, then ports are closed, then Tor is
    stopped.

    What serves clients is loaded once Tor has been launched, so that Tor starts meanwhile. Who
    connects before waits for it: nothing is accepted until then.

    :param on_failure: called with the error when Tor turns out not to start as configured.
    :param run_dirs: where it says that it runs, for the command to find it; see
        :mod:`tortxd.runtime`. None: nowhere.
    :param ids: of the user, and of the group, that root is to become between
        :meth:`privilegedStartService` and :meth:`startService`.
    :param notifier: tells the service manager how it is. None: there is none.
    """

    def __init__(
        self,
        config: DaemonConfig,
        reactor: Reactor,
        on_failure: Callable[[TortxdError], object],
        run_dirs: Sequence[Path] = (),
        ids: tuple[int, int] | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self.tor = TorService(config, reactor)
        self._reactor = reactor
        self._on_failure = on_failure
        self._ports: list[IListeningPort] = []
        self._gateways: list[str] = []
        self._askable: list[tuple[str, Any]] = []
        """Those of them that take HTTP as it is, each with the address where it listens."""
        self._run_dirs = run_dirs
        self._ids = ids
        self._notifier = notifier or Notifier({}, reactor)
        self._announcement: Announcement | None = None
        self._prepared = False

    def prepare(self) -> None:
        """Find out what can be known before anything has begun; see :meth:`TorService.prepare`.

        :raises SetupError: a port is taken, or Tor cannot start as it is configured.
        """
        if not self._ports:
            with self.tor.config.names_as_given():
                self._check_ports()
        self.tor.prepare()
        self._prepared = True

    def privilegedStartService(self) -> None:
        """Where root is to become another user: make the data directory, and listen.

        :raises SetupError: either cannot be.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        if self._ids is None:
            return
        with self.tor.config.names_as_given():
            self._check_ports()
            make_for(self.tor.config.data_dir, *self._ids)
            self._listen()

    def startService(self) -> None:
        """Listen, then start Tor.

        :raises SetupError: if either cannot be.
        """
        try:
            if not self._prepared:
                self.prepare()
            self._prepared = False
            if not self._ports:
                with self.tor.config.names_as_given():
                    self._listen()
        except SetupError:
            for port in self._ports:
                port.stopListening()
            self.tor.stopService()
            raise
        self._say_first()
        self._announce()
        self.tor.startService()
        Deferred.fromCoroutine(self._load()).addErrback(self._not_loaded)
        self.tor.when_failed().addCallback(self._on_failure)
        self.tor.when_ready().addCallbacks(self._say_ready, lambda failure: failure.trap(TorDown))
        super().startService()  # type: ignore[no-untyped-call]
        self._notify()

    def stopService(self) -> Deferred[None]:
        """Let requests finish for a few seconds, close the ports, stop Tor."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        log.info("tortxd is stopping.")
        self._notifier.stopping(self.tor.config.drain + TOR_ENDS_WITHIN)
        if self._announcement is not None:
            self._announcement.withdraw()
            self._announcement = None
        self.tor.wind_down()
        if "_front" in vars(self):
            await self._front.drain(self.tor.config.drain, self._close_ports)
        else:
            await self._close_ports()
        await self.tor.stopService()
        self._notifier.close()
        log.info("tortxd has stopped.")

    def hurry(self) -> None:
        """Stop at once, where it is being stopped: requests under way have no more time."""
        if not self.running and "_front" in vars(self):
            self._front.hurry()

    def _close_ports(self) -> Deferred[None]:
        ports, self._ports = self._ports, []

        async def close() -> None:
            for closing in [port.stopListening() for port in ports]:
                await _when_done(closing)

        return Deferred.fromCoroutine(close())

    # --- what signals ask for --------------------------------------------------------------------

    def reload(self, load: Callable[[], DaemonConfig]) -> None:
        """Take over what may change from the configuration as ``load`` gives it. Where that is
        refused, the log says so, and the old one holds."""
        self._notifier.reloading()
        try:
            self._reload(load)
        finally:
            self._notifier.ready()

    def _reload(self, load: Callable[[], DaemonConfig]) -> None:
        try:
            config = load()
            changed, kept = self.tor.reload(config)
        except SetupError as error:
            log.error("Nothing was reloaded, and all is as it was: {reason}", reason=str(error))
            return
        if self._announcement is not None:
            self._announcement.withdraw()
            self._announce()
        if changed:
            log.info("Reloaded: {names}.", names=_names(config, changed))
        else:
            log.info("Reloaded; nothing has changed.")
        if kept:
            log.warn(
                "These changed as well, and count from the next start on: {names}.",
                names=_names(config, kept),
            )

    def say_state(self) -> None:
        """Log a line of what is going on."""
        gateway = self._front.gateway
        log.info(
            "{state} So for {age:.0f} s. Requests under way: {requests}; connections of clients: "
            "{clients}, to destinations, waiting: {pool}; circuits: {circuits}; streams: "
            "{streams}; memory: {memory} MB; descriptors: {descriptors}.",
            state=sentence(gateway.health.status),
            age=gateway.health.age,
            requests=len(gateway.under_way),
            clients=gateway.clients(),
            pool=len(gateway.pool),
            circuits=len(self.tor.circuits()),
            streams=len(self.tor.streams()),
            memory=memory() // 1_000_000,
            descriptors=open_descriptors(),
        )

    # --- what serves -----------------------------------------------------------------------------

    @cached_property
    def _front(self) -> FrontFactory:
        """What serves those who connect."""
        front = self.tor.gateway_factory()
        front.gateway.endpoints = tuple(self._gateways)
        for port in self._ports:
            front.listens_on(port)
        return front

    async def _load(self) -> None:
        """Load the front, and a while later the control plane."""
        await deferLater(self._reactor, 0)
        if self.running:
            _ = self._front
            await deferLater(self._reactor, LATER)
        if self.running:
            self._front.prepare()

    def _not_loaded(self, failure: Failure) -> None:
        """Nobody could be served: a program whose files have changed while it began, say."""
        log.failure("A fault of ours while the gateway was loaded.", failure)
        self._on_failure(SetupError("The gateway could not be loaded; the log says why."))

    # --- ports -----------------------------------------------------------------------------------

    def _check_ports(self) -> None:
        config = self.tor.config
        for description in config.http:
            self._check(description)
        if config.control is None and str(config.socks) in [
            plain(bound(one)) for one in config.http
        ]:
            raise SetupError(
                f"`http` and `socks` name one port, {config.socks}. Choose another for one of them."
            )

    def _check(self, description: str) -> None:
        try:
            serverFromString(self._reactor, description.removeprefix(BEHIND_BALANCER))
        except Exception as error:  # whatever a kind of endpoint makes of a bad one
            raise not_a_server(description, "`http`") from error
        reason = _unavailable(description)
        if reason is not None and not self._may_lack(description, reason):
            raise _cannot_listen(description, reason)

    def _listen(self) -> None:
        for description in self.tor.config.http:
            try:
                port = self._listen_on(description)
                self._ports.append(port)
                address = port.getHost()
                self._gateways.append(_gateway(description, address))
                if begins_with_http(description):
                    self._askable.append((self._gateways[-1], address))
            except Exception as error:
                reason = _why_not(error)
                if not self._may_lack(description, reason):
                    raise _cannot_listen(description, reason) from error

    def _listen_on(self, description: str) -> IListeningPort:
        door = _Door(lambda: self._front)
        factory: Factory = door
        if description.startswith(BEHIND_BALANCER):
            description = description.removeprefix(BEHIND_BALANCER)
            factory = self._introduced(door)
        if split_endpoint(description)[0][0] == "systemd":
            return inherited(description).listen(self._reactor, factory)
        outcome: list[Any] = []
        endpoint = serverFromString(self._reactor, with_backlog(description))
        endpoint.listen(factory).addBoth(outcome.append)
        # Twisted's own stream endpoints listen at once; with others, Tor would start before a
        # failure is known.
        result = outcome[0] if outcome else Failure(SetupError("it does not listen at once"))
        if isinstance(result, Failure):
            result.raiseException()
        port: IListeningPort = result
        return port

    def _introduced(self, factory: _Door) -> Factory:
        from tortxd.gateway.front.proxy_protocol import Introductions  # few have a balancer

        return Introductions(self._reactor, factory)

    def _may_lack(self, description: str, reason: str) -> bool:
        return description in self.tor.config.http_may_lack and reason != os.strerror(EADDRINUSE)

    def _notify(self) -> None:
        """Tell the service manager that the daemon serves. That Tor is ready is for ``/health`` to
        say: it takes as long as the network does."""
        self.tor.on_status(lambda status: self._notifier.status(sentence(status)))
        self._notifier.status(sentence(self.tor.status))
        self._notifier.ready()
        self._notifier.watch(
            lambda: "_front" not in vars(self) or self._front.gateway.health.is_live
        )

    def _announce(self) -> None:
        """Say that this daemon runs, where that can be: it serves without."""
        urls = tuple(url for url, _ in self._askable)
        if not (self._run_dirs and urls):
            return
        operators, clients = self.tor.operator_token_file, self.tor.config.token_file
        daemon = Running(os.getpid(), urls, operators, clients)
        try:
            self._announcement = announce(self._run_dirs, daemon)
        except OSError as error:
            log.debug(
                "The command will not find this daemon by itself: {reason}", reason=error.strerror
            )

    # --- what it logs ----------------------------------------------------------------------------

    def _say_first(self) -> None:
        data_dir = self.tor.config.data_dir
        log.info(
            "tortxd {version} is starting. Its data is in {path}",
            version=__version__,
            path=data_dir,
        )
        if os.geteuid() == 0:
            log.warn(
                "tortxd runs as root, which neither it nor Tor needs: --user NAME makes it another "
                "user."
            )
        log.info("The token for operators is in {path}", path=self.tor.operator_token_file)
        if self._ports:
            addresses = [port.getHost() for port in self._ports]
            log.info(
                "The gateway listens on {addresses}.",
                addresses=" and ".join(map(_location, addresses)),
            )

    def _say_ready(self, _: None) -> None:
        if self._askable:
            address = self._askable[0][1]
            log.info("Try it:  {command}", command=_command(address, self.tor.config.token_file))
            url = _location_from_here(address)
            if url.startswith("http://"):
                log.info("In a browser:  {url}", url=f"{url}/")


def _names(config: DaemonConfig, keys: Sequence[str]) -> str:
    """The options with these keys, as the configuration calls them."""
    return ", ".join(config.spelled(f"`{key}`").strip("`") for key in keys)


# --- ports ----------------------------------------------------------------------------------------


class _Door(Factory):
    """Listens for the front, whose module loads when it is needed."""

    noisy = False

    def __init__(self, front: Callable[[], FrontFactory]) -> None:
        self._front = front

    def buildProtocol(self, addr: IAddress | None) -> Front | None:
        return self._front().buildProtocol(addr)

    def logPrefix(self) -> str:
        """What the log calls it."""
        return "Gateway"


def _unavailable(description: str) -> str | None:
    """Why nothing could listen at this endpoint now; None where that is not known beforehand."""
    kind = split_endpoint(description.removeprefix(BEHIND_BALANCER))[0][0]
    if kind not in ("tcp", "tcp6", "unix"):
        return None
    address = plain(description)
    if kind == "unix":
        return unavailable(SocksAddress(path=os.path.abspath(address)))
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return unavailable(SocksAddress(host, int(port))) if is_address(host) else None


def _why_not(error: Exception) -> str:
    if isinstance(error, CannotListenError):
        error = error.socketError
    return getattr(error, "strerror", None) or str(error)


def _cannot_listen(description: str, reason: str) -> SetupError:
    return SetupError(
        f"The gateway cannot listen on {plain(description)}: {reason}. Choose another endpoint "
        "with `http`."
    )


# --- addresses in the log -------------------------------------------------------------------------


def _location(address: Any) -> str:
    """A URL, or the path of a unix socket."""
    host = getattr(address, "host", None)
    if host is None:
        return os.fsdecode(getattr(address, "name", None) or str(address))
    return f"http://{f'[{host}]' if ':' in host else host}:{address.port}"


def _location_from_here(address: Any) -> str:
    """Where this machine reaches a port that listens at this address."""
    url = _location(address)
    for wildcard, loopback in (("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")):
        url = url.replace(wildcard, loopback)
    return url


def _gateway(description: str, address: Any) -> str:
    """How the command reaches the port that listens at this endpoint."""
    url = _location_from_here(address)
    if not url.startswith("http://"):
        return f"unix:{os.path.abspath(url)}"
    is_tls = split_endpoint(description)[0][0] == "ssl"
    return url.replace("http://", "https://", 1) if is_tls else url


def _command(address: Any, token_file: Path | None) -> str:
    """A command for a shell, which asks the gateway at this address."""
    words = ["curl"]
    url = _location_from_here(address)
    if not url.startswith("http://"):
        words += ["--unix-socket", shlex.quote(url)]
        url = "http://localhost"
    if token_file is not None:
        words += ["-H", f'"Tortxd-Token: $(cat {shlex.quote(str(token_file))})"']
    return " ".join((*words, f"{url}/verify-tor"))


async def _when_done(result: Any) -> None:
    if isinstance(result, Deferred):
        await result

"""The composition root: from a :class:`~tortxd.config.DaemonConfig` and a reactor to services.

:class:`TorService` is one Tor with everything that an app wants of it; :class:`Daemon` is that with
the gateway's port, which ``twistd -n tortxd`` and ``tortxd.tac`` run.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from errno import EADDRINUSE
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from tortxd._version import __version__
from tortxd.addresses import SocksAddress, is_address
from tortxd.config import DaemonConfig
from tortxd.endpoints import not_a_server, plain, split_endpoint
from tortxd.errors import SetupError, TorDown, TortxdError
from tortxd.files import read_whole
from tortxd.gateway.admission.admission import GatewayPolicy
from tortxd.gateway.front.listener import FrontFactory
from tortxd.gateway.gateway import Gateway
from tortxd.gateway.limits import Limits
from tortxd.policy.access import AccessPolicy
from tortxd.policy.headers import UserAgent
from tortxd.policy.hosts import MAP_IT, public_host
from tortxd.policy.request import isolation_key
from tortxd.policy.site import site_of
from tortxd.policy.target import TargetPolicy, parse_alias
from tortxd.tor.budget import CircuitBudget
from tortxd.tor.datadir import TOKEN_NAME, operator_token, prepare
from tortxd.tor.isolation import Isolation, IsolationKeys
from tortxd.tor.link import Circuit, Stream
from tortxd.tor.ports import unavailable
from tortxd.tor.socks import TorEndpoint
from tortxd.tor.status import Status
from tortxd.tor.supervisor import AttachSettings, LaunchSettings, TorSupervisor
from tortxd.tor.torrc import exposed_listener

if TYPE_CHECKING:
    from tortxd.client.agent import TorAgent
    from tortxd.client.treq_client import TreqClient
    from tortxd.gateway.control.app import Api

_EMBEDDER = b"\x00embedder"
"""The caller that the embedding app is, unlike any peer or token."""

DRAIN = 2.0
"""Seconds that requests under way have left when the daemon stops. With those that Tor has, it must
be gone within 5."""

log = Logger()


class TorService(Service):
    """One Tor: launched and supervised, or attached to, from ``startService`` to ``stopService``.

    :param config: how; see :class:`~tortxd.config.DaemonConfig`.
    :param reactor: None means the installed one.
    """

    def __init__(self, config: DaemonConfig | None = None, reactor: Any = None) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.config = config or DaemonConfig()
        self.reactor = reactor
        keys = IsolationKeys()
        with _spelled(self.config):
            budget = CircuitBudget(
                reactor, self.config.circuit_rate, self.config.caller_circuit_rate
            )
            self._supervisor = TorSupervisor(
                reactor, _settings(self.config), username_prefix=keys.username_prefix, budget=budget
            )
            policy = _policy(self.config, None)
            _check_services(self.config, policy.targets)
        self._gateway = Gateway(reactor, self._supervisor, policy, keys, limits=Limits.here())
        self._http: TreqClient | None = None
        self._api: Api | None = None
        self._prepared: GatewayPolicy | None = None

    # --- IService --------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Find out, before anything has begun, whether Tor can start as it is configured, and lock
        the data directory until :meth:`stopService`.

        :raises SetupError: it cannot. What turns out later is said by :meth:`when_failed`.
        """
        with _spelled(self.config):
            self.config.check_exposure()
            data_dir = prepare(self.config.data_dir)
            policy = _policy(self.config, operator_token(data_dir).encode())
            self._supervisor.prepare()
        self._prepared = policy

    def startService(self) -> None:
        """Start Tor, after :meth:`prepare`, if need be.

        :raises SetupError: as there.
        """
        if self._prepared is None:
            self.prepare()
        assert self._prepared is not None
        self._gateway.policy, self._prepared = self._prepared, None
        _warn_of_readers(self.config)
        self._supervisor.start()
        self.reactor.callLater(0, self._gateway.prepare)
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:
        """End what is under way and close what is kept, then stop Tor; fires when it is gone."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._prepared = None
        self._gateway.stop()
        return self._supervisor.stop()

    def wind_down(self) -> None:
        """Let what is under way go on, but start no Tor again: :meth:`stopService` follows soon."""
        self._supervisor.wind_down()

    # --- what Tor does ---------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """What Tor is doing now."""
        return self._supervisor.status

    def on_status(self, observer: Callable[[Status], None]) -> Callable[[], None]:
        """Have every further status told; the result, called, ends that."""
        return self._supervisor.on_status(observer)

    def when_ready(self) -> Deferred[None]:
        """Fire when requests are served. Fails with TorDown when that will never be."""
        return self._supervisor.when_ready()

    def when_failed(self) -> Deferred[TortxdError]:
        """Fire with the reason when Tor cannot be started as it is configured."""
        return self._supervisor.when_failed().addCallback(
            lambda error: SetupError(self.config.spelled(str(error)))
        )

    def circuits(self) -> Sequence[Circuit]:
        """The circuits that are open now, oldest first."""
        return self._supervisor.circuits()

    def streams(self) -> Sequence[Stream]:
        """The streams that are open now, oldest first."""
        return self._supervisor.streams()

    def new_identity(self) -> Deferred[None]:
        """New circuits for everyone (NEWNYM), and no connection that could link to the old ones.

        Fires when Tor has accepted; it takes one such signal in 10 seconds.
        """
        return self._gateway.renew_all()

    @property
    def txtorcon(self) -> Any:
        """The ``txtorcon.Tor``, for all that it can do.

        :raises TorNotReady: before the control port was reached.
        """
        return self._supervisor.txtorcon

    # --- ways through it -------------------------------------------------------------------------

    def agent(self, isolation: str | None = None) -> TorAgent:
        """An ``IAgent`` through Tor, for treq.

        :param isolation: requests with different keys never share a circuit. With none, each
            destination's site has circuits of its own.
        """
        from tortxd.client.agent import TorAgent

        return TorAgent(
            self._gateway,
            self._gateway.keys,
            key=None if isolation is None else isolation_key(isolation),
            caller=_EMBEDDER,
            timeout=self.config.timeout,
        )

    @property
    def http(self) -> TreqClient:
        """treq over :meth:`agent`, keeping no cookies."""
        if self._http is None:
            from tortxd.client.treq_client import TreqClient

            self._http = TreqClient(self.agent())
        return self._http

    def endpoint(
        self, host: str, port: int, *, isolation: str | None = None, tls: bool = False
    ) -> IStreamClientEndpoint:
        """A stream to ``host`` and ``port`` through Tor; with ``tls``, secured for ``host``.

        :param isolation: as in :meth:`agent`.
        """
        name = public_host(host)
        if isolation is None:
            kept_apart = Isolation("site", site_of(name).encode(), _EMBEDDER)
        else:
            kept_apart = Isolation("key", isolation_key(isolation), _EMBEDDER)
        credentials = self._gateway.keys.credentials(kept_apart)
        return TorEndpoint(
            self.reactor,
            lambda: self._supervisor.when_admitted(credentials, self.config.timeout / 2),
            name,
            port,
            credentials,
            tls=self._gateway.tls if tls else None,
            timeout=self.config.timeout,
        )

    def gateway(self) -> IResource:
        """The gateway's klein app, every route, to mount in a ``Site`` of your own.

        twisted.web reads a request's whole body before a resource sees it; a port of the gateway's
        own (:meth:`gateway_factory`) streams uploads.
        """
        return self._make_api().resource()

    def gateway_factory(self) -> FrontFactory:
        """The gateway as a protocol factory, to listen with on an endpoint of your own. Give its
        ``listens_on`` the port, so that all who come at once are answered from the first on."""
        return FrontFactory(self._gateway, self._make_api)

    def _make_api(self) -> Api:
        if self._api is None:
            # Importing klein installs the reactor: not before there is a gateway to make.
            from tortxd.gateway.control.app import Api

            self._api = Api(self._gateway, self.config.check_url, self.config.ip_url)
        return self._api


class Daemon(Service):
    """A :class:`TorService` and the gateway's ports.

    Ports are opened and the data directory is locked before Tor is started; when it stops, ports
    are closed first, then requests under way get a few seconds, then Tor is stopped.

    :param on_failure: called with the sentence when Tor turns out not to start as configured.
    """

    def __init__(
        self, config: DaemonConfig, reactor: Any, on_failure: Callable[[TortxdError], object]
    ) -> None:
        self.tor = TorService(config, reactor)
        self._config = config
        self._reactor = reactor
        self._on_failure = on_failure
        self._factory = self.tor.gateway_factory()
        self._ports: list[IListeningPort] = []
        self._prepared = False

    def prepare(self) -> None:
        """Find out what can be known before anything has begun; see :meth:`TorService.prepare`.

        :raises SetupError: a port is taken, or Tor cannot start as it is configured.
        """
        with _spelled(self._config):
            for description in self._config.http:
                try:
                    serverFromString(self._reactor, description)
                except Exception as error:  # whatever a kind of endpoint makes of a bad one
                    raise not_a_server(description, "`http`") from error
                reason = _unavailable(description)
                if reason is not None and not self._may_lack(description, reason):
                    raise _cannot_listen(description, reason)
            if self._config.control is None and str(self._config.socks) in map(
                plain, self._config.http
            ):
                raise SetupError(
                    f"`http` and `socks` name one port, {self._config.socks}. Choose another for "
                    "one of them."
                )
        self.tor.prepare()
        self._prepared = True

    def startService(self) -> None:
        """Listen, then start Tor.

        :raises SetupError: if either cannot be.
        """
        if not self._prepared:
            self.prepare()
        self._prepared = False
        try:
            with _spelled(self._config):
                self._listen()
        except SetupError:
            for port in self._ports:
                port.stopListening()
            self.tor.stopService()
            raise
        self._say_first()
        self.tor.startService()
        self._reactor.callLater(0, self._factory.prepare)
        self.tor.when_failed().addCallback(self._on_failure)
        self.tor.when_ready().addCallbacks(self._say_ready, lambda failure: failure.trap(TorDown))
        super().startService()  # type: ignore[no-untyped-call]

    def _listen(self) -> None:
        for description in self._config.http:
            try:
                self._ports.append(self._listen_on(description))
            except Exception as error:
                reason = _why_not(error)
                if not self._may_lack(description, reason):
                    raise _cannot_listen(description, reason) from error

    def _may_lack(self, description: str, reason: str) -> bool:
        return description in self._config.http_may_lack and reason != os.strerror(EADDRINUSE)

    def _say_first(self) -> None:
        data_dir = self._config.data_dir
        log.info(
            "tortxd {version} is starting. Its data is in {path}",
            version=__version__,
            path=data_dir,
        )
        log.info("The token for operators is in {path}", path=data_dir / TOKEN_NAME)
        if self._ports:
            addresses = [port.getHost() for port in self._ports]
            log.info(
                "The gateway listens on {addresses}.", addresses=" and ".join(map(_said, addresses))
            )

    def _say_ready(self, _: None) -> None:
        if self._ports:
            address = self._ports[0].getHost()
            log.info("Try it:  {command}", command=_command(address, self._config.token_file))
            url = _reached(address)
            if url.startswith("http://"):
                log.info("In a browser:  {url}", url=f"{url}/")

    def _listen_on(self, description: str) -> IListeningPort:
        outcome: list[Any] = []
        endpoint = serverFromString(self._reactor, description)
        endpoint.listen(self._factory).addBoth(outcome.append)
        # Twisted's own stream endpoints listen at once; only such can be judged before Tor starts.
        result = outcome[0] if outcome else Failure(SetupError("it does not listen at once"))
        if isinstance(result, Failure):
            result.raiseException()
        port: IListeningPort = result
        self._factory.listens_on(port)
        return port

    async def _stop(self) -> None:
        log.info("tortxd is stopping.")
        self.tor.wind_down()
        for stopping in [port.stopListening() for port in self._ports]:
            await _settled(stopping)
        await self._factory.drain(DRAIN)
        await self.tor.stopService()
        log.info("tortxd has stopped.")

    def stopService(self) -> Deferred[None]:
        """Close the ports, let requests finish for a few seconds, stop Tor."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())


@contextmanager
def _spelled(config: DaemonConfig) -> Iterator[None]:
    """Have sentences call fields as they were given."""
    try:
        yield
    except SetupError as error:
        raise SetupError(config.spelled(str(error))) from error


def _settings(config: DaemonConfig) -> LaunchSettings | AttachSettings:
    if config.control is not None:
        password = config.control_password
        return AttachSettings(
            control=config.control,
            password=None if password is None else password.decode(),
            socks=config.socks,
        )
    return LaunchSettings(
        data_dir=config.data_dir,
        tor=None if config.tor is None else str(config.tor),
        socks=config.socks,
        torrc_lines=_torrc_lines(config.torrc, exposure=config.open),
        torrc_name=_torrc_name(config.torrc),
    )


def _torrc_lines(path: Path | None, *, exposure: bool) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        lines = tuple(line.rstrip("\r") for line in read_whole(path).decode().split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SetupError(f"{_torrc_name(path)} cannot be read: {reason}.") from error
    for number, line in enumerate(lines, 1):
        exposed = None if exposure else exposed_listener(line)
        if exposed is not None:
            raise SetupError(
                f"{_torrc_name(path)}, line {number}: {exposed} listens on more than loopback, "
                "where nobody is asked for a token: anyone there could use this Tor. Set `open` if "
                "that is meant."
            )
    return lines


def _torrc_name(path: Path | None) -> str:
    return f"`torrc`: {path}"


def _policy(config: DaemonConfig, operator_token: bytes | None) -> GatewayPolicy:
    return GatewayPolicy(
        access=AccessPolicy(
            allow_hosts=frozenset(host.encode() for host in config.allow_hosts),
            allow_origins=frozenset(origin.encode() for origin in config.allow_origins),
            token=config.token,
            operator_token=operator_token,
            operator_cookie=token_urlsafe(32).encode(),
        ),
        targets=TargetPolicy(
            aliases=tuple(parse_alias(alias) for alias in config.aliases),
            own_hosts=frozenset(config.allow_hosts),
            own_ports=config.http_ports,
        ),
        user_agent=UserAgent.of(config.user_agent),
        timeout=config.timeout,
        idle_timeout=config.idle_timeout,
    )


def _check_services(config: DaemonConfig, targets: TargetPolicy) -> None:
    """Refuse services that no request could reach."""
    for name, url in (("check_url", config.check_url), ("ip_url", config.ip_url)):
        try:
            targets.parse(url)
        except TortxdError as error:
            raise SetupError(f"`{name}`: {str(error).removesuffix(MAP_IT)}") from None


def _unavailable(description: str) -> str | None:
    """Why nothing could listen at this endpoint now, where that can be known by a look."""
    kind = split_endpoint(description)[0][0]
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


def _warn_of_readers(config: DaemonConfig) -> None:
    for path in (config.token_file, config.control_password_file):
        try:
            readable = path is not None and path.stat().st_mode & stat.S_IROTH
        except OSError:
            continue  # it was read before, and may be out of reach by now
        if readable:
            log.warn(
                "Every user of this machine can read {path}: chmod o-r {word}",
                path=path,
                word=shlex.quote(str(path)),
            )


def _said(address: Any) -> str:
    host = getattr(address, "host", None)
    if host is None:
        return os.fsdecode(getattr(address, "name", None) or str(address))
    return f"http://{f'[{host}]' if ':' in host else host}:{address.port}"


def _reached(address: Any) -> str:
    """Where this machine reaches a port that listens at this address."""
    url = _said(address)
    for wildcard, loopback in (("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")):
        url = url.replace(wildcard, loopback)
    return url


def _command(address: Any, token_file: Path | None) -> str:
    """A command that asks the gateway at this address something, to be pasted into a shell."""
    words = ["curl"]
    url = _reached(address)
    if not url.startswith("http://"):
        words += ["--unix-socket", shlex.quote(url)]
        url = "http://localhost"
    if token_file is not None:
        words += ["-H", f'"Tortxd-Token: $(cat {shlex.quote(str(token_file))})"']
    return " ".join((*words, f"{url}/verify-tor"))


async def _settled(result: Any) -> None:
    if isinstance(result, Deferred):
        await result

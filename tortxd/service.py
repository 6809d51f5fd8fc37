"""The composition root: from a :class:`~tortxd.config.DaemonConfig` and a reactor to one Tor with
everything that an app wants of it."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tortxd._types import Reactor
from tortxd.client.installed import installed
from tortxd.config import DaemonConfig
from tortxd.errors import SetupError, TortxdError
from tortxd.files import read_whole
from tortxd.gateway.admission.policy import GatewayPolicy
from tortxd.gateway.limits import Limits, descriptors_here
from tortxd.options import KEYS, RELOADABLE
from tortxd.policy.access import AccessPolicy
from tortxd.policy.directives import isolation_key
from tortxd.policy.headers import UserAgent
from tortxd.policy.hosts import MAP_IT, public_host
from tortxd.policy.steering import steering_for
from tortxd.policy.target import TargetPolicy, parse_alias
from tortxd.settings import describe
from tortxd.tor.budget import CircuitBudget
from tortxd.tor.datadir import TOKEN_NAME, operator_token, prepare
from tortxd.tor.isolation import IsolationKeys, isolation_of
from tortxd.tor.link import Circuit, Stream
from tortxd.tor.status import Status, serves
from tortxd.tor.supervisor import AttachSettings, LaunchSettings, TorSupervisor
from tortxd.tor.torrc import exposed_listener

if TYPE_CHECKING:
    from twisted.web.resource import IResource

    from tortxd.client.agent import TorAgent
    from tortxd.client.treq_client import TreqClient
    from tortxd.gateway.control.app import Api
    from tortxd.gateway.front.listener import FrontFactory
    from tortxd.gateway.gateway import Gateway, Renewal

_EMBEDDER = b"\x00embedder"
"""The caller that the embedding app is, unlike any peer or token."""

log = Logger()


class Reloaded(NamedTuple):
    """What became of a reload, by the names of the options' keys."""

    changed: tuple[str, ...]
    """What is another now; ``operator-token`` among it, where that in the data directory is."""
    kept: tuple[str, ...]
    """What is another in the configuration, and needs a restart."""


class TorService(Service):
    """One Tor: launched and supervised, or attached to, from ``startService`` to ``stopService``.

    :param config: how; see :class:`~tortxd.config.DaemonConfig`.
    :param reactor: None means the installed one.
    """

    def __init__(self, config: DaemonConfig | None = None, reactor: Reactor | None = None) -> None:
        self.config = config or DaemonConfig()
        reactor = self.reactor = installed(reactor)
        self._keys = IsolationKeys()
        with self.config.names_as_given():
            budget = CircuitBudget(
                reactor, self.config.circuit_rate, self.config.caller_circuit_rate
            )
            self._supervisor = TorSupervisor(
                reactor,
                _settings(self.config),
                username_prefix=self._keys.username_prefix,
                budget=budget,
            )
            self._policy = _policy(self.config, None)
            _check_services(self.config, self._policy.targets)
        self._http: TreqClient | None = None
        self._api: Api | None = None
        self._prepared: GatewayPolicy | None = None
        self._unfollow: Callable[[], None] | None = None
        """Ends that requests are logged."""

    # --- IService --------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Find out, before anything has begun, whether Tor can start as it is configured, and lock
        the data directory until :meth:`stopService`.

        :raises SetupError: it cannot. For what turns out later, see :meth:`when_failed`.
        """
        with self.config.names_as_given():
            self.config.check_exposure()
            data_dir = prepare(self.config.data_dir)
            policy = _policy(self.config, _operator_token(self.config, data_dir))
            self._supervisor.prepare()
        self._prepared = policy

    def startService(self) -> None:
        """Start Tor, after :meth:`prepare`, if need be.

        :raises SetupError: as there.
        """
        if self._prepared is None:
            self.prepare()
        assert self._prepared is not None
        self._policy, self._prepared = self._prepared, None
        if "_gateway" in vars(self):
            self._gateway.policy = self._policy
            self._gateway.begin()
        _warn_of_readers(self.config)
        self._supervisor.start()
        Deferred.fromCoroutine(self._load())
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:
        """End what is under way and close what is kept, then stop Tor; fires when it is gone."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._prepared = None
        if "_gateway" in vars(self):
            self._gateway.stop()
        return self._supervisor.stop()

    def wind_down(self) -> None:
        """Let what is under way go on, but start no Tor again: :meth:`stopService` follows soon."""
        self._supervisor.wind_down()

    @cached_property
    def _gateway(self) -> Gateway:
        """What carries requests. It is loaded when it is first needed, so that Tor can be launched
        before, and starts meanwhile."""
        from tortxd.gateway.gateway import Gateway

        gateway = Gateway(
            self.reactor, self._supervisor, self._policy, self._keys, limits=_limits(self.config)
        )
        self._follow_requests(gateway)

        def become(status: Status) -> None:
            if not serves(status):
                # What waits leads over circuits that are gone, or that Tor has given up.
                gateway.pool.clear()

        self._supervisor.on_status(become)
        return gateway

    def _follow_requests(self, gateway: Gateway) -> None:
        """Have requests logged, or not any more."""
        from tortxd.gateway.request_log import log_request

        if self._unfollow is not None:
            self._unfollow()
            self._unfollow = None
        if self.config.log_requests:
            self._unfollow = gateway.journal.listen(log_request)

    async def _load(self) -> None:
        """Load the gateway, and then what the first request would wait for. Between the two the
        reactor has its turn."""
        await deferLater(self.reactor, 0)
        if self.running:
            _ = self._gateway
            await deferLater(self.reactor, 0)
        if self.running:
            self._gateway.prepare()

    # --- another configuration -------------------------------------------------------------------

    def reload(self, config: DaemonConfig) -> Reloaded:
        """Take over from ``config`` what may change while it runs (docs/configuration.md tells
        which options those are); the next requests go by it. The operator token is read again, too.
        What :meth:`agent` and :attr:`http` have made keeps the timeout that it has.

        :raises SetupError: it is refused, and nothing has changed.
        """
        before = self.config
        with config.names_as_given():
            merged = before.reloaded(config)
            merged.check_exposure()
            access = self._policy.access
            token = access.operator_token
            if token is not None:
                token = _operator_token(merged, merged.data_dir)
            cookie = access.operator_cookie if token == access.operator_token else None
            policy = _policy(merged, token, cookie)
            _check_services(merged, policy.targets)
        changed = [key for key in RELOADABLE if getattr(merged, key) != getattr(before, key)]
        if merged.token != before.token and "token_file" not in changed:
            changed.append("token_file")
        name = TOKEN_NAME if merged.operator_token_file is None else "operator_token_file"
        if cookie is None and token is not None and "operator_token_file" not in changed:
            changed.append(name)
        self.config, self._policy = merged, policy
        if "_gateway" in vars(self):
            self._gateway.policy = policy
            self._gateway.limits = _limits(merged)
            self._follow_requests(self._gateway)
        fixed = KEYS - set(RELOADABLE)
        kept = sorted(key for key in fixed if getattr(config, key) != getattr(before, key))
        return Reloaded(tuple(changed), tuple(kept))

    @property
    def operator_token_file(self) -> Path:
        """Where the token for operators lies."""
        return self.config.operator_token_file or self.config.data_dir / TOKEN_NAME

    # --- what Tor does ---------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """What Tor is doing now."""
        return self._supervisor.status

    def on_status(self, observer: Callable[[Status], None]) -> Callable[[], None]:
        """Call ``observer`` with each further status, until the result is called."""
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

    def new_identity(self, isolation: str | None = None) -> Deferred[Renewal]:
        """New circuits, and no connection that could link to the old ones.

        :param isolation: for this key of :meth:`agent` and :meth:`endpoint` alone; None: for
            everyone (NEWNYM). Then it fires when Tor has done it, which it does once in 10 seconds.

        Fires with what it was made of. Fails with BadRequest where the key is malformed, with
        TorNotReady, TorDown or TorTimeout.
        """

        async def renew() -> Renewal:
            if isolation is None:
                return await self._gateway.renew_all()
            return self._gateway.renew(isolation_of(isolation_key(isolation), "", _EMBEDDER))

        return Deferred.fromCoroutine(renew())

    @property
    def txtorcon(self) -> Any:
        """The ``txtorcon.Tor``, for all that it can do.

        :raises TorNotReady: before the control port was reached.
        """
        return self._supervisor.txtorcon

    # --- ways through it -------------------------------------------------------------------------

    def agent(
        self,
        isolation: str | None = None,
        *,
        exit_country: str | Iterable[str] | None = None,
        exit: str | Iterable[str] | None = None,
        sticky: int | None = None,
        strict: bool = False,
        retry: int = 0,
    ) -> TorAgent:
        """An ``IAgent`` through Tor, for treq. Its responses tell the way that they came, as
        ``response.tor``.

        :param isolation: requests with different keys never share a circuit. With none, each
            destination's site has circuits of its own.
        :param exit_country: two-letter codes of the countries (ISO 3166-1) of which one must be the
            exit's; no other is taken instead.
        :param exit: fingerprints of the relays of which one must be the exit.
        :param sticky: for how many seconds from each request on the key keeps its exit, 1 to
            86,400.
        :param strict: whether requests fail with ExitUnavailable when that exit has gone; else the
            key has another one, which the response tells.
        :param retry: how many further tries a GET, HEAD or OPTIONS may have, each on a fresh
            circuit, 0 to 3.
        :raises BadRequest: one of these is malformed.
        """
        from tortxd.client.agent import TorAgent

        return TorAgent(
            self._gateway,
            self._gateway.keys,
            key=None if isolation is None else isolation_key(isolation),
            caller=_EMBEDDER,
            timeout=self.config.timeout,
            steering=steering_for(
                exit_country=exit_country, exit=exit, sticky=sticky, strict=strict, retry=retry
            ),
        )

    @property
    def http(self) -> TreqClient:
        """treq over :meth:`agent`, keeping no cookies."""
        if self._http is None:
            from tortxd.client.treq_client import TreqClient

            self._http = TreqClient(self.agent())
        return self._http

    def endpoint(
        self,
        host: str,
        port: int,
        *,
        isolation: str | None = None,
        tls: bool = False,
        exit_country: str | Iterable[str] | None = None,
        exit: str | Iterable[str] | None = None,
        sticky: int | None = None,
        strict: bool = False,
        retry: int = 0,
    ) -> IStreamClientEndpoint:
        """A stream to ``host`` and ``port`` through Tor; with ``tls``, secured for ``host``.

        :param isolation: as in :meth:`agent`, as are the others.
        :param retry: how many further tries to open the stream there may be.
        """
        from tortxd.relay.endpoint import StreamEndpoint

        name = public_host(host)
        key = None if isolation is None else isolation_key(isolation)
        return StreamEndpoint(
            self._gateway,
            self._gateway.keys,
            isolation_of(key, name, _EMBEDDER),
            name,
            port,
            tls=tls,
            steering=steering_for(
                exit_country=exit_country, exit=exit, sticky=sticky, strict=strict, retry=retry
            ),
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
        from tortxd.gateway.front.listener import FrontFactory

        return FrontFactory(self._gateway, self._make_api)

    def _make_api(self) -> Api:
        if self._api is None:
            # Importing klein installs the reactor: not before there is a gateway to make.
            from tortxd.gateway.control.app import Api

            self._api = Api(
                self._gateway,
                self.config.check_url,
                self.config.ip_url,
                lambda: describe(self.config),
            )
        return self._api


def _settings(config: DaemonConfig) -> LaunchSettings | AttachSettings:
    if config.control is not None:
        password = config.control_password
        return AttachSettings(
            control=config.control,
            password=None if password is None else password.decode(),
            socks=config.socks,
            password_file=config.control_password_file,
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


def _policy(
    config: DaemonConfig, operator_token: bytes | None, cookie: bytes | None = None
) -> GatewayPolicy:
    return GatewayPolicy(
        access=AccessPolicy(
            allow_hosts=frozenset(host.encode() for host in config.allow_hosts),
            allow_origins=frozenset(origin.encode() for origin in config.allow_origins),
            token=config.token,
            operator_token=operator_token,
            operator_cookie=cookie or token_urlsafe(32).encode(),
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


def _operator_token(config: DaemonConfig, data_dir: Path) -> bytes:
    """The one that it was given, or that of a data directory which is prepared."""
    return config.operator_token or operator_token(data_dir).encode()


def _limits(config: DaemonConfig) -> Limits:
    descriptors = descriptors_here()
    limits = Limits.of(
        descriptors,
        clients=config.max_clients,
        requests=config.max_requests,
        share=config.client_share,
        head_size=config.max_header_size,
        head_time=config.header_timeout,
        idle_time=config.keepalive_timeout,
    )
    clients, requests = config.max_clients, config.max_requests
    for name, asked, there in (
        ("max_clients", clients, limits.clients),
        ("max_requests", requests, limits.requests),
    ):
        if asked is not None and there < asked:
            log.warn(
                "{name} is {asked}, but {descriptors} file descriptors are enough for {there}. "
                "Raise their limit (ulimit -n, LimitNOFILE of systemd).",
                name=config.spelled(f"`{name}`"),
                asked=asked,
                descriptors=descriptors,
                there=there,
            )
    return limits


def _check_services(config: DaemonConfig, targets: TargetPolicy) -> None:
    """Refuse services that no request could reach."""
    for name, url in (("check_url", config.check_url), ("ip_url", config.ip_url)):
        try:
            targets.parse(url)
        except TortxdError as error:
            raise SetupError(f"`{name}`: {str(error).removesuffix(MAP_IT)}") from None


def _warn_of_readers(config: DaemonConfig) -> None:
    for path in (config.token_file, config.operator_token_file, config.control_password_file):
        try:
            readable = path is not None and path.stat().st_mode & stat.S_IROTH
        except OSError:
            continue  # it has been read already, and may be gone by now
        if readable:
            log.warn(
                "Every user of this machine can read {path}: chmod o-r {word}",
                path=path,
                word=shlex.quote(str(path)),
            )

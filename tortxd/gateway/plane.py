"""The data plane: decides whether a request may pass, and makes an order of it.

Everything that two ways in must decide alike is decided here: the front and the klein route both
call :meth:`DataPlane.admit`, and both get the same orders, answers and errors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress

from tortxd.errors import BadRequest, BadResponse, ForbiddenHost, TortxdError
from tortxd.gateway.answers import OWN_HEADERS, Answer, error_answer
from tortxd.gateway.flow import DisconnectWatch
from tortxd.gateway.hops import counted_down, hops_left, last_answer
from tortxd.gateway.limits import Limits
from tortxd.policy.access import AccessPolicy, Admission, Audience
from tortxd.policy.headers import UserAgent, incoming, outgoing
from tortxd.policy.query import ProxyQuery, target_of
from tortxd.policy.redirects import check_redirected
from tortxd.policy.request import (
    Directives,
    Fields,
    directives,
    from_browser,
    gateway_fields,
    with_key,
)
from tortxd.policy.site import public_suffixes, site_of
from tortxd.policy.target import HTTP_SCHEMES, WEBSOCKET_SCHEMES, Target, TargetPolicy
from tortxd.relay.direct import connect_upstream
from tortxd.relay.exchange import UpstreamRequest
from tortxd.relay.failures import Failures
from tortxd.relay.interfaces import Stoppable
from tortxd.relay.timeouts import Timeouts
from tortxd.relay.upstream import Pool, PoolKey, Upstream
from tortxd.tor.isolation import Credentials, Isolation, IsolationKeys
from tortxd.tor.link import SocksAddress, TorLink
from tortxd.tor.tls import ClientTls
from tortxd.wire.http1 import (
    Headers,
    HeaderSection,
    RequestHead,
    ResponseHead,
    connection_options,
    field_lines,
)

_UPGRADE: Headers = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
_UPGRADE_LINES = field_lines(_UPGRADE)
_JUDGEMENTS = 1024
"""Header sections of which it is remembered what follows from them."""
# Equal ones are one and the same, which makes comparing them cheap.
_isolated = lru_cache(4096)(Isolation)
_pool_key = lru_cache(4096)(PoolKey)


@frozen
class GatewayPolicy:
    """What the gateway was told about whom and what to serve."""

    access: AccessPolicy
    targets: TargetPolicy
    user_agent: UserAgent
    timeout: float = 60.0
    idle_timeout: float = 300.0


@frozen(eq=False)
class _Judged:
    """What follows, under one policy, from a request's method and header section alone."""

    fields: Fields
    admission: Admission
    asked: Directives
    field_lines: bytes
    """The fields that go on to the destination, as lines."""
    browser: bool = False
    """Whether a browser asks."""


class DataPlane:
    """What every way into the gateway shares: policy, isolation, connections, Tor."""

    def __init__(
        self,
        reactor: Any,
        link: TorLink,
        policy: GatewayPolicy,
        keys: IsolationKeys | None = None,
        tls: ClientTls | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.reactor = reactor
        self.link = link
        self._policy = policy
        self.keys = keys or IsolationKeys()
        self.tls = tls or ClientTls()
        self.timeouts = Timeouts(reactor)
        self.disconnects = DisconnectWatch(self.timeouts)
        self.limits = limits or Limits()
        self.pool = Pool(self.timeouts, self.limits.idle)
        self.failures = Failures(reactor)
        self.under_way: set[Stoppable] = set()
        self._judged = lru_cache(_JUDGEMENTS)(self._judge_section)

    @property
    def policy(self) -> GatewayPolicy:
        """What the gateway was told; another one counts from the next request on."""
        return self._policy

    @policy.setter
    def policy(self, policy: GatewayPolicy) -> None:
        self._policy = policy
        self._judged.cache_clear()

    def prepare(self) -> None:
        """Load what the first request would have to wait for, 0.1 s of work, while Tor starts."""
        public_suffixes()
        _ = self.tls.context

    def stop(self) -> None:
        """End what is under way, and let go of waiting connections and of timers."""
        self.end_under_way()
        self.disconnects.stop()
        self.pool.clear()
        self.timeouts.stop()

    def end_under_way(self) -> None:
        """End each request that is on its way, with an answer where none has begun."""
        while self.under_way:  # what ends may let a request begin that was sent ahead
            next(iter(self.under_way)).stop()

    # --- admission -------------------------------------------------------------------------------

    def admit(
        self, head: RequestHead, query: bytes, peer: bytes, mount: bytes = b"/proxy"
    ) -> UpstreamRequest | Answer:
        """What to do about a request to ``/proxy``: an order, or an answer of the gateway's own.

        :param query: the raw query of the request target.
        :param peer: where the request comes from, as far as that tells callers apart.
        :param route: the path under which the client knows ``/proxy``.
        :raises TortxdError: if it is refused.
        """
        policy = self._policy
        if head.section is not None and head.hosts:
            judged = self._judged(head.method, head.section)
        else:
            judged = self._judge(head.method, head.headers, head.minor)
        admission = judged.admission
        if admission.preflight is not None:
            return Answer(204, [*admission.preflight, *OWN_HEADERS])
        if head.method == b"CONNECT":
            raise BadRequest("CONNECT takes a host and a port.")
        upgrade = self.asks_for_websocket(head)
        wanted = target_of(query)
        asked = judged.asked
        if wanted.isolation is not None:
            asked = with_key(asked, wanted.isolation)
        schemes = WEBSOCKET_SCHEMES if upgrade else HTTP_SCHEMES
        target = policy.targets.parse(wanted.url, schemes)
        lines = judged.field_lines
        hops = hops_left(head) if b"max-forwards" in head.fields else None
        if wanted.redirected or upgrade or hops is not None:
            headers = head.headers
            if wanted.redirected:
                headers = check_redirected(headers, has_body=head.has_body)
            if hops:
                headers = counted_down(headers, hops)
            fields = outgoing(headers, user_agent=policy.user_agent, websocket=upgrade)
            if hops == 0:
                answer = last_answer(head, fields)
                return answer.with_headers(admission.cors(answer.headers))
            lines = field_lines(fields)
        return self.order(
            head,
            target,
            lines,
            path=target.path,
            credentials=self.credentials(admission, asked, peer, target.host),
            timeout=self.timeout_for(asked),
            upgrade=upgrade,
            filter=self._filter(judged, target, wanted, mount),
        )

    def _judge_section(self, method: bytes, section: HeaderSection) -> _Judged:
        return self._judge(method, section.headers)

    def _judge(self, method: bytes, headers: Headers, minor: int = 1) -> _Judged:
        policy = self._policy
        fields = gateway_fields(headers)
        admission = policy.access.admit(fields, method=method, audience=Audience.PROXY, minor=minor)
        if admission.preflight is not None:
            return _Judged(fields, admission, Directives(), b"")
        lines = field_lines(outgoing(headers, user_agent=policy.user_agent))
        return _Judged(fields, admission, directives(fields), lines, from_browser(fields))

    def asks_for_websocket(self, head: RequestHead) -> bool:
        """Whether the request is a WebSocket's handshake (RFC 6455, section 4.1). Offers of other
        protocols are passed over (RFC 9110, section 7.8): clients make them with requests that are
        complete without.

        :raises BadRequest: it is a malformed one.
        """
        offered = head.fields.get(b"upgrade")
        if offered is None or head.minor == 0:
            return False
        if b"upgrade" not in connection_options(head.headers):
            return False
        if b"websocket" not in {name.strip().lower() for name in offered.split(b",")}:
            return False
        if head.method != b"GET" or head.has_body:
            raise BadRequest("A WebSocket begins with a GET of HTTP/1.1 without a body.")
        return True

    def timeout_for(self, asked: Directives) -> float:
        """Seconds until the response head, for a request that asks for these."""
        return min(asked.timeout or self.policy.timeout, self.policy.timeout)

    def order(
        self,
        head: RequestHead,
        target: Target,
        field_lines: bytes,
        *,
        path: bytes,
        credentials: Credentials,
        timeout: float,
        upgrade: bool,
        filter: Callable[[ResponseHead], Headers],
    ) -> UpstreamRequest:
        """The order for a request that goes to ``target`` with these fields, framed anew."""
        framing = b""
        if upgrade:
            framing = _UPGRADE_LINES
            filter = _switching(filter)
        if head.chunked:
            framing += b"Transfer-Encoding: chunked\r\n"
        elif head.length is not None:
            framing += b"Content-Length: %d\r\n" % head.length
        return UpstreamRequest(
            method=head.method,
            head=b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n"
            % (head.method, path, target.authority, field_lines, framing),
            pool_key=_pool_key(credentials, target.scheme, target.host, target.port),
            timeout=timeout,
            idle_timeout=self.policy.idle_timeout,
            has_body=head.has_body,
            chunked=head.chunked,
            expects_continue=head.expects_continue,
            filter=filter,
            upgrade=upgrade,
        )

    def credentials(
        self, admission: Admission, asked: Directives, peer: bytes, host: str
    ) -> Credentials:
        """Under which SOCKS credentials a caller's request to ``host`` goes."""
        if asked.isolation is None:
            isolation = _isolation("site", site_of(host).encode(), admission, peer)
        else:
            isolation = _isolation("key", asked.isolation, admission, peer)
        return self.keys.credentials(isolation)

    def renew_key(self, key: bytes, admission: Admission, peer: bytes) -> None:
        """New circuits and new connections for a caller's isolation key; nobody else notices."""
        isolation = _isolation("key", key, admission, peer)
        self.pool.retire(self.keys.credentials(isolation))
        self.keys.renew(isolation)
        self.failures.forget(isolation.caller)

    def renew_all(self) -> Deferred[None]:
        """New circuits (NEWNYM) and new connections for everyone. Fires when Tor has done its
        part, which it does once in 10 s; fails as :meth:`TorLink.new_identity` does."""
        self.keys.renew_all()
        self.pool.retire_all()
        self.failures.forget_all()
        return self.link.new_identity()

    def refusal(self, error: TortxdError, head: RequestHead | None) -> Answer:
        """The answer that ``error`` makes; a page on an allowed origin can read it."""
        if head is None or isinstance(error, ForbiddenHost):
            return error_answer(error)
        answer = error_answer(error)
        fields = gateway_fields(head.headers)
        return evolve(
            answer, headers=[*answer.headers, *self.policy.access.cors(fields, answer.headers)]
        )

    def _filter(self, judged: _Judged, target: Target, asked: ProxyQuery, mount: bytes) -> Any:
        admission, browser = judged.admission, judged.browser
        redirected, isolation = asked.redirected, asked.isolation
        destinations = judged.fields.get(b"sec-fetch-dest")
        targets = self.policy.targets

        def fit(response: ResponseHead) -> Headers:
            headers = incoming(
                response.headers,
                status=response.status,
                sec_fetch_dest=destinations[-1] if destinations else None,
                target=target,
                policy=targets,
                redirected=redirected,
                isolation=isolation,
                mount=mount,
                browser=browser,
            )
            headers.append((b"Proxy-Status", b"tortxd; received-status=%d" % response.status))
            if admission.origin is not None:
                headers += admission.cors(headers)
            return headers

        return fit

    # --- what an exchange needs ------------------------------------------------------------------

    def connect(
        self, address: SocksAddress, upstream: Upstream, *, early: bool, timeout: float
    ) -> Deferred[Upstream]:
        """Connect ``upstream`` to its destination, through the Tor at ``address``."""
        return connect_upstream(
            self.reactor, self.tls, address, upstream, early=early, timeout=timeout
        )

    def annotate(self, upstream: Upstream) -> Headers:
        """The headers that name the circuit and the exit, as far as the control port shows them."""
        if upstream.annotation is not None:
            return upstream.annotation
        circuit = None if upstream.source is None else self.link.circuit_of(upstream.source)
        if circuit is None:
            return []
        headers = [(b"Tortxd-Circuit", circuit.id.encode())]
        exit_relay = circuit.exit
        if exit_relay is None:
            return headers
        headers.append((b"Tortxd-Exit", exit_relay.fingerprint.encode()))
        if exit_relay.address is not None:
            headers.append((b"Tortxd-Exit-Address", exit_relay.address.encode()))
        if exit_relay.country is not None:
            headers.append((b"Tortxd-Exit-Country", exit_relay.country.encode()))
            upstream.annotation = headers
        return headers


def _switching(fit: Callable[[ResponseHead], Headers]) -> Callable[[ResponseHead], Headers]:
    """``fit`` for the response to a WebSocket's handshake."""

    def switching(response: ResponseHead) -> Headers:
        if response.status != 101:
            return fit(response)
        named = {value.lower() for name, value in response.headers if name.lower() == b"upgrade"}
        if named != {b"websocket"}:
            raise BadResponse("The destination switched to a protocol that was not asked for.")
        return fit(response) + _UPGRADE

    return switching


def _isolation(
    kind: Literal["key", "site"], name: bytes, admission: Admission, peer: bytes
) -> Isolation:
    """Equal keys of different callers, or of pages of different origins, are different."""
    return _isolated(kind, name, admission.token or peer, admission.origin or b"")


def peer_name(address: IAddress) -> bytes:
    """What tells callers apart by where they come from: the host, or ``unix``."""
    host = getattr(address, "host", None)
    return b"unix" if host is None else host.encode()

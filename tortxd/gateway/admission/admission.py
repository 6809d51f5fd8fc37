"""One sequence for every way in: who asks, for what, and as which upstream request it goes on.

    access -> what the headers direct -> target -> header fields -> credentials -> request

``/proxy``, absolute-form and CONNECT differ in what is read from where, and in nothing else. All of
it is pure, but for the keys, whose epochs may rise. Clients send the same header section again and
again: what follows from it alone is remembered, and nothing that depends on the target.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import lru_cache, partial

from attrs import evolve, frozen

from tortxd.errors import BadRequest, ForbiddenHost, TortxdError
from tortxd.gateway.admission import proxy_mode
from tortxd.gateway.admission.hops import counted_down, hops_left, last_answer
from tortxd.gateway.admission.policy import GatewayPolicy
from tortxd.gateway.admission.proxy_mode import OF_TOR
from tortxd.gateway.admission.responses import (
    NOBODY,
    UPGRADE,
    Reader,
    in_proxy_mode,
    switching,
    through_route,
)
from tortxd.gateway.answers import OWN_HEADERS, Answer, error_answer
from tortxd.policy.access import Audience, Caller
from tortxd.policy.directives import Directives, read_directives, with_parameters
from tortxd.policy.headers import outgoing, outgoing_proxy_mode
from tortxd.policy.query import target_of
from tortxd.policy.redirects import check_redirected
from tortxd.policy.request import Fields, gateway_fields
from tortxd.policy.steering import NOTHING
from tortxd.policy.target import HTTP_SCHEMES, WEBSOCKET_SCHEMES
from tortxd.relay.exchange import UpstreamRequest
from tortxd.relay.journal import Way
from tortxd.relay.placement import Placements, Steered
from tortxd.relay.tunnel import TunnelRequest
from tortxd.relay.upstream import PoolKey
from tortxd.tor.isolation import Isolation, IsolationKeys, isolation_of
from tortxd.wire.http1 import (
    Headers,
    HeaderSection,
    RequestHead,
    connection_options,
    field_lines,
)

PROXY = b"/proxy"

Decision = UpstreamRequest | TunnelRequest | Answer
"""What is to be done about a request: carry it, or give an answer of the gateway's own."""

_UPGRADE_LINES = field_lines(UPGRADE)
_REMEMBERED_SECTIONS = 1024
# Equal ones are one and the same, which makes comparing them cheap.
_pool_key = lru_cache(4096)(PoolKey)


class Form(Enum):
    """How a request names what it is for."""

    ROUTE = auto()
    """``/proxy?url=X``, in origin-form."""
    ABSOLUTE_FORM = auto()
    CONNECT = auto()
    ASTERISK = auto()
    """``OPTIONS *``."""


# By name, since Python 3.11 takes as long as for a call to look a member up in its class.
ROUTE, ABSOLUTE_FORM, CONNECT, ASTERISK = Form


def form_of(head: RequestHead) -> Form:
    """The way of a request that is for a proxy, or for ``/proxy``. A CONNECT to a path is for a
    proxy as well.

    :raises BadRequest: there is none such, or the request has not the Host that it must have.
    """
    if not proxy_mode.is_proxy_mode(head):
        return ROUTE
    proxy_mode.check_host(head)
    if head.method == b"CONNECT":
        return CONNECT
    if b"://" in head.target:
        return ABSOLUTE_FORM
    if head.target == b"*" and head.method == b"OPTIONS":
        return ASTERISK
    raise BadRequest("The request target is neither a path nor a URL.")


def way_of(head: RequestHead) -> Way:
    """How a request comes, for the journal, whether it may pass or not."""
    if head.method == b"CONNECT":
        return "connect"
    return "absolute-form" if proxy_mode.is_proxy_mode(head) else "proxy"


@frozen(eq=False)
class _Section:
    """What follows, under one policy, from a request's way, method and header section alone."""

    fields: Fields
    caller: Caller
    directives: Directives
    field_lines: bytes
    """The fields that go on to the destination."""
    reader: Reader = NOBODY
    """Who reads the response."""


class Admission:
    """See the module's description.

    :param policy: another one counts from the next request on.
    :param placements: know which isolations keep an exit.
    """

    def __init__(self, policy: GatewayPolicy, keys: IsolationKeys, placements: Placements) -> None:
        self.keys = keys
        self._placements = placements
        self._policy = policy
        self._known_of_route = lru_cache(_REMEMBERED_SECTIONS)(partial(self._read_again, ROUTE))
        self._known_of_absolute_form = lru_cache(_REMEMBERED_SECTIONS)(
            partial(self._read_again, ABSOLUTE_FORM)
        )

    @property
    def policy(self) -> GatewayPolicy:
        """What is decided by."""
        return self._policy

    @policy.setter
    def policy(self, policy: GatewayPolicy) -> None:
        self._policy = policy
        self._known_of_route.cache_clear()
        self._known_of_absolute_form.cache_clear()

    def decide(self, head: RequestHead, peer: bytes, mount: bytes | None = None) -> Decision:
        """What to do about a request to ``/proxy`` or in proxy mode.

        :param peer: where the request comes from, as far as that tells callers apart.
        :param mount: the path under which a ``Site`` serves ``/proxy``; nothing that comes to it is
            in proxy mode.
        :raises TortxdError: it is refused.
        """
        form = form_of(head) if mount is None else ROUTE
        section = self._section(form, head)
        preflight = section.caller.preflight
        if preflight is not None:
            return Answer(204, [*preflight, *OWN_HEADERS])
        if form is ASTERISK:
            return proxy_mode.abilities()
        if form is CONNECT:
            return self._tunnel(head, section, peer)
        return self._forward(form, head, section, peer, mount or PROXY)

    # --- from the header section -----------------------------------------------------------------

    def _section(self, form: Form, head: RequestHead) -> _Section:
        if head.section is not None and head.hosts:
            if form is ROUTE:
                return self._known_of_route(head.method, head.section)
            if form is ABSOLUTE_FORM:
                return self._known_of_absolute_form(head.method, head.section)
        return self._read_section(form, head.method, head.headers, head.minor)

    def _read_again(self, form: Form, method: bytes, section: HeaderSection) -> _Section:
        return self._read_section(form, method, section.headers)

    def _read_section(
        self, form: Form, method: bytes, headers: Headers, minor: int = 1
    ) -> _Section:
        access, fields = self._policy.access, gateway_fields(headers)
        if form is ASTERISK:
            return _Section(fields, access.admit_options(fields, minor), Directives(), b"")
        if form is CONNECT:
            # Nothing of it goes on, and that it has a body counts before what it directs.
            return _Section(fields, access.admit_proxy_mode(fields), Directives(), b"")
        if form is not ROUTE:
            caller = access.admit_proxy_mode(fields)
            lines = field_lines(outgoing_proxy_mode(headers))
            return _Section(fields, caller, read_directives(fields, proxy_mode=True), lines)
        caller = access.admit(fields, method=method, audience=Audience.PROXY, minor=minor)
        if caller.preflight is not None:
            return _Section(fields, caller, Directives(), b"")
        lines = field_lines(outgoing(headers, user_agent=self._policy.user_agent))
        return _Section(fields, caller, read_directives(fields), lines, Reader.of(caller, fields))

    # --- from the target -------------------------------------------------------------------------

    def _tunnel(self, head: RequestHead, section: _Section, peer: bytes) -> TunnelRequest:
        if head.has_body:
            raise BadRequest("A CONNECT has no body.")
        directives = read_directives(section.fields, proxy_mode=True)
        to = self._policy.targets.tunnel(head.target)
        isolation = self.isolation(section.caller, directives.isolation, peer, to.host)
        pool_key = PoolKey(self.keys.credentials(isolation), "tcp", to.host, to.port)
        steered = self.steered(isolation, directives)
        return TunnelRequest(pool_key, self.timeout_for(directives), OF_TOR, steered)

    def _forward(
        self, form: Form, head: RequestHead, section: _Section, peer: bytes, mount: bytes
    ) -> UpstreamRequest | Answer:
        policy, directives, lines = self._policy, section.directives, section.field_lines
        upgrade = asks_for_websocket(head)
        schemes = WEBSOCKET_SCHEMES if upgrade else HTTP_SCHEMES
        redirected = False
        if form is ROUTE:
            if head.method == b"CONNECT":
                raise BadRequest("CONNECT takes a host and a port.")
            query = target_of(head.target.partition(b"?")[2])
            if query.isolation is not None or query.asked is not NOTHING:
                directives = with_parameters(directives, query.isolation, query.asked)
            redirected = query.redirected
            target = policy.targets.parse(query.url, schemes)
            path = target.path
            fit = through_route(target, policy.targets, query, section.reader, mount)
        else:
            target = policy.targets.parse_absolute_form(head.target, schemes)
            path = b"*" if _asks_the_server(head) else target.path
            fit = in_proxy_mode
        hops = hops_left(head) if b"max-forwards" in head.fields else None
        if upgrade or redirected or hops is not None:
            fields = self._outgoing(form, head, hops, upgrade=upgrade, redirected=redirected)
            if hops == 0:
                return self._last_answer(form, head, section, fields)
            lines = field_lines(fields)
        framing = b""
        if upgrade:
            framing, fit = _UPGRADE_LINES, switching(fit)
        if head.chunked:
            framing += b"Transfer-Encoding: chunked\r\n"
        elif head.length is not None:
            framing += b"Content-Length: %d\r\n" % head.length
        isolation = self.isolation(section.caller, directives.isolation, peer, target.host)
        return UpstreamRequest(
            method=head.method,
            head=b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n"
            % (head.method, path, target.authority, lines, framing),
            pool_key=_pool_key(
                self.keys.credentials(isolation), target.scheme, target.host, target.port
            ),
            timeout=self.timeout_for(directives),
            idle_timeout=policy.idle_timeout,
            has_body=head.has_body,
            chunked=head.chunked,
            expects_continue=head.expects_continue,
            filter=fit,
            way="proxy" if form is ROUTE else "absolute-form",
            upgrade=upgrade,
            steered=self.steered(isolation, directives),
        )

    def _outgoing(
        self, form: Form, head: RequestHead, hops: int | None, *, upgrade: bool, redirected: bool
    ) -> Headers:
        """The fields that go on, of a request of which more is known than its header section."""
        headers = head.headers
        if redirected:
            headers = check_redirected(headers, has_body=head.has_body)
        if hops:
            headers = counted_down(headers, hops)
        if form is not ROUTE:
            return outgoing_proxy_mode(headers)
        return outgoing(headers, user_agent=self._policy.user_agent, websocket=upgrade)

    def _last_answer(
        self, form: Form, head: RequestHead, section: _Section, fields: Headers
    ) -> Answer:
        answer = last_answer(head, fields)
        if form is ROUTE:
            return answer.with_headers(section.caller.cors(answer.headers))
        return answer.with_headers(OF_TOR)

    # --- in part ---------------------------------------------------------------------------------

    def timeout_for(self, directives: Directives) -> float:
        """Seconds until the response head, for a request that asks for these."""
        return min(directives.timeout or self._policy.timeout, self._policy.timeout)

    def isolation(
        self, caller: Caller, key: bytes | None, peer: bytes, host: str = ""
    ) -> Isolation:
        """What keeps a caller's request to ``host`` apart. Equal keys of different callers, or of
        pages of different origins, are different."""
        return isolation_of(key, host, caller.token or peer, caller.origin or b"")

    def steered(self, isolation: Isolation, directives: Directives) -> Steered | None:
        """How a request is steered; None: not at all."""
        return self._placements.steered(isolation, directives.steering)

    def refusal(self, error: TortxdError, head: RequestHead | None) -> Answer:
        """The answer that ``error`` makes, where a request that is not in proxy mode is refused; a
        page on an allowed origin can read it."""
        answer = error_answer(error)
        if head is None or isinstance(error, ForbiddenHost):
            return answer
        cors = self._policy.access.cors(gateway_fields(head.headers), answer.headers)
        return evolve(answer, headers=[*answer.headers, *cors])


def _asks_the_server(head: RequestHead) -> bool:
    """Whether an OPTIONS in absolute-form is for the server as a whole (RFC 9112, section
    3.2.4)."""
    return head.method == b"OPTIONS" and not set(head.target.partition(b"://")[2]) & set(b"/?")


def asks_for_websocket(head: RequestHead) -> bool:
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

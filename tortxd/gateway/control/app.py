"""The gateway's routes, as a klein app: the control plane, and ``/proxy`` for those who mount it.

Importing klein installs the reactor, so this module is imported where a gateway is made and not
before.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate

from attrs import field, frozen
from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Site
from werkzeug.exceptions import HTTPException

from tortxd._version import __version__
from tortxd.errors import (
    BadRequest,
    BadResponse,
    InternalError,
    MethodNotAllowed,
    NotFound,
    NotServed,
    TooLarge,
    TorDown,
    TortxdError,
    Unauthorized,
)
from tortxd.gateway.answers import OWN_HEADERS, Answer, json_answer, takes_html
from tortxd.gateway.control.mounted import head_of, relay, send
from tortxd.gateway.control.page import HEADERS as PAGE_HEADERS
from tortxd.gateway.control.page import (
    RENEWED_AFTER,
    ROUTES,
    Address,
    ForOperators,
    View,
    error_page,
    page,
    refreshes,
)
from tortxd.gateway.control.probes import Probe
from tortxd.gateway.control.verification import Verification
from tortxd.gateway.control.views import address_in, circuit_json, stream_json, verdict
from tortxd.gateway.front.handover import LONG_BODY, MAX_BODY
from tortxd.gateway.gateway import Gateway, peer_name
from tortxd.policy.access import Audience, Caller
from tortxd.policy.query import token_of
from tortxd.policy.request import (
    OPERATOR_COOKIE,
    Fields,
    directives,
    gateway_fields,
    key_forms,
)
from tortxd.relay.outbound import STOPPING
from tortxd.tor.report import not_ready, status_json
from tortxd.tor.status import serves
from tortxd.wire.http1 import RequestHead

log = Logger()


@frozen
class Call:
    """A request on the control plane that may be served."""

    admission: Caller
    fields: Fields
    peer: bytes
    token: bytes | None = field(default=None, repr=False)
    """What the query of the page's address gives."""
    body: bytes = field(default=b"", repr=False)
    minor: int = 1
    """Of HTTP/1.0 or 1.1."""
    address: Address = field(kw_only=True)
    """Under which it knows the page at ``/``."""
    html: bool = field(kw_only=True)
    """Whether it asks for something that a browser shows."""


Handler = Callable[["Api", Call], Awaitable[Answer]]
KleinRoute = Callable[Concatenate["Api", Any, ...], Deferred[None]]


@frozen
class Served:
    """Whom a route serves, and which methods."""

    audience: Audience
    methods: tuple[bytes, ...] | None
    """None: whatever method."""

    @property
    def allow(self) -> tuple[bytes, bytes]:
        """The header that names the methods (RFC 9110, section 10.2.1)."""
        return (b"Allow", b", ".join((*(self.methods or ()), b"OPTIONS")))


_VARY = (b"Vary", b"Accept")
_KEY_BODY = '{"isolation": "KEY"}'
_FOR_EVERYONE = (
    f"New circuits for your own isolation key need the body {_KEY_BODY}. New circuits for everyone "
    "are for operators: send the token in operator-token, in the data directory, as Authorization: "
    "Bearer or Tortxd-Token."
)

_UNKNOWN = Served(Audience.CLIENT, None)
"""Whatever path is none of the routes."""


def serves_to(audience: Audience, *methods: bytes) -> Callable[[Handler], KleinRoute]:
    """Make a handler a klein route for this audience and these methods; HEAD goes with GET."""
    served = Served(audience, (*methods, b"HEAD") if b"GET" in methods else methods)

    def decorate(handler: Handler) -> KleinRoute:
        @wraps(handler)
        def route(self: Api, request: Any, **_: str) -> Deferred[None]:
            return self.start(request, served, handler)

        route.served = served  # type: ignore[attr-defined]
        return route

    return decorate


class Api:
    """The routes. :meth:`resource` mounts them; :meth:`site` is what the front hands over to."""

    app = Klein()

    def __init__(self, gateway: Gateway, check_url: str, ip_url: str) -> None:
        self._gateway = gateway
        self._check_url = check_url
        self._ip_url = ip_url
        self._verification = Verification(gateway)
        self._serving: set[Deferred[None]] = set()
        self._stopping = False

    def resource(self) -> IResource:
        """Every route, as a resource to put anywhere in a ``Site``."""
        return _Routes(self)

    def site(self) -> Site:
        """A ``Site`` of these routes."""
        return _QuietSite(self.resource())  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """Answer what is being served, now: the gateway stops."""
        self._stopping = True
        for serving in list(self._serving):
            serving.cancel()

    def answer_to_head(self, head: RequestHead) -> Answer | None:
        """The answer to a request whose head alone decides it, before its body has come; None if
        that is for the route to say."""
        served = _served_at(head.target.partition(b"?")[0])
        try:
            judged = self._judge(head, served)
        except TortxdError as error:
            return self._refusal(error, head, served).readable_to(head)
        return judged if isinstance(judged, Answer) else None

    def start(self, request: Any, served: Served, handler: Handler) -> Deferred[None]:
        """Begin to :meth:`serve`; klein cancels it when the client leaves, and with it what is
        asked of Tor."""
        serving = Deferred.fromCoroutine(self.serve(request, served, handler))
        self._serving.add(serving)
        return serving.addBoth(lambda _: self._serving.discard(serving))

    async def serve(self, request: Any, served: Served, handler: Handler) -> None:
        """Judge ``request``, then answer it with what ``handler`` says."""
        head = head_of(request)
        try:
            judged = self._judge(head, served)
            if isinstance(judged, Answer):
                answer = judged
            else:
                call = Call(
                    judged,
                    gateway_fields(head.headers),
                    peer_name(request.getClientAddress()),
                    _token_in(head.target, served),
                    _body_of(request),
                    head.minor,
                    address=_address_of(request),
                    html=takes_html(head),
                )
                answer = await handler(self, call)
                answer = answer.with_headers(judged.cors(answer.headers))
        except TortxdError as error:
            answer = self._refusal(error, head, served)
        except CancelledError:
            if not self._stopping:
                return  # the client has left
            answer = self._refusal(TorDown(STOPPING), head, served)
        except Exception:
            log.failure("A route failed")
            answer = self._refusal(InternalError(), head, served)
        if not request._disconnected:
            send(request, answer.readable_to(head))

    def _judge(self, head: RequestHead, served: Served) -> Caller | Answer:
        """Whether a request may be served, by its head; or what it is answered in any case.

        :raises TortxdError: it may not.
        """
        admission = self._gateway.policy.access.admit(
            gateway_fields(head.headers),
            method=head.method,
            audience=served.audience,
            given=_token_in(head.target, served),
            minor=head.minor,
        )
        if admission.preflight is not None:
            return Answer(204, [*admission.preflight, *OWN_HEADERS])
        if served.methods is None or head.method in served.methods:
            return admission
        if head.method == b"OPTIONS":
            return Answer(204, [served.allow, *OWN_HEADERS])
        raise MethodNotAllowed

    def _refusal(self, error: TortxdError, head: RequestHead, served: Served) -> Answer:
        # What operators' routes answer is for no other origin to read, errors neither.
        operators = served.audience is Audience.OPERATOR
        answer = self._gateway.admission.refusal(error, None if operators else head)
        if isinstance(error, MethodNotAllowed):
            answer.headers.append(served.allow)
        if served.audience is not Audience.PAGE:
            return answer
        if takes_html(head):
            html = error_page(HTTPStatus(answer.status).phrase, str(error))
            answer = answer.as_page(html, PAGE_HEADERS)
        return answer.with_headers([_VARY])

    # --- clients ---------------------------------------------------------------------------------

    @app.route("/health")
    @serves_to(Audience.CLIENT, b"GET")
    async def health(self, _: Call) -> Answer:
        """Whether requests are served, and how far Tor is."""
        link = self._gateway.link
        told = {
            **status_json(link.status),
            "tor": self._proxy_url(),
            "network": link.network,
            "version": __version__,
        }
        return json_answer(200 if serves(link.status) else 503, told)

    @app.route("/ip")
    @serves_to(Audience.CLIENT, b"GET")
    async def ip(self, call: Call) -> Answer:
        """The address from which the caller's requests leave Tor."""
        gateway, asked = self._gateway, directives(call.fields)
        target = gateway.policy.targets.parse(self._ip_url)
        credentials = gateway.admission.credentials(call.admission, asked, call.peer, target.host)
        probed = await Probe(
            gateway, target, credentials, gateway.admission.timeout_for(asked)
        ).probed
        if probed.answer is None:
            raise probed.error or InternalError()
        address = address_in(probed.answer, "ip", "IP")
        if address is None:
            raise BadResponse("The service's answer names no address.")
        return json_answer(
            200, {"exitIp": address, "viaTor": True, "circuit": circuit_json(probed.circuit)}
        )

    @app.route("/verify-tor")
    @serves_to(Audience.CLIENT, b"GET")
    async def verify_tor(self, call: Call) -> Answer:
        """Whether requests go through Tor: by the control port's word and a check service's."""
        gateway, asked = self._gateway, directives(call.fields)
        if not serves(gateway.link.status):
            raise not_ready(gateway.link.status)
        target = gateway.policy.targets.parse(self._check_url)
        probed, age = await self._verification.ask(target, gateway.admission.timeout_for(asked))
        if probed.is_tors_fault and probed.error is not None:
            raise probed.error
        told = {**verdict(probed), "proxyUrl": self._proxy_url(), "age": round(age, 3)}
        return json_answer(200, told)

    @app.route("/proxy")
    def proxy(self, request: Any) -> Deferred[None]:
        """The response of the URL that the query names, through Tor."""
        finished: Deferred[None] = Deferred()
        request.notifyFinish().addBoth(lambda _: finished.callback(None))
        relay(self._gateway, request)
        return finished

    @app.route("/identity/new")
    @serves_to(Audience.CLIENT, b"POST")
    async def new_identity(self, call: Call) -> Answer:
        """New circuits for the caller's own key, or, for operators, for everyone."""
        keys = _keys_to_renew(call.body)
        if keys:
            for key in keys:
                self._gateway.renew_key(key, call.admission, call.peer)
            return json_answer(200, {"renewed": "key"})
        try:
            self._gateway.policy.access.admit(
                call.fields,
                method=b"POST",
                audience=Audience.OPERATOR,
                minor=call.minor,
            )
        except Unauthorized:
            raise Unauthorized(_FOR_EVERYONE) from None
        await self._gateway.renew_all()
        return json_answer(200, {"renewed": "all"})

    @app.route("/")
    @serves_to(Audience.PAGE, b"GET")
    async def page(self, call: Call) -> Answer:
        """What a person sees who opens the gateway in a browser; for programs, what there is. With
        an operator's token in the address, that becomes a cookie."""
        if call.token is not None:
            return self._with_cookie(call.address)
        link = self._gateway.link
        told = {
            "status": status_json(link.status)["status"],
            "version": __version__,
            "routes": ROUTES,
        }
        answer = json_answer(200, told, [_VARY])
        if not call.html:
            return answer
        answer = answer.as_page(page(self._view(call)), PAGE_HEADERS)
        if refreshes(link.status):
            answer.headers.append((b"Refresh", b"%d" % RENEWED_AFTER))
        return answer

    def _view(self, call: Call) -> View:
        link, access = self._gateway.link, self._gateway.policy.access
        shown = None
        if call.admission.operator:
            circuits, streams = link.circuits(), len(link.streams())
            shown = ForOperators(__version__, self._proxy_url(), circuits, streams)
        return View(
            address=call.address,
            status=link.status,
            network=link.network,
            destination=self._check_url,
            wants_token=access.token is not None,
            has_operators=None not in (access.operator_token, access.operator_cookie),
            operators=shown,
        )

    def _with_cookie(self, address: Address) -> Answer:
        """Change the operator's token, in the address, for a cookie: so it does not stay there."""
        cookie, path = self._gateway.policy.access.operator_cookie, address.root.encode("latin-1")
        if cookie is None:
            raise NotServed
        # Strict: no other site's page makes the browser send it. To the browser, services on other
        # ports of this host are the same site: Origin and Sec-Fetch-Site keep those out.
        value = OPERATOR_COOKIE + b"=" + cookie + b"; Path=" + path
        value += b"; HttpOnly; SameSite=Strict"
        return Answer(303, [(b"Location", path), (b"Set-Cookie", value), *OWN_HEADERS])

    # --- operators -------------------------------------------------------------------------------

    @app.route("/circuits")
    @serves_to(Audience.OPERATOR, b"GET")
    async def circuits(self, _: Call) -> Answer:
        """The circuits that Tor has open now."""
        now = self._gateway.reactor.seconds()
        circuits = [circuit_json(circuit, now) for circuit in self._gateway.link.circuits()]
        return json_answer(200, {"circuits": circuits})

    @app.route("/streams")
    @serves_to(Audience.OPERATOR, b"GET")
    async def streams(self, _: Call) -> Answer:
        """The streams that Tor has open now."""
        now = self._gateway.reactor.seconds()
        streams = [stream_json(stream, now) for stream in self._gateway.link.streams()]
        return json_answer(200, {"streams": streams})

    # --- what is not served ----------------------------------------------------------------------

    @app.route("/openapi.json")
    @serves_to(Audience.CLIENT, b"GET")
    async def later(self, _: Call) -> Answer:
        """Part of the contract, but not there yet."""
        raise NotServed

    @app.route("/events")
    @app.route("/metrics")
    @serves_to(Audience.OPERATOR, b"GET")
    async def later_for_operators(self, _: Call) -> Answer:
        """Part of the contract, but not there yet."""
        raise NotServed

    @app.route("/circuits/<_id>/close")
    @serves_to(Audience.OPERATOR, b"POST")
    async def close_circuit_later(self, _: Call) -> Answer:
        """Part of the contract, but not there yet."""
        raise NotServed

    @app.route("/<path:_path>")
    def unknown(self, request: Any, _path: str = "") -> Deferred[None]:
        """Whatever path is none of the routes."""
        return self.start(request, _UNKNOWN, _not_found)

    def _proxy_url(self) -> str | None:
        address = self._gateway.link.socks_address
        return None if address is None else address.url


class _QuietSite(Site):
    """A ``Site`` that logs no URL and shows no traceback."""

    displayTracebacks = False

    def log(self, request: Any) -> None:
        """An access log would hold targets and keys."""


class _Routes(KleinResource):
    """The app as a resource; what klein would answer in text or HTML is JSON here."""

    def __init__(self, api: Api) -> None:
        super().__init__(api.app)
        self._api = api

    def render(self, request: Any) -> Any:
        if not request.postpath:
            # A Site has it at /tor, and that was asked for. klein would redirect to /tor/ without
            # the query, under the address by which it knows itself.
            request.postpath = [b""]
        if _is_plain(request):
            try:
                return super().render(request)
            except (HTTPException, ValueError):
                pass  # a Host that werkzeug does not take
        self._api.unknown(request)
        return NOT_DONE_YET


def _is_plain(request: Any) -> bool:
    """Whether klein can be trusted with a request. It drops the first character of a target that is
    no path, undoes escapes (of which no route has any), overlooks empty segments, does not match
    line breaks, and answers a Host that is not UTF-8 by itself."""
    below: list[bytes] = request.postpath
    path = request.uri.partition(b"?")[0]
    raw = path.split(b"/")[-len(below) :] if below else []
    return (
        path.startswith(b"/")
        and b"%" not in b"".join(raw)
        and (b"" not in below or below == [b""])
        and all(map(_is_text, request.prepath + below))
        and all(host.isascii() for host in request.requestHeaders.getRawHeaders(b"host", ()))
    )


def _is_text(segment: bytes) -> bool:
    try:
        return segment.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _served_at(path: bytes) -> Served:
    """Whom the route at ``path`` serves."""
    try:
        endpoint, _ = Api.app.url_map.bind("").match(path.decode("ascii"))
    except (HTTPException, UnicodeDecodeError):
        return _UNKNOWN
    return getattr(getattr(Api, endpoint), "served", _UNKNOWN)


def _token_in(target: bytes, served: Served) -> bytes | None:
    """The token that the address of the page gives; those of other routes give none."""
    return token_of(target.partition(b"?")[2]) if served.audience is Audience.PAGE else None


def _address_of(request: Any) -> Address:
    """Under which address whoever asks for the page knows it."""
    path = request.uri.partition(b"?")[0].decode("latin-1")
    host: bytes | None = request.getHeader(b"host")
    # Only HTTP/1.0 may leave it out.
    name = _host_of(request.getHost()) if host is None else host.decode("ascii", "replace")
    return Address(
        url=f"{'https' if request.isSecure() else 'http'}://{name}{path.rstrip('/')}",
        path=path,
        is_proxy=isinstance(getattr(request, "site", None), _QuietSite),
    )


def _host_of(address: Any) -> str:
    port = getattr(address, "port", None)
    return "localhost" if port is None else f"localhost:{port}"


async def _not_found(_: Api, __: Call) -> Answer:
    raise NotFound


def _body_of(request: Any) -> bytes:
    """The body of a request to a route that takes one of a few bytes."""
    body: bytes = request.content.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise TooLarge(LONG_BODY)
    return body


def _keys_to_renew(body: bytes) -> frozenset[bytes]:
    """The isolation key that a body names, in each form that it may have; none where it names none.

    :raises BadRequest: it is malformed.
    """
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise BadRequest(
            f"The request body is not JSON. It is {_KEY_BODY}, or empty: curl -d '{_KEY_BODY}'"
        ) from None
    if not isinstance(asked, dict) or asked.keys() - {"isolation"}:
        raise BadRequest(f"The request body is {_KEY_BODY}, or empty.")
    if "isolation" not in asked:
        return frozenset()
    if not isinstance(asked["isolation"], str):
        raise BadRequest("The isolation key is text.")
    return key_forms(asked["isolation"])

"""The gateway's routes, as a klein app: the control plane, and ``/proxy`` for those who mount it.

Importing klein installs the reactor, so this module is imported where a gateway is made and not
before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request, Site
from werkzeug.exceptions import HTTPException

from tortxd.errors import (
    InternalError,
    MethodNotAllowed,
    NotFound,
    TorDown,
    TortxdError,
)
from tortxd.gateway.answers import OWN_HEADERS, Answer, StreamedAnswer, takes_html
from tortxd.gateway.control.build_times import BuildTimes
from tortxd.gateway.control.endpoints import Call, Context, Endpoint
from tortxd.gateway.control.feed import Feed
from tortxd.gateway.control.mounted import break_off, content_of, head_of, relay, send, stream
from tortxd.gateway.control.page import HEADERS as PAGE_HEADERS
from tortxd.gateway.control.page import Address, error_page
from tortxd.gateway.control.routes import ENDPOINTS, VARY
from tortxd.gateway.control.verification import Verification
from tortxd.gateway.control.views import Json, Views
from tortxd.gateway.front.handover import too_large
from tortxd.gateway.gateway import Gateway, peer_name
from tortxd.policy.access import Audience, Caller
from tortxd.policy.query import token_of
from tortxd.policy.request import gateway_fields
from tortxd.relay.outbound import STOPPING
from tortxd.wire.http1 import RequestHead
from tortxd.wire.limited import SHORT, LimitedBody

log = Logger()


async def _not_found(_: Context, __: Call) -> Answer:
    raise NotFound


_UNKNOWN = Endpoint("/<path:path>", Audience.CLIENT, None, _not_found, "nothing", in_list=False)
"""Whatever path is none of the routes."""


class Api:
    """Serves the routes. :meth:`resource` mounts them; :meth:`site` is what the front hands over
    to.

    :param settings: what the daemon was started with, for operators.
    :param endpoints: the routes.
    """

    def __init__(
        self,
        gateway: Gateway,
        check_url: str,
        ip_url: str,
        settings: Callable[[], list[Json]] = list,
        endpoints: tuple[Endpoint, ...] = ENDPOINTS,
    ) -> None:
        self._gateway = gateway
        views = Views(gateway)
        self._feed = Feed(gateway, views)
        self._build_times = BuildTimes(gateway.link)
        self._context = Context(
            gateway,
            check_url,
            ip_url,
            Verification(gateway),
            views,
            self._feed,
            self._build_times,
            settings,
        )
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints}
        self._app = Klein()
        for endpoint in (*endpoints, _UNKNOWN):
            self._app.route(endpoint.path, endpoint=endpoint.path)(self._view(endpoint))
        self._serving: set[Deferred[None]] = set()
        self._stopping = False

    def resource(self) -> IResource:
        """Every route, as a resource to put anywhere in a ``Site``."""
        return _Routes(self._app, self.not_found)

    def site(self) -> Site:
        """A ``Site`` of these routes."""
        return _QuietSite(self.resource())  # type: ignore[no-untyped-call]

    def wind_down(self) -> None:
        """The gateway stops soon: what would go on for ever ends now."""
        self._feed.dismiss()
        self._build_times.stop()

    def stop(self) -> None:
        """Answer what is being served, now: the gateway stops."""
        self._stopping = True
        for serving in list(self._serving):
            serving.cancel()

    def not_found(self, request: Request) -> Deferred[None]:
        """Answer ``request``, whose path is none of the routes."""
        return self._start(request, _UNKNOWN)

    def answer_to_head(self, head: RequestHead) -> Answer | None:
        """The answer to a request whose head alone decides it, before its body has come; None if
        that is for the route to say."""
        endpoint = self._endpoint_at(head.target.partition(b"?")[0])
        try:
            judged = self._judge(head, endpoint)
        except TortxdError as error:
            return self._refusal(error, head, endpoint).readable_to(head)
        return judged if isinstance(judged, Answer) else None

    def _endpoint_at(self, path: bytes) -> Endpoint:
        try:
            name, _ = self._app.url_map.bind("").match(path.decode("ascii"))
        except (HTTPException, UnicodeDecodeError):
            return _UNKNOWN
        return self._endpoints.get(name, _UNKNOWN)

    def _view(self, endpoint: Endpoint) -> Callable[..., Deferred[None]]:
        """The endpoint, as klein calls it."""
        if endpoint.handler is None:
            return lambda request, **_: self._relay(request)
        return lambda request, **parameters: self._start(request, endpoint, parameters)

    def _relay(self, request: Request) -> Deferred[None]:
        finished: Deferred[None] = Deferred()
        request.notifyFinish().addBoth(lambda _: finished.callback(None))
        relay(self._gateway, request)
        return finished

    def _start(
        self, request: Request, endpoint: Endpoint, parameters: Mapping[str, str] | None = None
    ) -> Deferred[None]:
        """Begin to serve; klein cancels it when the client leaves, and with it what is asked of
        Tor."""
        serving = Deferred.fromCoroutine(self._serve(request, endpoint, parameters or {}))
        self._serving.add(serving)
        return serving.addBoth(lambda _: self._serving.discard(serving))

    async def _serve(
        self, request: Request, endpoint: Endpoint, parameters: Mapping[str, str]
    ) -> None:
        """Judge ``request``, then answer it with what the endpoint's handler makes of it."""
        head = head_of(request)
        try:
            answer = await self._answer(request, head, endpoint, parameters)
            if isinstance(answer, StreamedAnswer):
                await stream(request, answer)
                return
        except TortxdError as error:
            answer = self._refusal(error, head, endpoint)
        except CancelledError:
            if not self._stopping:
                return  # the client has left
            answer = self._refusal(TorDown(STOPPING), head, endpoint)
        except Exception:
            log.failure("A route failed.")
            answer = self._refusal(InternalError(), head, endpoint)
        if request.startedWriting:
            await break_off(request)
        elif not request._disconnected:
            send(request, answer.readable_to(head))

    async def _answer(
        self,
        request: Request,
        head: RequestHead,
        endpoint: Endpoint,
        parameters: Mapping[str, str],
    ) -> Answer | StreamedAnswer:
        judged = self._judge(head, endpoint)
        if isinstance(judged, Answer):
            return judged
        call = Call(
            judged,
            gateway_fields(head.headers),
            peer_name(request.getClientAddress()),
            token=_token_in(head.target, endpoint),
            query=head.target.partition(b"?")[2],
            parameters=parameters,
            last_event_id=head.fields.get(b"last-event-id", b""),
            body=_body_of(request),
            minor=head.minor,
            address=_address_of(request),
            html=takes_html(head),
        )
        assert endpoint.handler is not None
        answer = await endpoint.handler(self._context, call)
        return answer.with_headers(judged.cors(answer.headers))

    def _judge(self, head: RequestHead, endpoint: Endpoint) -> Caller | Answer:
        """Whether a request may be served, by its head; or what it is answered in any case.

        :raises TortxdError: it may not.
        """
        caller = self._gateway.policy.access.admit(
            gateway_fields(head.headers),
            method=head.method,
            audience=endpoint.audience,
            page_token=_token_in(head.target, endpoint),
            minor=head.minor,
        )
        if caller.preflight is not None:
            return Answer(204, [*caller.preflight, *OWN_HEADERS])
        if endpoint.methods is None or head.method in endpoint.served:
            return caller
        if head.method == b"OPTIONS":
            return Answer(204, [endpoint.allow, *OWN_HEADERS])
        raise MethodNotAllowed

    def _refusal(self, error: TortxdError, head: RequestHead, endpoint: Endpoint) -> Answer:
        # What operators' routes answer is for no other origin to read, errors neither.
        operators = endpoint.audience is Audience.OPERATOR
        answer = self._gateway.admission.refusal(error, None if operators else head)
        if isinstance(error, MethodNotAllowed):
            answer.headers.append(endpoint.allow)
        if endpoint.audience is not Audience.PAGE:
            return answer
        if takes_html(head):
            html = error_page(HTTPStatus(answer.status).phrase, str(error))
            answer = answer.as_page(html, PAGE_HEADERS)
        return answer.with_headers([VARY])


class _QuietSite(Site):
    """A ``Site`` that logs no URL and shows no traceback."""

    displayTracebacks = False

    def log(self, request: HttpRequest) -> None:
        """An access log would hold targets and keys."""


class _Routes(KleinResource):
    """The app as a resource; what klein would answer in text or HTML is JSON here.

    :param not_found: answers what klein has no route for.
    """

    def __init__(self, app: Klein, not_found: Callable[[Request], object]) -> None:
        super().__init__(app)
        self._not_found = not_found

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
        self._not_found(request)
        return NOT_DONE_YET


def _is_plain(request: Request) -> bool:
    """Whether klein can be trusted with a request. It drops the first character of a target that is
    no path, undoes escapes (of which no route has any), overlooks empty segments, does not match
    line breaks, and answers a Host that is not UTF-8 by itself."""
    below, above = request.postpath or [], request.prepath or []
    path = request.uri.partition(b"?")[0]
    raw = path.split(b"/")[-len(below) :] if below else []
    return (
        path.startswith(b"/")
        and b"%" not in b"".join(raw)
        and (b"" not in below or below == [b""])
        and all(map(_is_text, above + below))
        and all(host.isascii() for host in request.requestHeaders.getRawHeaders(b"host", ()))
    )


def _is_text(segment: bytes) -> bool:
    try:
        return segment.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _token_in(target: bytes, endpoint: Endpoint) -> bytes | None:
    """The token that the address of the page gives; those of other routes give none."""
    return token_of(target.partition(b"?")[2]) if endpoint.audience is Audience.PAGE else None


def _address_of(request: Request) -> Address:
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


def _body_of(request: Request) -> bytes:
    """The body of a request to a route that takes one of a few bytes."""
    body = LimitedBody(too_large)
    body.add(content_of(request).read(SHORT + 1))
    return body.value

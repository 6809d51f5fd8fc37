"""Every route of the control plane."""

from __future__ import annotations

from tortxd._version import __version__
from tortxd.errors import (
    BadUrl,
    DestinationError,
    NotFound,
    NotServed,
    Overloaded,
    RedirectForbidden,
    TargetForbidden,
    TorDown,
    TorError,
    TorNotReady,
    TorTimeout,
)
from tortxd.gateway.answers import OWN_HEADERS, Answer, json_answer
from tortxd.gateway.control import dashboard, descriptions, handlers, parameters, schemas
from tortxd.gateway.control.endpoints import Call, Context, Endpoint
from tortxd.gateway.control.events import events
from tortxd.gateway.control.metrics import metrics
from tortxd.gateway.control.openapi import document
from tortxd.gateway.control.page import HEADERS as PAGE_HEADERS
from tortxd.gateway.control.page import (
    RENEWED_AFTER,
    Address,
    View,
    page,
    refreshes,
)
from tortxd.policy.access import Audience
from tortxd.policy.request import OPERATOR_COOKIE

VARY = (b"Vary", b"Accept")


async def home(context: Context, call: Call) -> Answer:
    """What a person sees who opens the gateway in a browser: operators the dashboard, others a
    page; for programs, what there is. With an operator's token in the address, that becomes a
    cookie."""
    if call.token is not None:
        return _with_cookie(context, call.address)
    health = context.gateway.health
    value = {
        "status": health.name,
        "version": __version__,
        "routes": dict(listing(ENDPOINTS)),
    }
    answer = json_answer(200, value, [VARY])
    if not call.html:
        return answer
    if call.caller.operator:
        return answer.as_page(*dashboard.page(call.address))
    answer = answer.as_page(page(_view(context, call)), PAGE_HEADERS)
    if refreshes(health.status):
        answer.headers.append((b"Refresh", b"%d" % RENEWED_AFTER))
    return answer


def _view(context: Context, call: Call) -> View:
    link, access = context.gateway.link, context.gateway.policy.access
    return View(
        address=call.address,
        status=context.gateway.health.status,
        stopping=context.gateway.health.stopping,
        network=link.network,
        destination=context.check_url,
        wants_token=access.token is not None,
        has_operators=None not in (access.operator_token, access.operator_cookie),
    )


def _with_cookie(context: Context, address: Address) -> Answer:
    """Change the operator's token, in the address, for a cookie: so it does not stay there."""
    cookie, path = context.gateway.policy.access.operator_cookie, address.root.encode("latin-1")
    if cookie is None:
        raise NotServed
    # Strict: no other site's page makes the browser send it. To the browser, services on other
    # ports of this host are the same site: Origin and Sec-Fetch-Site keep those out.
    value = OPERATOR_COOKIE + b"=" + cookie + b"; Path=" + path
    value += b"; HttpOnly; SameSite=Strict"
    if address.is_secure:
        value += b"; Secure"
    return Answer(303, [(b"Location", path), (b"Set-Cookie", value), *OWN_HEADERS])


async def api_description(_: Context, call: Call) -> Answer:
    """What there is, as OpenAPI has it."""
    return json_answer(200, document(ENDPOINTS, call.address.url.removesuffix("/openapi.json")))


def listing(endpoints: tuple[Endpoint, ...]) -> list[tuple[str, str]]:
    """What a program is shown at ``/``: the ways in, each with what it gives."""
    lines = []
    for endpoint in endpoints:
        if endpoint.in_list:
            lines.append(endpoint.line)
        if endpoint.handler is None:
            tunnel = "a tunnel through Tor: the gateway is an HTTP proxy as well"
            lines.append(("CONNECT host:port", tunnel))
    return lines


_GET, _POST = (b"GET",), (b"POST",)
_OF_TOR = (TorNotReady, TorDown, Overloaded, TorTimeout)
"""What Tor may fail with where nobody has chosen an exit."""

ENDPOINTS = (
    Endpoint(
        "/health",
        Audience.CLIENT,
        _GET,
        handlers.health,
        "whether requests are served, and how far Tor is",
        schemas.HEALTH,
        statuses=(200, 503),
        parameters=(parameters.LIVE,),
    ),
    Endpoint(
        "/ip",
        Audience.CLIENT,
        _GET,
        handlers.ip,
        "where your requests leave Tor",
        schemas.IP,
        parameters=(parameters.TIMEOUT, parameters.ISOLATION, *parameters.STEERING),
        errors=(DestinationError, TorError),
    ),
    Endpoint(
        "/verify-tor",
        Audience.CLIENT,
        _GET,
        handlers.verify_tor,
        "whether requests go through Tor, with evidence",
        schemas.VERIFICATION,
        parameters=(parameters.TIMEOUT,),
        errors=_OF_TOR,
    ),
    Endpoint(
        "/proxy",
        Audience.PROXY,
        None,
        None,
        "the response of X, through Tor; X is percent-encoded",
        display="/proxy?url=X",
        parameters=(
            parameters.URL,
            parameters.ISOLATION_QUERY,
            *parameters.STEERING_QUERY,
            parameters.REDIRECTED,
            parameters.ISOLATION,
            *parameters.STEERING,
            parameters.TIMEOUT,
        ),
        errors=(BadUrl, TargetForbidden, RedirectForbidden, DestinationError, TorError),
        description=descriptions.PROXY,
    ),
    Endpoint(
        "/identity/new",
        Audience.CLIENT,
        _POST,
        handlers.new_identity,
        'new circuits for your own isolation key: {"isolation": "KEY"}',
        schemas.NEW_IDENTITY,
        body=schemas.RENEWAL,
        errors=(NotFound,),
        description=descriptions.NEW_IDENTITY,
    ),
    Endpoint(
        "/circuits",
        Audience.OPERATOR,
        _GET,
        handlers.circuits,
        "the circuits that Tor has open",
        schemas.CIRCUITS,
    ),
    Endpoint(
        "/streams",
        Audience.OPERATOR,
        _GET,
        handlers.streams,
        "the streams that Tor has open",
        schemas.STREAMS,
    ),
    Endpoint(
        "/circuits/<id>/close",
        Audience.OPERATOR,
        _POST,
        handlers.close_circuit,
        "closes a circuit",
        schemas.CLOSED,
        display="/circuits/ID/close",
        parameters=(parameters.CIRCUIT,),
        errors=(NotFound, *_OF_TOR),
    ),
    Endpoint(
        "/streams/<id>/close",
        Audience.OPERATOR,
        _POST,
        handlers.close_stream,
        "closes a stream",
        schemas.CLOSED,
        display="/streams/ID/close",
        parameters=(parameters.STREAM,),
        errors=(NotFound, *_OF_TOR),
    ),
    Endpoint(
        "/requests",
        Audience.OPERATOR,
        _GET,
        handlers.requests,
        "what became of requests",
        schemas.REQUESTS,
    ),
    Endpoint(
        "/config",
        Audience.OPERATOR,
        _GET,
        handlers.config,
        "what the daemon was started with",
        schemas.CONFIG,
    ),
    Endpoint(
        "/events",
        Audience.OPERATOR,
        _GET,
        events,
        "what changes, as it does",
        text="text/event-stream",
        events={
            "snapshot": schemas.SNAPSHOT,
            "status": schemas.HEALTH,
            "circuit": schemas.CIRCUIT,
            "stream": schemas.STREAM,
            "bandwidth": schemas.BANDWIDTH,
        },
        parameters=(parameters.TYPES, parameters.LAST_EVENT_ID),
        description=descriptions.EVENTS,
    ),
    Endpoint(
        "/metrics",
        Audience.OPERATOR,
        _GET,
        metrics,
        "figures, for Prometheus",
        text="text/plain",
        description=descriptions.METRICS,
    ),
    Endpoint(
        "/",
        Audience.PAGE,
        _GET,
        home,
        "the routes that there are; in a browser, a page",
        schemas.LISTING,
        in_list=False,
        text="text/html",
        without_body={303: "To `/`, with a cookie that stands for the operator token."},
        parameters=(parameters.PAGE_TOKEN,),
        description=descriptions.PAGE,
    ),
    Endpoint(
        "/openapi.json",
        Audience.CLIENT,
        _GET,
        api_description,
        "what this list says, in full and for programs (OpenAPI)",
        schemas.OPENAPI,
    ),
    *dashboard.endpoints(),
)

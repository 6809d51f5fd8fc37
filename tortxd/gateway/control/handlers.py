"""What the routes do: for clients, then for operators."""

from __future__ import annotations

import json
from typing import Literal

from tortxd.errors import (
    BadRequest,
    BadResponse,
    ForbiddenOrigin,
    InternalError,
    NotFound,
    Unauthorized,
)
from tortxd.gateway.answers import Answer, json_answer
from tortxd.gateway.control.endpoints import Call, Context
from tortxd.gateway.control.probes import Probe
from tortxd.gateway.control.views import address_in, circuit_json, verdict
from tortxd.gateway.gateway import Gateway, Renewal
from tortxd.policy.access import WHERE_OPERATORS_LOOK, Audience, Caller
from tortxd.policy.directives import key_forms, keys_of_login, read_directives
from tortxd.policy.query import asks_for
from tortxd.policy.steering import NOTHING
from tortxd.tor.report import not_ready
from tortxd.tor.status import serves

_KINDS = {"isolation", "circuit", "proxyUser"}
_KEY_BODY = '{"isolation": "KEY"}'
_NO_PROXY_USER = "Web pages have isolation keys of their own, and none of a proxy user's."
_FOR_EVERYONE = (
    f"New circuits for your own isolation key need the body {_KEY_BODY}. New circuits for everyone "
    f"are for operators: send the token in {WHERE_OPERATORS_LOOK}, as Authorization: Bearer or "
    "Tortxd-Token."
)


async def health(context: Context, call: Call) -> Answer:
    """Whether requests are served, and how far Tor is; with ``?live``, whether the daemon can go on
    by itself."""
    state = context.gateway.health
    is_well = state.is_live if asks_for(b"live", call.query) else state.is_ready
    return json_answer(200 if is_well else 503, context.views.health())


async def ip(context: Context, call: Call) -> Answer:
    """The address from which the caller's requests leave Tor."""
    admission, directives = context.gateway.admission, read_directives(call.fields)
    target = admission.policy.targets.parse(context.ip_url)
    isolation = admission.isolation(call.caller, directives.isolation, call.peer, target.host)
    result = await Probe(
        context.gateway,
        target,
        admission.keys.credentials(isolation),
        admission.timeout_for(directives),
        steered=admission.steered(isolation, directives),
    ).result
    if result.answer is None:
        raise result.error or InternalError()
    address = address_in(result.answer, "ip", "IP")
    if address is None:
        raise BadResponse("The service's answer names no address.")
    circuit = None if result.circuit is None else circuit_json(result.circuit)
    value = {"exitIp": address, "viaTor": True, "circuit": circuit}
    return json_answer(200, value, result.headers)


async def verify_tor(context: Context, call: Call) -> Answer:
    """Whether requests go through Tor: by the control port's word and a check service's."""
    gateway, directives = context.gateway, read_directives(call.fields)
    if directives.asked is not NOTHING:
        raise BadRequest("Tor is verified by a circuit of its own, which cannot be steered.")
    if not serves(gateway.link.status):
        raise not_ready(gateway.link.status)
    target = gateway.policy.targets.parse(context.check_url)
    timeout = gateway.admission.timeout_for(directives)
    result, age = await context.verification.ask(target, timeout)
    if result.is_tors_fault and result.error is not None:
        raise result.error
    return json_answer(
        200, {**verdict(result), "proxyUrl": context.views.proxy_url, "age": round(age, 3)}
    )


async def new_identity(context: Context, call: Call) -> Answer:
    """New circuits for the caller's own key, or, for operators, for whose key a circuit is, or for
    everyone."""
    gateway = context.gateway
    to_renew = _to_renew(call.body, call.caller)
    if isinstance(to_renew, frozenset):
        done = [gateway.renew_key(key, call.caller, call.peer) for key in to_renew]
        # Whatever forms it may have, it is one key.
        return _renewed(gateway, "key", Renewal(1, sum(one.connections for one in done)))
    try:
        gateway.policy.access.admit(
            call.fields, method=b"POST", audience=Audience.OPERATOR, minor=call.minor
        )
    except Unauthorized:
        raise Unauthorized(_FOR_EVERYONE) from None
    if to_renew is None:
        return _renewed(gateway, "all", await gateway.renew_all())
    username = gateway.link.owner(to_renew)
    renewal = None if username is None else gateway.renew_user(username)
    if renewal is None:
        raise NotFound("There is no circuit with this id now that is for an isolation key of ours.")
    return _renewed(gateway, "key", renewal)


def _renewed(gateway: Gateway, what: Literal["key", "all"], renewal: Renewal) -> Answer:
    next_one = gateway.link.next_new_identity
    return json_answer(
        200,
        {
            "renewed": what,
            "keys": renewal.keys,
            "connections": renewal.connections,
            "nextNewnym": None if next_one is None else round(next_one, 3),
        },
    )


def _to_renew(body: bytes, caller: Caller) -> frozenset[bytes] | str | None:
    """What a body names: an isolation key, in each form that it may have; or the id of a circuit;
    or nothing.

    :raises BadRequest: it is malformed.
    :raises ForbiddenOrigin: it names a proxy user, and a page asks.
    """
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise BadRequest(
            f"The request body is not JSON. It is {_KEY_BODY}, or empty: curl -d '{_KEY_BODY}'"
        ) from None
    if not isinstance(value, dict) or value.keys() - _KINDS or len(value) > 1:
        raise BadRequest(
            f'The request body is {_KEY_BODY} or {{"proxyUser": "USER:PASSWORD"}}, or empty; or, '
            'for operators, {"circuit": "ID"}.'
        )
    if "proxyUser" in value:
        if caller.origin is not None:
            raise ForbiddenOrigin(_NO_PROXY_USER)
        if not isinstance(value["proxyUser"], str):
            raise BadRequest("The proxy user is text.")
        return keys_of_login(value["proxyUser"])
    if "circuit" in value:
        if not isinstance(value["circuit"], str):
            raise BadRequest("The id of a circuit is text.")
        return value["circuit"]
    if "isolation" not in value:
        return None
    if not isinstance(value["isolation"], str):
        raise BadRequest("The isolation key is text.")
    return key_forms(value["isolation"])


async def circuits(context: Context, _: Call) -> Answer:
    """The circuits that Tor has open now."""
    views, link = context.views, context.gateway.link
    return json_answer(200, {"circuits": list(map(views.circuit, link.circuits()))})


async def streams(context: Context, _: Call) -> Answer:
    """The streams that Tor has open now."""
    views, link = context.views, context.gateway.link
    return json_answer(200, {"streams": list(map(views.stream, link.streams()))})


async def close_circuit(context: Context, call: Call) -> Answer:
    """Close a circuit, and the streams on it."""
    id = call.parameters["id"]
    await context.gateway.link.close_circuit(id)
    return json_answer(200, {"closed": id})


async def close_stream(context: Context, call: Call) -> Answer:
    """Close a stream."""
    id = call.parameters["id"]
    await context.gateway.link.close_stream(id)
    return json_answer(200, {"closed": id})


async def requests(context: Context, _: Call) -> Answer:
    """What became of requests."""
    return json_answer(200, context.views.requests())


async def config(context: Context, _: Call) -> Answer:
    """What the daemon was started with."""
    endpoints = list(context.gateway.endpoints)
    return json_answer(200, {"options": context.settings(), "endpoints": endpoints})

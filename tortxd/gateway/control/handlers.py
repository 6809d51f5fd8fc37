"""What the routes do: for clients, then for operators."""

from __future__ import annotations

import json

from tortxd._version import __version__
from tortxd.errors import BadRequest, BadResponse, InternalError, NotServed, Unauthorized
from tortxd.gateway.answers import Answer, json_answer
from tortxd.gateway.control.endpoints import Call, Context
from tortxd.gateway.control.probes import Probe
from tortxd.gateway.control.views import address_in, circuit_json, stream_json, verdict
from tortxd.policy.access import Audience
from tortxd.policy.request import key_forms, read_directives
from tortxd.tor.report import not_ready, status_json
from tortxd.tor.status import serves

_KEY_BODY = '{"isolation": "KEY"}'
_FOR_EVERYONE = (
    f"New circuits for your own isolation key need the body {_KEY_BODY}. New circuits for everyone "
    "are for operators: send the token in operator-token, in the data directory, as Authorization: "
    "Bearer or Tortxd-Token."
)


async def health(context: Context, _: Call) -> Answer:
    """Whether requests are served, and how far Tor is."""
    link = context.gateway.link
    value = {
        **status_json(link.status),
        "tor": context.proxy_url,
        "network": link.network,
        "version": __version__,
    }
    return json_answer(200 if serves(link.status) else 503, value)


async def ip(context: Context, call: Call) -> Answer:
    """The address from which the caller's requests leave Tor."""
    admission, directives = context.gateway.admission, read_directives(call.fields)
    target = admission.policy.targets.parse(context.ip_url)
    credentials = admission.credentials(call.caller, directives, call.peer, target.host)
    timeout = admission.timeout_for(directives)
    result = await Probe(context.gateway, target, credentials, timeout).result
    if result.answer is None:
        raise result.error or InternalError()
    address = address_in(result.answer, "ip", "IP")
    if address is None:
        raise BadResponse("The service's answer names no address.")
    circuit = circuit_json(result.circuit)
    return json_answer(200, {"exitIp": address, "viaTor": True, "circuit": circuit})


async def verify_tor(context: Context, call: Call) -> Answer:
    """Whether requests go through Tor: by the control port's word and a check service's."""
    gateway, directives = context.gateway, read_directives(call.fields)
    if not serves(gateway.link.status):
        raise not_ready(gateway.link.status)
    target = gateway.policy.targets.parse(context.check_url)
    timeout = gateway.admission.timeout_for(directives)
    result, age = await context.verification.ask(target, timeout)
    if result.is_tors_fault and result.error is not None:
        raise result.error
    return json_answer(
        200, {**verdict(result), "proxyUrl": context.proxy_url, "age": round(age, 3)}
    )


async def new_identity(context: Context, call: Call) -> Answer:
    """New circuits for the caller's own key, or, for operators, for everyone."""
    gateway = context.gateway
    keys = _keys_to_renew(call.body)
    if keys:
        for key in keys:
            gateway.renew_key(key, call.caller, call.peer)
        return json_answer(200, {"renewed": "key"})
    try:
        gateway.policy.access.admit(
            call.fields, method=b"POST", audience=Audience.OPERATOR, minor=call.minor
        )
    except Unauthorized:
        raise Unauthorized(_FOR_EVERYONE) from None
    await gateway.renew_all()
    return json_answer(200, {"renewed": "all"})


def _keys_to_renew(body: bytes) -> frozenset[bytes]:
    """The isolation key that a body names, in each form that it may have; none where it names none.

    :raises BadRequest: it is malformed.
    """
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise BadRequest(
            f"The request body is not JSON. It is {_KEY_BODY}, or empty: curl -d '{_KEY_BODY}'"
        ) from None
    if not isinstance(value, dict) or value.keys() - {"isolation"}:
        raise BadRequest(f"The request body is {_KEY_BODY}, or empty.")
    if "isolation" not in value:
        return frozenset()
    if not isinstance(value["isolation"], str):
        raise BadRequest("The isolation key is text.")
    return key_forms(value["isolation"])


async def circuits(context: Context, _: Call) -> Answer:
    """The circuits that Tor has open now."""
    gateway = context.gateway
    now = gateway.reactor.seconds()
    return json_answer(
        200, {"circuits": [circuit_json(one, now) for one in gateway.link.circuits()]}
    )


async def streams(context: Context, _: Call) -> Answer:
    """The streams that Tor has open now."""
    gateway = context.gateway
    now = gateway.reactor.seconds()
    return json_answer(200, {"streams": [stream_json(one, now) for one in gateway.link.streams()]})


async def later(_: Context, __: Call) -> Answer:
    """Part of what is promised, but not there yet."""
    raise NotServed

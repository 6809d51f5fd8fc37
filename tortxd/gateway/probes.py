"""What the gateway asks through Tor for itself: which exit it has, and whether that is Tor."""

from __future__ import annotations

import json
from typing import Any

import treq
from attrs import field, frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tortxd.errors import BadResponse, Internal, OriginTimeout, TortxdError
from tortxd.gateway.answers import not_ready
from tortxd.gateway.plane import DataPlane
from tortxd.tor.agents import translated
from tortxd.tor.isolation import Credentials
from tortxd.tor.link import Circuit, SocksAddress
from tortxd.tor.socks import open_stream
from tortxd.tor.status import serves

MAX_ANSWER = 64 * 1024
"""Bytes of a service's answer."""


@frozen
class Probed:
    """What came of asking a service, and what the control port showed of it."""

    answer: dict[str, Any] | None
    """The service's JSON object; None if there was none."""
    error: TortxdError | None
    """Why there was none."""
    circuit: Circuit | None
    """The circuit on which the control port showed the probe's own stream."""


async def probe(plane: DataPlane, url: str, credentials: Credentials, timeout: float) -> Probed:
    """Ask the service at ``url`` for a JSON object, through Tor, within ``timeout`` seconds.

    :raises TorNotReady: or :raises TorDown: while Tor does not serve.
    """
    if not serves(plane.link.status):
        raise not_ready(plane.link.status)
    address = await plane.link.when_usable()
    streams = _Streams(plane, address, credentials, timeout)
    agent = Agent.usingEndpointFactory(plane.reactor, streams)
    answer, error = None, None
    try:
        answer = await Deferred.fromCoroutine(_ask(agent, url)).addTimeout(timeout, plane.reactor)
    except CancelledError:
        raise
    except Exception as caught:
        error = _ours(caught)
    circuit = None
    for source in streams.sources:
        circuit = plane.link.circuit_of(source) or circuit
    return Probed(answer, error, circuit)


def _ours(caught: Exception) -> TortxdError:
    if isinstance(caught, TimeoutError):
        return OriginTimeout()
    error = translated(caught)
    return error if isinstance(error, TortxdError) else Internal()


async def _ask(agent: Agent, url: str) -> dict[str, Any]:
    client = HTTPClient(agent)
    response = await client.get(url, allow_redirects=False, unbuffered=True)
    if response.code != 200:
        raise BadResponse("The service did not answer with a result.")
    body = bytearray()

    def collect(piece: bytes) -> None:
        body.extend(piece)
        if len(body) > MAX_ANSWER:
            raise BadResponse("The service's answer is too long.")

    await treq.collect(response, collect)
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise BadResponse("The service's answer is not a JSON object.")
    return answer


@implementer(IAgentEndpointFactory)
@frozen
class _Streams:
    """Opens a probe's streams, and remembers how the control port will name them."""

    plane: DataPlane
    address: SocksAddress
    credentials: Credentials
    timeout: float
    sources: list[tuple[str, int]] = field(factory=list)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return _StreamEndpoint(self, uri)


@implementer(IStreamClientEndpoint)
@frozen
class _StreamEndpoint:
    streams: _Streams
    uri: URI

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        streams, uri = self.streams, self.uri
        protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        assert protocol is not None
        return open_stream(
            streams.plane.reactor,
            streams.address,
            uri.host.decode("ascii"),
            uri.port,
            streams.credentials,
            protocol,
            tls=streams.plane.tls if uri.scheme == b"https" else None,
            timeout=streams.timeout,
            reached=lambda source: None if source is None else streams.sources.append(source),
        )

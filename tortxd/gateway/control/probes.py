"""What the gateway asks through Tor for itself: which exit it has, and whether that is Tor.

A probe is an exchange like any client's, so the same limits hold for what a service answers, and
the same errors say what became of it.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer

from tortxd.errors import BadResponse, OriginTimeout, TorError, TortxdError
from tortxd.gateway.gateway import Gateway
from tortxd.policy.target import Target
from tortxd.relay.exchange import Exchange, UpstreamRequest
from tortxd.relay.interfaces import Interim, NoUpload, Start, UploadProducer
from tortxd.relay.placement import Steered
from tortxd.relay.timeouts import Timeout
from tortxd.relay.upstream import PoolKey, Upstream
from tortxd.tor.isolation import Credentials
from tortxd.tor.link import Circuit, SocksAddress
from tortxd.wire.http1 import Headers, head_bytes
from tortxd.wire.limited import LimitedBody


def _too_long() -> BadResponse:
    return BadResponse("The service's answer is too long.")


@frozen
class ProbeResult:
    """What came of asking a service, and what the control port showed of it."""

    answer: dict[str, Any] | None
    """The service's JSON object; None if there was none."""
    error: TortxdError | None
    """Why there was none."""
    circuit: Circuit | None
    """The circuit on which the control port showed the probe's own stream."""
    headers: Headers = field(factory=list)
    """What is said of the way that the answer came."""

    @property
    def is_tors_fault(self) -> bool:
        """Whether Tor did not get as far as a circuit: there is no witness, and it is known why."""
        return self.circuit is None and isinstance(self.error, TorError)


class Probe:
    """Asks the service at ``target`` for a JSON object, through Tor.

    :param timeout: seconds for all of it, waiting for Tor included.
    :param keep: whether further requests with these credentials may use the same connection.
    :param steered: how the request is steered; None: not at all.
    """

    def __init__(
        self,
        gateway: Gateway,
        target: Target,
        credentials: Credentials,
        timeout: float,
        *,
        keep: bool = True,
        steered: Steered | None = None,
    ) -> None:
        self._streams = _Streams(gateway)
        request = _request(target, credentials, timeout, keep, steered)
        self._asking = _Asking(gateway, self._streams, request)
        self.result: Deferred[ProbeResult] = Deferred.fromCoroutine(self._run())
        """Fires with what came of it; what goes wrong is a part of that."""

    def circuit(self) -> Circuit | None:
        """The circuit on which the control port shows its stream, so far."""
        return self._streams.circuit()

    def cancel(self) -> None:
        """End it, and the stream with it."""
        self.result.cancel()

    async def _run(self) -> ProbeResult:
        answer, error = None, None
        try:
            answer = _read(await self._asking.body)
        except TortxdError as caught:
            error = caught
        return ProbeResult(answer, error, self.circuit(), self._asking.headers)


def _request(
    target: Target,
    credentials: Credentials,
    timeout: float,
    keep: bool,
    steered: Steered | None,
) -> UpstreamRequest:
    """A request that says nothing of who asks."""
    line = b"GET %b HTTP/1.1" % target.path
    return UpstreamRequest(
        method=b"GET",
        head=head_bytes(line, [(b"Host", target.authority)]),
        pool_key=PoolKey(credentials, target.scheme, target.host, target.port),
        timeout=timeout,
        idle_timeout=timeout,
        has_body=False,
        chunked=False,
        expects_continue=False,
        filter=lambda _: [],
        way="probe",
        keep=keep,
        steered=steered,
    )


def _read(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise BadResponse("The service's answer is not a JSON object.")
    return answer


class _Streams:
    """The gateway, as one exchange needs it; remembers which connections it used."""

    def __init__(self, gateway: Gateway) -> None:
        self.link, self.pool, self.timeouts = gateway.link, gateway.pool, gateway.timeouts
        self.journal = gateway.journal
        self.failures, self.under_way = gateway.failures, gateway.under_way
        self._gateway = gateway
        self._used: list[Upstream] = []
        self.placements = gateway.placements

    def connect(
        self, address: SocksAddress, upstream: Upstream, *, early: bool, timeout: float
    ) -> Deferred[Upstream]:
        """See :class:`tortxd.relay.interfaces.Carrier`."""
        self._used.append(upstream)
        return self._gateway.connect(address, upstream, early=early, timeout=timeout)

    def annotate(self, upstream: Upstream) -> Headers:
        """See :class:`tortxd.relay.interfaces.Carrier`; an old connection may answer, too."""
        self._used.append(upstream)
        return []

    def circuit(self) -> Circuit | None:
        """The circuit of the connection that was used last, if the control port shows it."""
        for upstream in reversed(self._used):
            if upstream.source is not None:
                circuit = self.link.circuit_of(upstream.source)
                if circuit is not None:
                    return circuit
        return None


class _Asking:
    """The client of a probe's exchange: keeps the body of a short answer.

    ``body`` fires with it, or fails with a :class:`~tortxd.errors.TortxdError`; cancelling it ends
    the exchange.
    """

    wire = None

    def __init__(self, gateway: Gateway, streams: _Streams, request: UpstreamRequest) -> None:
        self.upload_producer: UploadProducer = NoUpload()
        self.body: Deferred[bytes] = Deferred(lambda _: self._leave())
        self.headers: Headers = []
        """What the gateway says of the response."""
        self._received = LimitedBody(_too_long)
        self._timeouts = gateway.timeouts
        self._deadline = self._timeouts.clock.seconds() + request.timeout
        self._timeout: Timeout | None = None
        self._exchange = Exchange(streams, request, self)
        self._exchange.start()

    def proceed(self) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; there is no body to ask for."""

    def interim(self, interim: Interim) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; it says nothing of the answer."""

    def respond(self, start: Start, data: bytes) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        self.headers = start.headers
        if start.status != 200:
            self._give_up(BadResponse("The service did not answer with a result."))
            return
        # Until now the exchange has looked at the time itself.
        left = max(0.0, self._deadline - self._timeouts.clock.seconds())
        self._timeout = self._timeouts.start(left, lambda: self._give_up(OriginTimeout()))
        self.write(data)

    def write(self, data: bytes) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        try:
            self._received.add(data)
        except BadResponse as error:
            self._give_up(error)

    def finish(self) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        self._stop_timer()
        if not self.body.called:
            self.body.callback(self._received.value)

    def truncate(self, error: TortxdError) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        self.fail(error)

    def fail(self, error: TortxdError) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`."""
        self._stop_timer()
        if not self.body.called:
            self.body.errback(error)

    def draw_from(self, producer: IPushProducer | None) -> None:
        """See :class:`~tortxd.relay.interfaces.ResponseSink`; a short answer need not be slowed."""

    def _give_up(self, error: TortxdError) -> None:
        self._leave()
        self.fail(error)

    def _leave(self) -> None:
        self._stop_timer()
        self._exchange.client_gone()

    def _stop_timer(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

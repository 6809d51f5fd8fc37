"""Whether requests go through Tor: asked once for all who want to know at about the same time.

Each probe has a circuit of its own, so that what the check service learns is linked to nobody's
requests. That costs Tor a circuit, so one probe runs at a time; those who ask meanwhile, and for
some seconds after, share what came of it. That Tor could not be asked is not kept: it may be
otherwise a moment later.
"""

from __future__ import annotations

from secrets import token_bytes

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from tortxd.errors import InternalError, OriginTimeout, TorTimeout
from tortxd.gateway.control.probes import Probe, ProbeResult
from tortxd.gateway.gateway import Gateway
from tortxd.policy.target import Target
from tortxd.tor.isolation import Credentials, isolation_of
from tortxd.tor.waiters import Waiters

log = Logger()

SHARED = 10.0
"""Seconds for which what came of a probe is given to those who ask."""


@frozen
class _Known:
    result: ProbeResult
    at: float
    generation: int
    """Of the pool: a new identity for everyone makes it old."""


class Verification:
    """See the module's description.

    :param gateway: whose requests are in question.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._credentials: Credentials | None = None
        """Kept for the next probe where one was given up: its circuit may be there."""
        self._probe: Probe | None = None
        self._waiting: Waiters[ProbeResult] = Waiters()
        self._known: _Known | None = None

    async def ask(self, target: Target, timeout: float) -> tuple[ProbeResult, float]:
        """What the service at ``target`` says, and the control port shows, and for how many seconds
        that has been known.

        :param timeout: seconds for this caller; others may wait longer.
        """
        clock = self._gateway.reactor
        known = self._known
        if known is not None and known.generation == self._gateway.pool.generation:
            age = clock.seconds() - known.at
            if age < SHARED:
                return known.result, age
        answer = self._waiting.add()  # first: the probe may end at once
        probe = self._probe or self._begin(target)
        try:
            return await answer.addTimeout(timeout, clock), 0.0
        except DeferredTimeout:
            circuit = probe.circuit()
            error = TorTimeout() if circuit is None else OriginTimeout()
            return ProbeResult(None, error, circuit), 0.0
        finally:
            if not self._waiting and self._probe is probe:
                self._probe = None
                probe.cancel()

    def _begin(self, target: Target) -> Probe:
        gateway = self._gateway
        if self._credentials is None:
            self._credentials = gateway.keys.credentials(isolation_of(token_bytes(16), target.host))
        probe = self._probe = Probe(
            gateway, target, self._credentials, gateway.policy.timeout, keep=False
        )
        generation = gateway.pool.generation

        def done(result: ProbeResult) -> None:
            self._probe = self._credentials = None
            if not result.is_tors_fault:
                self._known = _Known(result, gateway.reactor.seconds(), generation)
            self._waiting.fire(result)

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError) is None:
                log.failure("A fault of ours while Tor was verified.", failure)
                self._probe = self._credentials = None
                self._waiting.fail(InternalError())

        probe.result.addCallbacks(done, failed)
        return probe

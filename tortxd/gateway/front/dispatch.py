"""Who serves a request: a destination, the control plane, or the gateway's own answer at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.logger import Logger

from tortxd.errors import InternalError, TorDown, TortxdError
from tortxd.gateway.admission.admission import PROXY, way_of
from tortxd.gateway.admission.proxy_mode import is_proxy_mode
from tortxd.gateway.answers import Answer
from tortxd.gateway.front.requests import (
    AnsweredRequest,
    ClientConnection,
    ClientRequest,
    ControlRequest,
    RelayedRequest,
    refusal,
)
from tortxd.gateway.gateway import Gateway
from tortxd.relay.outbound import STOPPING
from tortxd.wire.http1 import BodyReader, RequestHead

if TYPE_CHECKING:
    from twisted.web.server import Site

log = Logger()

HEALTH = b"/health?live"
METRICS = b"/metrics"


class ControlPlane(Protocol):
    """What serves all that is not relayed."""

    def site(self) -> Site:
        """A ``Site`` of its routes."""

    def answer_to_head(self, head: RequestHead) -> Answer | None:
        """The answer to a request whose head alone decides it; None if there is more to see."""

    def wind_down(self) -> None:
        """End now what would go on for ever."""

    def stop(self) -> None:
        """Answer what is being served, now."""


class Dispatch:
    """Makes of a head the request that it begins.

    :param control: gives the control plane, as soon as it is needed.
    """

    def __init__(self, gateway: Gateway, control: Callable[[], ControlPlane]) -> None:
        self._gateway = gateway
        self._control = control

    def request(
        self, connection: ClientConnection, head: RequestHead, body: BodyReader, peer: bytes
    ) -> ClientRequest:
        """The request that begins with ``head``, from ``peer``."""
        # klein would take an authority or a whole URL for a path: they never get there.
        if head.target.partition(b"?")[0] != PROXY and not is_proxy_mode(head):
            answer = self._control().answer_to_head(head) if head.has_body else None
            if answer is None:
                return ControlRequest(connection, head, body)
            return AnsweredRequest(connection, head, body, answer)
        gateway = self._gateway
        try:
            if gateway.has_ended:
                raise TorDown(STOPPING)
            decision = gateway.admission.decide(head, peer)
            if not isinstance(decision, Answer):
                gateway.load.begin(connection.client)
        except TortxdError as error:
            decision = self._refuse(error, head)
        except Exception:
            log.failure("A request could not be judged.")
            decision = self._refuse(InternalError(), head)
        if isinstance(decision, Answer):
            return AnsweredRequest(connection, head, body, decision)
        return RelayedRequest(connection, head, body, gateway, decision)

    def _refuse(self, error: TortxdError, head: RequestHead) -> Answer:
        self._gateway.journal.refused(way_of(head), error)
        return refusal(error, head, self._gateway.admission)


def is_about_load(head: RequestHead) -> bool:
    """Whether it asks for what is told even to those who are one too many: that the daemon lives,
    which only a restart would change, and, to operators, what its load is."""
    is_asked = head.target in (HEALTH, METRICS) and head.method in (b"GET", b"HEAD")
    return is_asked and not head.has_body

"""One try to open a stream to a destination through Tor.

    waiting for Tor's SOCKS port -> looking for exits -> for the circuit's turn
        -> for the lead to the exit that was chosen -> connecting

It ends in :meth:`Trying.reached` or in :meth:`Trying.failed`, once, unless it is let go of before.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.python.failure import Failure

from tortxd.errors import (
    BadUrl,
    ConnectFailed,
    ExitPolicyRejected,
    Overloaded,
    TortxdError,
)
from tortxd.relay.interfaces import Carrier
from tortxd.relay.journal import Way
from tortxd.relay.pending import Pending
from tortxd.relay.upstream import Carried, PoolKey, Upstream
from tortxd.tor.link import ExitLead, SocksAddress
from tortxd.tor.reasons import reason
from tortxd.tor.report import is_down, not_ready

T = TypeVar("T")

_NOT_A_NAME = "TORPROTOCOL"
"""What Tor says of a name of ours that it does not know (any more), where it has no code for that
in the SOCKS reply: with ExtendedErrors it has F6, which is BadUrl (measured on 0.4.9.11)."""

TIMER_MARGIN = 0.01
"""Seconds by which a connection attempt ends before the request's time is over."""
FAILURE_REASON_WAIT = 0.25
"""Seconds to wait for the control port's word on why a stream was not opened."""


class Trying(Carried, Protocol):
    """Whose attempt it is."""

    way: Way

    def trying(self, upstream: Upstream) -> None:
        """Tor is asked for a stream, with this connection."""

    def reached(self) -> None:
        """The destination is reached, by the connection that :meth:`upstream_open` gave."""

    def failed(self, error: TortxdError) -> None:
        """It is not: why."""

    def exit_unreachable(self) -> None:
        """It is not: no circuit to the exit that was chosen comes about."""


class Attempt:
    """See the module's description.

    :param owner: hears what comes of it.
    :param deadline: on the carrier's clock.
    :param early: whether what goes first may go before the SOCKS reply.
    :param unclear: refusals by Tor of which the control port is asked the reason: the SOCKS reply
        alone does not tell it.
    :param exit: the fingerprint of the exit by which it is to leave Tor; None: Tor chooses.
    :param shares: how many tries have the time that is left once Tor listens, this one among them:
        one that hangs must leave some for the others.
    """

    def __init__(
        self,
        carrier: Carrier,
        pool_key: PoolKey,
        owner: Trying,
        *,
        deadline: float,
        early: bool,
        unclear: tuple[type[TortxdError], ...],
        exit: str | None = None,
        shares: int = 1,
    ) -> None:
        self._carrier = carrier
        self._pool_key = pool_key
        self._owner = owner
        self._deadline = deadline
        self._early = early
        self._unclear = unclear
        self._exit = exit
        self._shares = shares
        self._lead: ExitLead | None = None
        self._led_again = False
        self._pending = Pending()
        self.began = 0.0
        """When Tor was asked for the stream."""

    def start(self) -> None:
        """Begin."""
        link = self._carrier.link
        address = link.socks_address
        if address is not None:
            self._look_for_exits(address)
        elif is_down(link.status):
            self._owner.failed(not_ready(link.status))
        else:
            self._pending.wait_for(link.when_usable(), self._look_for_exits, self._owner.failed)

    def let_go(self) -> None:
        """Nobody waits for it any more: the stream is closed if it is still being opened. One that
        was opened is the owner's."""
        self._pending.cancel()
        self._release()

    def _look_for_exits(self, address: SocksAddress) -> None:
        """Tor asked for an IPv6 address that no exit carries would work without end."""
        host, port = self._pool_key.host, self._pool_key.port
        if ":" not in host:
            self._look_for_circuit(address)
            return

        def answered(carried: bool | None) -> None:
            if carried is False:
                self._owner.failed(ExitPolicyRejected())
            else:
                self._look_for_circuit(address)

        carried = self._carrier.link.exits_carry(host, port)
        self._pending.wait_for(carried, answered, self._owner.failed)

    def _look_for_circuit(self, address: SocksAddress) -> None:
        """Fresh circuits have a budget; and what has only just failed is not tried on and on."""
        carrier, key = self._carrier, self._pool_key
        failure = carrier.failures.recall(key.credentials.owner, key.host, key.port, self._exit)
        if failure is not None:
            self._owner.failed(failure)
            return
        now = carrier.timeouts.clock.seconds()
        if self._shares > 1:
            self._deadline, self._shares = now + (self._deadline - now) / self._shares, 1
        within = (self._deadline - now) / 2  # the other half is for the request itself
        try:
            turn = carrier.link.admit(key.credentials, within)
        except Overloaded as error:
            self._owner.failed(error)
            return
        if turn is None:
            self._look_for_lead(address)
        else:
            self._pending.wait_for(turn, lambda _: self._admitted(), self._owner.failed)

    def _admitted(self) -> None:
        link = self._carrier.link
        if link.socks_address is not None:
            self._look_for_lead(link.socks_address)
        else:  # Tor has gone meanwhile
            link.opened(self._pool_key.credentials, reached=None)
            self.start()

    def _look_for_lead(self, address: SocksAddress) -> None:
        """Where the exit was chosen, Tor is asked for a name that leads to it."""
        if self._exit is None:
            self._open(address)
            return
        link, key = self._carrier.link, self._pool_key
        leading = link.lead_to_exit(
            key.host,
            self._exit,
            key.credentials.username,
            self._owner.exit_unreachable,
            anew=self._led_again,
        )

        def led(lead: ExitLead) -> None:
            self._lead = lead
            self._open(link.socks_address or address, lead.name)

        def not_led(failure: Failure) -> Failure:
            gone = failure.check(CancelledError)
            link.opened(key.credentials, reached=None if gone else False)
            return failure

        leading.addErrback(not_led)
        self._pending.wait_for(leading, led, self._owner.failed)

    def _release(self) -> None:
        lead, self._lead = self._lead, None
        if lead is not None:
            lead.release()

    def _open(self, address: SocksAddress, name: str | None = None) -> None:
        upstream = Upstream(self._carrier.pool, self._pool_key, self._owner, self._owner.way)
        upstream.name = name
        self._owner.trying(upstream)
        self.began = self._carrier.timeouts.clock.seconds()
        # The connection's own timer knows best what was waited for: it is a little ahead of ours.
        left = max(self._deadline - self.began - TIMER_MARGIN, TIMER_MARGIN)
        connecting = maybeDeferred(
            self._carrier.connect, address, upstream, early=self._early, timeout=left
        ).addBoth(self._account_for, upstream)
        self._pending.wait_for(
            connecting,
            lambda _: self._reached(),
            lambda error: self._not_opened(upstream, error),
        )

    def _account_for(self, result: T, upstream: Upstream) -> T:
        reached: bool | None = True
        if isinstance(result, Failure):
            # Where it was refused before it was connected, it does not hear that it is lost, and
            # would lead back to who has it.
            self._carrier.pool.closed(upstream)
            upstream.exchange = None
            reached = None if isinstance(result.value, CancelledError) else False
        self._carrier.link.opened(self._pool_key.credentials, reached=reached)
        self._release()
        return result

    def _reached(self) -> None:
        key = self._pool_key
        self._carrier.failures.reached(key.credentials.owner, key.host, key.port, self._exit)
        self._owner.reached()

    def _not_opened(self, upstream: Upstream, error: TortxdError) -> None:
        """Tor has not opened the stream; the control port may know better why."""
        if isinstance(error, BadUrl) and self._leads_again():
            return
        if upstream.source is None or not isinstance(error, self._unclear):
            self._not_reached(error)
            return

        def answered(name: str | None) -> None:
            if name == _NOT_A_NAME and self._leads_again():
                return
            better = error
            if isinstance(error, ConnectFailed) and name is not None:
                known = reason(name).error
                better = error if known is None else known()
            better.tor_reason = name
            self._not_reached(better)

        answer = self._carrier.link.close_reason(upstream.source, FAILURE_REASON_WAIT)
        self._pending.wait_for(answer, answered, self._not_reached)

    def _leads_again(self) -> bool:
        """Where Tor did not know our name, it is told once more: another daemon that attaches to
        the same Tor removes what it takes for left behind."""
        if self._exit is None or self._led_again:
            return False
        self._led_again = True
        self.start()
        return True

    def _not_reached(self, error: TortxdError) -> None:
        key = self._pool_key
        self._carrier.failures.failed(
            key.credentials.owner, key.host, key.port, error, self.began, self._exit
        )
        self._owner.failed(error)

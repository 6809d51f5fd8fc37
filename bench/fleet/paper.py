"""What a fleet of any size could do, computed from what one request costs each party.

A daemon is one core and a Tor is one thread, so that a member does what the dearer of the two has
time for. HAProxy has as many threads as cores.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Costs:
    """What one unit of work costs: a request, or a byte."""

    balancer: float
    """Seconds of HAProxy's CPU."""
    member: float
    """Seconds of a daemon's."""
    tor: float
    """Seconds of its Tor's."""
    carried: float
    """Bytes of a body."""


@frozen
class Capacity:
    """What a fleet could do where nothing but its own CPU held it up."""

    members: int
    units: float
    """A second, of all members together."""
    member_bound: str
    """What of a member is busy first."""
    balancer_cores: float
    """How many cores HAProxy would have busy."""
    bits: float
    """Of bodies, a second: they come into HAProxy's machine, and leave it."""

    @property
    def bound(self) -> str:
        """What is busy first, where HAProxy has one core."""
        return self.member_bound if self.balancer_cores <= 1 else "HAProxy's core"


def capacity(costs: Costs, members: int) -> Capacity:
    """Of so many members among which the work is spread evenly."""
    dearest = max(costs.member, costs.tor)
    units = members / dearest
    bound = "the daemons' cores" if costs.member >= costs.tor else "the Tors' threads"
    bits = 8 * units * costs.carried
    return Capacity(members, units, bound, units * costs.balancer, bits)


def members_fed(costs: Costs) -> float:
    """How many busy members one core of HAProxy keeps busy."""
    return max(costs.member, costs.tor) / costs.balancer

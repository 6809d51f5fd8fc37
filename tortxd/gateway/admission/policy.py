"""Whom the gateway serves, with what. It is judged before a gateway is loaded."""

from __future__ import annotations

from attrs import frozen

from tortxd.policy.access import AccessPolicy
from tortxd.policy.headers import UserAgent
from tortxd.policy.target import TargetPolicy


@frozen
class GatewayPolicy:
    """Whom the gateway serves, with what."""

    access: AccessPolicy
    targets: TargetPolicy
    user_agent: UserAgent
    timeout: float = 60.0
    """Seconds from a request to the head of its response."""
    idle_timeout: float = 300.0
    """Seconds without a byte of a body either way."""

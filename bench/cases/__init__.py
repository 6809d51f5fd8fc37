"""What is asked of the gateways, and which figures come of it."""

from __future__ import annotations

from bench.cases.model import Case

__all__ = ["Case"]

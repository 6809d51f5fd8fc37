"""What the log says of Tor."""

from __future__ import annotations

import pytest

from tortxd.tor.status import (
    BackingOff,
    Bootstrapping,
    Degraded,
    Failed,
    Launching,
    Ready,
    Status,
    Stopped,
    sentence,
)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (Stopped(), "Tor is stopped."),
        (Launching(), "Tor is starting."),
        (Bootstrapping(5, "conn", "Connecting"), "Tor is 5 % ready: Connecting."),
        (
            Bootstrapping(5, "conn", "Connecting", "A relay refused."),
            "Tor is 5 % ready: Connecting. A relay refused.",
        ),
        (Ready(), "Tor is ready."),
        (Degraded(("Full.", "Slow.")), "Tor is ready, but: Full. Slow."),
        (BackingOff(1.0, "It died."), "Tor is down, and tried again in 1 s: It died."),
        (Failed("No port."), "Tor cannot run: No port."),
    ],
)
def test_sentences(status: Status, says: str) -> None:
    assert sentence(status) == says

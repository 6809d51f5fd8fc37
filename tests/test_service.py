"""A ``TorService`` before there is a Tor, and when it stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tortxd import DaemonConfig, TorService
from tortxd.errors import SetupError
from tortxd.tor.status import Stopped


@pytest.fixture
def service(tmp_path: Path) -> TorService:
    return TorService(DaemonConfig(data_dir=tmp_path), Clock())


def test_a_start_that_fails_leaves_nothing_running(service: TorService) -> None:
    """An operator token that somebody spoilt is found before Tor is started."""
    token = service.config.data_dir / "operator-token"
    token.write_text("short")
    token.chmod(0o600)
    with pytest.raises(SetupError, match="operator-token"):
        service.startService()
    assert service.status == Stopped()
    assert not service.running


def test_stopping_closes_what_agents_keep(service: TorService) -> None:
    """On a Tor that others run, those connections would stay."""
    agent: Any = service.agent()
    agent._pool(repeatable=True)
    assert agent._pools is not None
    service._plane.stop()
    assert agent._pools is None


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://localhost/", "https://[/"])
def test_services_must_be_such_as_can_be_asked(tmp_path: Path, url: str) -> None:
    for option in ("check_url", "ip_url"):
        with pytest.raises(SetupError, match="--" + option.replace("_", "-")):
            TorService(DaemonConfig(data_dir=tmp_path, **{option: url}), Clock())

"""A ``TorService`` before there is a Tor, and when it stops."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tortxd import DaemonConfig, TorService
from tortxd.client.agent import TorAgent
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


def test_agents_share_what_the_gateway_has(service: TorService) -> None:
    """So a new identity, and a stop, are theirs too: tests/gateway/test_library.py."""
    for agent in (service.agent(), service.agent(isolation="a"), service.http._agent):
        assert isinstance(agent, TorAgent)
        assert agent._carrier is service._plane
        assert agent._keys is service._plane.keys


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://localhost/", "https://[/"])
def test_services_must_be_such_as_can_be_asked(tmp_path: Path, url: str) -> None:
    for name in ("check_url", "ip_url"):
        with pytest.raises(SetupError, match=f"^`{name}`: "):
            TorService(DaemonConfig(data_dir=tmp_path, **{name: url}), Clock())  # type: ignore[arg-type]

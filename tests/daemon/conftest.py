"""Daemons as processes on the private Tor network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_twisted

from tests.daemon.process import Daemon, Launcher, run
from tortxd.testing import Origin, PrivateNetwork


@pytest.fixture(scope="package")
def daemon(
    tor_network: PrivateNetwork, tor_origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """A daemon that serves, for all tests that leave it as it is."""
    launch = Launcher(tor_network, tor_origin, tmp_path_factory.mktemp("daemon"))
    one = launch()
    run(one.when_ready)
    yield one
    run(launch.stop)


@pytest_twisted.async_yield_fixture
async def launch(
    tor_network: PrivateNetwork, tor_origin: Origin, tmp_path: Path
) -> AsyncIterator[Launcher]:
    """Starts daemons for one test."""
    launcher = Launcher(tor_network, tor_origin, tmp_path)
    yield launcher
    await launcher.stop()

"""pytest fixtures: ``pytest_plugins = ["tortxd.testing.fixtures"]`` in the topmost conftest.

They need pytest-twisted. Both last for the whole session and are started when a test first asks for
them. Where tor is not installed they fail; they never skip. The network gives no anonymity.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tortxd.testing.model import INetworkReactor
from tortxd.testing.network import PrivateNetwork
from tortxd.testing.origin import Origin

ORIGIN = "origin.test.example"
"""The public name of the session's origin."""

_T = TypeVar("_T")


def _reactor() -> INetworkReactor:
    # Not at the top: pytest-twisted installs the reactor that the user has asked for.
    from twisted.internet import reactor

    return cast(INetworkReactor, reactor)


def _run(work: Callable[[], Coroutine[Deferred[Any], Any, _T]]) -> _T:
    """Do something in the reactor and wait for it; session fixtures cannot be async."""
    done = deferLater(_reactor(), 0, lambda: Deferred.fromCoroutine(work()))
    return cast(_T, pytest_twisted.blockon(done))


def _teller(config: pytest.Config) -> Callable[[int, str], None]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")

    terminal = reporter is not None and reporter.isatty()

    def tell(fraction: int, sentence: str) -> None:
        if reporter is None or capture is None or reporter.verbosity < 0:
            return
        line = f"private Tor network: {fraction:3d} % {sentence}"
        with capture.global_and_fixture_disabled():
            if fraction == 0:
                reporter.ensure_newline()
            if terminal:
                # One line, written over again and again.
                reporter.rewrite(line, erase=True)
                if fraction == 100:
                    reporter.write_line("")
            elif fraction in (0, 100):
                reporter.write_line(line)

    return tell


@pytest.fixture(scope="session")
def tor_network(request: pytest.FixtureRequest) -> Iterator[PrivateNetwork]:
    """A started private network whose clients know 127.0.0.1 as ``origin.test.example`` too."""
    network = PrivateNetwork(
        _reactor(), origins={ORIGIN: "127.0.0.1"}, on_progress=_teller(request.config)
    )
    _run(network.start)
    yield network
    _run(network.stop)


@pytest.fixture(scope="session")
def tor_origin(tor_network: PrivateNetwork) -> Iterator[Origin]:
    """A web server that the network's clients reach as ``origin.test.example``, http and https."""
    origin = Origin(_reactor(), tor_network.directory, names=(ORIGIN,), exit_of=tor_network.exit_of)
    _run(origin.start)
    yield origin
    _run(origin.stop)

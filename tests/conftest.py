"""What all tests share: the private Tor network's fixtures, and an empty environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.fault_times import FaultTimes

pytest_plugins = ["tortxd.testing.fixtures"]

# How fast an example runs says more of what else the machine does than of the code.
settings.register_profile("tortxd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tortxd")

# What the developer has set for a daemon of their own, and for programs that go through a proxy, is
# not what is to be tested; here, before anything has read it, once for all tests.
_OWN = ("TORTXD_", "GATEWAY_PORT", "TOR_SOCKS_PORT", "SOCKS_ADDR", "STATE_DIRECTORY")
for _name in list(os.environ):
    if _name.startswith(_OWN) or _name.lower().endswith("_proxy"):
        del os.environ[_name]


@pytest.fixture(scope="session", autouse=True)
def _runtime_dir(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Daemons of tests say that they run where the developer's own command does not look."""
    os.environ["XDG_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("runtime"))


# Where the tests are spread over processes (make test), one has those on a Tor network, which
# wait much of their time, and begin first. The others share the rest, module by module.
# Chromium has a network of its own, at their end, where it idles beside nothing else; the
# demonstration borrows it, and has its page shown in Chromium.
_ON_THE_NETWORK = (
    "tests/daemon/",
    "tests/docs/test_examples.py",
    "tests/docs/test_snippets.py",
    "tests/testing/test_network.py",
    "tests/tor/test_network_tor.py",
    "tests/tor/test_why_not.py",
)
_IN_CHROMIUM = ("tests/browser/", "tests/testing/test_demo.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep together what shares a Tor network, and otherwise the tests of each module."""
    from xdist.scheduler import LoadScopeScheduling

    class Parts(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            for shared in (_ON_THE_NETWORK, _IN_CHROMIUM):
                if nodeid.startswith(shared):
                    return str(shared)
            return nodeid.partition("::")[0]

    return Parts(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have the modules that need the Tor network come last: even idle, it takes a quarter of a
    core. Where they have a process of their own, they come first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.nodeid.startswith(_ON_THE_NETWORK))
        items.sort(key=lambda item: item.nodeid.startswith(_IN_CHROMIUM))
    else:
        last = {item.path for item in items if "tor_network" in getattr(item, "fixturenames", ())}
        items.sort(key=lambda item: item.path in last)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fault-times",
        metavar="FILE",
        help="note there what clients saw of each fault, and for how long",
    )


@pytest.fixture
def fault_times(request: pytest.FixtureRequest) -> FaultTimes:
    """Notes what a fault was for clients."""
    from tests.fault_times import FaultTimes

    file = request.config.getoption("fault_times")
    return FaultTimes(request.node.nodeid, None if file is None else Path(file))

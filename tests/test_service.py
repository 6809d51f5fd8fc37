"""A ``TorService`` before there is a Tor, and when it stops."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent

from tortxd import DaemonConfig, TorService
from tortxd.client.agent import TorAgent
from tortxd.daemon import Daemon
from tortxd.endpoints import BACKLOG
from tortxd.errors import BadRequest, BadUrl, SetupError, TorNotReady
from tortxd.gateway.limits import Limits
from tortxd.policy.steering import UNSTEERED, Choice, Steering, Sticky
from tortxd.relay.endpoint import StreamEndpoint
from tortxd.runtime import running
from tortxd.tor.isolation import isolation_of
from tortxd.tor.status import Stopped


@pytest.fixture
def service(tmp_path: Path) -> TorService:
    return TorService(DaemonConfig(data_dir=tmp_path), cast(Any, Clock()))


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
        assert agent._carrier is service._gateway
        assert agent._keys is service._gateway.keys


def username(agent: TorAgent) -> bytes:
    """Under which an agent's requests go now."""
    isolation = isolation_of(agent._key, "a.example", agent._caller)
    return agent._keys.credentials(isolation).username


def test_a_key_of_the_apps_own_gets_a_new_identity(service: TorService) -> None:
    alice, bob = service.agent(isolation="zoë"), service.agent(isolation="bob")
    before = username(alice), username(bob)
    results: list[Any] = []
    service.new_identity("zoë").addCallback(results.append)
    (renewal,) = results  # at once: Tor has no part in it
    assert (renewal.keys, renewal.connections) == (1, 0)
    assert username(alice) != before[0]
    assert username(bob) == before[1]


def test_everyone_gets_a_new_identity_though_tor_cannot_be_told(service: TorService) -> None:
    agents = service.agent(), service.agent(isolation="alice")
    before = [username(agent) for agent in agents]
    results: list[Any] = []
    service.new_identity().addErrback(results.append)
    assert results[0].check(TorNotReady)
    assert not {username(agent) for agent in agents} & set(before)


@pytest.mark.parametrize("key", ["", "x" * 257, "\ud800"])
def test_a_malformed_key_has_no_identity(service: TorService, key: str) -> None:
    results: list[Any] = []
    service.new_identity(key).addErrback(results.append)
    assert results[0].check(BadRequest)


def test_agents_and_endpoints_are_steered(service: TorService) -> None:
    """What comes of it: tests/gateway/test_steered_library.py."""
    words: Any = {"exit_country": ("de", "fr"), "sticky": 60, "strict": True, "retry": 2}
    steering = Steering(Choice(frozenset(("de", "fr"))), Sticky(60, True), 2)
    agent = service.agent("alice", **words)
    assert agent._steering == steering
    endpoint: Any = service.endpoint("Example.com", 443, isolation="alice", tls=True, **words)
    assert isinstance(endpoint, StreamEndpoint)
    assert (endpoint.steering, endpoint.host, endpoint.tls) == (steering, "example.com", True)
    # One key of the app's, by whatever way.
    assert endpoint.isolation == isolation_of(agent._key, "", agent._caller)
    assert service.agent()._steering is service.http._tor_agent._steering is UNSTEERED


@pytest.mark.parametrize("words", [{"exit": "x"}, {"sticky": 0}, {"strict": True}, {"retry": 4}])
def test_malformed_steering_is_said_at_once(service: TorService, words: Any) -> None:
    with pytest.raises(BadRequest):
        service.agent(**words)
    with pytest.raises(BadRequest):
        service.endpoint("example.com", 80, **words)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://localhost/", "https://[/"])
def test_services_must_be_such_as_can_be_asked(tmp_path: Path, url: str) -> None:
    for name in ("check_url", "ip_url"):
        with pytest.raises(SetupError, match=f"^`{name}`: "):
            TorService(DaemonConfig(data_dir=tmp_path, **{name: url}), cast(Any, Clock()))  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [False, True])
def test_requests_are_logged_where_that_was_asked_for(tmp_path: Path, asked: bool) -> None:
    config = DaemonConfig(data_dir=tmp_path, log_requests=asked)
    service = TorService(config, cast(Any, Clock()))
    with capturedLogs() as events:
        service._gateway.journal.refused("proxy", BadUrl())
    assert len(events) == asked


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_token_that_everybody_can_read_is_warned_of(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "a token"
    file.write_text("a-long-enough-token")
    file.chmod(mode)
    # It attaches, so that nothing is launched.
    config = DaemonConfig(data_dir=tmp_path / "data", token_file=file, control="tcp:127.0.0.1:1")
    service = TorService(config, cast(Any, MemoryReactorClock()))
    with capturedLogs() as events:
        service.startService()
    service.stopService()
    warnings = [
        formatEvent(event) for event in events if event["log_namespace"] == "tortxd.service"
    ]
    sentence = f"Every user of this machine can read {file}: chmod o-r '{file}'"
    assert warnings == ([sentence] if mode == 0o644 else [])


def test_an_operators_token_that_is_given(tmp_path: Path) -> None:
    """As Kubernetes mounts it: a link, to a file that its group may read. None is made then."""
    (tmp_path / "..data").write_text("the-token-of-operators\n")
    (tmp_path / "..data").chmod(0o440)
    file, data_dir = tmp_path / "operator-token", tmp_path / "data"
    file.symlink_to("..data")
    config = DaemonConfig(data_dir=data_dir, operator_token_file=file, control="tcp:127.0.0.1:1")
    service = TorService(config, cast(Any, MemoryReactorClock()))
    with capturedLogs() as events:
        service.startService()
    service.stopService()
    assert service._policy.access.operator_token == b"the-token-of-operators"
    assert service.operator_token_file == file
    assert not (data_dir / "operator-token").exists()
    assert not [event for event in events if event["log_namespace"] == "tortxd.service"]


def test_an_operators_token_that_everybody_can_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "operators"
    file.write_text("the-token-of-operators")
    file.chmod(0o644)
    config = DaemonConfig(
        data_dir=tmp_path / "data", operator_token_file=file, control="tcp:127.0.0.1:1"
    )
    service = TorService(config, cast(Any, MemoryReactorClock()))
    with capturedLogs() as events:
        service.startService()
    service.stopService()
    texts = [formatEvent(event) for event in events if event["log_namespace"] == "tortxd.service"]
    assert texts == [f"Every user of this machine can read {file}: chmod o-r {file}"]


def test_a_token_file_that_is_gone_by_then_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-long-enough-token")
    config = DaemonConfig(data_dir=tmp_path / "data", token_file=file, control="tcp:127.0.0.1:1")
    file.unlink()
    service = TorService(config, cast(Any, MemoryReactorClock()))
    service.startService()
    service.stopService()


def test_the_library_speaks_of_fields_and_what_was_loaded_of_what_was_given(
    tmp_path: Path,
) -> None:
    missing, home = tmp_path / "none", {"TORTXD_DATA_DIR": str(tmp_path)}
    for config, name in (
        (DaemonConfig(data_dir=tmp_path, tor=missing), "`tor`"),
        (DaemonConfig.load({}, {**home, "TORTXD_TOR": str(missing)}), "TORTXD_TOR"),
        (DaemonConfig.load({"tor": str(missing)}, home), "--tor"),
    ):
        with pytest.raises(SetupError) as caught:
            TorService(config, cast(Any, MemoryReactorClock())).startService()
        assert str(caught.value) == (
            f"There is no tor executable at {missing}; install the package tor, or name one with "
            f"{name}."
        )


def test_many_clients_may_wait_until_a_daemon_accepts_them(tmp_path: Path) -> None:
    reactor: Any = MemoryReactorClock()
    config = DaemonConfig(data_dir=tmp_path, http=("tcp:3080:interface=127.0.0.1",))
    Daemon(config, reactor, lambda _: None)._listen()
    ((port, _, backlog, interface),) = reactor.tcpServers
    assert (port, backlog, interface) == (3080, BACKLOG, "127.0.0.1")


def test_the_command_is_told_of_what_it_can_ask(tmp_path: Path) -> None:
    """Not of an endpoint that wants the PROXY protocol first. The log's example is right, too."""
    token = tmp_path / "token"
    token.write_text("the-token-of-operators")
    config = DaemonConfig(
        data_dir=tmp_path / "data",
        http=("haproxy:tcp:0:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"),
        operator_token_file=token,
        open=True,
        control="tcp:127.0.0.1:1",
    )
    reactor: Any = MemoryReactorClock()
    daemon = Daemon(config, reactor, lambda _: None, [tmp_path / "run"])
    proxied, plain = "http://127.0.0.1:1", "http://127.0.0.1:2"
    hosts = iter((proxied, plain))

    class Port:
        def __init__(self) -> None:
            self.port = int(next(hosts)[-1])

        def getHost(self) -> IPv4Address:
            return IPv4Address("TCP", "127.0.0.1", self.port)

        def stopListening(self) -> None:
            pass

    reactor.listenTCP = lambda *_, **__: Port()
    with capturedLogs() as events:
        daemon.startService()
        daemon._say_ready(None)
    (found,) = running([tmp_path / "run"])
    assert (found.gateways, found.operator_token) == ((plain,), token)
    assert daemon._gateways == [proxied, plain]
    (tried,) = [text for text in map(formatEvent, events) if text and text.startswith("Try it")]
    assert f"{plain}/" in tried
    daemon.stopService()


# --- limits ---------------------------------------------------------------------------------------


def limits_of(config: DaemonConfig) -> Limits:
    return TorService(config, cast(Any, Clock()))._gateway.limits


def test_limits_are_those_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    config = DaemonConfig(
        data_dir=tmp_path,
        max_clients=500,
        max_requests=100,
        client_share=0.5,
        max_header_size=10_000,
        header_timeout=3,
        keepalive_timeout=20,
    )
    assert limits_of(config) == Limits(500, 185, 100, 0.5, 10_000, 3.0, 20.0)


def test_without_a_word_they_are_what_descriptors_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert limits_of(DaemonConfig(data_dir=tmp_path)) == Limits(371, 185, 371)


def test_it_is_said_where_descriptors_are_too_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    options = {"max_clients": "100", "max_requests": "60", "data_dir": str(tmp_path)}
    with capturedLogs() as events:
        limits = limits_of(DaemonConfig.load(options, {}))
    assert (limits.clients, limits.requests) == (68, 60)
    (said,) = [formatEvent(event) for event in events]
    assert said.startswith("--max-clients is 100, but 256 file descriptors are enough for 68.")

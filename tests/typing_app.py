"""An application that uses every public part of the library, for mypy: it is never run.

It stands for the code of those who import tortxd and check their types.
"""

from __future__ import annotations

from typing import Any, assert_never, assert_type

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.web.iweb import IAgent
from twisted.web.resource import IResource

import tortxd
from tortxd import (
    BackingOff,
    Bootstrapping,
    Circuit,
    Config,
    ConnectRefused,
    DaemonConfig,
    Degraded,
    DestinationError,
    Failed,
    Launching,
    Ready,
    Relay,
    Renewal,
    Response,
    SetupError,
    SocksClient,
    Status,
    Stopped,
    Stream,
    TorError,
    TorHttpClient,
    TorInfo,
    TorService,
    TortxdError,
    TreqClient,
    tor_client,
)

URL = "https://example.com/"


async def with_a_client(reactor: Any) -> bytes:
    config = Config(
        socks_addr="127.0.0.1:9050",
        http_gateway_addr="127.0.0.1:3080",
        timeout=60.0,
        verify_tls=True,
    )
    client = TorHttpClient(config)
    client = TorHttpClient(config, reactor)
    client = tor_client("127.0.0.1:9050", timeout=30.0)
    assert_type(client.isolated("alice"), TorHttpClient)
    assert_type(client.isolated("a", exit_country="de", sticky=600, retry=1), TorHttpClient)
    assert_type(client.get(URL), Deferred[Response])
    response = await client.post(URL, {"a": 1}, headers={"X-Mine": "1"}, timeout=10)
    assert_type(response, Response)
    assert_type(await response.text(), str)
    assert_type(await client.verify_tor_connection(), bool)
    assert_type(await client.get_exit_ip(), str)
    await client.get_json(URL)
    await client.post_json(URL, {"a": 1})
    return assert_type(await response.content(), bytes)


async def with_streams(factory: Factory) -> bytes:
    socks = SocksClient(Config())
    assert_type(await socks.connect("example.com", 80, factory), IProtocol)
    assert_type(await socks.check_connection(), bool)
    return assert_type(await socks.send_receive("example.com", 80, b"..."), bytes)


async def with_a_tor(reactor: Any) -> Status:
    tor = TorService(DaemonConfig(data_dir="tor-state", circuit_rate=None), reactor)
    stop_watching = tor.on_status(lambda status: print(in_words(status)))
    tor.startService()
    await tor.when_ready()
    failing: Deferred[TortxdError] = tor.when_failed()
    failing.cancel()
    assert_type(await tor.http.get(URL), Response)
    agent: IAgent = tor.agent()
    assert agent is not None
    assert_type(await tor.http.post(URL, json={"a": 1}), Response)
    assert_type(await TreqClient(tor.agent(isolation="alice")).get(URL), Response)
    steered = tor.agent("alice", exit_country="de", exit=["A" * 40], sticky=600, retry=2)
    told = (await TreqClient(steered).get(URL)).tor
    assert_type(told, TorInfo)
    assert_type((told.circuit, told.exit), tuple[str | None, Relay | None])
    assert_type((told.attempts, told.exit_changed), tuple[int, bool])
    assert_type((await steered.request(b"GET", URL.encode())).tor, TorInfo)
    tor.endpoint("example.com", 443, exit_country=("de", "fr"), sticky=60, strict=True, retry=1)
    endpoint: IStreamClientEndpoint = tor.endpoint("example.com", 443, isolation="alice", tls=True)
    assert endpoint is not None
    resource: IResource = tor.gateway()
    assert resource is not None
    port: IListeningPort = reactor.listenTCP(0, tor.gateway_factory())
    assert port is not None
    for circuit in tor.circuits():
        assert_type(circuit, Circuit)
        assert_type(circuit.path, tuple[Relay, ...])
        assert_type(circuit.exit, Relay | None)
    for stream in tor.streams():
        assert_type(stream, Stream)
        assert_type(stream.source, tuple[str, int] | None)
    assert_type(await tor.new_identity(), Renewal)
    assert_type((await tor.new_identity("alice")).connections, int)
    stop_watching()
    await tor.stopService()
    return tor.status


def in_words(status: Status) -> str:
    match status:
        case Stopped() | Launching() | Ready():
            return type(status).__name__
        case Bootstrapping(progress=progress, summary=summary):
            return f"{progress} %: {summary}"
        case Degraded(reasons):
            return " ".join(reasons)
        case BackingOff(seconds, reason):
            return f"{seconds} s: {reason}"
        case Failed(reason):
            return reason
    assert_never(status)


async def with_errors(client: TorHttpClient) -> tuple[str, bool]:
    try:
        await client.get(URL)
    except ConnectRefused as error:
        return str(error), error.retryable
    except (DestinationError, TorError, SetupError) as error:
        assert_type(error.retry_after, int | None)
        return error.code, error.retryable
    except TortxdError as error:
        return f"{error.status}: {error} ({tortxd.__version__})", False
    return "", True

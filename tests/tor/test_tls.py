"""TLS through Tor: who is trusted, and what is said when nobody is."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from tests.certificates import NEEDED, ONION, SENTENCE, VERSIONS, Authority, Server
from tests.socks_server import SocksServer
from tortxd.addresses import SocksAddress
from tortxd.errors import ConnectRefused, OriginReset, OriginTimeout, TlsFailed, TortxdError
from tortxd.tor.isolation import Credentials
from tortxd.tor.socks import open_stream
from tortxd.tor.tls import ClientTls

ALICE = Credentials(b"alice", b"1")


class Client(Protocol):
    """Says something once it is connected, and waits for the answer."""

    transport: Any

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.made = False

    def connectionMade(self) -> None:
        self.made = True
        self.transport.write(b"ping")

    def dataReceived(self, data: bytes) -> None:
        self.answer.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.errback(reason)
        self.lost.callback(None)


class Echo(Protocol):
    """A destination."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        handle = self.transport.getHandle()
        self.transport.write(data + b" " + (handle.get_servername() or b"-"))


class Mute(Protocol):
    """A destination that takes the connection, and says what it is told to."""

    transport: Any
    says: bytes | None = None

    def dataReceived(self, data: bytes) -> None:
        if self.says is not None:
            self.transport.write(self.says)
            self.transport.loseConnection()


class Refuses(Mute):
    """Closes when it is greeted."""

    says = b""


class SpeaksHttp(Mute):
    """A web server without TLS."""

    says = b"HTTP/1.1 400 Bad Request\r\n\r\n"


class SpeaksOldHttp(Mute):
    """One that, not having been asked for a version, answers as HTTP/0.9 does."""

    says = b"<html><body>400 Bad Request</body></html>"


class SpeaksSsh(Mute):
    """No web server at all."""

    says = b"SSH-2.0-OpenSSH_9.2\r\n"


@pytest.fixture
def reactor() -> Any:
    from twisted.internet import reactor

    return reactor


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The authority, as OpenSSL's own variable for it has it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


class Attempt:
    """One TLS connection through a scripted SOCKS server to an origin."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.client = Client()
        self.server = SocksServer(reactor)

    async def run(
        self,
        origin: Any,
        host: str = "example.com",
        tls: ClientTls | None = None,
        timeout: float = 20.0,
    ) -> bytes:
        self.ports = [
            await TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1").listen(factory)
            for factory in (origin, self.server)
        ]
        self.server.origin = self.ports[0].getHost().port
        try:
            await open_stream(
                self.reactor,
                SocksAddress("127.0.0.1", self.ports[1].getHost().port),
                host,
                443,
                ALICE,
                self.client,
                tls=tls or ClientTls(),
                timeout=timeout,
            )
            answer = await self.client.answer
            self.client.transport.abortConnection()
            await self.client.lost
            return answer
        finally:
            await self.server.served[0].lost
            for port in self.ports:
                await port.stopListening()
            # What was aborted is closed in the reactor's next turn.
            await deferLater(self.reactor, 0)

    async def fails(self, *arguments: Any, **options: Any) -> TortxdError:
        error = await self.breaks(*arguments, **options)
        assert not self.client.made
        return error

    async def breaks(self, *arguments: Any, **options: Any) -> TortxdError:
        """The same, though it may have been connected."""
        with pytest.raises(TortxdError) as caught:
            await self.run(*arguments, **options)
        return caught.value


def origin(settings: Server) -> Any:
    factory = TLSMemoryBIOFactory(settings, False, Factory.forProtocol(Echo))
    factory.noisy = False
    return factory


def plain(protocol: type[Protocol]) -> Any:
    factory = Factory.forProtocol(protocol)
    factory.noisy = False
    return factory


@ensureDeferred
async def test_a_trusted_certificate(reactor: Any, trusted: Authority) -> None:
    attempt = Attempt(reactor)
    assert await attempt.run(origin(trusted.server("example.com"))) == b"ping example.com"
    hello = attempt.server.served[0].early
    assert hello.startswith(b"\x16\x03\x01"), "the ClientHello goes before the SOCKS reply"
    assert b"http/1.1" in hello
    assert b"ping" not in hello


@ensureDeferred
async def test_an_address_has_a_certificate_too_and_no_server_name(
    reactor: Any, trusted: Authority
) -> None:
    attempt = Attempt(reactor)
    served = await attempt.run(origin(trusted.server("192.0.2.1")), "192.0.2.1")
    assert served == b"ping -"


@pytest.mark.parametrize(
    ("host", "name", "expired", "sentence"),
    [
        ("example.com", "example.com", True, "expired"),
        ("example.com", "example.org", False, "another name"),
        ("192.0.2.1", "192.0.2.2", False, "another name"),
        ("192.0.2.1", "example.org", False, "another name"),
    ],
)
@ensureDeferred
async def test_bad_certificates(
    reactor: Any, trusted: Authority, host: str, name: str, expired: bool, sentence: str
) -> None:
    error = await Attempt(reactor).fails(origin(trusted.server(name, expired=expired)), host)
    assert isinstance(error, TlsFailed)
    assert sentence in str(error)
    assert host not in str(error)


@ensureDeferred
async def test_an_unknown_authority(
    reactor: Any, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path).file))
    error = await Attempt(reactor).fails(origin(authority.server("example.com")))
    assert isinstance(error, TlsFailed)
    assert "authority" in str(error)


@ensureDeferred
async def test_without_verification_any_certificate_will_do(
    reactor: Any, authority: Authority
) -> None:
    settings = authority.server("example.org", expired=True)
    answer = await Attempt(reactor).run(origin(settings), tls=ClientTls(verify=False))
    assert answer == b"ping example.com"


@pytest.mark.parametrize("host", [ONION, f"www.{ONION}", ONION.upper() + "."])
@pytest.mark.parametrize("name", [ONION, "example.org"])
@pytest.mark.parametrize("expired", [False, True])
@ensureDeferred
async def test_an_onion_service_may_have_any_certificate(
    reactor: Any, authority: Authority, host: str, name: str, expired: bool
) -> None:
    """Its address is its key. Nobody trusts this authority."""
    attempt = Attempt(reactor)
    served = await attempt.run(origin(authority.server(name, expired=expired)), host)
    assert served == b"ping " + host.rstrip(".").lower().encode()


@pytest.mark.parametrize(
    "host",
    [
        f"{ONION}.example",
        f"a{ONION}",
        ONION.replace("wid.", "wie."),
        "onion.example",
        "expyuzz4wqqyqhjn.onion",
        "onion",
    ],
)
@ensureDeferred
async def test_what_only_looks_like_an_onion_service_may_not(
    reactor: Any, authority: Authority, host: str
) -> None:
    error = await Attempt(reactor).fails(origin(authority.server(host)), host)
    assert isinstance(error, TlsFailed)


# --- client certificates --------------------------------------------------------------------------


@VERSIONS
@ensureDeferred
async def test_a_destination_that_needs_a_client_certificate(
    reactor: Any, trusted: Authority, version: int
) -> None:
    """TLS 1.3 says so after the handshake, to the application's protocol."""
    attempt = Attempt(reactor)
    server = trusted.server("example.com", wants=NEEDED, version=version)
    error = await attempt.breaks(origin(server))
    assert isinstance(error, TlsFailed)
    assert (str(error), error.retryable) == (SENTENCE, False)
    assert attempt.client.made is (version == SSL.TLS1_3_VERSION)


@VERSIONS
@ensureDeferred
async def test_a_destination_that_would_like_a_client_certificate(
    reactor: Any, trusted: Authority, version: int
) -> None:
    server = trusted.server("example.com", wants=SSL.VERIFY_PEER, version=version)
    assert await Attempt(reactor).run(origin(server)) == b"ping example.com"


@ensureDeferred
async def test_other_refusals_are_not_taken_for_it(reactor: Any, trusted: Authority) -> None:
    """The alert is the one that TLS 1.2 has for a missing certificate."""
    server = trusted.server("example.com", version=SSL.TLS1_2_VERSION)
    server.context.set_cipher_list(b"AES128-SHA")  # not for a key like this one
    error = await Attempt(reactor).fails(origin(server))
    assert isinstance(error, TlsFailed)
    assert "certificate" not in str(error)


@pytest.mark.parametrize("web_server", [SpeaksHttp, SpeaksOldHttp])
@ensureDeferred
async def test_a_destination_that_speaks_plain_http(reactor: Any, web_server: type[Mute]) -> None:
    error = await Attempt(reactor).fails(plain(web_server), "canary.example.com")
    assert isinstance(error, TlsFailed)
    assert "speaks plain http on this port" in str(error)
    assert "http:// might be meant" in str(error)
    assert "canary" not in str(error)


@ensureDeferred
async def test_a_destination_that_speaks_neither(reactor: Any) -> None:
    error = await Attempt(reactor).fails(plain(SpeaksSsh))
    assert isinstance(error, TlsFailed)
    assert "http" not in str(error)


@ensureDeferred
async def test_a_destination_that_hangs_up(reactor: Any) -> None:
    assert isinstance(await Attempt(reactor).fails(plain(Refuses)), OriginReset)


@ensureDeferred
async def test_a_destination_that_says_nothing(reactor: Any) -> None:
    assert isinstance(await Attempt(reactor).fails(plain(Mute), timeout=0.3), OriginTimeout)


@ensureDeferred
async def test_a_refusal_by_tor_is_not_taken_for_a_fault_of_tls(reactor: Any) -> None:
    attempt = Attempt(reactor)
    attempt.server.code = 5
    assert isinstance(await attempt.fails(plain(Mute)), ConnectRefused)


def test_all_connections_share_one_context() -> None:
    """Trust roots are loaded once."""
    tls = ClientTls()
    first, second = (
        tls.connection_to(host).clientConnectionForTLS(None)  # type: ignore[arg-type]
        for host in ("example.com", "example.org")
    )
    assert first.get_context() is second.get_context() is tls.context
    assert tls.context.get_session_cache_mode() == SSL.SESS_CACHE_OFF

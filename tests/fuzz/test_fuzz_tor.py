"""What Tor says: SOCKS replies in any pieces, the control port's lines against a simple model."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from attrs import define, field
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from tests.fuzz.cutting import CUTS, SPOILING, Cuts, Spoiling, cut, spoil
from tests.fuzz.profile import fuzzed
from tests.tor.hostile_control import AUTHENTICATED
from tortxd.addresses import SocksAddress, is_address
from tortxd.errors import SetupError, TortxdError
from tortxd.tor.causes import Causes
from tortxd.tor.control import Control
from tortxd.tor.lines import source_of
from tortxd.tor.recent import REMEMBER_SECONDS
from tortxd.tor.replies import choose_socks, listeners, parse_conf, parse_status, unquoted
from tortxd.tor.session import Session, Watch
from tortxd.tor.status import Bootstrapping
from tortxd.tor.table import Table
from tortxd.wire.socks5 import Handshake

_BOUND = st.sampled_from(
    (b"\x01\x00\x00\x00\x00", b"\x03\x03a.b", b"\x03\x00", b"\x04" + bytes(16), b"\x02x", b"\x00")
)
_CODES = st.sampled_from((0, 0, 0, 1, 2, 5, 8, 0xF0, 0xF7, 0xFF))
_REPLIES = st.builds(
    lambda code, bound: b"\x05" + bytes((code, 0)) + bound + b"\x00\x50", _CODES, _BOUND
)
_ANSWERS = st.lists(
    _REPLIES
    | st.sampled_from(
        (b"\x05\x02", b"\x01\x00", b"\x05\x00", b"\x05\xff", b"\x01\x01", b"\x04\x5a", b"HTTP")
    ),
    max_size=4,
).map(b"".join)


@fuzzed(
    300,
    usual=st.booleans(),
    answers=_ANSWERS,
    spoiling=SPOILING,
    cuts=CUTS,
    behind=st.binary(max_size=9),
)
def test_a_socks_answer_reads_the_same_however_it_is_cut(
    usual: bool, answers: bytes, spoiling: Spoiling, cuts: Cuts, behind: bytes
) -> None:
    start = b"\x05\x02\x01\x00" if usual else b""
    data = spoil(start + answers + behind, spoiling)

    def outcome(pieces: list[bytes]) -> object:
        handshake = Handshake()
        for n, piece in enumerate(pieces):
            try:
                reply = handshake.receive(piece)
            except TortxdError as error:
                return type(error), str(error)
            if reply is not None:
                return reply.bound, reply.leftover + b"".join(pieces[n + 1 :])
        return None

    whole = outcome([data])
    assert outcome(cut(data, cuts)) == whole
    assert outcome(cut(data, list(range(len(data))))) == whole
    if isinstance(whole, tuple) and isinstance(whole[0], tuple):
        # Isolation was accepted, and what the destination said came out as it went in.
        assert data.startswith((b"\x05\x02\x01\x00\x05\x00", b"\x01\x00\x05\x00"))
        assert data.endswith(whole[1])


@define
class Model:
    """Streams and circuits as a beginner would keep them."""

    circuits: set[str] = field(factory=set)
    streams: dict[str, str] = field(factory=dict)
    sources: dict[tuple[str, int], str] = field(factory=dict)

    def circuit(self, number: str, state: str) -> None:
        if state in ("CLOSED", "FAILED"):
            self.circuits.discard(number)
        else:
            self.circuits.add(number)

    def stream(self, number: str, state: str, circuit: str, port: int) -> None:
        if state in ("CLOSED", "FAILED"):
            self.streams.pop(number, None)
            return
        if number not in self.streams:  # another stream than any before it with this number
            self.sources = {k: v for k, v in self.sources.items() if v != number}
            if port:
                self.sources["127.0.0.1", port] = number
        self.streams[number] = "0" if state == "DETACHED" else circuit


_IDS = st.sampled_from(("1", "2", "3"))
_CIRCUIT_STATES = st.sampled_from(("LAUNCHED", "EXTENDED", "BUILT", "CLOSED", "FAILED"))
_STREAM_STATES = st.sampled_from(
    ("NEW", "SENTCONNECT", "REMAP", "SUCCEEDED", "DETACHED", "FAILED", "CLOSED")
)
_EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("CIRC"), _IDS, _CIRCUIT_STATES, st.just("0"), st.just(0)),
        st.tuples(
            st.just("STREAM"),
            _IDS,
            _STREAM_STATES,
            st.sampled_from(("0", "1", "2", "3")),
            st.sampled_from((0, 4001, 4002)),
        ),
        st.tuples(st.just("SPOILT"), st.text(max_size=30), st.just(""), st.just(""), st.just(0)),
    ),
    max_size=25,
)
_PATH = ",".join(f"${letter * 40}~{letter}" for letter in "ABC")


@fuzzed(200, events=_EVENTS)
def test_the_table_holds_what_a_simple_model_holds(
    events: list[tuple[str, str, str, str, int]],
) -> None:
    table, model = Table(), Model()
    for kind, number, state, circuit, port in events:
        if kind == "CIRC":
            table.feed("CIRC", f"{number} {state} {_PATH} PURPOSE=GENERAL", 1.0)
            model.circuit(number, state)
        elif kind == "STREAM":
            source = f"SOURCE_ADDR=127.0.0.1:{port}" if port else "SOURCE_ADDR=(Tor_internal):0"
            table.feed(
                "STREAM", f"{number} {state} {circuit} a.example:80 {source} REASON=DONE", 1.0
            )
            model.stream(number, state, circuit, port)
        else:
            table.feed("CIRC", f"x{number}", 1.0)
            table.feed("CIRC_MINOR", f"x{number}", 1.0)
            table.feed("STREAM", f"x{number}", 1.0)
        known = [one for one in table.circuits() if not one.id.startswith("x")]
        assert {one.id for one in known} == model.circuits
        streams = [one for one in table.streams() if not one.id.startswith("x")]
        shown = {one.id: one.circuit or "0" for one in streams}
        assert shown == model.streams
        for one in known:
            carried = {stream for stream, on in model.streams.items() if on == one.id}
            assert {stream for stream in one.streams if not stream.startswith("x")} <= carried
        for source_, stream in model.sources.items():
            found = table.circuit_of(source_, 1.0)
            if stream in model.streams and model.streams[stream] in model.circuits:
                assert found is not None
                assert found.id == model.streams[stream]
    later = 2 * REMEMBER_SECONDS + 1
    for source_, stream in model.sources.items():
        if stream not in model.streams:
            assert table.end_of(source_, later) is None


_TEXTS = st.text(st.characters(max_codepoint=126, exclude_characters="\r\n"), max_size=20)


def quoted(text: str) -> str:
    """As control-spec has it, section 2.1.1: QuotedString."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    plain = "".join(escapes.get(char, char) for char in text)
    return '"' + plain + '"'


@fuzzed(150, texts=st.lists(_TEXTS, min_size=1, max_size=4))
def test_what_tor_quotes_reads_as_it_was(texts: list[str]) -> None:
    line = " ".join(f"KEY{n}={quoted(text)}" for n, text in enumerate(texts))
    status = parse_status(f"NOTICE BOOTSTRAP {line}")
    assert (status.severity, status.action) == ("NOTICE", "BOOTSTRAP")
    assert status.arguments == {f"KEY{n}": text for n, text in enumerate(texts)}
    for text in texts:
        assert unquoted(quoted(text)) == text
        octal = '"' + "".join(f"\\{byte:03o}" for byte in f"é{text}".encode()) + '"'
        assert unquoted(octal) == f"é{text}"
    lines = "\n".join(f"SocksPort={quoted(text)}" for text in texts if text.isprintable())
    assert parse_conf(lines) == [text for text in texts if text.isprintable()]


_PORTS = st.sampled_from((9050, 9150, 9250))
_FLAGS = st.sampled_from(
    ("", " IsolateDestAddr", " NoIsolateSOCKSAuth", " IPv6Traffic noisolatesocksauth")
)
_LINES = st.lists(
    st.builds(
        lambda port, flags, form: (port, form.format(port) + flags),
        _PORTS,
        _FLAGS,
        st.sampled_from(("{}", "127.0.0.1:{}", "localhost:{}", "auto")),
    ),
    max_size=3,
)


@fuzzed(
    200, lines=_LINES, open_=st.lists(_PORTS, max_size=3, unique=True), wanted=st.none() | _PORTS
)
def test_rule_09_no_port_that_mixes_users_is_chosen(
    lines: list[tuple[int, str]], open_: list[int], wanted: int | None
) -> None:
    """However SocksPort lines and listeners are combined."""
    listening = listeners(" ".join(f'"127.0.0.1:{port}"' for port in open_))
    assert [one.port for one in listening] == open_
    asked = None if wanted is None else SocksAddress("127.0.0.1", wanted)
    try:
        chosen = choose_socks(listening, [line for _, line in lines], asked)
    except SetupError:
        return
    mixing = [port for port, line in lines if "noisolate" in line.lower()]
    unplaced = [line for _, line in lines if line.startswith(("localhost", "auto"))]
    own = [line for port, line in lines if port == chosen.port and line[0].isdigit()]
    if chosen.port in mixing:
        # Only where a line of its own says so for another address of the same number.
        assert any("noisolate" not in line.lower() for line in own)
    if any("noisolate" in line.lower() for line in unplaced):
        assert any("noisolate" not in line.lower() for line in own)


@fuzzed(100, host=st.ip_addresses(), port=st.integers(0, 65536), odd=st.text(max_size=8))
def test_a_source_is_an_address_or_none(host: object, port: int, odd: str) -> None:
    form = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    assert source_of(form) == ((str(host), port) if port else None)
    read = source_of(odd)
    assert read is None or read[1] > 0


_FP = b"A" * 40
_ANSWERED = (
    b"250 OK\r\n",
    b"551 No\r\n",
    b"250 TestingTorNetwork=1\r\n",
    b'250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=5 TAG=x SUMMARY="\\n\\033[2J"\r\n'
    b"250-status/circuit-established=1\r\n"
    b"250+circuit-status=\r\n7 BUILT $" + _FP + b"~a PURPOSE=GENERAL\r\n.\r\n"
    b"250+stream-status=\r\n1 SUCCEEDED 7 a.example:80\r\n.\r\n250 OK\r\n",
    b"250+ns/all=\r\nr a qqqqqqqqqqqqqqqqqqqqqqqqqqo D 2026-11-22 15:00:00 192.0.2.1 9 0\r\n"
    b"s Exit\r\n.\r\n250 OK\r\n",
    b"250-ip-to-country/192.0.2.1=de\r\n250 OK\r\n",
    b"250+ns/id/" + _FP + b"=\r\nr a b c d e 192.0.2.1 9 0\r\n.\r\n250 OK\r\n",
    b"650 CIRC 7 BUILT $" + _FP + b"~a PURPOSE=GENERAL\r\n",
    b"650 CIRC 8 CLOSED\r\n",
    b"650 CIRC_MINOR 7 PURPOSE_CHANGED PURPOSE=GENERAL\r\n",
    b'650 STREAM 1 NEW 0 a.example:80 SOURCE_ADDR=127.0.0.1:4001 SOCKS_USERNAME="u"\r\n',
    b"650 STREAM 1 CLOSED 7 a.example:80 REASON=END REMOTE_REASON=DONE\r\n",
    b'650 STATUS_CLIENT WARN BOOTSTRAP PROGRESS=50 WARNING="x" REASON=MISC\r\n',
    b"650 STATUS_CLIENT NOTICE CONSENSUS_ARRIVED\r\n",
    b"650 NETWORK_LIVENESS DOWN\r\n",
    b"650 WARN Failed to choose an exit server\r\n",
)


class Heard:
    """Records what a session tells."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def take(*values: object) -> None:
            self.texts += [value for value in values if isinstance(value, str)]
            for value in values:
                if isinstance(value, Bootstrapping):
                    self.texts += [value.tag, value.summary, value.warning or ""]

        return take


@fuzzed(
    200,
    answers=st.lists(st.sampled_from(_ANSWERED), max_size=12),
    early=st.booleans(),
    spoiling=SPOILING,
    cuts=CUTS,
)
def test_whatever_a_control_port_sends_is_survived(
    answers: list[bytes], early: bool, spoiling: Spoiling, cuts: Cuts
) -> None:
    """Answers that fit no question and events, with bytes wrong, from the beginning or later: no
    fault of ours is logged, and what is shown has the form that it must have."""
    clock, heard, table = Clock(), Heard(), Table()
    observer = EventLoggingObserver()
    globalLogPublisher.addObserver(observer)
    endpoint = MemoryEndpoint()
    begun = Deferred.fromCoroutine(_begin(clock, endpoint, heard, table))
    begun.addErrback(lambda failure: failure.trap(TortxdError))
    port = endpoint.protocol
    port.makeConnection(StringTransport())
    data = b"".join(answers)
    try:
        for reply in () if early else AUTHENTICATED:
            port.dataReceived(reply)
        if early:
            data = b"".join(AUTHENTICATED[:3]) + data
        for piece in cut(spoil(data, spoiling), cuts):
            port.dataReceived(piece)
        for circuit in table.circuits():
            assert re.fullmatch("[A-Za-z0-9]{1,16}", circuit.id)
            for relay in circuit.path:
                assert re.fullmatch("[0-9A-F]{40}", relay.fingerprint)
                assert relay.address in (None, "192.0.2.1") or is_address(relay.address)
                assert re.fullmatch("[a-z]{2}", relay.country or "de")
        for stream in table.streams():
            assert stream.target.isprintable()
        assert all(text.isprintable() for text in heard.texts)
        clock.advance(11)
        port.connectionLost(Failure(ConnectionDone()))
        assert begun.called
        assert port.fault is None or port.fault.isprintable()
    finally:
        globalLogPublisher.removeObserver(observer)
        for call in clock.getDelayedCalls():
            call.cancel()
    assert not [event for event in observer if event.get("log_failure")]


class MemoryEndpoint:
    """Connects to nothing, at once."""

    protocol: Any

    def connect(self, factory: Any) -> Deferred[Any]:
        self.protocol = factory.buildProtocol(None)
        return succeed(self.protocol)


async def _begin(clock: Any, endpoint: Any, heard: Any, table: Table) -> None:
    control = await Control.connect(clock, endpoint, heard, name="here")
    session = Session(
        clock,
        control,
        table,
        heard,
        hung=heard.hung,
        watch=Watch(),
        causes=Causes(clock, heard.cause),
    )
    await session.begin()

"""The live table of circuits and streams, kept from what the control port says.

Pure of input and output: lines go in with the time they came, values come out. A burst brings some
3,000 stream events a second onto the reactor that also relays data, so a line is split once, and
paths are taken apart only when somebody looks.

The control port is not believed blindly: ids, states, paths and keywords have the form that
control-spec gives them, since they end up in headers, logs and pages; a line that has another is
passed over. What is open is bounded, and so is its text; beyond that, no Tor is at the other end.

SOURCE_ADDR, the client's end of a SOCKS connection, stands on STREAM NEW alone (control-spec,
section 4.1.2), and identifies the connection only where the SOCKS port is a TCP one.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from socket import AF_INET, AF_INET6, inet_pton

from attrs import define, evolve

from tortxd.tor.link import Circuit, Relay, Stream
from tortxd.tor.usage import CircuitUse, Usage
from tortxd.wire.control import Implausible

Source = tuple[str, int]

REMEMBER_SECONDS = 30.0
"""How long a closed stream or circuit stays known."""
REMEMBER_STREAMS = 8192
REMEMBER_CIRCUITS = 1024
MOST_CIRCUITS = 10
"""Circuits that Tor may launch for one stream's credentials while the stream waits. It needs a few
where some fail; where none can do, it goes on launching them, hundreds a second on loopback."""
MOST_OPEN_STREAMS = 32_768
"""Half of the descriptors that Debian's Tor may have."""
MOST_OPEN_CIRCUITS = 16_384
MOST_TEXT = 16 * 1024 * 1024
"""Characters that are kept of what is open: an ordinary stream has some 100, a circuit 250."""
_MOST_RELAYS = 100_000
_MOST_ALIKE = 256
"""Waiting streams with the same credentials of which the oldest are looked at."""
_LONGEST_LINE = 8192
"""Characters. Targets and credentials have 255 bytes at most, each of which may be escaped."""
_LONGEST_TARGET = 300
_LONGEST_LOGIN = 1100
_OVER = frozenset(("CLOSED", "FAILED"))
_STREAM_STATES = _OVER | {"NEW", "SENTCONNECT", "SUCCEEDED", "DETACHED", "REMAP"}
_ID = re.compile(r"[A-Za-z0-9]{1,16}")
_KEYWORD = re.compile(r"[A-Z0-9_]{1,40}")
_HOP = r"\$[0-9A-Fa-f]{40}(?:[=~][A-Za-z0-9]{1,19})?"
_PATH = re.compile(rf"{_HOP}(?:,{_HOP}){{0,15}}")
_PORT = re.compile(r"[0-9]{1,5}")
_CONFLUX_ID = re.compile(r"[0-9A-Fa-f]{1,64}")


@define
class _Circuit(CircuitUse):
    created: float = 0.0
    state: str = "LAUNCHED"
    path: str = ""
    purpose: str | None = None
    ended: float | None = None


@define
class _Stream:
    id: str
    created: float
    target: str
    state: str = "NEW"
    circuit: str = "0"
    """The last circuit that it was on, ``0`` for none; kept when the stream ends."""
    source: Source | None = None
    purpose: str | None = None
    login: str | None = None
    tried: int = 0
    """How many circuits were launched for it, or for others like it, while it waited."""
    reached: bool = False
    """Whether it has reached its destination."""
    reason: str | None = None
    ended: float | None = None


def fields_of(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The ``KEY=value`` words of an event. Quoted values with spaces are of no interest here."""
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            yield key, value


def split_path(path: str) -> Iterator[tuple[str, str | None]]:
    """Fingerprint and nickname of each hop of ``$FP~nick,$FP`` (control-spec, LongName)."""
    for hop in path.split(",") if path else ():
        text = hop.removeprefix("$")
        yield text[:40].upper(), text[41:] or None


def source_of(text: str) -> Source | None:
    """``127.0.0.1:43210``, ``[::1]:43210`` or ``::1:43210`` as host and port; None for others."""
    host, _, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or port == "0" or host.startswith("("):
        return None
    host = host.removeprefix("[").removesuffix("]")
    try:
        # Every stream has a source, and ipaddress would take ten times as long.
        inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except (OSError, ValueError):
        return None
    return host, int(port)


class Table:
    """What Tor has open, and for a short while what it had open."""

    def __init__(self) -> None:
        self._circuits: dict[str, _Circuit] = {}
        self._streams: dict[str, _Stream] = {}
        self._by_source: dict[Source, _Stream] = {}
        self._by_login: dict[str, dict[str, _Stream]] = {}
        """Those that wait for a circuit."""
        self._past_circuits: OrderedDict[str, _Circuit] = OrderedDict()
        self._past_streams: deque[_Stream] = deque()
        self._relays: dict[str, Relay] = {}
        self._unroutable: list[_Stream] = []
        self._text = 0
        self.usage: Usage[_Circuit] = Usage()
        """Who uses which circuit."""

    # --- what comes in -------------------------------------------------------------------------

    def load(self, circuits: str, streams: str, now: float, utc: datetime | None = None) -> None:
        """Add the replies to GETINFO ``circuit-status`` and ``stream-status``.

        Events that came before them stay: they alone hold the sources of streams.

        :param now: seconds on the reactor's clock.
        :param utc: the time of day, by which TIME_CREATED becomes a time on that clock.
        :raises Implausible: no Tor has so much open.
        """
        for line in circuits.split("\n"):
            if line.strip():
                known = line.split(None, 1)[0] in self._circuits
                circuit = self._circuit_line(line, now)
                if circuit is not None and not known and utc is not None:
                    circuit.created = now - _age(line, utc)
        for line in streams.split("\n"):
            if line.strip():
                self.stream_event(line, now)

    def clear(self) -> None:
        """Forget all but the relays: another Tor, or the same after a gap."""
        self._circuits.clear()
        self._streams.clear()
        self._by_source.clear()
        self._by_login.clear()
        self._past_circuits.clear()
        self._past_streams.clear()
        self._unroutable.clear()
        self.usage.clear()
        self._text = 0

    def circuit_event(self, line: str, now: float) -> tuple[str, ...]:
        """Take a CIRC event, without its name.

        :returns: the fingerprints of a circuit that has just been built, exit first, of which no
            details are known yet: whoever reads relays should ask for them now.
        :raises Implausible: as :meth:`load`.
        """
        circuit = self._circuit_line(line, now)
        if circuit is None or circuit.state != "BUILT":
            return ()
        path = [fingerprint for fingerprint, _ in split_path(circuit.path)]
        return tuple(hop for hop in reversed(path) if hop not in self._relays)

    def circuit_minor_event(self, line: str) -> None:
        """Take a CIRC_MINOR event, without its name: a circuit has another purpose now
        (control-spec, section 4.1.19)."""
        words = _words(line)
        circuit = self._circuits.get(words[0]) if words else None
        if circuit is not None:
            self._describe(circuit, words, is_launch=False)

    def stream_event(self, line: str, now: float) -> tuple[Source, str] | None:
        """Take a STREAM event, without its name.

        :returns: source and reason of a stream that has just ended, where its source is known.
        :raises Implausible: as :meth:`load`.
        """
        words = _words(line)
        if len(words) < 4:
            return None
        id, state, circuit, target = words[:4]
        if state not in _STREAM_STATES and not _KEYWORD.fullmatch(state):
            return None
        stream = self._streams.get(id)
        if stream is None:
            if state in _OVER or not _ID.fullmatch(id) or not _is_target(target):
                return None
            stream = self._stream_new(_Stream(id, now, target), words)
        stream.state = state
        if state in _OVER:
            return self._stream_over(stream, words, now)
        if state == "DETACHED":
            self._failed_on(stream, now, spent=True)
            circuit = "0"
        if circuit != stream.circuit and _ID.fullmatch(circuit):
            self._detach(stream)
            stream.circuit = circuit
            if circuit in self._circuits:
                self._attach(stream, self._circuits[circuit], now)
            if circuit == "0":
                self._waits(stream)
            else:
                self._waits_no_more(stream)
        if state == "SUCCEEDED":
            stream.reached = True
            if circuit in self._circuits:
                self.usage.served(self._circuits[circuit])
        return None

    def take_unroutable(self, username_prefix: str = "") -> list[str]:
        """The ids of waiting streams for which Tor has launched more than
        :data:`MOST_CIRCUITS` circuits, so far as their SOCKS usernames begin with
        ``username_prefix``; each is told once."""
        found, self._unroutable = self._unroutable, []
        return [
            stream.id for stream in found if (stream.login or "").startswith(f'"{username_prefix}')
        ]

    def relay_known(self, relay: Relay) -> None:
        """Remember the details of a relay."""
        if len(self._relays) >= _MOST_RELAYS:
            del self._relays[next(iter(self._relays))]
        self._relays[relay.fingerprint] = relay

    def relays_known(self, relays: Iterable[Relay]) -> None:
        """Remember these relays' details, and forget all others."""
        self._relays = {relay.fingerprint: relay for relay in relays}

    def knows_relay(self, fingerprint: str) -> bool:
        """Whether the details of this relay have come."""
        return fingerprint in self._relays

    # --- what goes out -------------------------------------------------------------------------

    def circuits(self) -> tuple[Circuit, ...]:
        """The open circuits, oldest first."""
        return tuple(self._shown(c) for c in self._circuits.values())

    def streams(self) -> tuple[Stream, ...]:
        """The open streams, oldest first."""
        return tuple(
            Stream(
                s.id,
                s.state,
                None if s.circuit == "0" else s.circuit,
                s.target,
                s.source,
                s.created,
                s.purpose,
            )
            for s in self._streams.values()
        )

    def stream_of(self, source: Source, username: str) -> str | None:
        """The id of the open stream from ``source`` with that SOCKS username, or None where none is
        known. Where the SOCKS port is a forwarded one, a stranger may have the same source."""
        stream = self._by_source.get(source)
        if stream is None or stream.ended is not None or stream.login != f'"{username}"':
            return None
        return stream.id

    def is_open(self, id: str) -> bool:
        """Whether there is a stream with this id."""
        return id in self._streams

    def circuit_of(self, source: Source, now: float) -> Circuit | None:
        """The circuit of the newest stream from ``source``.

        When the one leg of a conflux set that carried it has gone, a leg which is still there takes
        its place: they share the exit.
        """
        stream = self._recent(source, now)
        if stream is None or stream.circuit == "0":
            return None
        circuit = self._circuits.get(stream.circuit)
        if circuit is None:
            circuit = self._past_circuits.get(stream.circuit)
            if circuit is not None and circuit.conflux is not None:
                for other in self.usage.legs(circuit):
                    if other.state == "BUILT":
                        circuit = other
                        break
        return None if circuit is None else self._shown(circuit)

    def reason_of(self, source: Source, now: float) -> str | None:
        """Why the newest stream from ``source`` ended, or None while it has not (or is unknown).

        Asked once and answered, it is forgotten: the next connection may have the same port.
        """
        stream = self._recent(source, now)
        if stream is None or stream.reason is None:
            return None
        reason, stream.reason = stream.reason, None
        return reason

    # --- inside ----------------------------------------------------------------------------------

    def _circuit_line(self, line: str, now: float) -> _Circuit | None:
        words = _words(line)
        if len(words) < 2 or not _KEYWORD.fullmatch(words[1]):
            return None
        id, state = words[:2]
        circuit = self._circuits.get(id)
        if circuit is None:
            if state in _OVER or not _ID.fullmatch(id):
                return None
            if len(self._circuits) >= MOST_OPEN_CIRCUITS:
                raise Implausible("more open circuits than a Tor has")
            circuit = self._circuits[id] = _Circuit(id, created=now)
        circuit.state = state
        rest = words[2:]
        if rest and _PATH.fullmatch(rest[0]):
            self._keep(len(rest[0]) - len(circuit.path))
            circuit.path = rest[0]
        self._describe(circuit, rest)
        if state in _OVER:
            circuit.ended = now
            circuit.streams.clear()
            self._text -= len(circuit.path) + len(circuit.login or "")
            del self._circuits[id]
            self.usage.gone(circuit)
            self._past_circuits[id] = circuit
            self._prune(now)
        return circuit

    def _describe(self, circuit: _Circuit, words: list[str], *, is_launch: bool = True) -> None:
        for key, value in fields_of(words):
            if key == "PURPOSE":
                circuit.purpose = _keyword(value)
            elif key == "CONFLUX_ID":
                if _CONFLUX_ID.fullmatch(value):
                    self.usage.in_set(circuit, value)
            elif key == "SOCKS_USERNAME" and circuit.login is None and circuit.state not in _OVER:
                if len(value) > _LONGEST_LOGIN:
                    continue
                self._claim(circuit, value, circuit.created)
                if is_launch and circuit.purpose == "GENERAL":
                    self._launched_for(value)

    def _launched_for(self, login: str) -> None:
        """Tor says for whose credentials a circuit is with its first hop, not at its launch."""
        for stream in islice(self._by_login.get(login, {}).values(), _MOST_ALIKE):
            stream.tried += 1
            if stream.tried == MOST_CIRCUITS + 1:
                self._unroutable.append(stream)

    def _stream_new(self, stream: _Stream, words: list[str]) -> _Stream:
        if len(self._streams) >= MOST_OPEN_STREAMS:
            raise Implausible("more open streams than a Tor has")
        for key, value in fields_of(words[4:]):
            if key == "SOURCE_ADDR":
                stream.source = source_of(value)
            elif key == "PURPOSE":
                stream.purpose = _keyword(value)
            elif key == "SOCKS_USERNAME" and len(value) <= _LONGEST_LOGIN:
                stream.login = value
        self._keep(len(stream.target) + len(stream.login or ""))
        self._streams[stream.id] = stream
        self._waits(stream)
        if stream.source is not None:
            self._by_source[stream.source] = stream
        return stream

    def _waits(self, stream: _Stream) -> None:
        if stream.login is not None:
            self._by_login.setdefault(stream.login, {})[stream.id] = stream

    def _waits_no_more(self, stream: _Stream) -> None:
        alike = self._by_login.get(stream.login or "")
        if alike is not None and alike.pop(stream.id, None) is not None and not alike:
            del self._by_login[stream.login or ""]

    def _keep(self, characters: int) -> None:
        self._text += characters
        if self._text > MOST_TEXT:
            raise Implausible("more circuits and streams than a Tor has")

    def _claim(self, circuit: _Circuit, login: str, now: float) -> None:
        self._keep(len(login))
        self.usage.claim(circuit, login, now)

    def _attach(self, stream: _Stream, circuit: _Circuit, now: float) -> None:
        """Tor says for whom a circuit is that it had ready only when it is closed."""
        circuit.streams[stream.id] = None
        if circuit.login is None and stream.login is not None:
            self._claim(circuit, stream.login, now)

    def _failed_on(self, stream: _Stream, now: float, *, spent: bool) -> None:
        circuit = self._circuits.get(stream.circuit)
        if circuit is not None:
            self.usage.failed(circuit, now, spent=spent)

    def _stream_over(
        self, stream: _Stream, words: list[str], now: float
    ) -> tuple[Source, str] | None:
        """Tor says FAILED and then CLOSED; the first ends the stream, the second finds none."""
        told = dict(fields_of(words[4:]))
        reason = told.get("REASON", "MISC")
        reason = told.get("REMOTE_REASON", reason) if reason == "END" else reason
        stream.reason = _keyword(reason) or "MISC"
        stream.ended = now
        self._detach(stream)
        # A client that leaves while it waits says nothing of the circuit.
        if not stream.reached and ("REMOTE_REASON" in told or reason == "TIMEOUT"):
            self._failed_on(stream, now, spent=False)
        del self._streams[stream.id]
        self._text -= len(stream.target) + len(stream.login or "")
        self._waits_no_more(stream)
        if stream.source is None:
            return None
        self._past_streams.append(stream)
        self._prune(now)
        return stream.source, stream.reason

    def _detach(self, stream: _Stream) -> None:
        circuit = self._circuits.get(stream.circuit)
        if circuit is not None:
            circuit.streams.pop(stream.id, None)

    def _recent(self, source: Source, now: float) -> _Stream | None:
        stream = self._by_source.get(source)
        if stream is None or (stream.ended is not None and now - stream.ended > REMEMBER_SECONDS):
            return None
        return stream

    def _prune(self, now: float) -> None:
        past = self._past_streams
        while past and (len(past) > REMEMBER_STREAMS or _old(past[0].ended, now)):
            stream = past.popleft()
            if stream.source is not None and self._by_source.get(stream.source) is stream:
                del self._by_source[stream.source]
        gone = self._past_circuits
        while gone:
            oldest = next(iter(gone.values()))
            if len(gone) <= REMEMBER_CIRCUITS and not _old(oldest.ended, now):
                break
            gone.popitem(last=False)

    def _shown(self, circuit: _Circuit) -> Circuit:
        path = []
        for fingerprint, nickname in split_path(circuit.path):
            relay = self._relays.get(fingerprint, Relay(fingerprint))
            path.append(evolve(relay, nickname=nickname) if nickname else relay)
        return Circuit(
            circuit.id,
            circuit.state,
            tuple(path),
            circuit.purpose,
            circuit.created,
            tuple(circuit.streams),
        )


def _words(line: str) -> list[str]:
    if len(line) > _LONGEST_LINE:
        raise Implausible("a circuit or stream event that is too long")
    return line.split()


def _keyword(text: str) -> str | None:
    return text if _KEYWORD.fullmatch(text) else None


def _is_target(text: str) -> bool:
    return len(text) <= _LONGEST_TARGET and text.isascii() and text.isprintable()


def _old(ended: float | None, now: float) -> bool:
    return ended is not None and now - ended > REMEMBER_SECONDS


def _age(line: str, utc: datetime) -> float:
    for key, value in fields_of(line.split()):
        if key == "TIME_CREATED":
            try:
                created = datetime.fromisoformat(value).replace(tzinfo=UTC)
            except ValueError:
                return 0.0
            return max(0.0, (utc - created).total_seconds())
    return 0.0

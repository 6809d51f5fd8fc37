"""What is done over a control connection, with a control port that is played."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tortxd.errors import TorDown, TorTimeout, TortxdError
from tortxd.tor.causes import Causes
from tortxd.tor.changes import StreamEnded
from tortxd.tor.control import Control
from tortxd.tor.guard import MOST_CIRCUITS
from tortxd.tor.link import Relay
from tortxd.tor.replies import CommandRefused
from tortxd.tor.session import Session, Watch
from tortxd.tor.silence import PATIENCE, SILENT
from tortxd.tor.status import Bootstrapping
from tortxd.tor.storage import FULL
from tortxd.tor.table import Table
from tortxd.tor.watchdog import EXTENSIONS, LATE
from tortxd.wire.control import Implausible

A, B = "A" * 40, "B" * 40


class PlayedControl:
    """Answers from a table; what is not in it stays unanswered until :meth:`answer`."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[str], None]] = {}
        self.asked: list[str] = []
        self.known: dict[str, str] = {
            "status/bootstrap-phase": 'NOTICE BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="Connecting"',
            "status/circuit-established": "0",
            "network-liveness": "up",
            "circuit-status": "",
            "stream-status": "",
            "entry-guards": "",
            "version": "0.4.9.11",
            "address-mappings/control": "",
        }
        self.options: dict[str, list[str]] = {}
        self.lines: dict[str, list[str]] = {"ns/all": []}
        """Refused is what is not in here."""
        self.refused: set[str] = set()
        self.pending: list[Deferred[dict[str, str]]] = []
        self.told: list[str] = []
        self.heard = 0.0
        self.closed = False

    async def subscribe(self, handlers: Iterable[tuple[str, Callable[[str], None]]]) -> None:
        self.handlers = dict(handlers)

    async def ask(self, *keys: str, patience: float = 10.0) -> dict[str, str]:
        self.asked.extend(keys)
        if self.refused.intersection(keys):
            raise CommandRefused("Tor refused a command (551).", 551)
        if all(key in self.known for key in keys):
            return {key: self.known[key] for key in keys}
        waiting: Deferred[dict[str, str]] = Deferred()
        self.pending.append(waiting)
        return await waiting

    async def ask_for_lines(self, key: str, take: Callable[[str], None]) -> None:
        if key not in self.lines:
            raise CommandRefused("Tor refused a command (510).", 510)
        for line in self.lines[key]:
            take(line)

    async def configured(self, option: str) -> list[str]:
        return self.options.get(option, [])

    async def tell(self, command: str, *, patience: float = 10.0) -> str:
        self.told.append(command)
        raise CommandRefused("Tor refused a command (552).", 552)

    def close(self) -> None:
        self.closed = True


class Told:
    """Records all that a session tells."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: self.all.append((name, *values))


class World:
    def __init__(self, storage: str | None = None, *, hears: bool = False) -> None:
        self.clock = Clock()
        self.offset = 1000.0
        self.control = PlayedControl()
        self.told = Told()
        self.table = Table()
        self.hung: list[str] = []
        self.storage = storage
        self.session = Session(
            self.clock,
            cast(Control, self.control),
            self.table,
            self.told,
            hung=self.hung.append,
            watch=Watch(15.0, 10.0),
            storage=None if storage is None else lambda: self.storage,
            causes=Causes(self.clock, self.told.trouble) if hears else None,
            clock_offset=lambda: self.offset,
        )

    def begin(self) -> None:
        begun = Deferred.fromCoroutine(self.session.begin())
        assert begun.called
        begun.addErrback(lambda failure: pytest.fail(str(failure)))

    def event(self, name: str, line: str) -> None:
        self.control.handlers[name](line)


@pytest.fixture
def world() -> World:
    world = World()
    world.begin()
    return world


def test_what_is_told_first(world: World) -> None:
    assert world.told.all == [("progress", Bootstrapping(5, "conn", "Connecting"))]
    assert world.session.network == "public"


def test_a_tor_that_is_up_already() -> None:
    world = World()
    world.control.known["status/circuit-established"] = "1"
    world.control.known["circuit-status"] = f"7 BUILT ${A}~a PURPOSE=GENERAL"
    world.control.options["TestingTorNetwork"] = ["1"]
    world.control.known[f"ns/id/{A}"] = ""
    world.begin()
    assert world.told.all == [("established",)]
    assert world.session.network == "private"


CONSENSUS = [
    "r b u7u7u7u7u7u7u7u7u7u7u7u7u7s D 2026-11-22 15:00:00 192.0.2.7 9001 0",
    "s Exit Fast",
    "r a qqqqqqqqqqqqqqqqqqqqqqqqqqo D 2026-11-22 15:00:00 192.0.2.1 9001 0",
    "s Guard",
]
COUNTRIES = {"ip-to-country/192.0.2.7": "DE", "ip-to-country/192.0.2.1": "FR"}
PATH = (Relay(A, "a", "192.0.2.1", "fr"), Relay(B, "b", "192.0.2.7", "de"))


def test_relays_are_known_before_the_first_request_is_let_in() -> None:
    world = World()
    world.control.lines["ns/all"] = CONSENSUS
    world.control.known["status/circuit-established"] = "1"
    world.control.known["circuit-status"] = f"7 BUILT ${A}~a,${B}~b PURPOSE=GENERAL"
    begun = Deferred.fromCoroutine(world.session.begin())
    assert world.control.asked[-2:] == ["ip-to-country/192.0.2.7", "ip-to-country/192.0.2.1"]
    assert not world.told.all and not begun.called
    world.control.pending.pop().callback(COUNTRIES)
    assert world.told.all == [("established",)]
    assert world.table.circuits()[0].path == PATH


def test_relays_of_a_new_consensus_are_known_before_circuits_are(world: World) -> None:
    world.control.lines["ns/all"] = CONSENSUS
    world.control.known |= COUNTRIES
    asked = len(world.control.asked)
    world.event("STATUS_CLIENT", "NOTICE CONSENSUS_ARRIVED")
    world.event("CIRC", f"7 BUILT ${A}~a,${B}~b PURPOSE=GENERAL")
    assert world.table.circuits()[0].path == PATH
    assert world.control.asked[asked:] == list(COUNTRIES)


def test_relays_of_an_old_consensus_are_forgotten(world: World) -> None:
    world.control.lines["ns/all"] = CONSENSUS
    world.control.known |= COUNTRIES
    world.event("STATUS_CLIENT", "NOTICE CONSENSUS_ARRIVED")
    world.control.lines["ns/all"] = CONSENSUS[2:]
    world.event("STATUS_CLIENT", "NOTICE CONSENSUS_ARRIVED")
    assert [one in world.table.relays for one in (A, B)] == [True, False]


def test_relays_are_looked_up_one_by_one_where_the_consensus_is_refused() -> None:
    world = World()
    del world.control.lines["ns/all"]
    world.begin()
    world.event("CIRC", f"7 BUILT ${A}~a PURPOSE=GENERAL")
    assert world.control.asked[-1] == f"ns/id/{A}"


def test_without_geoip_relays_have_addresses_and_no_countries() -> None:
    """Tor refuses the question then (551)."""
    world = World()
    world.control.lines["ns/all"] = CONSENSUS
    world.control.refused.update(COUNTRIES)
    world.begin()
    world.event("CIRC", f"7 BUILT ${A}~a,${B}~b PURPOSE=GENERAL")
    without = tuple(Relay(one.fingerprint, one.nickname, one.address) for one in PATH)
    assert world.table.circuits()[0].path == without
    del world.control.lines["ns/all"]
    world.event("STATUS_CLIENT", "NOTICE CONSENSUS_ARRIVED")
    other = "C" * 40
    world.control.known[f"ns/id/{other}"] = (
        "r c zMzMzMzMzMzMzMzMzMzMzMzMzMw D 2026-11-22 15:00:00 192.0.2.9 9001 0"
    )
    world.control.refused.add("ip-to-country/192.0.2.9")
    world.event("CIRC", f"8 BUILT ${other}~c PURPOSE=GENERAL")
    assert world.table.circuits()[1].path == (Relay(other, "c", "192.0.2.9"),)


@pytest.mark.parametrize("error", [TorDown(), TorTimeout("It hangs.")])
def test_a_tor_that_goes_while_relays_are_read_is_seen_to_elsewhere(
    world: World, error: TortxdError
) -> None:
    world.control.lines["ns/all"] = CONSENSUS
    world.event("STATUS_CLIENT", "NOTICE CONSENSUS_ARRIVED")
    world.control.pending.pop().errback(error)
    assert world.told.all[1:] == []


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        (
            "STATUS_CLIENT",
            'NOTICE BOOTSTRAP PROGRESS=10 TAG=x SUMMARY="Y"',
            ("progress", Bootstrapping(10, "x", "Y")),
        ),
        ("STATUS_CLIENT", 'NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="D"', ("established",)),
        ("STATUS_CLIENT", "NOTICE CIRCUIT_ESTABLISHED", ("established",)),
        (
            "STATUS_CLIENT",
            "NOTICE CIRCUIT_NOT_ESTABLISHED REASON=CLOCK_JUMPED",
            ("interrupted", "The clock jumped."),
        ),
        ("NETWORK_LIVENESS", "DOWN", ("trouble", "network", "Tor hears nothing from the network.")),
        ("NETWORK_LIVENESS", "UP", ("trouble", "network", None)),
        ("SIGNAL", "NEWNYM", ("new_identity_made",)),
    ],
)
def test_events(world: World, name: str, line: str, told: tuple[Any, ...]) -> None:
    world.event(name, line)
    assert world.told.all[1:] == [told]


def test_since_when_it_hears_events_is_known() -> None:
    world = World()
    world.clock.advance(5)
    assert world.session.heard_since is None
    del world.control.known["circuit-status"]  # to which no answer comes for a while
    Deferred.fromCoroutine(world.session.begin())
    world.clock.advance(5)
    assert world.session.heard_since == 5


def test_other_events_are_nothing(world: World) -> None:
    world.event("STATUS_GENERAL", "NOTICE ACCEPTED_SERVER_DESCRIPTOR")
    world.event("SIGNAL", "RELOAD")
    assert len(world.told.all) == 1


def test_the_clock_is_off_for_half_an_hour(world: World) -> None:
    world.event("STATUS_GENERAL", "WARN CLOCK_SKEW SKEW=-3600 SOURCE=DIRSERV:1.2.3.4:9")
    (told,) = world.told.all[1:]
    assert told[:2] == ("trouble", "clock")
    assert "60 minutes behind" in told[2]
    assert "1.2.3.4" not in told[2]
    world.clock.advance(1700)
    world.event("STATUS_GENERAL", "WARN CLOCK_SKEW SKEW=-3600")
    world.clock.advance(1700)
    assert world.told.all[-1][2] is not None
    world.clock.advance(200)
    assert world.told.all[-1] == ("trouble", "clock", None)


def test_a_clock_that_was_set_may_be_right_now(world: World) -> None:
    world.event("STATUS_GENERAL", "WARN CLOCK_SKEW SKEW=-3600")
    world.clock.advance(15)
    assert world.told.all[-1][2] is not None
    world.offset += 3600.0
    world.clock.advance(15)
    assert world.told.all[-1] == ("trouble", "clock", None)
    told = len(world.told.all)
    world.clock.advance(15)
    assert len(world.told.all) == told


def test_a_clock_that_was_off_before_the_connection_stood() -> None:
    world = World()
    world.control.known["status/bootstrap-phase"] = (
        'WARN BOOTSTRAP PROGRESS=14 TAG=handshake SUMMARY="Handshaking with a relay" '
        'WARNING="Clock skew 7200 in NETINFO cell from OR" REASON=CLOCK_SKEW COUNT=1'
    )
    world.begin()
    skew, progress = world.told.all
    assert skew[:2] == ("trouble", "clock")
    assert progress == ("progress", Bootstrapping(14, "handshake", "Handshaking with a relay"))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ("6000", "jumped some 2 hours ahead, or it was suspended: Tor builds new circuits."),
        ("100", "jumped some 2 minutes ahead, or it was suspended: Tor builds new circuits."),
        ("-80", "jumped some 80 seconds back: Tor builds new circuits."),
    ],
)
def test_a_clock_that_jumped_is_trouble_for_a_while(world: World, seconds: str, words: str) -> None:
    """So says Tor also when it was not running, since the machine was suspended."""
    world.event("STATUS_GENERAL", f"WARN CLOCK_JUMPED TIME={seconds}")
    assert world.told.all[1:] == [("trouble", "jump", f"This machine's clock {words}")]
    world.clock.advance(50)
    world.event("STATUS_GENERAL", f"WARN CLOCK_JUMPED TIME={seconds}")
    world.clock.advance(50)
    assert world.told.all[-1][2] is not None
    world.clock.advance(10)
    assert world.told.all[-1] == ("trouble", "jump", None)
    told = len(world.told.all)
    for odd in ("", " TIME=", " TIME=soon", " TIME=" + "9" * 5000):
        world.event("STATUS_GENERAL", f"WARN CLOCK_JUMPED{odd}")
    assert len(world.told.all) == told
    world.event("STATUS_GENERAL", "WARN CLOCK_JUMPED TIME=600")
    world.session.close()
    assert not world.clock.getDelayedCalls()


AT_50 = 'NOTICE BOOTSTRAP PROGRESS=50 TAG=loading_descriptors SUMMARY="Loading"'


def test_a_choice_that_no_relay_fits_is_told_while_it_keeps_tor_waiting(world: World) -> None:
    control = world.control
    control.options["ExitNodes"] = ["{us}"]
    control.lines["ns/all"] = [
        f"r exit {'A' * 27} digest 2026-11-22 15:00:00 192.0.2.7 9001 0",
        "s Exit Fast Running Valid",
    ]
    control.known["ip-to-country/192.0.2.7"] = "DE"
    world.event("STATUS_CLIENT", AT_50)
    world.clock.advance(4.9)
    assert [told[0] for told in world.told.all[1:]] == ["progress"]
    world.clock.advance(0.2)
    (told,) = world.told.all[2:]
    assert told[:2] == ("trouble", "choice")
    assert "ExitNodes" in told[2]
    world.clock.advance(30)
    assert len(world.told.all) == 3
    control.known["ip-to-country/192.0.2.7"] = "US"
    world.clock.advance(30)
    assert world.told.all[3:] == [("trouble", "choice", None)]
    control.known["ip-to-country/192.0.2.7"] = "DE"
    world.clock.advance(30)
    world.event("STATUS_CLIENT", "NOTICE CIRCUIT_ESTABLISHED")
    assert world.told.all[-2:] == [("trouble", "choice", None), ("established",)]
    world.session.close()
    assert not world.clock.getDelayedCalls()


def test_nobody_is_accused_while_tor_gets_on(world: World) -> None:
    world.control.options["ExitNodes"] = ["{us}"]
    for percent in range(45, 80):
        world.event("STATUS_CLIENT", f"NOTICE BOOTSTRAP PROGRESS={percent} TAG=x SUMMARY=Y")
        world.clock.advance(4)
    assert {told[0] for told in world.told.all} == {"progress"}


def test_what_the_log_of_an_attached_tor_says() -> None:
    world = World(hears=True)
    world.begin()
    world.event("WARN", 'Managed proxy "/nowhere/obfs4" having PID 7 terminated with status code 1')
    assert world.told.all[-1][:2] == ("trouble", "transport")
    world.event("STATUS_CLIENT", 'NOTICE BOOTSTRAP PROGRESS=10 TAG=x SUMMARY="Y"')
    assert ("trouble", "transport", None) in world.told.all
    world.session.close()
    assert not world.clock.getDelayedCalls()


TIMED_OUT = "Tried for 120 seconds to get a connection to [scrubbed]:80. Giving up."


def test_many_lines_of_a_log_at_once_are_nothing_strange() -> None:
    """Tor writes one for each stream that times out. Status events have a pace of their own."""
    world = World(hears=True)
    world.begin()
    for _ in range(5000):
        world.event("NOTICE", TIMED_OUT)
    world.event("WARN", "Failed to choose an exit server")  # beyond the pace, it is not read
    assert not [told for told in world.told.all if told[0] == "trouble"]
    for _ in range(1000):
        world.event("STATUS_CLIENT", "NOTICE X")
    world.clock.advance(1.0)
    world.event("WARN", "Failed to choose an exit server")
    assert world.told.all[-1][:2] == ("trouble", "exits")
    world.session.close()


def test_status_events_have_a_pace(world: World) -> None:
    """Each may be a line of our own log."""
    with pytest.raises(Implausible, match="too many status events"):
        for _ in range(1001):
            world.event("STATUS_GENERAL", "NOTICE X")


def test_streams_that_end_are_told(world: World) -> None:
    ends: list[StreamEnded] = []
    world.table.listen(StreamEnded, ends.append)
    world.event("STREAM", "20 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:5")
    world.event("STREAM", "20 CLOSED 0 a:1 REASON=TIMEOUT")
    assert [(one.stream.source, one.cause) for one in ends] == [(("127.0.0.1", 5), "TIMEOUT")]


def test_relays_are_read_exit_first_and_once(world: World) -> None:
    world.control.known[f"ns/id/{B}"] = "r b I D 2026-11-22 15:00:00 192.0.2.7 9001 0"
    world.control.known["ip-to-country/192.0.2.7"] = "DE"
    world.control.known[f"ns/id/{A}"] = "r a I D 2026-11-22 15:00:00 192.0.2.1 9001 0"
    world.control.known["ip-to-country/192.0.2.1"] = "FR"
    asked = len(world.control.asked)
    world.event("CIRC", f"7 BUILT ${A}~a,${B}~b PURPOSE=GENERAL")
    world.event("CIRC", f"8 BUILT ${A}~a,${B}~b PURPOSE=GENERAL")
    assert world.control.asked[asked:] == [
        f"ns/id/{B}",
        "ip-to-country/192.0.2.7",
        f"ns/id/{A}",
        "ip-to-country/192.0.2.1",
    ]
    assert world.table.circuits()[0].path == PATH


def test_a_relay_that_no_consensus_names_yet_is_read_again(world: World) -> None:
    world.control.known[f"ns/id/{A}"] = ""
    world.event("CIRC", f"7 BUILT ${A}~a PURPOSE=GENERAL")
    assert world.table.circuits()[0].path == (Relay(A, "a"),)
    world.control.known[f"ns/id/{A}"] = "r a I D 2026-11-22 15:00:00 192.0.2.1 9001 0"
    world.control.known["ip-to-country/192.0.2.1"] = "FR"
    world.event("CIRC", f"8 BUILT ${A}~a PURPOSE=GENERAL")
    assert world.table.circuits()[0].path == (Relay(A, "a", "192.0.2.1", "fr"),)


def test_an_unknown_country_is_none(world: World) -> None:
    world.control.known[f"ns/id/{B}"] = "r b I D 2026-11-22 15:00:00 192.0.2.7 9001 0"
    world.control.known["ip-to-country/192.0.2.7"] = "??"
    world.event("CIRC", f"7 BUILT ${B} PURPOSE=GENERAL")
    assert world.table.circuits()[0].path[0].country is None


def test_a_stream_that_no_circuit_is_enough_for_is_closed(world: World) -> None:
    """Rule 29. That it has ended by itself meanwhile is no fault."""
    flags = 'PURPOSE=GENERAL SOCKS_USERNAME="u"'
    world.event("STREAM", '20 NEW 0 [2001:4860::1]:80 SOURCE_ADDR=127.0.0.1:1 SOCKS_USERNAME="u"')
    for number in range(MOST_CIRCUITS + 5):
        world.event("CIRC", f"{number} LAUNCHED PURPOSE=GENERAL")
        world.event("CIRC", f"{number} EXTENDED ${A}~a {flags}")
    assert world.control.told == ["CLOSESTREAM 20 1"]


def test_the_watchdog_looks_and_is_answered(world: World) -> None:
    for _ in range(3):
        world.clock.advance(15)
    assert world.control.asked[-3:] == ["version"] * 3
    assert not world.hung
    world.session.close()
    assert world.control.closed
    assert not world.clock.getDelayedCalls()


def test_no_answer_is_a_hang(world: World) -> None:
    del world.control.known["version"]
    world.clock.advance(15)
    world.control.pending[0].errback(TorTimeout("It hangs."))
    assert world.hung == ["It hangs."]
    assert not world.clock.getDelayedCalls()


def test_a_tor_that_speaks_is_asked_again(world: World) -> None:
    """Under load it may be slow; but not for ever."""
    del world.control.known["version"]
    world.clock.advance(15)
    for asked in range(EXTENSIONS):
        world.clock.advance(10)
        world.control.heard = world.clock.seconds()
        world.control.pending[asked].errback(TorTimeout("It hangs."))
        assert not world.hung
        world.clock.advance(0)
    world.clock.advance(10)
    world.control.heard = world.clock.seconds()
    world.control.pending[EXTENSIONS].errback(TorTimeout("It hangs."))
    assert world.hung == ["It hangs."]


def test_it_is_no_hang_where_we_did_nothing(world: World) -> None:
    """Stopped for a while, we find the timer run out before we read the answer."""
    known = world.control.known.pop("version")
    world.clock.advance(15)
    world.clock.advance(10 + LATE + 0.1)
    world.control.known["version"] = known
    world.control.pending[0].errback(TorTimeout("It hangs."))
    world.clock.advance(0)
    assert not world.hung
    assert world.control.asked[-2:] == ["version"] * 2
    del world.control.known["version"]
    world.clock.advance(15)
    world.clock.advance(10)
    world.control.pending[1].errback(TorTimeout("It hangs."))
    assert world.hung == ["It hangs."]


def test_silence_while_somebody_waits_shows_and_mends(world: World) -> None:
    def pass_seconds(number: int, read: int = 0) -> None:
        for _ in range(number):
            world.clock.advance(1)
            world.event("BW", f"{read} 512")

    def told() -> list[Any]:
        return [one[2] for one in world.told.all if one[:2] == ("trouble", "silence")]

    pass_seconds(1, read=514)
    pass_seconds(PATIENCE * 3)
    assert told() == []  # nobody waits
    world.event("STREAM", "20 NEW 0 a.example:80")
    pass_seconds(PATIENCE - 1)
    assert told() == []
    pass_seconds(PATIENCE)
    assert told() == [SILENT]
    pass_seconds(1, read=514)
    assert told() == [SILENT, None]
    world.event("STREAM", "20 SUCCEEDED 1 a.example:80")
    pass_seconds(PATIENCE * 3)
    assert told() == [SILENT, None]


def test_a_tor_that_counts_nothing_is_not_silent(world: World) -> None:
    """Its only bridge has a private address."""
    world.event("STREAM", "20 NEW 0 a.example:80")
    for _ in range(PATIENCE * 3):
        world.clock.advance(1)
        world.event("BW", "0 0")
    assert not [one for one in world.told.all if one[:2] == ("trouble", "silence")]


def test_a_lost_connection_is_no_hang(world: World) -> None:
    del world.control.known["version"]
    world.clock.advance(15)
    world.control.pending[0].errback(TorDown())
    assert not world.hung


def test_a_full_disk_shows_and_mends() -> None:
    world = World(FULL)
    world.begin()
    world.clock.advance(15)
    world.storage = None
    world.clock.advance(15)
    assert world.told.all[1:] == [
        ("trouble", "disk", FULL),
        ("trouble", "disk", None),
    ]


def test_what_an_earlier_connection_saw_is_forgotten() -> None:
    """It may have ended unseen, and its numbers be given anew."""
    world = World()
    world.table.feed("STREAM", "5 NEW 0 a.example:1 SOURCE_ADDR=127.0.0.1:1", 0.0)
    world.table.feed("CIRC", "7 LAUNCHED PURPOSE=GENERAL", 0.0)
    world.control.known["stream-status"] = "5 SUCCEEDED 8 b.example:2"
    world.begin()
    assert world.table.circuits() == ()
    (stream,) = world.table.streams()
    assert (stream.target, stream.source) == ("b.example:2", None)


def test_circuits_of_streams_are_told_and_useless_ones_are_closed(world: World) -> None:
    world.event("CIRC", f"7 BUILT ${A} PURPOSE=GENERAL")
    world.event("STREAM", '20 NEW 0 nowhere.example:80 SOCKS_USERNAME="u"')
    world.event("STREAM", "20 SENTCONNECT 7 nowhere.example:80")
    assert ("circuit_claimed", "u") in world.told.all
    world.event("STREAM", "20 DETACHED 7 nowhere.example:80 REASON=END")
    assert not world.control.told
    world.clock.advance(1.0)
    assert world.control.told == ["CLOSECIRCUIT 7 IfUnused"]
    world.clock.advance(10.0)
    assert world.control.told == ["CLOSECIRCUIT 7 IfUnused"]


def test_a_closed_session_closes_no_circuits(world: World) -> None:
    world.event("CIRC", f"7 BUILT ${A} PURPOSE=GENERAL")
    world.event("STREAM", '20 NEW 0 nowhere.example:80 SOCKS_USERNAME="u"')
    world.event("STREAM", "20 SENTCONNECT 7 nowhere.example:80")
    world.event("STREAM", "20 DETACHED 7 nowhere.example:80 REASON=END")
    world.session.close()
    world.event("STREAM", "20 FAILED 7 nowhere.example:80 REASON=END")  # came along with the end
    world.clock.advance(10.0)
    assert not world.control.told
    assert not world.clock.getDelayedCalls()


def test_circuits_that_were_there_before_are_charged_to_nobody() -> None:
    world = World()
    world.control.known["circuit-status"] = f'7 BUILT ${A} PURPOSE=GENERAL SOCKS_USERNAME="u"'
    world.begin()
    world.event("CIRC", f"8 BUILT ${A} PURPOSE=GENERAL")
    assert not [one for one in world.told.all if one[0] == "circuit_claimed"]
    assert world.session.usage.carries("u", 0.0)

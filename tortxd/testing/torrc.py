"""The torrc lines of authorities, exits and clients, and what relays remember. Pure.

Option names and meanings are those of tor(1). Every node has its own loopback address, and
everything that lies on disk lies in the network's directory.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from attrs import frozen

from tortxd.testing.model import Relay

INITIAL_VOTING_INTERVAL = 5
"""Seconds between votes while there is no consensus yet; tor takes none shorter."""

INITIAL_VOTING_LEAD = 4
"""Seconds from the vote to the consensus in that time; tor takes none shorter."""

BANDWIDTH = 38
"""Kilobytes a second that every relay says it has: the least that tor lets it be bounded to
(MaxAdvertisedBandwidth)."""

_DAY = 86_400
"""Seconds of an interval in a relay's history of what it carried; tor knows no other."""


@frozen
class Shared:
    """What every node of one network has in common."""

    directory: Path
    owner: int
    """The pid without which no node goes on running."""
    or_port: int
    dir_port: int
    authorities: tuple[tuple[Relay, str], ...]
    """Each directory authority with the fingerprint of its authority identity key."""

    @property
    def geoip(self) -> Path:
        """Where the countries of the relays' addresses are said."""
        return self.directory / "geoip"

    @property
    def geoip6(self) -> Path:
        """An empty file, so that nothing outside the directory is read."""
        return self.directory / "geoip6"

    @property
    def resolv_conf(self) -> Path:
        """Names the only resolver that the exits ask."""
        return self.directory / "resolv.conf"

    def data_directory(self, nickname: str) -> Path:
        """A node's DataDirectory."""
        return self.directory / nickname

    def state(self, nickname: str) -> Path:
        """Where a node keeps what it remembers."""
        return self.data_directory(nickname) / "state"


def quoted(value: Path | str) -> str:
    """A value as a quoted string of torrc, so that blanks and ``#`` stand for themselves."""
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def geoip_lines(relays: Iterable[Relay]) -> list[str]:
    """The lines of a GeoIPFile: first and last address as numbers, and the country."""
    places = sorted((int(ipaddress.IPv4Address(one.address)), one.country) for one in relays)
    return [f"{number},{number},{country.upper()}" for number, country in places]


def state_lines(now: float) -> list[str]:
    """The lines of the state file with which a relay starts: as of ``now`` (Unix time), that on the
    day before it had carried more than it says.

    A relay says what it has carried (dir-spec, "bandwidth"), and is chosen by that. One that never
    carried anything would have no weight; of others, whoever is chosen carries more, and is chosen
    more often, until two of four exits have everything.
    """
    carried = 2 * BANDWIDTH * 1000
    lines = (
        f"Ends {datetime.fromtimestamp(now - 1, UTC):%Y-%m-%d %H:%M:%S}",
        f"Interval {_DAY}",
        f"Values {carried * _DAY}",
        f"Maxima {carried}",
    )
    return [f"BWHistory{way}{line}" for way in ("Read", "Write") for line in lines]


def voting_offset(vote_at: float) -> int:
    """The TestingV3AuthVotingStartOffset that lets the first vote begin at ``vote_at`` (Unix time).

    Without it, votes keep to multiples of the interval since midnight, and a start waits for the
    next.
    """
    return round(vote_at + INITIAL_VOTING_LEAD) % INITIAL_VOTING_INTERVAL


def network_lines(shared: Shared) -> list[str]:
    """What authorities, exits and clients need alike."""
    return [
        "TestingTorNetwork 1",
        "PathsNeededToBuildCircuits 0.67",
        "ClientUseIPv6 0",
        f"GeoIPFile {quoted(shared.geoip)}",
        f"GeoIPv6File {quoted(shared.geoip6)}",
        *(_authority_line(shared, relay, identity) for relay, identity in shared.authorities),
    ]


def _authority_line(shared: Shared, relay: Relay, identity: str) -> str:
    return (
        f"DirAuthority {relay.nickname} orport={shared.or_port} no-v2 v3ident={identity} "
        f"{relay.address}:{shared.dir_port} {relay.fingerprint}"
    )


def client_lines(shared: Shared, origins: Mapping[str, str]) -> list[str]:
    """What a client needs, without the lines that tortxd itself owns."""
    return [
        *network_lines(shared),
        *(f"MapAddress {name} {address}" for name, address in origins.items()),
    ]


def own_lines(shared: Shared, nickname: str) -> list[str]:
    """What a process that this network starts needs, whatever it is."""
    return [
        f"DataDirectory {quoted(shared.data_directory(nickname))}",
        # Tor looks every 15 s whether this process still lives, and exits when it does not.
        f"__OwningControllerProcess {shared.owner}",
        "Log notice stdout",
        "ShutdownWaitLength 0",
    ]


def relay_lines(shared: Shared, relay: Relay) -> list[str]:
    """An exit, or the relay half of an authority.

    A socket that is bound to a loopback address can reach loopback only: the kernel refuses every
    other route (EINVAL). Tor itself binds none whose destination is on loopback.
    """
    return [
        *network_lines(shared),
        *own_lines(shared, relay.nickname),
        f"Nickname {relay.nickname}",
        f"Address {relay.address}",
        f"ORPort {relay.address}:{shared.or_port} IPv4Only",
        f"OutboundBindAddress {relay.address}",
        f"OutboundBindAddressExit {relay.address}",
        f"OutboundBindAddressOR {relay.address}",
        f"ServerDNSResolvConfFile {quoted(shared.resolv_conf)}",
        "ServerDNSDetectHijacking 0",
        "ServerDNSTestAddresses",
        "SocksPort 0",
        "AssumeReachable 1",
        "ContactInfo none",
        "NumCPUs 1",
        f"MaxAdvertisedBandwidth {BANDWIDTH} KBytes",
        "IPv6Exit 0",
        # Else only root may see which connections are its own (see tortxd.testing.sockets).
        "DisableDebuggerAttachment 0",
    ]


def exit_lines(shared: Shared, relay: Relay) -> list[str]:
    """An exit. A policy for 127.0.0.0/8 alone would not make it one in the consensus."""
    return [
        *relay_lines(shared, relay),
        "ExitRelay 1",
        "ExitPolicyRejectPrivate 0",
        # As every exit of the public network has it: before it closes a circuit that has served
        # nothing, Tor probes it with such an address, and waits to be refused (pathbias).
        "ExitPolicy reject 0.0.0.0/8:*,accept *4:*,reject *:*",
    ]


def authority_lines(shared: Shared, relay: Relay, offset: int) -> list[str]:
    """A directory authority that votes as often as tor lets it."""
    return [
        *relay_lines(shared, relay),
        f"DirPort {relay.address}:{shared.dir_port}",
        "ExitPolicy reject *:*",
        "AuthoritativeDirectory 1",
        "V3AuthoritativeDirectory 1",
        "V3AuthVotingInterval 10",
        "V3AuthVoteDelay 2",
        "V3AuthDistDelay 2",
        f"TestingV3AuthInitialVotingInterval {INITIAL_VOTING_INTERVAL}",
        "TestingV3AuthInitialVoteDelay 2",
        "TestingV3AuthInitialDistDelay 2",
        f"TestingV3AuthVotingStartOffset {offset}",
        "TestingMinExitFlagThreshold 0",
        "TestingMinFastFlagThreshold 0",
        "TestingAuthDirTimeToLearnReachability 0",
        "TestingDirAuthVoteGuard *",
        "TestingDirAuthVoteHSDir *",
    ]

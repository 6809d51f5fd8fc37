"""The relays' keys, and what the torrc files must say of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, FirstError, gatherResults

from tortxd.testing.model import INetworkReactor, NetworkError, Relay
from tortxd.testing.processes import find_program, run

_KEY_MONTHS = "12"


@frozen
class Programs:
    """The two programs of the Debian package ``tor`` that a network needs."""

    tor: str
    gencert: str

    @classmethod
    def find(cls, path: str) -> Programs:
        """Look in the directories of ``path``; NetworkError when one is missing."""
        return cls(find_program("tor", path), find_program("tor-gencert", path))


@frozen
class Identified:
    """A relay that has its keys."""

    relay: Relay
    v3ident: str | None
    """The fingerprint of an authority's identity key; None for those which are no authorities."""


async def make_keys(
    reactor: INetworkReactor,
    programs: Programs,
    relays: Sequence[Relay],
    directory: Path,
    dir_port: int,
    on_certified: Callable[[Relay], object],
) -> tuple[Identified, ...]:
    """Make every relay's keys, all at once, in a data directory each that lies in ``directory``.

    Raises NetworkError when one of the programs fails.
    """

    async def keys_of(relay: Relay) -> Identified:
        data = directory / relay.nickname
        data.mkdir(mode=0o700)
        named = await _identify(reactor, programs, relay, directory)
        if not relay.is_authority:
            return Identified(named, None)
        identity = await _certify(reactor, programs, relay, data, dir_port)
        on_certified(named)
        return Identified(named, identity)

    works = [Deferred.fromCoroutine(keys_of(relay)) for relay in relays]
    try:
        return tuple(await gatherResults(works, consumeErrors=True))
    except FirstError as error:
        error.subFailure.raiseException()
        raise


async def _identify(
    reactor: INetworkReactor, programs: Programs, relay: Relay, directory: Path
) -> Relay:
    """Let tor make the keys that every relay has; return the relay with its fingerprint."""
    empty = directory / "empty"
    empty.touch()
    printed = await run(
        *(reactor, programs.tor, "--quiet", "--list-fingerprint"),
        *("-f", str(empty), "--defaults-torrc", str(empty)),
        *("--DataDirectory", str(directory / relay.nickname), "--Nickname", relay.nickname),
        *("--ORPort", f"{relay.address}:1", "--Address", relay.address),
    )
    found = re.search(rf"^{relay.nickname} ([0-9A-F ]+)$", printed.decode("ascii", "replace"), re.M)
    if found is None:
        raise NetworkError("tor --list-fingerprint did not print a fingerprint.")
    return evolve(relay, fingerprint=found[1].replace(" ", ""))


async def _certify(
    reactor: INetworkReactor, programs: Programs, relay: Relay, data_directory: Path, dir_port: int
) -> str:
    """Make an authority's long-lived keys (dir-spec, section 3.1); return its v3ident."""
    keys = data_directory / "keys"
    certificate = keys / "authority_certificate"
    await run(
        *(reactor, programs.gencert, "--create-identity-key", "--passphrase-fd", "0"),
        *("-i", str(keys / "authority_identity_key"), "-s", str(keys / "authority_signing_key")),
        *("-c", str(certificate), "-m", _KEY_MONTHS, "-a", f"{relay.address}:{dir_port}"),
        stdin=b"a private network on loopback\n",
    )
    found = re.search(r"^fingerprint ([0-9A-F]+)$", certificate.read_text("ascii"), re.M)
    if found is None:
        raise NetworkError("tor-gencert did not make a certificate.")
    return found[1]

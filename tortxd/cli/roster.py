"""Whom a command asks: one gateway, or the members of a fleet, each with its name.

A fleet is a TOML file of the user's, or several gateways that were named. The user's file says
where each token goes, as ``--token-file`` does (:mod:`tortxd.cli.gateways`)::

    token_file = "operator-token"         # of all; a path is relative to this file

    [members.paris]
    gateway = "http://10.0.0.1:3081"
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tortxd.cli.asking import Asker
from tortxd.cli.failures import UsageFailed
from tortxd.cli.gateways import at, find, named_by_variable, normal
from tortxd.files import read_whole
from tortxd.runtime import run_dirs, running

VARIABLE = "TORTXD_FLEET"
LONGEST = 16 * 1024 * 1024
"""Bytes of a member's answer; 16,000 circuits have as many."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TOKENS = ("token_file", "client_token_file")
_OF_MEMBER = ("gateway", *_TOKENS)
_OF_FLEET = ("members", *_TOKENS)


class Member(NamedTuple):
    """One gateway, by its name."""

    name: str
    asker: Asker

    @property
    def url(self) -> str:
        """The address of its gateway."""
        return self.asker.gateway.url


class Roster(NamedTuple):
    """All who are asked, in the order in which they were given."""

    members: list[Member]
    is_fleet: bool
    """Whether their names are shown. Not how many there are, but how they were given decides, so
    that what programs read has one form."""
    note: str | None = None
    """What the user is to know of the choice."""

    def named(self, name: str) -> Member:
        """The member of this name.

        :raises UsageFailed: there is none.
        """
        for member in self.members:
            if member.name == name:
                return member
        raise _no_member(name, [member.name for member in self.members])


def choose(
    named: Sequence[str],
    fleet: str | None,
    token_file: str | None,
    environ: Mapping[str, str],
) -> Roster:
    """Whom a command asks.

    :param named: gateways, or members of the file; none: the variable's, else all. An option counts
        for more than a variable.
    :param fleet: the file; None: the variable's, if there is one.
    :raises UsageFailed: the file is none of a fleet, or has no such member, or a name is none.
    """
    path = fleet or environ.get(VARIABLE)
    if not path:
        return _of_gateways(named, token_file, environ)
    members = _read(path, "--fleet" if fleet else VARIABLE, token_file, environ)
    wanted = list(dict.fromkeys(named or ([] if fleet else named_by_variable(environ))))
    if not wanted:
        return Roster(members, is_fleet=True)
    by_name = {member.name: member for member in members}
    unknown = [name for name in wanted if name not in by_name]
    if not unknown:
        return Roster([by_name[name] for name in wanted], is_fleet=len(wanted) > 1)
    if fleet is None:  # it is always there; other gateways may be asked all the same
        return _of_gateways(named, token_file, environ)
    raise _no_member(unknown[0], by_name)


def _no_member(name: str, known: Iterable[str]) -> UsageFailed:
    from tortxd.nearest import did_you_mean  # a mistake may take a while

    names = list(known)
    hint = did_you_mean(name, names) or f" There are {', '.join(names[:20])}."
    return UsageFailed(f"The fleet has no member {name!r}.{hint}")


# --- gateways -------------------------------------------------------------------------------------


def _of_gateways(
    named: Sequence[str], token_file: str | None, environ: Mapping[str, str]
) -> Roster:
    found, note = find(named, token_file, environ)
    gateways = list(dict.fromkeys(found))
    if len(gateways) == 1:
        return Roster([Member(gateways[0].url, Asker(gateways[0]))], is_fleet=False, note=note)
    names = short_names([gateway.url for gateway in gateways])
    members = [
        Member(name, Asker(gateway, LONGEST)) for name, gateway in zip(names, gateways, strict=True)
    ]
    return Roster(members, is_fleet=True, note=note)


def short_names(urls: Sequence[str]) -> list[str]:
    """A name for each gateway, as short as all are still different: the first label of its host,
    the host, host and port, or the URL; of a unix socket its name, or its path."""
    forms: tuple[Callable[[str], str], ...] = (_label, _host, _host_and_port)
    for form in forms:
        names = [form(url) for url in urls]
        if len(set(names)) == len(names):
            return names
    return list(urls)


def _label(url: str) -> str:
    if url.startswith("unix:"):
        return url.rpartition("/")[2]
    host = _host(url)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.partition(".")[0]
    return host


def _host(url: str) -> str:
    return url.removeprefix("unix:") if url.startswith("unix:") else urlsplit(url).hostname or url


def _host_and_port(url: str) -> str:
    return _host(url) if url.startswith("unix:") else urlsplit(url).netloc


# --- the file -------------------------------------------------------------------------------------


def _read(
    path: str, option: str, token_file: str | None, environ: Mapping[str, str]
) -> list[Member]:
    where = f"{option}: {path}"
    content = _toml(path, where)
    _check_keys(content, _OF_FLEET, where)
    named = content.get("members", {})
    if not isinstance(named, dict) or not named:
        raise UsageFailed(f"{where} names no members: [members.NAME], with their gateway.")
    daemons = running(run_dirs(environ))
    members: list[Member] = []
    for name, keys in named.items():
        if not _NAME.fullmatch(name):
            raise UsageFailed(
                f"{where}: a member's name has letters, digits, -, _ and ., not {name!r}."
            )
        if not isinstance(keys, dict):
            raise UsageFailed(f"{where}: {name} is to be a section, [members.{name}].")
        _check_keys(keys, _OF_MEMBER, where, f"members.{name}.")
        if "gateway" not in keys:
            raise UsageFailed(f"{where}: members.{name} has no gateway.")
        token, client_token = (_path(content | keys, key, path) for key in _TOKENS)
        if token_file is not None:
            token = client_token = Path(token_file).expanduser()
        url = normal(keys["gateway"], f"{where}: members.{name}.gateway")
        gateway = at(url, token, client_token or token, daemons)
        for other in members:
            if other.url == gateway.url:
                raise UsageFailed(f"{where}: {other.name} and {name} have the same gateway.")
        members.append(Member(name, Asker(gateway, LONGEST)))
    return members


def _toml(path: str, where: str) -> dict[str, Any]:
    import tomllib  # most commands read no file

    try:
        return tomllib.loads(read_whole(Path(path).expanduser()).decode())
    except OSError as error:
        raise UsageFailed(f"{where} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UsageFailed(f"{where} is not TOML: {error}.") from None


def _check_keys(
    content: Mapping[str, Any], known: Sequence[str], where: str, prefix: str = ""
) -> None:
    for key, value in content.items():
        if key not in known:
            from tortxd.nearest import did_you_mean

            raise UsageFailed(f"{where}: unknown key {prefix}{key}.{did_you_mean(key, known)}")
        if key != "members" and not isinstance(value, str):
            raise UsageFailed(f"{where}: {prefix}{key} must be a string.")


def _path(keys: Mapping[str, Any], key: str, file: str) -> Path | None:
    """A path that the file names, which is relative to it."""
    if key not in keys:
        return None
    return Path(file).expanduser().parent / Path(keys[key]).expanduser()

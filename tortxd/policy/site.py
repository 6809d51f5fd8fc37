"""The site of a host: what is isolated from what when a client names no key of its own."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from tortxd.policy.hosts import is_address

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList


@lru_cache(4096)
def site_of(host: str) -> str:
    """The registrable domain of a canonical host, by the Public Suffix List.

    Addresses stand for themselves, and so do public suffixes; an onion service is one site with all
    its subdomains.
    """
    if is_address(host):
        return host
    if host.endswith(".onion"):
        return ".".join(host.split(".")[-2:])
    return public_suffixes().privatesuffix(host) or host


@cache
def public_suffixes() -> PublicSuffixList:
    """The Public Suffix List, read at first use: that takes some 70 ms, which a start does without.

    Whoever wants the first request to be quick calls this beforehand.
    """
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()

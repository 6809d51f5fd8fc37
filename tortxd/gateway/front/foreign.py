"""Clients that speak something else than http to the gateway's port: what it is, and what to do."""

from __future__ import annotations

from attrs import frozen

_NAMES = {b"\x16": "TLS", b"\x04": "SOCKS", b"\x05": "SOCKS"}
"""By the first byte: a handshake record (RFC 8446, section 5.1), the version of SOCKS 4 and 5
(RFC 1928, section 3). No request of HTTP begins with any of these."""
_RECORD = b"\x16\x03"


@frozen
class ForeignProtocol:
    """A protocol that is not spoken here."""

    name: str
    remedy: str

    @property
    def sentence(self) -> str:
        """What the client is told, in http, which is all that is known to be spoken."""
        return f"This port speaks http, not {self.name}. {self.remedy}"

    @property
    def in_log(self) -> str:
        """What the log says, since such a client seldom shows the sentence."""
        return f"A client spoke {self.name} to the gateway, which speaks http. {self.remedy}"


def recognise(first: bytes, socks: str | None) -> ForeignProtocol | None:
    """What a client speaks whose first bytes are no request; None where that is not known.

    :param first: its first byte, or more.
    :param socks: where SOCKS is spoken, as a URL, as far as the client may know.
    """
    name = _NAMES.get(first[:1])
    if name == "TLS" and _RECORD.startswith(first[:2]):
        return ForeignProtocol(name, "Use http:// instead of https:// for it.")
    if name == "SOCKS":
        where = "Tor's own SOCKS port" if socks is None else socks
        return ForeignProtocol(name, f"Use it as an http:// proxy, or SOCKS on {where}.")
    return None

"""The only name server that the exits know: every name does not exist (RFC 1035, section 4.1).

With none at all, a client would wait half a minute to hear that a name cannot be resolved.
"""

from __future__ import annotations

from twisted.internet.protocol import DatagramProtocol

_HEADER = 12
_TYPE_AND_CLASS = 4
_NAME_ERROR = b"\x81\x83"  # a response, recursion desired and available, RCODE 3


def no_such_name(query: bytes) -> bytes | None:
    """The answer to a query with one question, or None when it is not one."""
    end = query.find(b"\0", _HEADER) + 1 + _TYPE_AND_CLASS
    if query[4:6] != b"\0\1" or end <= _HEADER + _TYPE_AND_CLASS or len(query) < end:
        return None
    return query[:2] + _NAME_ERROR + query[4:6] + bytes(6) + query[_HEADER:end]


class Resolver(DatagramProtocol):
    """Answers over UDP."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        answer = no_such_name(datagram)
        if answer is not None and self.transport is not None:
            self.transport.write(answer, addr)

"""What becomes of requests, told to whoever counts them: times, bytes and outcomes, nothing of who
asks or for what."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from tortxd.errors import TortxdError

Way = Literal["proxy", "absolute-form", "connect", "library", "probe", "unknown"]
"""How a request comes: to ``/proxy``, in proxy mode (absolute-form, CONNECT), from a program that
has tortxd as a library, from the gateway itself, which probes its Tor; or it was too malformed to
tell."""
OK = "ok"
"""The outcome of what went well; of what did not, it is the error's code."""
CLIENT_GONE = "client_gone"
"""The outcome where the client left before the end."""


class Summary(NamedTuple):
    """A request that is over."""

    way: Way
    outcome: str
    """:data:`OK`, :data:`CLIENT_GONE`, or an error's code."""
    status: int | None
    """Of the response that the client got; None where there was none of the destination's."""
    to_connect: float | None
    """Seconds for the stream to the destination; None where it was open already, or never was."""
    to_head: float | None
    """Seconds from the request to the head of the response."""
    seconds: float
    """Seconds for all of it."""
    sent: int
    """Bytes of the request's body, or of the client's side of a tunnel."""
    received: int
    """Bytes from the destination."""
    attempts: int
    """How many streams were asked for; 0 where one was open already."""
    error: TortxdError | None = None
    source: tuple[str, int] | None = None
    """Our end of the last SOCKS connection, by which the control port names the stream."""
    username: bytes | None = None
    """Its SOCKS username."""


class Journal(Protocol):
    """Who counts. It is told in the midst of relaying, and is to be quick."""

    @property
    def is_followed(self) -> bool:
        """Whether it wants summaries of what went well, too."""

    def connected(self, seconds: float) -> None:
        """A stream was opened, in so many seconds."""

    def responded(self, now: float, seconds: float) -> None:
        """A response has begun, so many seconds after its request."""

    def went_well(self, way: Way) -> None:
        """A request came to its good end."""

    def over(self, summary: Summary) -> None:
        """A request is over, well (if that is followed) or not."""


class Uncounted:
    """Nobody counts; provides :class:`Journal`."""

    is_followed = False

    def connected(self, seconds: float) -> None:
        """See :class:`Journal`."""

    def responded(self, now: float, seconds: float) -> None:
        """See :class:`Journal`."""

    def went_well(self, way: Way) -> None:
        """See :class:`Journal`."""

    def over(self, summary: Summary) -> None:
        """See :class:`Journal`."""

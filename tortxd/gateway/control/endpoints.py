"""The control plane's routes, as they are declared: routing, ``Allow``, what ``/`` lists and what
each answer looks like follow from these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from attrs import field, frozen

from tortxd.errors import TortxdError
from tortxd.gateway.answers import Answer, StreamedAnswer
from tortxd.gateway.control.feed import Feed
from tortxd.gateway.control.page import Address
from tortxd.gateway.control.parameters import Parameter
from tortxd.gateway.control.schemas import Schema
from tortxd.gateway.control.verification import Verification
from tortxd.gateway.control.views import Json, Views
from tortxd.gateway.gateway import Gateway
from tortxd.gateway.journal import Distribution
from tortxd.policy.access import Audience, Caller
from tortxd.policy.request import Fields


@frozen
class Call:
    """A request that may be served."""

    caller: Caller
    fields: Fields
    peer: bytes
    token: bytes | None = field(default=None, repr=False)
    """What the query of the page's address gives."""
    query: bytes = field(default=b"", repr=False)
    parameters: Mapping[str, str] = field(factory=dict)
    """What the path names, as ``id`` in ``/circuits/<id>/close``."""
    last_event_id: bytes = b""
    """What a reader of events had last (HTML, section 9.2.4)."""
    body: bytes = field(default=b"", repr=False)
    minor: int = 1
    """Of HTTP/1.0 or 1.1."""
    address: Address = field(kw_only=True)
    """Under which it knows the page at ``/``."""
    html: bool = field(kw_only=True)
    """Whether it asks for something that a browser shows."""


@frozen
class Context:
    """What handlers have to do with."""

    gateway: Gateway
    check_url: str
    """The service that says whether it was asked through Tor."""
    ip_url: str
    """The service that says by which address it was asked."""
    verification: Verification
    views: Views
    feed: Feed
    build_times: Distribution
    """How long circuits took to be built."""
    settings: Callable[[], list[Json]]
    """What the daemon was started with."""


Handler = Callable[[Context, Call], Awaitable[Answer | StreamedAnswer]]


@frozen
class Endpoint:
    """One route."""

    path: str
    """As werkzeug writes rules; escapes and empty segments match nothing."""
    audience: Audience
    methods: tuple[bytes, ...] | None
    """HEAD goes with GET, and OPTIONS with all; None: whatever method."""
    handler: Handler | None
    """None: the request is relayed to its destination."""
    summary: str
    """What it gives or does, for a list."""
    schema: Schema | None = None
    """Of the answer to GET or POST, where that is JSON."""
    statuses: tuple[int, ...] = (200,)
    """Of the answers that are as ``schema`` or ``text`` say."""
    text: str | None = None
    """The media type of the answer that is text: beside JSON, or in its place."""
    events: Mapping[str, Schema] = field(factory=dict)
    """Of a stream of events: what each kind has as its data."""
    without_body: Mapping[int, str] = field(factory=dict)
    """When it is answered with another status and nothing else."""
    parameters: tuple[Parameter, ...] = ()
    """Those beside the token and ``?pretty``."""
    body: Schema | None = None
    """Of the request's body, which may be left out."""
    errors: tuple[type[TortxdError], ...] = ()
    """What may go wrong beside what may on every route; each stands for its subclasses, too."""
    description: str | None = None
    """What the summary does not say."""
    display: str | None = None
    """How a list writes the path, where that is not enough."""
    in_list: bool = True

    @property
    def served(self) -> tuple[bytes, ...]:
        """The methods that are served."""
        methods = self.methods or ()
        return (*methods, b"HEAD") if b"GET" in methods else methods

    @property
    def allow(self) -> tuple[bytes, bytes]:
        """The header that names the methods (RFC 9110, section 10.2.1)."""
        return (b"Allow", b", ".join((*self.served, b"OPTIONS")))

    @property
    def line(self) -> tuple[str, str]:
        """How a list shows it."""
        method = b", ".join(self.methods or (b"ANY",)).decode("ascii")
        whose = "for operators: " if self.audience is Audience.OPERATOR else ""
        return f"{method} {self.display or self.path}", whose + self.summary

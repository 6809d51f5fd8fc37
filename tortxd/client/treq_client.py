"""treq, as library users hold it: redirects and content codings as browsers have them, and no
errors but ours.

Foreign errors become ours here, and nowhere else in the library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote_plus

from hyperlink import EncodedURL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from tortxd.client.agent import TorAgent, abandon
from tortxd.client.decoding import DecodingAgent
from tortxd.client.redirects import MAX_REDIRECTS, STATUSES, HopRequest, following
from tortxd.client.response import TorResponse
from tortxd.client.treq_response import Response
from tortxd.client.upload import FileBody
from tortxd.errors import BadRequest, BadResponse, BadUrl, RedirectForbidden, TortxdError
from tortxd.policy.target import Target

_LONGEST = 1e9
"""Seconds; there is no end of time that timers take."""
_SET_COOKIE, _SET_COOKIE2 = b"set-cookie", b"set-cookie2"
_BODIES = ("data", "files", "json")


class TreqClient(HTTPClient):
    """treq's client over a :class:`~tortxd.client.agent.TorAgent`.

    Redirects are followed as browsers do, up to 20, without credentials where the origin changes;
    bodies are decoded. Cookies live no longer than one call.

    Everything fails with a :class:`~tortxd.errors.TortxdError`, the body of a response too. What is
    wrong with the caller's own arguments, such as their types, comes as it is.
    """

    def __init__(self, agent: TorAgent) -> None:
        super().__init__(agent)
        self._tor_agent = agent

    def request(self, method: str, url: Any, **options: Any) -> Deferred[Response]:
        """Make a request.

        :param url: text or bytes, or a URL of hyperlink's.
        :param options: those of ``treq.request``: headers, params, data, json, files, auth,
            cookies, allow_redirects, unbuffered; and timeout, in seconds, for the whole exchange.
        """
        return Deferred.fromCoroutine(self._request(method, url, options))

    if TYPE_CHECKING:
        # These are treq's own, and make their requests by the method above.
        def get(self, url: Any, **options: Any) -> Deferred[Response]: ...
        def head(self, url: Any, **options: Any) -> Deferred[Response]: ...
        def delete(self, url: Any, **options: Any) -> Deferred[Response]: ...
        def post(self, url: Any, data: Any = None, **options: Any) -> Deferred[Response]: ...
        def put(self, url: Any, data: Any = None, **options: Any) -> Deferred[Response]: ...
        def patch(self, url: Any, data: Any = None, **options: Any) -> Deferred[Response]: ...

    async def _request(self, method: str, url: Any, options: dict[str, Any]) -> Response:
        for name in ("browser_like_redirects", "reactor", "_stacklevel"):  # treq's own affairs
            options.pop(name, None)
        call = _Call(self._tor_agent, _seconds(options.pop("timeout", None)), options)
        try:
            return await call.make(method, url)
        finally:
            call.close()


class _Call:
    """One call, with all its redirects."""

    def __init__(self, agent: TorAgent, timeout: float | None, options: dict[str, Any]) -> None:
        self._agent = agent
        self._expires = agent.clock.seconds() + (timeout or agent.timeout)
        self._follows = options.pop("allow_redirects", True)
        self._params = options.pop("params", None)
        self._headers = options.pop("headers", None)
        self._body = {name: options.pop(name) for name in _BODIES if name in options}
        self._options = options
        self._jar: Any = CookieJar()
        self._files: list[FileBody] = []
        self._replayable = True

    def close(self) -> None:
        """It is over: files that were read are closed, as treq does."""
        for file in self._files:
            file.close()

    async def make(self, method: str, url: Any) -> Response:
        """Make it."""
        request = self._request_for(method, url)
        previous: Response | None = None
        for _ in range(MAX_REDIRECTS + 1):
            response, raw = await self._ask(request)
            if previous is not None:
                response.original.setPreviousResponse(previous)
            if not self._follows:
                return response
            try:
                following_one = self._following(request, response)
            except TortxdError:
                abandon(raw)
                raise
            if following_one is None:
                return response
            abandon(raw)
            request, previous = following_one, response
        raise BadResponse("The destination redirects too often, or in circles.")

    def _request_for(self, method: str, url: Any) -> HopRequest:
        """The first request."""
        target = self._agent.policy.parse(_with_params(_text(url), self._params))
        try:
            name = method.encode("ascii").upper()
            headers = _as_headers(self._headers)
        except ValueError:
            raise BadRequest("The request's method or a header is malformed.") from None
        self._body = {name: self._kept(name, value) for name, value in self._body.items()}
        has_body = any(_makes_body(name, value) for name, value in self._body.items())
        fields = tuple((name, value) for name, values in headers for value in values)
        return HopRequest(name, target, fields, has_body)

    def _following(self, request: HopRequest, response: Response) -> HopRequest | None:
        if response.code not in STATUSES:
            return None
        locations = response.headers.getRawHeaders(b"location", [])
        found = following(request, response.code, locations, self._agent.policy)
        if found is not None:
            if found.has_body and not self._replayable:
                raise RedirectForbidden(
                    "The destination redirects, and the body of the request cannot be sent again."
                )
            self._options.pop("cookies", None)  # the jar has them
            if not found.has_body:
                self._body.clear()
            if not found.trusted:
                self._options.pop("auth", None)
        return found

    async def _ask(self, request: HopRequest) -> tuple[Response, TorResponse]:
        hop = _Hop(self._agent, self._expires, request)
        clock: Any = self._agent.clock
        agent = DecodingAgent(hop, clock, self._expires)
        headers = Headers()
        for name, value in request.headers:
            headers.addRawHeader(name, value)
        try:
            response = await HTTPClient(agent, self._jar).request(
                request.method.decode("ascii"),
                _AsItIs.of(request.target),
                headers=headers,
                allow_redirects=False,
                reactor=clock,
                **self._body,
                **self._options,
            )
        except Exception as error:
            raise hop.translated(error) from None
        raw = hop.restore()
        if response.headers.getRawHeaders(b"content-encoding") == [b""]:  # Twisted's own
            response.headers.removeHeader(b"content-encoding")
        made = Response(response.original, self._jar)
        made.tor = raw.tor
        return made, raw

    def _kept(self, name: str, value: Any) -> Any:
        """A part of the body as treq takes it, such that it can be sent again where that is so."""
        if name == "files":
            items = value.items() if hasattr(value, "items") else value
            return [(key, self._kept_file(file)) for key, file in items]
        return self._kept_content(value) if name == "data" else value

    def _kept_file(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return (*value[:-1], self._kept_content(value[-1]))
        name = getattr(value, "name", None)
        if isinstance(name, str):
            return name.rpartition("/")[2], self._kept_content(value)
        return self._kept_content(value)

    def _kept_content(self, value: Any) -> Any:
        if IBodyProducer.providedBy(value):
            self._replayable = False
        elif hasattr(value, "read"):
            value = FileBody(value)
            self._files.append(value)
            self._replayable = self._replayable and value.replayable
        return value


@implementer(IAgent)
class _Hop:
    """The agent of one request: what treq asks for is what was parsed."""

    def __init__(self, agent: TorAgent, expires: float, request: HopRequest) -> None:
        self.response: TorResponse | None = None
        self._unread: dict[bytes, list[bytes]] = {}
        """Headers about cookies that treq does not see."""
        self._agent = agent
        self._expires = expires
        self._request_for = request

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        asking = self._agent.ask(
            self._expires, method, self._request_for.target, headers or Headers(), bodyProducer
        )
        return asking.addCallback(self._answered)

    def _answered(self, response: TorResponse) -> TorResponse:
        self.response = response
        for name in (_SET_COOKIE, _SET_COOKIE2):
            values = list(response.headers.getRawHeaders(name, []))
            # Twisted's cookies are ASCII, and browsers have given up Set-Cookie2.
            readable = [one for one in values if one.isascii()] if name == _SET_COOKIE else []
            if readable != values:
                self._unread[name] = values
                response.headers.setRawHeaders(name, readable)
        return response

    def restore(self) -> TorResponse:
        """The response, with all that it said."""
        assert self.response is not None
        for name, values in self._unread.items():
            self.response.headers.setRawHeaders(name, values)
        return self.response

    def translated(self, error: Exception) -> Exception:
        """Ours for what treq and what it stands on fail with."""
        if self.response is not None:
            abandon(self.response)
        if isinstance(error, TortxdError | CancelledError):
            return error
        if self.response is not None:
            return BadResponse("The destination's response cannot be read.")
        if isinstance(error, ValueError):  # encodings, header names and the like
            return BadRequest()
        return error


class _AsItIs(EncodedURL):
    """A URL that treq does not spell anew: what was judged is what is asked for."""

    @classmethod
    def of(cls, target: Target) -> _AsItIs:
        made: Any = cls.from_text(target.url)
        made._spelling = target.url
        return cast(_AsItIs, made)

    _spelling: str

    def to_uri(self) -> _AsItIs:
        return self

    def to_text(self, with_password: bool = False) -> str:
        return self._spelling


def _seconds(timeout: Any) -> float | None:
    if not timeout:
        return None
    if math.isnan(timeout):
        raise BadRequest("A timeout is a number of seconds.")
    return min(float(timeout), _LONGEST)


def _text(url: Any) -> str | bytes:
    if isinstance(url, str | bytes):
        return url
    if hasattr(url, "to_text"):
        return str(url.to_text(with_password=True))
    raise TypeError("A URL is text, bytes, or one of hyperlink's.")


def _with_params(url: str | bytes, params: Any) -> str | bytes:
    """``url`` with further parameters, written as treq does."""
    if not params:
        return url
    pairs = []
    for name, values in params.items() if isinstance(params, Mapping) else params:
        for value in values if isinstance(values, list | tuple) else (values,):
            pairs.append(f"{_quoted(name)}={_quoted(value)}")
    text = url.decode("utf-8", "surrogateescape") if isinstance(url, bytes) else url
    base = text.partition("#")[0]
    mark = "" if base.endswith(("?", "&")) else "&" if "?" in base else "?"
    return base + mark + "&".join(pairs)


def _quoted(value: Any) -> str:
    try:
        return quote_plus(value if isinstance(value, bytes) else str(value).encode("utf-8"))
    except UnicodeEncodeError:
        pass
    raise BadUrl("A parameter of the target URL is not UTF-8.")


def _as_headers(given: Any) -> Any:
    """The fields of what treq takes as headers."""
    if given is None:
        return ()
    if isinstance(given, Headers):
        return list(given.getAllRawHeaders())
    if not isinstance(given, Mapping):
        raise TypeError("The headers are a dict or Headers.")
    made = Headers()
    for name, value in given.items():
        if isinstance(value, str | bytes):
            made.addRawHeader(name, value)
        else:
            made.setRawHeaders(name, value)
    return list(made.getAllRawHeaders())


def _makes_body(name: str, value: Any) -> bool:
    """Whether treq makes a body of this option."""
    return name == "json" or bool(value) or (name == "data" and isinstance(value, dict | list))

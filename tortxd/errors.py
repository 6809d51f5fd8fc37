"""What can go wrong, as one small tree.

Each kind carries the ``code`` and HTTP ``status`` that the gateway answers with, whether trying
again may help (``retryable``), and the RFC 9209 error type that ``Proxy-Status`` names. The message
is a sentence for people; it never holds the target, a key or a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

Fault = Literal["client", "destination", "tor", "gateway"]
"""Whose fault it is that a request fails: the client's that made it; its destination's, with the
exit and the way there; Tor's, or that of the way to its network; or the gateway's own."""


class TortxdError(Exception):
    """Something tortxd could not do; the message says what, and what to do about it."""

    code: ClassVar[str] = "internal"
    fault: ClassVar[Fault] = "gateway"
    status: int = 500
    retryable: bool = False
    proxy_error: ClassVar[str] = "proxy_internal_error"
    sentence: ClassVar[str] = "Something went wrong inside tortxd."
    retry_after: int | None = None
    """Seconds after which trying again makes sense, where that is known."""
    tor_reason: str | None = None
    """Tor's own reason (control-spec, section 4.1.2), where it said one."""
    attempts: int | None = None
    """How many tries a request took that has failed with it, where it got so far."""

    def __init__(
        self,
        sentence: str | None = None,
        *,
        status: int | None = None,
        retryable: bool | None = None,
        retry_after: int | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(sentence or self.sentence)
        if status is not None:
            self.status = status
        if retryable is not None:
            self.retryable = retryable
        if retry_after is not None:
            self.retry_after = retry_after
        self.details: Mapping[str, object] = details or {}
        """Further members of the JSON body, ``bootstrap`` for example."""

    def as_json(self) -> dict[str, object]:
        """The body that the gateway answers with."""
        return {
            "error": str(self),
            "code": self.code,
            "retryable": self.retryable,
            **self.details,
        }


class InternalError(TortxdError):
    """A fault of ours."""


class SetupError(TortxdError):
    """The daemon cannot start as it is configured; the message says why and what to do.

    It names fields of the configuration in backticks; where they came from options, environment or
    a file, :meth:`tortxd.config.DaemonConfig.spelled` puts those names in their place.
    """

    sentence = "tortxd cannot start as it is configured."


def in_quotes(text: str) -> str:
    """What somebody wrote, for a sentence: in quotes, in ASCII, and not too long."""
    return ascii(text if len(text) <= 60 else text[:60] + "...")


def printable(text: str) -> str:
    """Text for a terminal or a page, without what could move its cursor, end its line or turn it
    around."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


# --- the client's request ---------------------------------------------------------------------


class RequestError(TortxdError):
    """The request is at fault."""

    fault: ClassVar[Fault] = "client"
    proxy_error = "http_request_error"


class BadRequest(RequestError):
    """The request is malformed."""

    code = "bad_request"
    status = 400
    sentence = "The request is malformed."


class BadUrl(RequestError):
    """The target URL is malformed."""

    code = "bad_url"
    status = 400
    sentence = "The target URL is malformed."


class Unauthorized(RequestError):
    """A token is needed (RFC 9110, section 15.5.2; 407 in proxy mode)."""

    code = "unauthorized"
    status = 401
    proxy_error = "http_request_denied"
    sentence = "A token is needed. Send it as the Tortxd-Token header."


class ForbiddenOrigin(RequestError):
    """The calling web origin is not allowed."""

    code = "forbidden_origin"
    status = 403
    proxy_error = "http_request_denied"
    sentence = "This web origin may not use the gateway. Allow it with --allow-origin."


class ForbiddenHost(RequestError):
    """The Host header names something that is not this gateway (DNS rebinding)."""

    code = "forbidden_host"
    status = 403
    proxy_error = "http_request_denied"
    sentence = "The gateway does not answer to this Host. Allow it with --allow-host."


class TargetForbidden(RequestError):
    """The target is one that never goes through Tor."""

    code = "target_forbidden"
    status = 403
    proxy_error = "destination_ip_prohibited"
    sentence = "Tor is not asked for this kind of target."


class RedirectForbidden(RequestError):
    """A redirect to another origin would have taken a request body along."""

    code = "redirect_forbidden"
    status = 403
    proxy_error = "http_request_denied"
    sentence = "A redirect to another origin does not take a request body along."


class NotFound(RequestError):
    """There is no such route."""

    code = "not_found"
    status = 404
    sentence = "There is no such route."


class MethodNotAllowed(RequestError):
    """The route does not take this method."""

    code = "method_not_allowed"
    status = 405
    sentence = "This route does not take this method."


class RequestTimeout(RequestError):
    """The client was too slow to say what it wants."""

    code = "request_timeout"
    status = 408
    retryable = True
    sentence = "The request took too long to arrive."


class TooLarge(RequestError):
    """The body, target or header section is larger than the gateway takes (413, 414 or 431)."""

    code = "too_large"
    status = 413
    sentence = "The request is larger than the gateway takes."


class NotServed(RequestError):
    """An upgrade, method, coding or feature that is not served."""

    code = "not_implemented"
    status = 501
    proxy_error = "http_request_denied"
    sentence = "The gateway does not serve this."


# --- the destination, its exit, or the way there -------------------------------------------------


class DestinationError(TortxdError):
    """The destination, its exit, or the way there is at fault."""

    fault: ClassVar[Fault] = "destination"
    status = 502
    proxy_error = "destination_unavailable"


class ConnectFailed(DestinationError):
    """Tor could not connect, and did not say why."""

    code = "connect_failed"
    retryable = True
    sentence = "Tor could not connect to the destination."


class ConnectRefused(DestinationError):
    """The destination refused the connection."""

    code = "connect_refused"
    retryable = True
    proxy_error = "connection_refused"
    sentence = "The destination refused the connection."


class ResolveFailed(DestinationError):
    """The destination's name could not be resolved by the exit."""

    code = "resolve_failed"
    retryable = True
    proxy_error = "dns_error"
    sentence = "The destination's name could not be resolved."


class ExitPolicyRejected(DestinationError):
    """No exit carries traffic to this address and port."""

    code = "exit_policy"
    proxy_error = "destination_ip_unroutable"
    sentence = "No exit of the Tor network carries traffic to this destination."


class OnionUnreachable(DestinationError):
    """The onion service does not exist, or cannot be reached now."""

    code = "onion_unreachable"
    retryable = True
    sentence = "The onion service could not be reached."


class OnionAuthRequired(DestinationError):
    """The onion service asks for client authorization that Tor does not have, or refuses it."""

    code = "onion_auth_required"
    status = 403
    proxy_error = "http_request_denied"
    sentence = "The onion service needs client authorization that Tor does not hold."


class OriginReset(DestinationError):
    """The connection broke before the response was whole."""

    code = "origin_reset"
    retryable = True
    proxy_error = "connection_terminated"
    sentence = "The connection to the destination broke off."


class BadResponse(DestinationError):
    """What the destination answered is not a well-formed HTTP response."""

    code = "bad_response"
    proxy_error = "http_protocol_error"
    sentence = "The destination did not answer in well-formed HTTP."


class TlsFailed(DestinationError):
    """The TLS handshake with the destination failed, or its certificate is not valid."""

    code = "tls_failed"
    proxy_error = "tls_protocol_error"
    sentence = "A trusted TLS connection to the destination could not be made."


class OriginTimeout(DestinationError):
    """The destination was reached but did not answer in time."""

    code = "origin_timeout"
    status = 504
    retryable = True
    proxy_error = "http_response_timeout"
    sentence = "The destination did not answer in time."


UNREACHED = (
    ConnectFailed,
    ConnectRefused,
    ExitPolicyRejected,
    OnionAuthRequired,
    OnionUnreachable,
    ResolveFailed,
)
"""Kinds that say why Tor could not open a stream to the destination."""


# --- Tor ------------------------------------------------------------------------------------------


class TorError(TortxdError):
    """Tor itself cannot carry the request now."""

    fault: ClassVar[Fault] = "tor"
    retryable = True
    proxy_error = "destination_unavailable"


class TorNotReady(TorError):
    """Tor is still starting; ``details["bootstrap"]`` says how far it is."""

    code = "tor_not_ready"
    status = 503
    retry_after = 5
    sentence = "Tor is not ready yet."


class TorDown(TorError):
    """Tor is not running, or cannot be reached."""

    code = "tor_down"
    status = 503
    retry_after = 5
    sentence = "Tor is down."


class ExitUnavailable(TorError):
    """No exit that was asked for is there and carries the port."""

    fault = "destination"
    code = "exit_unavailable"
    status = 503
    retryable = False
    sentence = "No exit that was asked for is there now and carries traffic to this port."


class Overloaded(TorError):
    """The gateway serves as many as it can."""

    fault = "gateway"
    code = "overloaded"
    status = 503
    retry_after = 5
    proxy_error = "connection_limit_reached"
    sentence = "The gateway serves as many requests as it can; try again shortly."


class TorTimeout(TorError):
    """Tor did not connect to the destination in time."""

    code = "tor_timeout"
    status = 504
    proxy_error = "connection_timeout"
    sentence = "Tor did not connect to the destination in time."


def kinds() -> dict[str, type[TortxdError]]:
    """Every kind by its code."""
    found: dict[str, type[TortxdError]] = {}
    todo: list[type[TortxdError]] = [TortxdError]
    while todo:
        kind = todo.pop()
        todo.extend(kind.__subclasses__())
        if "code" in vars(kind) and kind is not TortxdError:
            found[kind.code] = kind
    found["internal"] = InternalError
    return found

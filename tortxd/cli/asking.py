"""Asking a gateway, over the standard library's HTTP client, past any proxy of the environment."""

from __future__ import annotations

import errno
import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tortxd.cli.failures import CommandFailed, NotReached, NotReady
from tortxd.cli.gateways import DEFAULT, Gateway

CONNECT = 5.0
"""Seconds."""
ANSWER = 75.0
"""Seconds: the daemon's own timeout, and some more."""
_NOT_READY = ("tor_not_ready", "tor_down")
_LONGEST_TOKEN = 4096
_LONGEST_JSON = 64 * 1024 * 1024
"""Bytes; 16,000 circuits have some 16 MiB."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Said(dict[str, Any]):
    """What a gateway says. Where it says nothing of what it is asked for, it is none."""

    def __init__(self, value: dict[str, Any], url: str) -> None:
        super().__init__(value)
        self._url = url

    def __missing__(self, name: str) -> Any:
        raise stranger(self._url)


def stranger(url: str) -> NotReached:
    """What is said of an answer that is none of tortxd's."""
    return NotReached(f"What answers at {url} is not tortxd.")


class Answer:
    """What a gateway has answered; its body is read when it is wanted."""

    def __init__(
        self,
        response: http.client.HTTPResponse,
        gateway: Gateway,
        longest: int | None = None,
    ) -> None:
        self.response = response
        self._gateway = gateway
        self._longest = longest

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    @property
    def error_code(self) -> str | None:
        """The code of the gateway's own error; None: it is none."""
        return self.response.headers.get("Tortxd-Error")

    def json(self) -> dict[str, Any]:
        """The body, which is an object in JSON where the gateway speaks for itself.

        :raises NotReached: this is no tortxd.
        """
        try:
            value = json.loads(self._body(self._longest or _LONGEST_JSON))
            if not isinstance(value, dict):
                raise ValueError
            return _Said(value, self._gateway.url)
        except (ValueError, RecursionError, http.client.HTTPException, OSError):
            raise stranger(self._gateway.url) from None

    def text(self, longest: int) -> str:
        """The body, which is text of so many bytes at most; errors as :meth:`json`."""
        try:
            return self._body(longest).decode()
        except (ValueError, http.client.HTTPException, OSError):
            raise stranger(self._gateway.url) from None

    def _body(self, longest: int) -> bytes:
        body = self.response.read(longest)
        if self.response.read(1):
            raise ValueError
        return body

    def check(self) -> None:
        """See that it is no error of the gateway's own.

        :raises CommandFailed: it is, as the gateway says.
        """
        code = self.error_code
        if code is None:
            if self.status >= 400:
                raise stranger(self._gateway.url)
            return
        value = self.json()
        sentence = str(value.get("error", code))
        if code in _NOT_READY:
            error: CommandFailed = NotReady(sentence)
        elif code == "unauthorized":
            error = CommandFailed(_unauthorized(self._gateway))
        else:
            error = CommandFailed(f"{sentence} ({code})")
        error.code = code
        raise error


def _unauthorized(gateway: Gateway) -> str:
    if gateway.token_file is None:
        return (
            f"{gateway.url} wants a token: name the file that holds it with --token-file. The "
            "operators' one is operator-token, in the daemon's data directory, unless its "
            "operator_token_file names another."
        )
    return f"{gateway.url} does not take the token in {gateway.token_file}."


class Asker:
    """Asks one gateway.

    :param longest: bytes of an answer, at most; None: as many as one gateway may have.
    """

    def __init__(self, gateway: Gateway, longest: int | None = None) -> None:
        self.gateway = gateway
        self._longest = longest

    @property
    def token(self) -> str | None:
        """The token for operators, if there is one.

        :raises CommandFailed: it cannot be read.
        """
        path = self.gateway.token_file
        return None if path is None else _read(path)

    @property
    def client_token(self) -> str | None:
        """The token for clients; as :attr:`token`."""
        path = self.gateway.client_token_file
        return None if path is None else _read(path)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        as_client: bool = False,
        patience: float = ANSWER,
    ) -> Answer:
        """Ask; the answer's head is there when this returns.

        :param as_client: as any client does, and not as an operator: their keys are not the same.
        :param patience: seconds without a byte.
        :raises NotReached: nothing answers, or it does not speak HTTP.
        """
        sent = {"Accept": "*/*, application/json", **(headers or {})}
        token = self.client_token if as_client else self.token
        if token is not None:
            sent["Tortxd-Token"] = token
        connection = self._connection()
        try:
            connection.timeout = CONNECT
            connection.connect()
            connection.sock.settimeout(patience)
            connection.request(method, path, body, sent)
            return Answer(connection.getresponse(), self.gateway, self._longest)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._not_reached(error) from None

    def get(self, path: str, *, as_client: bool = False) -> Any:
        """What a route says.

        :raises CommandFailed: it says an error.
        """
        answer = self.ask("GET", path, as_client=as_client)
        answer.check()
        return answer.json()

    def post(self, path: str, value: object = None, *, as_client: bool = False) -> Any:
        """Have something done; errors as :meth:`get`."""
        body = b"" if value is None else json.dumps(value, ensure_ascii=False).encode()
        kind = {"Content-Type": "application/json"}
        answer = self.ask("POST", path, body, kind, as_client=as_client)
        answer.check()
        return answer.json()

    def _connection(self) -> http.client.HTTPConnection:
        url = self.gateway.url
        if url.startswith("unix:"):
            return _UnixConnection(url.removeprefix("unix:"))
        parts = urlsplit(url)
        assert parts.hostname is not None
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.hostname, parts.port)
        return http.client.HTTPConnection(parts.hostname, parts.port)

    def _not_reached(self, error: Exception) -> NotReached:
        url = self.gateway.url
        if isinstance(error, http.client.HTTPException):
            return NotReached(f"What answers at {url} does not speak HTTP.")
        if isinstance(error, TimeoutError):
            return NotReached(f"{url} does not answer.")
        nobody = isinstance(error, ConnectionRefusedError) or (
            isinstance(error, OSError) and error.errno == errno.ENOENT
        )
        if nobody and url == DEFAULT and not self.gateway.is_named:
            return NotReached(
                f"tortxd is not running on this machine: nothing answers at {url}. Start it with: "
                "tortxd serve"
            )
        if nobody:
            return NotReached(f"Nothing answers at {url}.")
        reason = getattr(error, "strerror", None) or str(error)
        return NotReached(f"{url} cannot be reached: {reason}.")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            token = file.read(_LONGEST_TOKEN).strip().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII"
        raise CommandFailed(f"The token in {path} cannot be read: {reason}.") from None
    if not token or not token.isprintable():
        raise CommandFailed(f"{path} holds no token.")
    return token

"""``tortxd get``: a URL through ``/proxy``, like curl."""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import click

from tortxd.cli import words
from tortxd.cli.asking import Answer, Asker
from tortxd.cli.failures import CommandFailed, UsageFailed
from tortxd.cli.main import Settings, command
from tortxd.cli.output import note
from tortxd.cli.sinks import Kept, Plain, Sink

PATIENCE = 3600.0
"""Seconds without a byte of a body; the daemon's own idle timeout comes first."""
MOST_REDIRECTS = 20
_PIECE = 64 * 1024
_LATE = 1.0
"""Seconds after which a body is worth a progress bar."""
_REDIRECTS = (301, 302, 303, 307, 308)
_DIRECTIVES = {
    "isolation": "Tor-Stream-Isolation",
    "exit_country": "Tortxd-Exit-Country",
    "exit_relay": "Tortxd-Exit",
    "sticky": "Tortxd-Sticky",
    "retry": "Tortxd-Retry",
    "timeout": "Tortxd-Timeout",
}


@command("get")
@click.argument("url")
@click.option(
    "-o", "--output", "to", metavar="FILE", help="Write the body there; - is the terminal."
)
@click.option("-i", "--include", is_flag=True, help="Write the response's head as well.")
@click.option(
    "-X", "--request", "method", metavar="METHOD", help="GET, or POST where there is data."
)
@click.option("-d", "--data", metavar="DATA", help="Send this; @FILE for a file, @- for the input.")
@click.option(
    "-H", "--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="Send it, too."
)
@click.option("-L", "--location", is_flag=True, help="Follow redirects.")
@click.option(
    "-f", "--fail", is_flag=True, help="Fail where the response's status is 400 or above."
)
@click.option("-s", "--silent", is_flag=True, help="Say nothing beside it.")
@click.option(
    "--isolation", metavar="KEY", help="Requests with other keys never share its circuits."
)
@click.option("--exit-country", metavar="CC", help="Leave Tor in this country: de, or de,fr.")
@click.option("--exit", "exit_relay", metavar="FINGERPRINT", help="Leave Tor at this relay.")
@click.option("--sticky", metavar="SECONDS", help="Keep the exit for so long.")
@click.option("--retry", metavar="N", help="Try again on fresh circuits, 3 times at most.")
@click.option("--timeout", metavar="SECONDS", help="Until the response begins.")
def get(
    settings: Settings, url: str, to: str | None, include: bool, silent: bool, **asked: Any
) -> None:
    """Fetch URL through Tor: its body goes to the output, the way that it took to the error output.

    With --json, both are one object. It exits with 1 where there is no response, or not all of it.
    """
    began = time.monotonic()
    answer = _ask(settings.asker(), url, asked)
    if settings.as_json:
        settings.output.json(_as_json(answer, began))
    else:
        with _sink(to, answer) as sink:
            if include:
                sink.write(_head(answer))
            _copy(answer, sink, shown=not silent)
        if not silent:
            note(_way(answer, time.monotonic() - began))
    if asked["fail"] and answer.status >= 400:
        raise CommandFailed(f"The destination answered {answer.status}.")


# --- asking ---------------------------------------------------------------------------------------


def _ask(asker: Asker, url: str, asked: dict[str, Any]) -> Answer:
    """The destination's answer, behind redirects where they are followed.

    :raises CommandFailed: there is none; the sentence says why.
    """
    body = _body(asked["data"])
    method = asked["method"] or ("GET" if body is None else "POST")
    headers = _headers(asked)
    target = url if "://" in url else f"http://{url}"
    path = f"/proxy?url={quote(target, safe='')}"
    for _ in range(MOST_REDIRECTS):
        answer = asker.ask(method.upper(), path, body, headers, as_client=True, patience=PATIENCE)
        if answer.error_code is not None:
            answer.check()
        location = answer.response.headers.get("Location", "")
        follows = asked["location"] and answer.status in _REDIRECTS
        if not follows or not location.startswith("/proxy?"):
            return answer
        answer.response.close()
        path = location
        if answer.status == 303 or (answer.status in (301, 302) and method.upper() == "POST"):
            method, body = "GET", None  # RFC 9110, section 15.4
    raise CommandFailed(f"The destination redirects more than {MOST_REDIRECTS} times.")


def _body(data: str | None) -> bytes | None:
    if data is None:
        return None
    if not data.startswith("@"):
        return data.encode()
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise UsageFailed(f"{data[1:]} cannot be read: {error.strerror}.") from None


def _headers(asked: dict[str, Any]) -> dict[str, str]:
    headers = {"Accept": "*/*"}
    for line in asked["headers"]:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UsageFailed(f"-H takes 'NAME: VALUE', not {line!r}.")
        headers[name.strip()] = value.strip()
    for option, name in _DIRECTIVES.items():
        if asked[option] is not None:
            headers[name] = asked[option]
    for name, value in headers.items():
        if not (name + value).isprintable() or not (name + value).isascii():
            raise UsageFailed(f"{name} takes printable ASCII.")
    return headers


# --- what comes of it -----------------------------------------------------------------------------


@contextmanager
def _sink(to: str | None, answer: Answer) -> Iterator[Sink]:
    """Where the body goes. A terminal is not sent what would spoil it."""
    if to is not None and to != "-":
        with _opened(to) as file:
            yield file
        return
    kind = answer.response.headers.get_content_type()
    if to is None and sys.stdout.isatty() and not _is_text(kind):
        raise CommandFailed(
            f"The response is {words.plain(kind)}, which is not for a terminal: save it with -o "
            "FILE, or write it all the same with -o -"
        )
    for_eyes = to is None and sys.stdout.isatty()
    yield Plain(sys.stdout.buffer) if for_eyes else sys.stdout.buffer
    sys.stdout.buffer.flush()


def _opened(name: str) -> IO[bytes]:
    try:
        return Path(name).open("wb")
    except OSError as error:
        raise CommandFailed(f"{name} cannot be written: {error.strerror}.") from None


def _is_text(kind: str) -> bool:
    main, _, sub = kind.partition("/")
    return main == "text" or sub in ("json", "xml", "javascript") or sub.endswith(("+json", "+xml"))


def _copy(answer: Answer, sink: Sink, *, shown: bool) -> None:
    """Write the body as it comes.

    :raises CommandFailed: it broke off.
    """
    length = answer.response.length
    progress: Any = None
    began, size = time.monotonic(), 0
    try:
        while piece := answer.response.read1(_PIECE):
            sink.write(piece)
            size += len(piece)
            if progress is None and shown and time.monotonic() - began > _LATE:
                progress = _progress(length, to_terminal=_is_output(sink))
            if progress is not None:
                progress(size)
        if length is not None and size < length:
            raise http.client.IncompleteRead(b"", length - size)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise CommandFailed(
            f"The response broke off after {words.size(size)}: what was written is not all of it."
        ) from None
    finally:
        if progress is not None:
            progress(None)


def _is_output(sink: Sink) -> bool:
    return isinstance(sink, Plain) or sink is sys.stdout.buffer


def _progress(length: int | None, *, to_terminal: bool) -> Callable[[int | None], None]:
    """A bar on the error output, called with the bytes so far, and with None at the end."""
    if (to_terminal and sys.stdout.isatty()) or not sys.stderr.isatty():
        return lambda _: None
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=length)
    bar.start()

    def advance(size: int | None) -> None:
        if size is None:
            bar.stop()
        else:
            bar.update(task, completed=size)

    return advance


def _head(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {answer.response.reason}"]
    lines += [f"{name}: {value}" for name, value in answer.response.headers.items()]
    return "\r\n".join((*lines, "", "")).encode("latin-1", "replace")


def _way(answer: Answer, seconds: float) -> str:
    """The status, the time and the way, in one line."""
    headers = answer.response.headers
    told = [f"{answer.status} after {seconds:.2f} s"]
    if "Tortxd-Circuit" in headers:
        told.append(f"circuit {headers['Tortxd-Circuit']}")
    if "Tortxd-Exit" in headers:
        place = [headers.get("Tortxd-Exit-Address"), headers.get("Tortxd-Exit-Country")]
        detail = ", ".join(one for one in place if one)
        told.append(f"exit {headers['Tortxd-Exit'][:8]}" + (f" ({detail})" if detail else ""))
    location = headers.get("Tortxd-Location")
    if location is not None:
        told.append(f"redirects to {location} (-L follows)")
    return ", ".join(told)


def _as_json(answer: Answer, began: float) -> dict[str, object]:
    """Head, body and way as one value. A body that is no text is left out; its size is told."""
    kept = Kept()
    _copy(answer, kept, shown=False)
    body = kept.getvalue()
    text: str | None = None
    with suppress(ValueError, LookupError):  # a charset may be any word
        text = body.decode(answer.response.headers.get_content_charset("utf-8"))
    return {
        "status": answer.status,
        "reason": answer.response.reason,
        "headers": [list(pair) for pair in answer.response.headers.items()],
        "body": text,
        "bytes": len(body),
        "seconds": round(time.monotonic() - began, 3),
    }

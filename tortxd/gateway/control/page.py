"""The page at ``/``: what a person sees who opens the gateway in a browser.

It says what Tor is doing and gives commands that work as they stand; operators see the dashboard
instead (:mod:`tortxd.gateway.control.dashboard`). It has no script and loads nothing, which its
Content-Security-Policy holds it to. Whatever Tor or the network says in it is escaped.
"""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from urllib.parse import quote

from attrs import frozen

from tortxd.errors import printable
from tortxd.tor.status import (
    BackingOff,
    Bootstrapping,
    Degraded,
    Failed,
    Launching,
    Ready,
    Status,
    Stopped,
    serves,
)
from tortxd.wire.http1 import Headers

RENEWED_AFTER = 2
"""Seconds after which a page is fetched anew as long as Tor is not ready."""

_LINKS = {
    "health": "whether requests are served",
    "ip": "where requests leave Tor",
    "verify-tor": "whether they do, with evidence",
}

_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1f; --back: #fff; --soft: #5a5a66; --line: #d4d4dc;
  --box: #f4f4f8; --link: #5b2aa6; --good: #17663a; --wait: #7a4b00; --bad: #a3122a; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ececf1; --back: #17171c; --soft: #a9a9b8; --line: #3b3b47; --box: #22222a;
    --link: #c3a6ff; --good: #7fd6a2; --wait: #f0bf6b; --bad: #ff96a5; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 52rem; color: var(--text);
  background: var(--back); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.125rem; margin: 2rem 0 0.5rem; }
p, ul { margin: 0.5rem 0; }
header p, .soft { color: var(--soft); }
a { color: var(--link); }
.state { font-size: 1.25rem; font-weight: 600; }
.good { color: var(--good); }
.wait { color: var(--wait); }
.bad { color: var(--bad); }
.loud { padding: 0.75rem 1rem; border: 2px solid var(--bad); border-radius: 0.5rem; }
progress { width: 100%; height: 0.75rem; accent-color: var(--link); }
ul { padding-left: 1.25rem; }
code, pre { font: 0.875rem/1.5 ui-monospace, monospace; }
pre { margin: 0.25rem 0 1rem; padding: 0.75rem 1rem; background: var(--box);
  border: 1px solid var(--line); border-radius: 0.5rem; white-space: pre-wrap; }
"""

_SOURCE = b64encode(sha256(_STYLE.encode()).digest())

HEADERS: Headers = [
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    (
        b"Content-Security-Policy",
        b"default-src 'none'; style-src 'sha256-%b'; frame-ancestors 'none'; base-uri 'none'; "
        b"form-action 'none'" % _SOURCE,
    ),
    (b"X-Frame-Options", b"DENY"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-DNS-Prefetch-Control", b"off"),
]
"""Of every page: it may have its own style and nothing else, and nobody may frame it (rule 4)."""


@frozen
class Address:
    """Under which address whoever asks knows the gateway."""

    url: str
    """``http://localhost:3080``, without a slash at its end."""
    path: str = "/"
    """The path of the page: ``/``, or where a ``Site`` has the gateway."""
    is_proxy: bool = True
    """Whether the gateway is an HTTP proxy there: where a ``Site`` has it, it is none."""

    @property
    def is_secure(self) -> bool:
        """Whether it is asked over https."""
        return self.url.startswith("https:")

    @property
    def links(self) -> str:
        """What leads from the page to the routes beside it, whether or not its own address has a
        slash at its end."""
        return "./" if self.path.endswith("/") else f"./{self.path.rpartition('/')[2]}/"

    @property
    def root(self) -> str:
        """The path below which the routes are, with a slash at its end."""
        return self.path if self.path.endswith("/") else f"{self.path}/"


@frozen
class View:
    """What the page is about."""

    address: Address
    status: Status
    network: str
    destination: str
    """A URL that the commands ask for."""
    wants_token: bool
    """Whether clients must present a token."""
    has_operators: bool
    """Whether there is a token that makes one."""
    stopping: bool = False
    """Whether the gateway is being stopped."""


def page(view: View) -> bytes:
    """The page as HTML."""
    title, parts = _STOPPING if view.stopping else _state(view.status)
    if refreshes(view.status):
        parts.append('<p class="soft">This page renews itself until Tor is ready.</p>')
    body = [
        "<header><h1>tortxd</h1><p>Lets programs and pages use the Tor network.</p></header>",
        "<main>",
        _section("status", "Status", *parts, *_network(view.network)),
        _section("try", "Try it", *_commands(view)),
        _section("more", "More", *_links(view)),
        *_operators(view),
        "</main>",
    ]
    return _document(title, body)


def refreshes(status: Status) -> bool:
    """Whether the page is to be fetched anew by itself: there is news to come."""
    return not serves(status)


def error_page(title: str, sentence: str) -> bytes:
    """An error as HTML, for who meant to see the page."""
    return _document(
        title,
        [
            "<header><h1>tortxd</h1></header><main>",
            f'<p class="state bad">{_text(title)}</p><p>{_text(sentence)}</p>',
            "</main>",
        ],
    )


def _document(title: str, body: Iterable[str]) -> bytes:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)} - tortxd</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    ).encode("utf-8", "replace")


def _section(name: str, heading: str, *parts: str) -> str:
    inside = "\n".join(parts)
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{heading}</h2>\n{inside}\n</section>'


def _text(text: str) -> str:
    """Text as HTML, without what nobody sees but what may turn it around or end it."""
    return escape(printable(text))


# --- what Tor does --------------------------------------------------------------------------------


def _state(status: Status) -> tuple[str, list[str]]:
    """What Tor does, in a few words, and at length."""
    match status:
        case Ready():
            return _described("good", "Tor is ready", "Requests are served.")
        case Degraded(reasons):
            return _described("wait", "Tor is ready, but something is wrong", *reasons)
        case Bootstrapping(progress, _, summary, warning, _):
            causes = [] if warning is None else [f"It does not get on: {warning}"]
            title, parts = _described("wait", f"Tor is {progress} % ready", f"{summary}.", *causes)
            bar = f'<progress max="100" value="{progress}" aria-label="Progress">{progress} %'
            return title, [parts[0], f"{bar}</progress>", *parts[1:]]
        case Launching():
            return _described("wait", "Tor is starting")
        case BackingOff(seconds, reason):
            return _described(
                "bad", "Tor is down", reason, f"It is tried again {_in_seconds(seconds)}."
            )
        case Failed(reason):
            return _described("bad", "Tor cannot run", reason)
        case Stopped():
            return _described("bad", "Tor is stopped")


def _described(kind: str, title: str, *sentences: str) -> tuple[str, list[str]]:
    told = [f"<p>{_text(sentence)}</p>" for sentence in sentences]
    return title, [f'<p class="state {kind}">{_text(title)}</p>', *told]


_STOPPING = _described("bad", "tortxd is stopping", "Requests under way are still served.")


def _in_seconds(seconds: float) -> str:
    return "at once" if seconds < 1 else f"in {seconds:.0f} s"


def _network(network: str) -> list[str]:
    if network == "private":
        return [
            '<p class="loud"><strong class="bad">A private test network: no anonymity.</strong> '
            "All its relays are run by one party. Use it for tests, and for nothing else.</p>"
        ]
    if network == "public":
        return ["<p>Network: the public Tor network.</p>"]
    return ["<p>Network: not known yet.</p>"]


# --- what to do with it ---------------------------------------------------------------------------


def commands(view: View) -> dict[str, str]:
    """Commands that work as they stand, but for the token where one is wanted, by what they do."""
    url, wanted = view.address.url, view.destination
    token = ["-H", "Tortxd-Token: TOKEN"] if view.wants_token else []
    ready = {
        "Is it ready?": ["curl", *token, f"{url}/health"],
        "A URL, through Tor:": ["curl", *token, f"{url}/proxy?url={quote(wanted, safe='')}"],
    }
    if view.address.is_proxy:
        scheme, separator, host = url.partition("://")
        login = "tortxd:TOKEN@" if view.wants_token else ""
        # The certificates there are of an authority that no other program knows.
        trusting = ["-k"] if view.network == "private" and wanted.startswith("https:") else []
        proxy = f"{scheme}{separator}{login}{host}"
        ready["The same, as an HTTP proxy:"] = ["curl", *trusting, "-x", proxy, wanted]
    return {what: shlex.join(words) for what, words in ready.items()}


def _commands(view: View) -> list[str]:
    parts = []
    if view.wants_token:
        parts.append(
            "<p>Put the access token, which whoever runs tortxd has set, in the place of "
            "<code>TOKEN</code>.</p>"
        )
    for what, command in commands(view).items():
        parts.append(f"<p>{_text(what)}</p><pre><code>{_text(command)}</code></pre>")
    return parts


def _links(view: View) -> list[str]:
    before = _text(view.address.links)
    return [
        "<ul>",
        *(
            f'<li><a href="{before}{path}">/{path}</a>: {_text(what)}</li>'
            for path, what in _LINKS.items()
        ),
        "</ul>",
    ]


# --- for operators --------------------------------------------------------------------------------


def _operators(view: View) -> list[str]:
    if not view.has_operators:
        return []
    address = _text(f"{view.address.url}/?token=TOKEN")
    return [
        _section(
            "operators",
            "For operators",
            "<p>Operators see the dashboard here: circuits, streams, traffic, failed requests. To "
            f"be one in this browser, open <code>{address}</code> with the token in the file "
            "<code>operator-token</code>, which is in tortxd's data directory, or in the one that "
            "<code>operator_token_file</code> names.</p>",
        )
    ]

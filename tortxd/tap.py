"""``twistd tortxd``: options to configuration to service."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from types import TracebackType

from twisted.application.service import Service
from twisted.python import usage

from tortxd.config import DaemonConfig
from tortxd.errors import SetupError, TortxdError


class Options(usage.Options):
    """The options of ``twistd tortxd``; each can be said in TOML or the environment, too."""

    synopsis = "[options]"
    longdesc = (
        "An HTTP gateway to the Tor network on localhost:3080. Precedence: options, then TORTXD_* "
        "in the environment, then the TOML file. See docs/configuration.md."
    )
    optParameters = [  # noqa: RUF012 - twisted.python.usage reads these names
        ["config", None, None, "A TOML file with the same keys as these options."],
        [
            "socks",
            None,
            None,
            "SOCKS port of the launched Tor: PORT, HOST:PORT or unix:PATH. [9050]",
        ],
        ["control", None, None, "Attach to the Tor at this control port: 9051, /run/tor/control."],
        ["control-password-file", None, None, "The control password, for HashedControlPassword."],
        ["data-dir", None, None, "Where Tor's state and the operator token are kept."],
        ["tor", None, None, "The tor executable. [found on PATH]"],
        ["torrc", None, None, "Further torrc lines for the launched Tor."],
        ["token-file", None, None, "The token that clients must present."],
        ["timeout", None, None, "Seconds from a request to its response headers. [60]"],
        ["idle-timeout", None, None, "Seconds without a byte on a body. [300]"],
        ["user-agent", None, None, "auto, tor-browser, keep, or a value. [auto]"],
        ["check-url", None, None, "What /verify-tor asks."],
        ["ip-url", None, None, "What /ip asks."],
    ]
    optFlags = [  # noqa: RUF012
        ["open", None, "Serve a non-loopback address without a token."],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        for key in ("http", "allow-origin", "allow-host", "alias"):
            self[key] = []

    def opt_http(self, endpoint: str) -> None:
        """Where the gateway listens (repeatedly): PORT, ADDRESS:PORT, or a Twisted endpoint.
        [3080, on loopback]"""
        self["http"].append(endpoint)

    def opt_allow_origin(self, origin: str) -> None:
        """Web origin that may call from a browser (repeatedly). [loopback ones]"""
        self["allow-origin"].append(origin)

    def opt_allow_host(self, name: str) -> None:
        """Further Host name to answer to (repeatedly)."""
        self["allow-host"].append(name)

    def opt_alias(self, alias: str) -> None:
        """FROM=TO: a target that stands for another (repeatedly), as
        localhost:8080=name.onion:80."""
        self["alias"].append(alias)

    def opt_version(self) -> None:
        """Display tortxd's version, and Twisted's and txtorcon's, and exit."""
        packages = ("tortxd", "twisted", "txtorcon")
        print(", ".join(f"{package} {version(package)}" for package in packages))  # noqa: T201
        raise SystemExit

    def parseArgs(self, *words: str) -> None:
        """There are options only."""
        if words:
            raise usage.UsageError(f"{words[0]} is not an option")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As ever, but what is wrong is one line, not the last after a page of help."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            sentence = str(error).rstrip(".")
            raise SystemExit(f"tortxd: {sentence}: see twistd tortxd --help.") from None

    def postOptions(self) -> None:
        """Make the configuration, so that what is wrong is said before anything is started."""
        self.config = load_config(_by_field(self))


_FIELDS = {"allow-origin": "allow_origins", "allow-host": "allow_hosts", "alias": "aliases"}


def _by_field(options: Options) -> dict[str, object]:
    return {_FIELDS.get(key, key.replace("-", "_")): value for key, value in options.items()}


def load_config(options: Mapping[str, object]) -> DaemonConfig:
    """File, environment and ``options`` (see :meth:`DaemonConfig.load`); where they make none, the
    process ends with a line that says why."""
    try:
        return DaemonConfig.load(options, os.environ)
    except SetupError as error:
        raise SystemExit(f"tortxd: {error}") from None


def makeService(options: Options) -> Service:
    """The daemon, for ``twistd`` to run."""
    return make_daemon(options.config)


def make_daemon(config: DaemonConfig) -> Service:
    """The daemon as a process of its own has it, on the installed reactor.

    Where it cannot start, the process ends with a non-zero status and one line that says why.
    """
    from twisted.internet import reactor

    from tortxd.gateway.limits import raise_descriptors
    from tortxd.service import Daemon

    raise_descriptors()
    # Twisted's timers go by the wall clock, which may be set; this clock only goes on.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    reactor.stop = _once(reactor.stop)  # type: ignore[method-assign]
    sys.excepthook = _say
    return Daemon(config, reactor, _give_up)


def _once(stop: Callable[[], None]) -> Callable[[], None]:
    """``stop``, which takes it for a fault that a second signal comes while it is under way."""
    stopping = False

    def stop_once() -> None:
        nonlocal stopping
        if not stopping:
            stop()
            stopping = True

    return stop_once


def _say(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """The last word on an error that ends the process: a sentence, if it is one of ours."""
    if isinstance(error, TortxdError):
        print(f"tortxd: {error}", file=sys.stderr)  # noqa: T201 - where there is no log yet
    else:
        sys.__excepthook__(kind, error, traceback)


def _give_up(error: TortxdError) -> None:
    """Tor turned out not to start: end the process, with a status that twistd cannot give."""
    from twisted.internet import reactor

    sentence = f"tortxd: {error}"
    print(sentence, file=sys.stderr)  # noqa: T201 - twistd has it logged
    atexit.register(_exit, sentence)
    reactor.stop()


def _exit(sentence: str) -> None:
    """The reason comes last, after all that is logged on the way down, and not in a log alone."""
    print(sentence, file=sys.__stderr__, flush=True)
    sys.stdout.flush()
    os._exit(1)

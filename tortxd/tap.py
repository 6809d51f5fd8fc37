"""``twistd tortxd``: options to configuration to service."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from types import TracebackType
from typing import Any

from twisted.application.service import Application, Service
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from tortxd import console
from tortxd.config import DaemonConfig
from tortxd.errors import SetupError, TortxdError

log = Logger()


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
        twistd: dict[str, object] = {} if self.parent is None else self.parent
        self.log_is_seen = console.logs_to_standard_output(twistd)
        if self.log_is_seen and sys.stdout.isatty():
            twistd["logger"] = console.LOGGER


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
    return make_daemon(options.config, log_is_seen=options.log_is_seen)


def make_application() -> Any:
    """The ``application`` of a .tac, configured by a TOML file and the environment alone."""
    config = load_config({})
    application = Application("tortxd")
    said = console.said_on_command_line(sys.argv[1:])
    log_is_seen = console.logs_to_standard_output(said)
    if log_is_seen and sys.stdout.isatty():
        application.setComponent(ILogObserver, console.observer())
    make_daemon(config, log_is_seen=log_is_seen).setServiceParent(application)
    return application


def make_daemon(config: DaemonConfig, *, log_is_seen: bool = False) -> Service:
    """The daemon as a process of its own has it, on the installed reactor.

    Where it cannot start, the process ends with a non-zero status and one line that says why.

    :param log_is_seen: whether the log is seen where the process's last word is; else that is
        logged, too.
    """
    from twisted.internet import reactor

    from tortxd.gateway.limits import raise_descriptors
    from tortxd.service import Daemon

    raise_descriptors()
    # Twisted's timers go by the wall clock, which may be set; this clock only goes on.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    reactor.stop = _once(reactor.stop)  # type: ignore[method-assign]
    last_word = _LastWord(log_is_seen)
    sys.excepthook = last_word.on_exception
    try:
        return Daemon(config, reactor, last_word.on_failure)
    except SetupError as error:
        raise SystemExit(f"tortxd: {error}") from None


def _once(stop: Callable[[], None]) -> Callable[[], None]:
    """``stop``, which takes it for a fault that a second signal comes while it is under way."""
    stopping = False

    def stop_once() -> None:
        nonlocal stopping
        if not stopping:
            stop()
            stopping = True

    return stop_once


class _LastWord:
    """Says why the process ends: once, on standard error, as a plain line; after logging has begun,
    ``sys.stderr`` is the log."""

    def __init__(self, log_is_seen: bool) -> None:
        self._log_is_seen = log_is_seen

    def on_exception(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        """For an error that ends the process: a sentence, if it is one of ours."""
        if isinstance(error, TortxdError):
            self._log(error)
            _print(error)
        else:
            sys.__excepthook__(kind, error, traceback)

    def on_failure(self, error: TortxdError) -> None:
        """Tor turned out not to start: end the process, with a status that twistd cannot give, and
        with the reason after all that is logged on the way down."""
        from twisted.internet import reactor

        self._log(error)
        atexit.register(_exit, error)
        reactor.stop()

    def _log(self, error: TortxdError) -> None:
        if not self._log_is_seen:
            log.critical("{sentence}", sentence=str(error))


def _exit(error: TortxdError) -> None:
    sys.stdout.flush()
    _print(error)
    os._exit(1)


def _print(error: TortxdError) -> None:
    if sys.__stderr__ is not None:
        print(f"tortxd: {error}", file=sys.__stderr__, flush=True)

"""``twistd tortxd``: options to configuration to service."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from twisted.application.service import Application, Service
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from tortxd import console, process
from tortxd.config import DaemonConfig
from tortxd.errors import SetupError
from tortxd.manual import manual
from tortxd.nearest import nearest
from tortxd.options import OPTIONS, Option
from tortxd.runtime import run_dirs
from tortxd.twistd import check_files, options_of_twistd

if TYPE_CHECKING:
    from tortxd._types import Reactor
    from tortxd.daemon import Daemon

log = Logger(namespace="tortxd.daemon")


_ABOUT = (
    ("version", "Show the versions of tortxd, Twisted and txtorcon."),
    ("help", "Show this; -h does so too."),
)
"""What is no option of the daemon's: its name, and what it is for."""


class Options(usage.Options):
    """The options of ``twistd tortxd``, as the table has them (:mod:`tortxd.options`)."""

    optParameters = [  # noqa: RUF012 - twisted.python.usage reads these names
        [option.flag, None, None, option.help]
        for option in OPTIONS
        if option.metavar is not None and not option.kind.repeatable
    ]
    optFlags = [  # noqa: RUF012
        [option.flag, None, option.help] for option in OPTIONS if option.metavar is None
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        for option in OPTIONS:
            if option.kind.repeatable:
                self[option.flag] = []

    def opt_version(self) -> None:
        packages = ("tortxd", "twisted", "txtorcon")
        print(", ".join(f"{package} {version(package)}" for package in packages))  # noqa: T201
        raise SystemExit

    def opt_help(self) -> None:
        print(help_text())  # noqa: T201
        raise SystemExit

    opt_h = opt_help

    def load(self) -> DaemonConfig:
        """Make the configuration of these options, and of file and environment as they are now.

        :raises SetupError: something is wrong in it.
        """
        values = {option.key: self[option.flag] for option in OPTIONS}
        return DaemonConfig.load(values, os.environ)

    def getUsage(self, width: int | None = None) -> str:
        """The same, where twistd shows it."""
        return help_text(width)

    def parseArgs(self, *words: str) -> None:
        """There are options only."""
        if words:
            raise usage.UsageError(f"{words[0]} is no option: those begin with --")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As Twisted does, but a mistake is reported in one line, without the help around it, and
        names cannot be abbreviated: a later option could change what they mean."""
        wrong = self._wrong_in(options or ())
        if wrong is None:
            try:
                super().parseOptions(options)  # type: ignore[no-untyped-call]
            except usage.UsageError as error:
                wrong = f"{str(error).rstrip('.')}."
        if wrong is not None:
            raise SystemExit(process.last_line(f"{wrong} See twistd tortxd --help."))

    def _wrong_in(self, words: Sequence[str]) -> str | None:
        takes_value = {name.rstrip("="): name.endswith("=") for name in self.longOpt}
        following = iter(words)
        for word in following:
            if word == "--" or not word.startswith("-"):
                return None  # see parseArgs
            if word == "-h":
                continue
            name, equals, _ = word.partition("=")
            known = name[2:] if name.startswith("--") else ""
            if known not in takes_value:
                return f"There is no option {name}.{self._hint(name)}"
            if equals and not takes_value[known]:
                return f"{name} takes no value."
            if takes_value[known] and not equals and next(following, None) is None:
                return f"{name} takes a value."
        return None

    def _hint(self, name: str) -> str:
        if self.parent is not None and name.lstrip("-") in self.parent.synonyms:
            return " It is one of twistd's own, which come before the word tortxd."
        known = [*(option.flag for option in OPTIONS), *(word for word, _ in _ABOUT)]
        found = nearest(name.lstrip("-"), known)
        return "" if found is None else f" Did you mean --{found}?"

    def postOptions(self) -> None:
        """Make the configuration, so that mistakes are reported before anything is started."""
        twistd: dict[str, Any] = {} if self.parent is None else self.parent
        with process.or_end():
            self.config = self.load()
            check_files(twistd)
            _become_user(self.config, twistd)
        style = _log_style(self.config)
        self.log_is_seen = console.is_seen(twistd, style)
        if console.take_over(twistd, style):
            twistd["logger"] = console.LOGGER


def _repeatable(flag: str) -> Callable[[Options, str], None]:
    def add(self: Options, value: str) -> None:
        self[flag].append(value)

    return add


for _option in OPTIONS:
    if _option.kind.repeatable:
        setattr(Options, f"opt_{_option.flag.replace('-', '_')}", _repeatable(_option.flag))


def help_text(width: int | None = None) -> str:
    """What ``twistd tortxd --help`` shows, ``width`` columns wide (None: as the terminal is)."""
    width = max(50, width or get_terminal_size().columns)
    lines = ["Usage: twistd [options of twistd] tortxd [options]", ""]
    lines += [*wrap("An HTTP gateway to the Tor network, with a Tor of its own.", width), ""]
    entries = [_in_help(option) for option in OPTIONS]
    for words, text in (*entries, *_ABOUT):
        lines.append(f"  --{words}")
        lines += wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    where = manual("configuration.md")
    lines += ["", *wrap(_PRECEDENCE, width), *([] if where is None else ["", f"More: {where}"])]
    return "\n".join(lines)


_PRECEDENCE = (
    "The same can be said in the environment (TORTXD_DATA_DIR, ...) and in the TOML file "
    "(data_dir, ...): options win over the environment, the environment over the file. Of twistd's "
    "own options, -n stays in the foreground, and --pidfile= writes no such file."
)


def _in_help(option: Option) -> tuple[str, str]:
    words = option.flag if option.metavar is None else f"{option.flag} {option.metavar}"
    return words, f"{option.purpose} [{option.default_text}]".replace("`", "")


def makeService(options: Options) -> Service:
    """The daemon, for ``twistd`` to run."""
    return make_daemon(
        options.config,
        options.load,
        log_is_seen=options.log_is_seen,
        twistd=options.parent,
    )


def _of_environment() -> DaemonConfig:
    return DaemonConfig.load({}, os.environ)


def make_application() -> Any:
    """The ``application`` of a .tac, configured by a TOML file and the environment alone."""
    twistd = options_of_twistd()
    with process.or_end():
        config = _of_environment()
        if twistd:
            check_files(twistd)
            _become_user(config, twistd)
    application = Application("tortxd", twistd.get("uid"), twistd.get("gid"))
    style = _log_style(config)
    log_is_seen = console.is_seen(twistd, style)
    if twistd and console.take_over(twistd, style):
        application.setComponent(ILogObserver, console.observer())
    daemon = make_daemon(config, _of_environment, log_is_seen=log_is_seen, twistd=twistd)
    daemon.setServiceParent(application)
    return application


def _become_user(config: DaemonConfig, twistd: dict[str, Any]) -> None:
    """Have twistd become the user that the configuration names, once it has what only root may."""
    if config.user is None:
        return
    with config.names_as_given():
        ids = process.ids_of(config.user)
        if ids is not None:
            if twistd.get("uid") is not None:
                raise SetupError("`user` and twistd's own --uid say the same. Leave --uid out.")
            twistd["uid"], twistd["gid"] = ids


def _log_style(config: DaemonConfig) -> console.Style:
    return console.Style(config.log_format, config.log_level, os.environ)


def make_daemon(
    config: DaemonConfig,
    load: Callable[[], DaemonConfig] | None = None,
    *,
    log_is_seen: bool = False,
    twistd: Mapping[str, Any] | None = None,
) -> Service:
    """The daemon as a process of its own has it, on the installed reactor.

    Where it cannot start, the process ends with a non-zero status and one line that says why.

    :param load: makes the configuration anew, at SIGHUP; None: it stays, but for its files.
    :param log_is_seen: whether the log goes where the process's last line goes. If not, that line
        is logged, too.
    :param twistd: the options of the twistd that runs it. Without them, ports and data directory
        are checked when the service is started, not before.
    """
    with process.loading():
        from tortxd.client.installed import installed
        from tortxd.daemon import Daemon
        from tortxd.notify import Notifier

        reactor = installed(None)

    last_line = process.set_up(reactor, None if log_is_seen else log)
    with process.or_end():
        folders = run_dirs(os.environ) if config.user is None else (config.data_dir / "run",)
        ids = None if config.user is None else process.ids_of(config.user)
        notifier = Notifier(os.environ, reactor)
        daemon = Daemon(config, reactor, last_line.on_failure, folders, ids, notifier)
        last_line.when_hurried = daemon.hurry
        # Before twistd logs, and before it leaves the terminal; as the user who is to run it.
        if twistd and twistd.get("uid") is None and twistd.get("chroot") is None:
            daemon.prepare()
    # Not before: twistd's log file has a handler of its own.
    reactor.callWhenRunning(_listen_to_signals, reactor, daemon, load or (lambda: config))
    return daemon


def _listen_to_signals(reactor: Reactor, daemon: Daemon, load: Callable[[], DaemonConfig]) -> None:
    terminal = process.Terminal()

    def hung_up() -> None:
        if terminal.is_gone:
            reactor.stop()
            return
        daemon.reload(load)
        console.set_level(daemon.tor.config.log_level)

    process.on_signal(reactor, signal.SIGHUP, hung_up)
    process.on_signal(reactor, signal.SIGUSR1, daemon.say_state)

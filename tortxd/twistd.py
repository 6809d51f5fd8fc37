"""twistd itself: its own options, and whether it can write its files."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from twisted.python import usage
from twisted.scripts.twistd import ServerOptions  # type: ignore[attr-defined]

from tortxd import console
from tortxd.errors import SetupError
from tortxd.files import read_whole


class _TwistdOptions(ServerOptions):
    """Reads twistd's options a second time, when it has installed its reactor."""

    def opt_reactor(self, _: str) -> None:
        """Leave it as it is."""

    opt_r = opt_reactor


def options_of_twistd() -> dict[str, Any]:
    """The options of the twistd that runs, which it does not pass to a .tac file; empty where
    something else loads the file."""
    options = _TwistdOptions()  # type: ignore[no-untyped-call]
    if not sys.argv[1:]:
        return {}
    try:
        options.parseOptions()  # type: ignore[no-untyped-call]
    except (usage.UsageError, SystemExit):
        return {}
    return options if options["python"] else {}


def check_files(twistd: Mapping[str, Any]) -> None:
    """Check that twistd, with these options, can write its own files, which it would find out too
    late, and that no other twistd runs in the folder.

    :raises SetupError: it cannot, or another one runs.
    """
    if twistd.get("chroot") is not None:
        return  # their paths are those of another root
    pidfile = twistd.get("pidfile")
    if pidfile:
        pidfile = os.path.abspath(pidfile)
        _check_pidfile(pidfile)
        _check_writable(pidfile, "--pidfile=")
    logfile = twistd.get("logfile") or ("" if console.in_foreground(twistd) else "twistd.log")
    if logfile not in ("", "-") and not (twistd.get("syslog") or twistd.get("logger")):
        _check_writable(os.path.abspath(logfile), "--logfile=FILE")


def _check_pidfile(path: str) -> None:
    if not os.path.isfile(path):
        return
    try:
        pid = int(read_whole(path))
        if not 0 < pid < 2**31:
            raise ValueError(pid)
    except OSError:
        return
    except ValueError:
        raise SetupError(f"{path} does not hold a process id. Remove it.") from None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    except PermissionError:
        pass  # it runs, for another user
    raise SetupError(
        f"Another twistd runs in this folder, process {pid}, as {path} says. Stop it, or start "
        "this one in another folder, or with --pidfile=."
    )


def _check_writable(path: str, option: str) -> None:
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
    target = os.path.realpath(path)
    try:
        try:
            os.close(os.open(target, flags | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            os.close(os.open(target, flags))
        else:
            os.unlink(target)  # twistd refuses a pidfile that is empty
    except OSError as error:
        raise SetupError(
            f"twistd cannot write {path}: {error.strerror}. Start it in another folder, or with "
            f"{option}."
        ) from None

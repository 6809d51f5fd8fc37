"""Where things lie on this machine, for the daemon and the command alike: the state, and a small
file that each daemon keeps while its gateway listens, by which the command finds it.

That file is ``PID.json`` in a folder of its user's alone. It holds addresses and the paths of
tokens, never a token. The daemon holds a lock on it (flock(2)) for as long as it runs, so that a
file that a killed daemon has left is known as such, even after its process id is another's.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tortxd.files import read_regular

__all__ = ["Announcement", "Running", "announce", "default_data_dir", "run_dirs", "running"]

_NAME = re.compile(r"([1-9][0-9]*)\.json")
_LONGEST = 65_536


def default_data_dir(environ: Mapping[str, str], *, for_another: bool = False) -> Path:
    """``$STATE_DIRECTORY`` (systemd), else ``$XDG_STATE_HOME/tortxd``, else in the home.

    :param for_another: the daemon will be another user's, to whom neither of the last two belongs:
        then it is ``/var/lib/tortxd``.
    """
    if state := environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0])
    return Path("/var/lib/tortxd") if for_another else _state_home(environ) / "tortxd"


def _state_home(environ: Mapping[str, str]) -> Path:
    xdg = environ.get("XDG_STATE_HOME", "")
    if xdg.startswith("/"):  # others are to be ignored (XDG Base Directory Specification)
        return Path(xdg)
    return Path(environ.get("HOME") or os.path.expanduser("~")) / ".local" / "state"


def run_dirs(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The folders that may hold the files of running daemons, the preferred one first: in
    ``$XDG_RUNTIME_DIR`` where that is this user's own, and with the state."""
    folders = [_state_home(environ) / "tortxd" / "run"]
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    with suppress(OSError):
        # sudo may pass on the one of somebody else.
        if runtime.startswith("/") and os.stat(runtime).st_uid == os.geteuid():
            folders.insert(0, Path(runtime) / "tortxd")
    return tuple(folders)


class Running(NamedTuple):
    """A daemon that runs, as it says itself."""

    pid: int
    gateways: tuple[str, ...]
    """``http://HOST:PORT``, ``https://HOST:PORT`` or ``unix:PATH`` each."""
    operator_token: Path
    """The file of the token for operators."""
    client_token: Path | None
    """The file of the one that clients present. None: they need none."""
    since: float = 0.0
    """When it said so, in seconds since the epoch."""


# --- the daemon's side ----------------------------------------------------------------------------


class Announcement:
    """A file that says that this daemon runs."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def withdraw(self) -> None:
        """Remove it. What cannot be removed is seen to be stale."""
        with suppress(OSError):
            self.path.unlink()
        os.close(self._descriptor)


def announce(folders: Sequence[Path], daemon: Running) -> Announcement:
    """Say that ``daemon`` runs, in the first of these folders that can be had, and remove what
    daemons before it have left there.

    :raises OSError: none can.
    """
    *others, last = folders
    for folder in others:
        with suppress(OSError):
            return _announce_in(folder, daemon)
    return _announce_in(last, daemon)


def _announce_in(folder: Path, daemon: Running) -> Announcement:
    with _own_folder(folder, make=True) as directory:
        for name in os.listdir(directory):
            if _NAME.fullmatch(name) and _read(folder / name) is None:
                with suppress(OSError):
                    os.unlink(name, dir_fd=directory)
        name = f"{daemon.pid}.json"
        return Announcement(folder / name, _write(directory, name, _as_json(daemon)))


def _write(directory: int, name: str, data: bytes) -> int:
    """Make the file; nobody sees it before it is whole and locked. Returns its descriptor."""
    fresh = f"{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        os.unlink(fresh, dir_fd=directory)
    descriptor = os.open(fresh, flags, 0o600, dir_fd=directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, data)
        os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.close(descriptor)
        with suppress(OSError):
            os.unlink(fresh, dir_fd=directory)
        raise
    return descriptor


@contextmanager
def _own_folder(path: Path, *, make: bool = False) -> Iterator[int]:
    """A descriptor of a folder that is its user's alone (0700), and no link.

    :raises OSError: it is not there, or is another's.
    """
    if make:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user")
        if make and status.st_mode & 0o7777 != 0o700:
            os.fchmod(descriptor, 0o700)
        yield descriptor
    finally:
        os.close(descriptor)


def _as_json(daemon: Running) -> bytes:
    client_token = daemon.client_token
    content = {
        "pid": daemon.pid,
        "gateways": daemon.gateways,
        "operatorToken": str(daemon.operator_token),
        "clientToken": None if client_token is None else str(client_token),
    }
    return json.dumps(content).encode() + b"\n"


# --- the command's side ---------------------------------------------------------------------------


def running(folders: Sequence[Path]) -> list[Running]:
    """The daemons of this user that run now, the newest first."""
    found: dict[int, Running] = {}
    for folder in folders:
        with suppress(OSError), _own_folder(folder) as directory:
            for name in os.listdir(directory):
                daemon = _read(folder / name) if _NAME.fullmatch(name) else None
                if daemon is not None:
                    found.setdefault(daemon.pid, daemon)
    return sorted(found.values(), key=lambda daemon: daemon.since, reverse=True)


def _read(path: Path) -> Running | None:
    """What a daemon says in this file; None when it has ended, or the file is none of ours."""
    since = 0.0

    def judge(descriptor: int, status: os.stat_result) -> None:
        nonlocal since
        since = status.st_mtime
        if status.st_uid != os.geteuid():
            raise PermissionError
        if not _is_held(descriptor, path):
            raise ProcessLookupError

    try:
        said: Any = json.loads(read_regular(path, most=_LONGEST, follow_links=False, judge=judge))
        client_token = said["clientToken"]
        return Running(
            pid=int(said["pid"]),
            gateways=tuple(map(str, said["gateways"])),
            operator_token=Path(said["operatorToken"]),
            client_token=None if client_token is None else Path(client_token),
            since=since,
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _is_held(descriptor: int, path: Path) -> bool:
    """Whether its writer still holds this file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks on this file system
        return _is_alive(int(path.stem))
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False  # or it is another user's
    return True

"""The data directory: private to its owner, and the operator token in it."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from tortxd.errors import SetupError
from tortxd.files import read_regular

TOKEN_NAME = "operator-token"  # noqa: S105 -- a file's name
_LONGEST_TOKEN = 4096


def prepare(path: Path) -> Path:
    """Make the directory, and make it private (0700); a wider mode is corrected.

    :returns: its absolute path.
    :raises SetupError: it cannot be made, is no directory, or belongs to someone else.
    """
    path = Path(os.path.abspath(path))
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise SetupError(
            "The data directory's name is not UTF-8, which Tor's configuration is; choose another "
            "`data_dir`."
        ) from None
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise SetupError(
                f"The data directory {path} belongs to another user; choose another `data_dir`."
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            path.chmod(0o700)
    except OSError as e:
        reason = "it is not a folder" if isinstance(e, FileExistsError) else e.strerror
        raise SetupError(
            f"The data directory {path} cannot be used ({reason}); choose another `data_dir`."
        ) from e
    return path


def make_for(path: Path, uid: int, gid: int) -> None:
    """Make the directory, as root, for the user who is to run the daemon. One that is there is left
    as it is.

    :raises SetupError: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700)
        os.chown(path, uid, gid, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError as e:
        raise SetupError(
            f"The data directory {path} cannot be made ({e.strerror}); choose another `data_dir`."
        ) from e


def operator_token(data_dir: Path) -> str:
    """The operator token, made at the first call and the same ever after.

    The file is 0600 from its first moment, and appears whole or not at all.

    :param data_dir: a directory that :func:`prepare` has made.
    :raises SetupError: the file cannot be read or written, is not ours, or is empty.
    """
    path = data_dir / TOKEN_NAME
    try:
        try:
            return _read_token(path)
        except FileNotFoundError:
            return _make_token(path)
    except OSError as e:
        raise SetupError(f"The operator token {path} cannot be used ({e.strerror}).") from e


def _read_token(path: Path) -> str:
    def judge(descriptor: int, status: os.stat_result) -> None:
        if status.st_uid != os.geteuid():
            raise SetupError(f"The operator token {path} belongs to another user; remove it.")
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)

    read = read_regular(path, most=_LONGEST_TOKEN, follow_links=False, judge=judge)
    token = read.decode("ascii", "replace").strip()
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise SetupError(f"The operator token {path} holds no token; remove it to have one made.")
    return token


def _make_token(path: Path) -> str:
    token = secrets.token_urlsafe(32)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(fresh, flags, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(descriptor)
        # A link, unlike a rename, does not replace what another process has made meanwhile.
        os.link(fresh, path)
    except FileExistsError:
        return _read_token(path)
    finally:
        fresh.unlink(missing_ok=True)
    return token


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, replacing what was there. Where it is there as it
    should be it is left alone, so that a full disk does not matter.

    :raises SetupError: it cannot be written.
    """
    fresh = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if path.exists() and _is_private(path, text):
            return
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as e:
        raise SetupError(f"{path} cannot be written ({e.strerror}).") from e


def _is_private(path: Path, text: str) -> bool:
    """Whether a file holds this and is its owner's alone already."""
    found, data = path.lstat(), text.encode()
    if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) != 0o600:
        return False
    if found.st_uid != os.geteuid() or found.st_size != len(data):
        return False
    return read_regular(path, most=len(data), follow_links=False) == data

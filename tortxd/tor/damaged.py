"""Files of Tor's that keep it from starting, or that it would take for empty: they are set aside.

Measured with tor 0.4.9.11: consensus, certificates and microdescriptors that are cut, empty or
random it passes over, and fetches anew. For a pipe in their place it waits without end. A ``lock``
that is a folder ends it. Of ``state``, which has its guards, it moves aside itself what it can read
and not understand; a quotation that does not end, and a folder, end it; what is no state file at
all counts as an empty one, and without a word it chooses new guards.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tortxd.files import read_regular

STATE = "state"
FILES = (
    STATE,
    "lock",
    "control_auth_cookie",
    "cached-certs",
    "cached-consensus",
    "cached-descriptors",
    "cached-descriptors.new",
    "cached-extrainfo",
    "cached-extrainfo.new",
    "cached-microdesc-consensus",
    "cached-microdescs",
    "cached-microdescs.new",
    "unverified-consensus",
    "unverified-microdesc-consensus",
)
"""What Tor keeps in its DataDirectory as regular files."""
KEPT = 5
"""Of one file, so many are kept; then the oldest goes."""
NEW_GUARDS = "Tor chooses new guards."
_BEGINNING = b"# Tor state file"
_LONGEST_STATE = 4 * 1024 * 1024
"""Bytes that are looked at; a client's has some 10,000."""
_MOVED_BY_TOR = "Unable to parse state in "
_UNREADABLE = "Error while parsing configuration"
_BROKEN = "Acting on config options left us in a broken state"


def set_aside_unusable(tor_dir: Path) -> Iterator[str]:
    """Set aside what Tor would not start with, or would take for nothing. A sentence on each, for
    the log.

    :param tor_dir: Tor's DataDirectory, where no Tor lives now.
    :raises OSError: one is to be set aside and cannot be.
    """
    for name in FILES:
        path = tor_dir / name
        try:
            mode = path.stat().st_mode
        except OSError:
            continue  # it is not there, or a link to nowhere, of which Tor itself complains
        fault: str | None = None
        if not stat.S_ISREG(mode):
            fault = "is not a file"
        elif not os.access(path, os.R_OK | os.W_OK):
            fault = "may not be read and written"
        elif name == STATE and not _is_state(path):
            fault = "is damaged"
        if fault is not None:
            yield f"Tor's {name} {fault}: {set_aside(path)}"


def set_aside(path: Path) -> str:
    """Give a file another name in the same folder, ``NAME.damaged.1`` and so on, for its owner
    alone.

    :returns: a sentence on what became of it.
    :raises OSError: it cannot be renamed.
    """
    places = [path.with_name(f"{path.name}.damaged.{number}") for number in range(1, KEPT + 1)]
    free = next((place for place in places if not os.path.lexists(place)), None)
    place = free or min(places, key=lambda one: one.lstat().st_mtime)
    if free is None and not stat.S_ISDIR(place.lstat().st_mode):
        place.unlink()
    path.rename(place)
    if stat.S_ISREG(place.lstat().st_mode) and place.stat().st_uid == os.geteuid():
        place.chmod(0o600)
    sentence = f"it is set aside as {place.name}."
    return f"{sentence} {NEW_GUARDS}" if path.name == STATE else sentence


def _is_state(path: Path) -> bool:
    """Whether Tor has written this. Of zeros, as a power failure may leave, it reads none. Whether
    it understands the rest is up to Tor."""
    try:
        text = read_regular(path, most=_LONGEST_STATE)
    except OSError:
        return True  # which Tor will complain of
    return text.startswith(_BEGINNING) and b"\0" not in text


class StateWatch:
    """Hears what a Tor complains of while it starts, and knows what that says of its state."""

    def __init__(self) -> None:
        self.is_moved = False
        """Whether Tor itself has moved it aside, and goes on without."""
        self._is_unreadable = False
        self._is_broken = False

    def heard(self, complaint: str) -> None:
        """Tor complains of this."""
        self.is_moved = self.is_moved or _MOVED_BY_TOR in complaint
        self._is_unreadable = self._is_unreadable or complaint.startswith(_UNREADABLE)
        self._is_broken = self._is_broken or _BROKEN in complaint

    @property
    def ends_tor(self) -> bool:
        """Whether it is why Tor has ended. A torrc line that cannot be read ends Tor earlier."""
        return self._is_unreadable and self._is_broken

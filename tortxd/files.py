"""Reading the files that a configuration names."""

from __future__ import annotations

import os
from errno import EFBIG
from pathlib import Path

LARGEST = 1024 * 1024
"""Bytes; what is larger, as a device is, was not meant."""


def read_whole(path: str | Path) -> bytes:
    """What a file holds.

    :raises OSError: it cannot be read, or is larger than :data:`LARGEST`.
    """
    with open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise OSError(EFBIG, os.strerror(EFBIG))
    return data
